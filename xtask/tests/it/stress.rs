//! The engine itself: kills survived, and two runs on one folder.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::fake::{Fake, stderr};

/// A repository with the engines that cargo built; none where they are not built yet, which is said aloud.
fn with_engine() -> Option<Fake> {
    let fake = Fake::new();
    if fake.use_real_engine() {
        return Some(fake);
    }
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Written past the test harness, which swallows the output of tests that pass.
    let mut stderr = std::io::stderr();
    writeln!(stderr, "SKIPPED {name}: no bench-suite and video-worker in target/release").unwrap();
    None
}

#[test]
fn eight_kills_are_survived() {
    let Some(fake) = with_engine() else { return };
    let output = fake.xtask("stress resume --kills 8 --seed 1");
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "8 kills, 8 survived, 0 mismatches\n", "{text}");
    assert!(!fake.path("data/stress").exists(), "it is left when nothing is to be looked at");
}

#[test]
fn two_runs_at_once_compute_each_cell_once() {
    let Some(fake) = with_engine() else { return };
    let runs = [(); 2]
        .map(|()| fake.command("reproduce folder-sample --epochs 2").stderr(Stdio::piped()).spawn().unwrap());
    let texts = runs.map(|run| {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    });
    assert!(
        texts.iter().all(|text| !text.contains("ERROR")),
        "a cell of the other run is no error: {texts:?}"
    );
    let computed = texts.iter().map(|text| text.matches("epoch 1/2").count()).sum::<usize>();
    assert_eq!(computed, 15, "{texts:?}");
    let folds = fake.record("folder-sample", "folds.csv");
    assert_eq!(folds.lines().count(), 16, "{folds}");
    let again = fake.xtask("reproduce folder-sample --epochs 2");
    assert!(stderr(&again).contains("15 of 15 cells are finished already and kept"));
}

/// Files are limited to 50 KiB here, which clips fit into and the frame store does not.
#[test]
fn a_frame_store_that_does_not_fit_is_named_and_finished_by_the_next_run() {
    let Some(fake) = with_engine() else { return };
    let prepare = |limit: &str| {
        let mut shell = Command::new("sh");
        let script = format!("trap '' XFSZ; {limit}; exec target/release/bench-suite prepare \"$@\"");
        shell.args(["-c", &script, "sh", "--experiment", "folder-sample"]).current_dir(fake.path(""));
        shell.output().unwrap()
    };
    let output = prepare("ulimit -f 100");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("/frames.bin: File too large"), "{text}");
    let output = prepare(":");
    assert!(output.status.success(), "{}", stderr(&output));
}
