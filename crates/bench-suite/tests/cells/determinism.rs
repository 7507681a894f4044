//! The same bytes at any number of threads, and beside other cells.

use crate::run::{Run, models, stderr};

/// Layers wide enough for several work items, batches long enough for several threads.
const SETTINGS: [&str; 4] = [
    "model.dense_hidden=64",
    "model.output_modes=[2,4,4,2]",
    "train.batch=16",
    "train.recurrent_dropout=0.25",
];

#[test]
fn bytes_do_not_depend_on_threads_or_jobs() {
    let models = models();
    let names = format!("model.names={models:?}");
    let epochs: Vec<String> = models.iter().map(|name| format!("train.epochs.{name}=3")).collect();
    let own = std::iter::once(names.as_str()).chain(epochs.iter().map(String::as_str));
    let run = Run::new(&SETTINGS.into_iter().chain(own).collect::<Vec<_>>());
    let cells = run.cells();
    assert_eq!(cells.len(), models.len());
    let one: Vec<_> = cells
        .iter()
        .map(|cell| {
            run.finish(cell, "--threads 1");
            run.outcome(cell)
        })
        .collect();
    for threads in [1, 2, 8] {
        run.clear();
        for (cell, one) in cells.iter().zip(&one) {
            run.finish(cell, &format!("--threads {threads}"));
            assert!(run.outcome(cell) == *one, "{cell} at {threads} threads is another");
        }
    }
    // All at once, as `--jobs` starts them.
    run.clear();
    let children: Vec<_> =
        cells.iter().map(|cell| run.command(cell, "--threads 2 --shared").spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    for (cell, one) in cells.iter().zip(&one) {
        assert!(run.outcome(cell) == *one, "{cell} beside the others is another");
    }
}

#[test]
fn bytes_of_factorized_kernels_do_not_depend_on_threads() {
    for (form, rank) in [("tt", 4), ("cp", 12)] {
        let (kernels, rank) = (format!("model.cnn_kernels={form}"), format!("model.cnn_rank={rank}"));
        let run = Run::new(&["model.names=[\"cnn-lstm\"]", "train.epochs.cnn-lstm=2", &kernels, &rank]);
        let cell = &run.cells()[0];
        let at = |threads| {
            run.clear();
            run.finish(cell, &format!("--threads {threads}"));
            run.outcome(cell)
        };
        let one = at(1);
        assert!([2, 8].into_iter().all(|threads| at(threads) == one), "{form}");
    }
}

#[test]
fn another_seed_is_another_result() {
    let run = Run::new(&["model.names=[\"tt-gru\"]", "train.seeds=[0,1]"]);
    let cells = run.cells();
    let outcomes: Vec<_> = cells
        .iter()
        .map(|cell| {
            run.finish(cell, "--threads 1");
            run.outcome(cell)
        })
        .collect();
    assert!(outcomes[0] != outcomes[1]);
}
