//! The training engine as a process: `bench-suite prepare`, `plan`, `params`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use bench_suite::device::DeviceName;
use bench_suite::paper;
use bench_suite::record::{DataKind, ParamsRow, Plan, PlannedCell, strip_file};
use bench_suite::results::Strip;

use crate::cli::flags::Verbosity;
use crate::machine::devices;
use crate::repo::{self, Repo};
use crate::run::interrupt::Interrupt;

/// Exit code of the engine for data that cannot be used.
pub(crate) const BAD_DATA: i32 = 65;
/// Exit code of the engine for a cell that a living process is computing.
pub(crate) const LOCKED: i32 = 75;
/// Exit code of the engine after a signal.
pub(crate) const STOPPED: i32 = 130;

/// What is wrong with the data was said by the engine.
#[derive(Debug)]
pub(crate) struct BadInput(pub(crate) &'static str);

impl std::fmt::Display for BadInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for BadInput {}

/// Seconds to wait for a cell that another process computes: twice what it should take, and at least ten minutes.
pub(crate) fn wait_s(cell: &PlannedCell) -> u64 {
    (2.0 * cell.expected_s).max(600.0) as u64
}

/// Tells `bench-suite cell` which cell, on how many threads, and how many seconds it may wait for the cell.
pub(crate) fn cell(
    command: &mut Command,
    run_dir: &Path,
    cell: &PlannedCell,
    (threads, wait_s): (usize, u64),
) {
    command.arg("--run-dir").arg(run_dir).args(["--cell", &cell.id()]);
    let threads = threads.to_string();
    // candle's own threads know no other way; more of them than cores spin in each other's way.
    command.env("RAYON_NUM_THREADS", &threads).args(["--threads", &threads]);
    command.args(["--wait", &wait_s.to_string()]);
}

/// `bench-suite cell` for one cell, as a batch system or a person would start it.
pub(crate) fn cell_command(
    mut command: Command,
    run_dir: &Path,
    cell: &PlannedCell,
    threads: usize,
) -> Command {
    self::cell(command.arg("cell"), run_dir, cell, (threads, wait_s(cell)));
    command.arg("--shared");
    command
}

/// A `bench-suite` command with the wanted level of detail.
pub(crate) fn command(repo: &Repo, verb: &str, verbosity: Verbosity) -> Command {
    let mut command = repo.binary("bench-suite");
    command.arg(verb).args(verbosity.flags());
    command
}

/// `bench-suite cell` on a device, as often as it is called.
///
/// # Errors
/// If the program for the device is not built, or a library of it is missing.
pub(crate) fn cells(
    repo: &Repo,
    on: DeviceName,
    verbosity: Verbosity,
) -> Result<impl Fn() -> Command + Sync> {
    let command = self::on(repo, "cell", on, verbosity)?;
    Ok(move || devices::again(&command))
}

/// A verb of the engine on a device.
///
/// # Errors
/// As [`cells`].
pub(crate) fn on(repo: &Repo, verb: &str, on: DeviceName, verbosity: Verbosity) -> Result<Command> {
    let on = devices::resolve(repo, on);
    let mut command = devices::device_program(repo, on)?;
    command.arg(verb).args(verbosity.flags());
    if on != DeviceName::Cpu {
        command.args(["--device", &on.to_string()]);
    }
    Ok(command)
}

/// Makes sure that the frame store exists (renders a sample, decodes clips).
pub(crate) fn prepare(
    repo: &Repo,
    flags: &[OsString],
    verbosity: Verbosity,
    interrupt: &Interrupt,
) -> Result<()> {
    let mut command = command(repo, "prepare", verbosity);
    let mut child = command.args(flags).spawn().context("failed to start bench-suite prepare")?;
    let status = interrupt.wait(&mut child)?;
    interrupt.check()?;
    match status.code() {
        Some(0) => Ok(()),
        Some(BAD_DATA) => bail!("the data cannot be used (see above)"),
        Some(LOCKED) => bail!("another run is making the same clips or frame store: try again later"),
        _ => Err(ended("bench-suite prepare", status)),
    }
}

/// The run before anything is trained. With `dry_run` the engine estimates what it has no store for.
pub(crate) fn plan(repo: &Repo, flags: &[OsString], dry_run: bool, verbosity: Verbosity) -> Result<Plan> {
    let mut command = command(repo, "plan", verbosity);
    command.args(flags);
    if dry_run {
        command.arg("--dry-run");
    }
    json(&mut command)
}

/// Figure 1's counts, read off built models.
pub(crate) fn params(repo: &Repo) -> Result<Vec<ParamsRow>> {
    json(&mut command(repo, "params", Verbosity::default()))
}

/// A strip of frames for each of these clips of a run; the pictures stay in the run's folder.
pub(crate) fn strips(repo: &Repo, run_dir: &Path, clips: &BTreeSet<&str>) -> Result<Vec<Strip>> {
    let dir = run_dir.join("strips");
    let mut command = command(repo, "strips", Verbosity::default());
    command.arg("--run-dir").arg(run_dir).arg("--out").arg(&dir).stdin(Stdio::piped());
    let name = repo::line(&command);
    let mut child = command.spawn().with_context(|| format!("failed to start {name}"))?;
    if let Some(stdin) = child.stdin.take() {
        // An engine that ended early says why itself, and its status is looked at below.
        let _ = serde_json::to_writer(stdin, clips);
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(ended(&name, status));
    }
    let read = |clip: &&str| {
        let path = dir.join(strip_file(clip));
        let jpeg = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(Strip::new(clip, &jpeg))
    };
    clips.iter().map(read).collect()
}

/// What is said of a program of ours that ended early: it has said why itself, unless a signal ended it.
pub(crate) fn ended(name: &str, status: ExitStatus) -> anyhow::Error {
    match status.code() {
        Some(_) => anyhow!("stopped for the reason above"),
        None => anyhow!("{name} failed ({status})"),
    }
}

fn json<T: serde::de::DeserializeOwned>(command: &mut Command) -> Result<T> {
    let name = repo::line(command);
    let out = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("failed to start {name}"))?;
    if !out.status.success() {
        return Err(ended(&name, out.status));
    }
    serde_json::from_slice(&out.stdout).with_context(|| format!("{name} printed something unexpected"))
}

/// Which data a run uses, for the last line.
pub(crate) fn data_line(plan: &Plan) -> String {
    match plan.data_kind {
        DataKind::Sample => format!("data: {} ({})", data_of(plan), plan.data),
        _ => format!("data: {}", data_of(plan)),
    }
}

/// Which data a run uses, in few words; a rendered sample says so.
pub(crate) fn data_of(plan: &Plan) -> String {
    let title = paper::dataset(&plan.dataset).map_or("a dataset of the paper", |d| d.title);
    match plan.data_kind {
        DataKind::Sample => format!("rendered sample, not {title}"),
        _ => plan.data.clone(),
    }
}

/// Folder of a run's state, where `bench-suite plan` left its plan.
pub(crate) fn run_dir(repo: &Repo, plan: &Plan) -> PathBuf {
    repo.path("data/runs").join(&plan.run_digest)
}
