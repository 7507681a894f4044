//! Writes that fail: the file is named, the last good state stays, the next run goes on.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

use crate::run::{Run, outcome_in, signal, stderr};

/// Puts `sh` in front of a command.
fn in_shell(script: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    shell
}

/// Runs a command that may not write a file longer than so many blocks of 512 bytes.
fn limited(blocks: u32, command: &Command) -> Output {
    in_shell(&format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\""), command).output().unwrap()
}

#[test]
fn a_write_that_fails_names_its_file_and_loses_nothing() {
    let run = Run::new(&["model.names=[\"gru\"]", "train.epochs.gru=100", "train.settled=0.0"]);
    let cell = &run.cells()[0];
    run.finish(cell, "--threads 1");
    let expected = run.outcome(cell);
    run.clear();
    let child = run.start(cell);
    signal(&child, "TERM");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    let checkpoint = run.folder(cell).join("checkpoint.safetensors");
    let good = fs::read(&checkpoint).unwrap();
    // Too little for the next checkpoint, for the events of 100 epochs, for the weights.
    for (blocks, more, file) in [
        (8, "--checkpoint-every 0", "checkpoint.safetensors"),
        (8, "--checkpoint-every 60", bench_suite::events::FILE),
        (64, "--checkpoint-every 60", "weights.safetensors"),
    ] {
        let output = limited(blocks, &run.command(cell, more));
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).contains(&format!("{cell}/{file}")), "{}", stderr(&output));
        assert!(stderr(&output).contains("File too large"), "{}", stderr(&output));
        assert!(fs::read(&checkpoint).unwrap() == good, "the last good checkpoint was touched");
        let left = fs::read_dir(run.folder(cell)).unwrap().count();
        assert_eq!(left, 3, "something is left beside checkpoint, events and lock");
    }
    assert!(run.finish(cell, "--threads 2").contains("goes on from epoch"));
    assert!(run.outcome(cell) == expected, "another result after failed writes");
    let output = limited(1, &run.plan_command(&["model.names=[\"lstm\"]"]));
    assert!(stderr(&output).contains("plan.json: File too large"), "{}", stderr(&output));
    assert!(fs::read_to_string(run.dir().join("plan.json")).unwrap().contains("\"gru\""));
}

/// A shell in which `$1` is a file system in memory of `$2` bytes; nothing where the system allows none.
fn on_small_disk(folder: &Path, bytes: u64, script: &str, command: &Command) -> Option<Output> {
    let mount = "mount -t tmpfs -o size=\"$2\" small \"$1\"";
    let allowed = Command::new("unshare")
        .args(["-Urm", "sh", "-c", mount, "sh"])
        .arg(folder)
        .arg("64k")
        .output()
        .is_ok_and(|output| output.status.success());
    if !allowed {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        // Written past the test harness, which swallows the output of tests that pass.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "SKIPPED {name}: no private mounts here (unshare -Urm)").unwrap();
        return None;
    }
    let mut shell = Command::new("unshare");
    let script = format!("{mount}; shift 2; {script}");
    shell.args(["-Urm", "sh", "-c", &script, "sh"]).arg(folder).arg(bytes.to_string());
    shell.arg(command.get_program()).args(command.get_args());
    Some(shell.output().unwrap())
}

/// Bytes that a file takes up on a file system of whole pages.
fn on_disk(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len().next_multiple_of(4096)
}

#[test]
fn a_full_disk_is_named_and_the_run_goes_on_when_there_is_room() {
    let run = Run::new(&["model.names=[\"gru\"]", "train.epochs.gru=40"]);
    let cell = &run.cells()[0];
    let mut child = run.start(cell);
    child.kill().unwrap();
    child.wait().unwrap();
    let checkpoint = on_disk(&run.folder(cell).join("checkpoint.safetensors"));
    run.finish(cell, "--threads 1");
    let expected = run.outcome(cell);
    let weights = on_disk(&run.folder(cell).join("weights.safetensors"));
    let events = on_disk(&run.folder(cell).join(bench_suite::events::FILE));
    let predictions = on_disk(&run.folder(cell).join("predictions.csv"));
    let always = events + on_disk(&run.folder(cell).join("lock"));
    run.clear();
    let (cells, kept) = (run.dir().join("cells"), run.dir().join("kept"));
    fs::create_dir_all(&cells).unwrap();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    for (bytes, more, file) in [
        (always + checkpoint * 3 / 2, "--checkpoint-every 0", "checkpoint.safetensors"),
        (always + weights / 2, "", "weights.safetensors"),
        (always + weights, "", "predictions.csv"),
        (always + weights + predictions, "", "cell.json"),
    ] {
        // Too small a disk; then the same disk read-only; then a larger one.
        let script = format!(
            "\"$@\"; echo code $? >&2; mount -o remount,ro {0}; \"$@\"; echo code $? >&2; \
             mount -o remount,rw,size=16m {0}; \"$@\"; echo code $? >&2; rm -rf {1}; cp -r {0}/{cell} {1}",
            cells.display(),
            kept.display()
        );
        let Some(output) = on_small_disk(&cells, bytes, &script, &run.command(cell, more)) else { return };
        let text = stderr(&output);
        let attempts: Vec<&str> = text.split_inclusive("code ").collect();
        assert_eq!(attempts.len(), 4, "{text}");
        let named = |attempt: &str, file: &str| attempt.contains(&format!("{cell}/{file}"));
        assert!(named(attempts[0], file) && attempts[0].contains("No space left on device"), "{text}");
        assert!(named(attempts[1], "lock") && attempts[1].contains("Read-only file system"), "{text}");
        let codes: Vec<&str> = attempts[1..].iter().filter_map(|text| text.get(..1)).collect();
        assert_eq!(codes, ["1", "1", "0"], "{text}");
        assert_eq!(attempts[2].contains("goes on from"), file == "checkpoint.safetensors", "{text}");
        assert!(outcome_in(&kept) == expected, "another result after a full disk at {file}");
        let left = fs::read_dir(&kept).unwrap().map(|entry| name(&entry.unwrap().path()));
        assert_eq!(left.filter(|name| name.contains("tmp") || name.contains("checkpoint")).count(), 0);
    }
}
