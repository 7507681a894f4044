//! Cells computed elsewhere: `reproduce --on slurm`, `status`, `collect`, `cancel` and `plan`.
//!
//! The truth is in the run's folder. A cell is done when its `cell.json` is there, whoever computed it; Slurm is asked
//! only for what waits.

mod plan;
mod slurm;
mod status;
mod task;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use bench_suite::record::{Plan, PlannedCell};
use clap::Args;

pub(crate) use plan::{keep, plan};
pub(crate) use slurm::{cancel, check, show, submit};
pub(crate) use status::status;
pub(crate) use task::task;

use crate::cells::is_done;
use crate::engine;
use crate::repo::Repo;
use crate::reproduce::Tables;
use crate::runs;

/// What `--on` may name.
pub(crate) const ENGINES: [&str; 1] = ["slurm"];

/// How cells are handed to Slurm.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Batch {
    /// Submit the cells to a batch system and leave
    #[arg(long, value_name = "ENGINE", value_parser = ENGINES, conflicts_with = "jobs")]
    pub(crate) on: Option<String>,
    /// Options for sbatch, such as "--partition=gpu --time=8:00:00"
    #[arg(long, value_name = "OPTIONS", requires = "on", allow_hyphen_values = true)]
    pub(crate) sbatch: Option<String>,
    /// Cells computed at the same time, at most
    #[arg(long, value_name = "N", requires = "on", value_parser = crate::cli::at_least_one)]
    pub(crate) max_parallel: Option<usize>,
}

/// A run's folder with its plan, the cells those of `plan.jsonl`.
pub(crate) struct Run {
    pub(crate) dir: PathBuf,
    pub(crate) plan: Plan,
}

impl Run {
    /// The run of an experiment whose plan is the newest, or of a digest.
    pub(crate) fn find(repo: &Repo, name: &str) -> Result<Self> {
        let planned = |(dir, plan): (PathBuf, Plan)| {
            let written = fs::metadata(dir.join(plan::FILE)).and_then(|meta| meta.modified()).ok()?;
            Some((written, dir, plan))
        };
        let found = runs::called(&repo.path("data/runs"), name)?.into_iter().filter_map(planned);
        let newest = found.max_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let (_, dir, mut plan) = newest.with_context(|| {
            format!("no run of {name:?} is planned here: cargo xtask reproduce {name} plans one")
        })?;
        plan.cells = plan::read(&dir)?;
        Ok(Self { dir, plan })
    }
}

/// Tables and charts from the finished cells; an error names those that are missing.
pub(crate) fn collect(repo: &Repo, name: &str, out: Option<&Path>) -> Result<()> {
    let Run { dir, plan } = Run::find(repo, name)?;
    let missing: Vec<String> =
        plan.cells.iter().filter(|cell| !is_done(&dir, cell)).map(PlannedCell::id).collect();
    if missing.len() < plan.cells.len() {
        let command = format!("cargo xtask collect {}", plan.experiment);
        let tables = Tables::new(repo, &dir, &plan, out, &command)?;
        tables.write()?;
        tables.report()?;
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("{} of {} cells are missing:\n{}", missing.len(), plan.cells.len(), missing.join("\n"))
}

/// `bench-suite cell` for one cell, as a batch system or a person would start it.
fn cell_command(mut command: Command, run_dir: &Path, cell: &PlannedCell, threads: usize) -> Command {
    engine::cell(command.arg("cell"), run_dir, cell, (threads, engine::wait_s(cell)));
    command.arg("--shared");
    command
}
