//! One task of an array: a cell, and what its end means to Slurm.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use bench_suite::device::DeviceName;
use bench_suite::files;
use bench_suite::record::{Plan, cell_folder};
use bench_suite::results::read_json;

use crate::machine::devices;
use crate::repo::{Repo, output};
use crate::run::cluster::plan;
use crate::run::engine::{BAD_DATA, LOCKED, STOPPED, cell_command};
use crate::run::interrupt::Interrupt;

/// How often a cell is tried that makes no progress.
const TRIES: usize = 3;
/// How often the controller is asked, and how long to wait between, before a requeue is given up.
const ASKS: (usize, Duration) = (40, Duration::from_secs(3));

/// Computes the cell in a line of `plan.jsonl`. After a signal, or where another process holds the cell, the task
/// puts itself back into the queue.
///
/// The exit code is 0 for done, 75 for a cell to be tried again, 65 for bad data, else the engine's.
pub(crate) fn task(repo: &Repo, run_dir: &Path, line: usize) -> Result<ExitCode> {
    let interrupt = Interrupt::install()?;
    let cells = plan::read(run_dir)?;
    let cell = cells.get(line).with_context(|| format!("{} has no line {line}", plan::FILE))?;
    let id = cell.id();
    let folder = cell_folder(run_dir, &id);
    let program =
        env::current_exe().context("this program's file is not known")?.with_file_name("bench-suite");
    let threads = ["SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"]
        .iter()
        .find_map(|name| env::var(name).ok()?.parse().ok())
        .unwrap_or(1);
    let checkpoint = || files::digest(&folder.join("checkpoint.safetensors")).ok();
    let before = checkpoint();
    eprintln!("{id}: starts on {}", env::var("SLURMD_NODENAME").unwrap_or_default());
    let mut command = Command::new(&program);
    let planned: Plan = read_json(&run_dir.join("plan.json"))?;
    if matches!(planned.device, DeviceName::Cuda(_)) {
        // The node's own libraries, which need not be those of the node that submitted.
        devices::tell_libraries(&mut command, &program, repo)?;
    }
    let mut command = cell_command(command, run_dir, cell, threads);
    let mut child = command.stdin(Stdio::null()).spawn().context("failed to start bench-suite cell")?;
    let status = interrupt.wait(&mut child)?;
    let tries = run_dir.join("slurm").join(format!("{id}.tries"));
    let code = status.code().unwrap_or(1);
    match code {
        0 => {
            // Only a count of failures that no longer matter.
            let _ = fs::remove_file(&tries);
        }
        LOCKED => return again(&tries, &id, "another process holds it"),
        STOPPED if checkpoint() != before => {
            return requeue(&id, "stopped with a checkpoint");
        }
        STOPPED => return again(&tries, &id, "stopped before its first checkpoint"),
        BAD_DATA => eprintln!("{id}: the data cannot be used"),
        _ => eprintln!("{id}: failed ({status})"),
    }
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// Back into the queue, but not for ever.
fn again(count: &Path, id: &str, why: &str) -> Result<ExitCode> {
    let tried = fs::read_to_string(count).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0) + 1;
    if tried >= TRIES {
        let _ = fs::remove_file(count);
        eprintln!("{id}: {why}, {tried} times: given up; submit it again later");
        return Ok(ExitCode::from(LOCKED as u8));
    }
    fs::write(count, tried.to_string()).with_context(|| format!("{} cannot be written", count.display()))?;
    requeue(id, why)
}

/// A task that is being cancelled stays cancelled.
fn requeue(id: &str, why: &str) -> Result<ExitCode> {
    let job = job().context("only a task of Slurm can be put back into the queue")?;
    for _ in 0..ASKS.0 {
        let state = output(Command::new("squeue").args(["--noheader", "--format=%T", "--jobs", &job]));
        if state.as_deref().is_some_and(|state| state != "RUNNING") {
            eprintln!("{id}: {why}");
            return Ok(ExitCode::from(LOCKED as u8));
        }
        if output(Command::new("scontrol").args(["requeue", &job])).is_some() {
            eprintln!("{id}: {why}; back in the queue");
            return Ok(ExitCode::from(LOCKED as u8));
        }
        thread::sleep(ASKS.1);
    }
    eprintln!("{id}: {why}; the controller does not answer: submit it again later");
    Ok(ExitCode::from(LOCKED as u8))
}

fn job() -> Option<String> {
    match (env::var("SLURM_ARRAY_JOB_ID"), env::var("SLURM_ARRAY_TASK_ID")) {
        (Ok(array), Ok(task)) => Some(format!("{array}_{task}")),
        _ => env::var("SLURM_JOB_ID").ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_end() {
        let dir = tempfile::tempdir().unwrap();
        let count = dir.path().join("a.tries");
        fs::write(&count, (TRIES - 1).to_string()).unwrap();
        let code = again(&count, "a", "held").unwrap();
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(75)));
        assert!(!count.exists(), "the next submission starts anew");
    }
}
