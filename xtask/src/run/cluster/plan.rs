//! `plan.jsonl`: the cells of a run, a line each. A cell keeps its line for ever, so that a line's number names it.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bench_suite::record::{Plan, PlannedCell};
use bench_suite::results::{read_lines, write_lines};

use crate::repo::Repo;
use crate::run::runs;

/// In a run's folder.
pub(crate) const FILE: &str = "plan.jsonl";

/// Adds the plan's cells to those that were planned before, and returns where each of them stands.
pub(crate) fn keep(run_dir: &Path, plan: &Plan) -> Result<Vec<usize>> {
    let held = File::open(run_dir).and_then(|dir| dir.lock().map(|()| dir));
    let _held = held.with_context(|| format!("{} cannot be locked", run_dir.display()))?;
    let mut cells = read(run_dir)?;
    let mut known: HashMap<String, usize> =
        cells.iter().enumerate().map(|(at, cell)| (cell.id(), at)).collect();
    let mut positions = Vec::new();
    for cell in &plan.cells {
        let position = *known.entry(cell.id()).or_insert(cells.len());
        if position == cells.len() {
            cells.push(cell.clone());
        }
        positions.push(position);
    }
    write_lines(&run_dir.join(FILE), &cells)?;
    Ok(positions)
}

/// The cells of a run, in the order of their lines.
pub(crate) fn read(run_dir: &Path) -> Result<Vec<PlannedCell>> {
    read_lines(&run_dir.join(FILE))
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
            let written = fs::metadata(dir.join(FILE)).and_then(|meta| meta.modified()).ok()?;
            Some((written, dir, plan))
        };
        let found = runs::called(&repo.path("data/runs"), name)?.into_iter().filter_map(planned);
        let newest = found.max_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        let (_, dir, mut plan) = newest.with_context(|| {
            format!("no run of {name:?} is planned here: cargo xtask reproduce {name} plans one")
        })?;
        plan.cells = read(&dir)?;
        Ok(Self { dir, plan })
    }
}
