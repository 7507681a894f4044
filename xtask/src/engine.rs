//! The training engine as a process: `bench-suite prepare`, `plan`, `params`.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use bench_suite::record::{ParamsRow, Plan};

use crate::cli::Verbosity;
use crate::interrupt::Interrupt;
use crate::records::write_atomic;
use crate::repo::{self, Repo};

/// Exit code of the engine for data that cannot be used.
pub(crate) const BAD_DATA: i32 = 65;
/// Exit code of the engine for a cell that a living process is computing.
pub(crate) const LOCKED: i32 = 75;

/// A `bench-suite` command with the wanted level of detail.
pub(crate) fn command(repo: &Repo, verb: &str, verbosity: Verbosity) -> Command {
    let mut command = repo.binary("bench-suite");
    command.arg(verb);
    if std::env::var_os("RUST_LOG").is_none() {
        command.env("RUST_LOG", verbosity.level());
    }
    command
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
        _ => bail!("bench-suite prepare failed ({status})"),
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

/// Figure 1's counts, from the models that the experiment builds.
pub(crate) fn params(repo: &Repo, flags: &[OsString], verbosity: Verbosity) -> Result<Vec<ParamsRow>> {
    json(command(repo, "params", verbosity).args(flags))
}

fn json<T: serde::de::DeserializeOwned>(command: &mut Command) -> Result<T> {
    let name = repo::line(command);
    let out = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("failed to start {name}"))?;
    if !out.status.success() {
        bail!("{name} failed ({})", out.status);
    }
    serde_json::from_slice(&out.stdout).with_context(|| format!("{name} printed something unexpected"))
}

/// Makes the run's folder and leaves `plan.json` there, where `bench-suite cell` finds its cell.
///
/// A plan of the same run that is there already keeps its cells: two runs that select different models or
/// folds of one configuration share the folder.
pub(crate) fn write_plan(run_dir: &Path, plan: &Plan) -> Result<()> {
    fs::create_dir_all(run_dir.join("cells"))
        .with_context(|| format!("{} cannot be made", run_dir.display()))?;
    let path = run_dir.join("plan.json");
    let mut merged = plan.clone();
    if let Ok(bytes) = fs::read(&path)
        && let Ok(old) = serde_json::from_slice::<Plan>(&bytes)
    {
        let new: Vec<String> = plan.cells.iter().map(bench_suite::record::PlannedCell::id).collect();
        merged.cells.extend(old.cells.into_iter().filter(|c| !new.contains(&c.id())));
    }
    write_atomic(&path, &serde_json::to_vec_pretty(&merged)?)
}

/// Folder of a run's state.
pub(crate) fn run_dir(repo: &Repo, plan: &Plan) -> PathBuf {
    repo.path("data/runs").join(&plan.run_digest)
}
