//! Two runs on one folder.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};

use crate::run::{Run, signal, stderr};

#[test]
fn each_cell_is_computed_once_and_the_loser_goes_on() {
    let run = Run::new(&[]);
    let cells = run.cells();
    // Two runs that start everything at once.
    let both: Vec<_> = cells
        .iter()
        .map(|cell| [(); 2].map(|()| run.command(cell, "--threads 1 --shared").spawn().unwrap()))
        .collect();
    for (cell, pair) in cells.iter().zip(both) {
        let texts = pair.map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", stderr(&output));
            stderr(&output)
        });
        let computed = texts.iter().filter(|text| text.contains("epoch 1/")).count();
        let found = texts.iter().filter(|text| text.contains("done already")).count();
        assert_eq!((computed, found), (1, 1), "{cell}: {texts:?}");
        run.outcome(cell);
    }
}

#[test]
fn the_wait_is_bounded_and_says_for_which_cell() {
    let run = Run::new(&["model.names=[\"tt-gru\"]"]);
    let cell = &run.cells()[0];
    fs::create_dir_all(run.folder(cell)).unwrap();
    let lock = File::create(run.folder(cell).join("lock")).unwrap();
    lock.lock().unwrap();
    for wait in ["0", "0.2"] {
        let output = run.command(cell, &format!("--wait {wait}")).output().unwrap();
        assert_eq!(output.status.code(), Some(75));
        assert!(stderr(&output).contains(&format!("cell {cell} is being computed by another process")));
        assert!(!run.folder(cell).join("cell.json").exists());
    }
    // Let go while another waits: it computes the cell.
    let mut child = run.command(cell, "--wait 60 --threads 1").spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("another process computes it; waiting up to 60 s")));
    lock.unlock().unwrap();
    for line in lines {
        line.unwrap();
    }
    assert!(child.wait().unwrap().success());
    run.outcome(cell);
    // A signal ends the wait.
    lock.lock().unwrap();
    let mut child = run.command(cell, "--wait 60").spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("waiting up to")));
    signal(&child, "TERM");
    for line in lines {
        line.unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn the_lock_of_a_dead_process_is_taken_over() {
    let run = Run::new(&["model.names=[\"tt-lstm\"]", "train.epochs.tt-lstm=400"]);
    let cell = &run.cells()[0];
    let mut child = run.start(cell);
    let held = run.command(cell, "--wait 0").output().unwrap();
    assert_eq!(held.status.code(), Some(75), "a living process keeps it: {}", stderr(&held));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(run.folder(cell).join("lock").exists());
    run.finish(cell, "--wait 0");
    run.outcome(cell);
}

#[test]
fn two_plans_at_once_keep_each_others_cells() {
    let run = Run::new(&["model.names=[\"gru\"]"]);
    let models = ["lstm", "tt-gru", "tt-lstm", "tt-mlp", "rnn", "tt-rnn"];
    let children = models.map(|model| {
        let mut command = run.plan_command(&[&format!("model.names=[{model:?}]")]);
        command.stdout(std::process::Stdio::null()).spawn().unwrap()
    });
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let text = fs::read_to_string(run.dir().join("plan.json")).unwrap();
    let plan: bench_suite::record::Plan = serde_json::from_str(&text).unwrap();
    assert_eq!(plan.cells.len(), 7, "{:?}", plan.cells);
}
