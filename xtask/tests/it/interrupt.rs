//! Runs that are stopped, locked out or out of room, and the runs after them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::fake::{Fake, stderr};

/// Ctrl-C as a terminal sends it, to all processes; SIGTERM to xtask alone.
#[test]
fn a_stopped_run_exits_130_and_the_next_one_goes_on() {
    for (name, group) in [("-INT", "-"), ("-TERM", "")] {
        let fake = Fake::new();
        fake.write("fake/slow", b"");
        let mut command = fake.command("reproduce ucf11");
        let child = command.process_group(0).stderr(Stdio::piped()).spawn().unwrap();
        let started = Instant::now();
        while !fake.path("fake/started").exists() {
            assert!(started.elapsed() < Duration::from_mins(1), "no cell was started");
            std::thread::yield_now();
        }
        let target = format!("{group}{}", child.id());
        assert!(Command::new("kill").args([name, "--", &target]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{name}: {}", stderr(&output));
        let last = stderr(&output).lines().last().unwrap().to_owned();
        assert_eq!(last, "interrupted: finished cells are kept, and the same command continues from there");
        assert!(!fake.path("results/ucf11-sample/table.csv").exists());
        fs::remove_file(fake.path("fake/slow")).unwrap();
        let output = fake.xtask("reproduce ucf11");
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(fake.path("results/ucf11-sample/table.csv").exists());
    }
}

#[test]
fn cells_that_another_run_holds_end_with_75_and_their_names() {
    let fake = Fake::new();
    fake.write("fake/locked", b"");
    let output = fake.xtask("reproduce ucf11");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(75), "{text}");
    assert!(
        text.contains("cell tt-gru.clips.scaled.f0.s0 is being computed by another run: waiting"),
        "{text}"
    );
    assert!(text.lines().last().unwrap().starts_with("another run is still computing "), "{text}");
    assert!(text.contains(", gru.clips.scaled.f1.s0: run the same command later"), "{text}");
}

/// Files are limited to 1 KiB here, so that the records cannot be written.
#[test]
fn records_that_do_not_fit_are_named_and_written_by_the_next_run() {
    let fake = Fake::new();
    let inner = fake.command("reproduce ucf11");
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 2; exec \"$@\"", "sh"]).arg(inner.get_program());
    shell.args(inner.get_args()).current_dir(fake.path(""));
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let output = shell.output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("nothing is lost: the finished cells are in data/runs/0123abcd"), "{text}");
    assert!(text.contains("run.toml cannot be written: File too large"), "{text}");
    // As a kill leaves it.
    fake.write("results/ucf11-sample/runs/scaled-cpu-0123abcd/folds.csv.1.tmp", b"half");
    let output = fake.xtask("reproduce ucf11");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("4 of 4 cells are finished already and kept"));
    assert!(!fake.path("results/ucf11-sample/runs/scaled-cpu-0123abcd/folds.csv.1.tmp").exists());
    assert!(fake.path("results/ucf11-sample/report.md").exists());
}
