//! A cell that was stopped ends as if it had not been.

use std::fs;

use crate::rows::write_rows;
use crate::run::{Run, models, signal, stderr};

#[test]
fn a_killed_cell_goes_on_from_its_checkpoint_and_ends_the_same() {
    // The plain cells are those of the paper's models, simpler.
    let models: Vec<&str> = models().into_iter().filter(|name| !name.ends_with("rnn")).collect();
    let mut settings = vec![format!("model.names={models:?}")];
    settings.extend(models.iter().map(|model| format!("train.epochs.{model}=40")));
    check(&Run::new(&settings.iter().map(String::as_str).collect::<Vec<_>>()));
}

#[test]
fn a_killed_cell_of_two_layers_both_directions_and_a_factorized_u_ends_the_same() {
    check(&Run::new(&[
        "model.names=[\"tt-gru\"]",
        "train.epochs.tt-gru=40",
        "model.layers=2",
        "model.bidirectional=true",
        "model.readout=mean",
        "model.recurrent=tt",
        "model.recurrent_rank=3",
        "train.recurrent_dropout=0.25",
    ]));
}

#[test]
fn a_killed_cell_of_factorized_kernels_ends_the_same() {
    check(&Run::new(&[
        "model.names=[\"cnn-gru\"]",
        "train.epochs.cnn-gru=20",
        "model.cnn_kernels=cp",
        "model.cnn_rank=8",
    ]));
}

/// The windows of an epoch are drawn again as they were.
#[test]
fn a_killed_cell_of_random_windows_ends_the_same() {
    check(&Run::new(&[
        "model.names=[\"tt-gru\", \"tt-mlp\"]",
        "train.epochs.tt-gru=40",
        "train.epochs.tt-mlp=40",
        "data.max_frames=5",
        "data.window=random",
    ]));
}

#[test]
fn a_bound_that_no_clip_reaches_is_refused() {
    let run = Run::new(&["model.names=[\"tt-gru\"]", "data.max_frames=17"]);
    for (settings, expected) in [
        (&["data.max_frames=18"][..], "no clip has more than 18 frames: leave it at 0"),
        (&["data.every=2", "data.max_frames=9"], "no clip has more than 9 frames"),
    ] {
        let output = run.plan_command(settings).output().unwrap();
        assert_eq!(output.status.code(), Some(64));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn a_killed_cell_of_standardized_rows_ends_the_same() {
    let settings = ["model.names=[\"tt-lstm\"]", "train.epochs.tt-lstm=40", "train.standardize=feature"];
    check(&Run::rows(&|dir| write_rows(dir, &|_| false), &settings));
}

/// Every cell of a run, killed after its first checkpoint, ends as one that was not.
pub(crate) fn check(run: &Run) {
    for cell in run.cells() {
        run.finish(&cell, "--threads 1");
        let expected = run.outcome(&cell);
        fs::remove_dir_all(run.folder(&cell)).unwrap();
        // The first checkpoint of a run that writes one a step lies inside an epoch.
        let mut child = run.start(&cell);
        child.kill().unwrap();
        child.wait().unwrap();
        // What a kill inside a write leaves, ours and the library's.
        fs::write(run.folder(&cell).join("weights.tmp"), "half").unwrap();
        fs::write(run.folder(&cell).join(".tmpAbCdEf"), "half").unwrap();
        let text = run.finish(&cell, "--threads 2");
        assert!(text.contains(&format!("{cell}: goes on from epoch")), "{text}");
        assert!(run.outcome(&cell) == expected, "{cell} is another after a kill");
    }
}

#[test]
fn signals_leave_a_checkpoint_and_exit_130() {
    let run = Run::new(&["model.names=[\"gru\"]", "train.epochs.gru=400"]);
    let cell = &run.cells()[0];
    let path = run.folder(cell).join("checkpoint.safetensors");
    for name in ["INT", "TERM"] {
        let child = run.start(cell);
        let before = fs::read(&path).unwrap();
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains("the next run goes on from the checkpoint"), "{}", stderr(&output));
        assert!(path.exists() && !run.folder(cell).join("cell.json").exists());
        assert_ne!(fs::read(&path).unwrap(), before, "{name} did not write another checkpoint");
    }
}

#[test]
fn a_checkpoint_left_beside_the_record_is_removed() {
    let run = Run::new(&["model.names=[\"tt-gru\"]"]);
    let cell = &run.cells()[0];
    run.finish(cell, "--threads 1");
    let expected = run.outcome(cell);
    fs::write(run.folder(cell).join("checkpoint.safetensors"), "left by a kill").unwrap();
    assert!(run.finish(cell, "").contains("done already"));
    assert_eq!(run.outcome(cell), expected);
}

#[test]
fn a_damaged_checkpoint_is_named() {
    let run = Run::new(&["model.names=[\"tt-gru\"]"]);
    let cell = &run.cells()[0];
    fs::create_dir_all(run.folder(cell)).unwrap();
    for bytes in [&b"short"[..], &[255; 64], b"\x02\0\0\0\0\0\0\0{}"] {
        fs::write(run.folder(cell).join("checkpoint.safetensors"), bytes).unwrap();
        let output = run.command(cell, "").output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains(&format!("{cell}/checkpoint.safetensors")), "{}", stderr(&output));
    }
}
