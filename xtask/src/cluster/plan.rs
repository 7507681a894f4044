//! `plan.jsonl`: the cells of a run, a line each. A cell keeps its line for ever, so that a line's number names it.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use bench_suite::record::{Plan, PlannedCell};

use super::cell_command;
use crate::cells::is_done;
use crate::device;
use crate::records::{read_lines, write_lines};
use crate::repo::Repo;
use crate::text;

/// In a run's folder.
pub(super) const FILE: &str = "plan.jsonl";

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
pub(super) fn read(run_dir: &Path) -> Result<Vec<PlannedCell>> {
    read_lines(&run_dir.join(FILE))
}

/// Prints one command line for each cell that is missing.
pub(crate) fn plan(repo: &Repo, run_dir: &Path, plan: &Plan) -> Result<()> {
    let positions: BTreeSet<usize> = keep(run_dir, plan)?.into_iter().collect();
    let device = plan.device;
    let program = device::device_program(repo, device).or_else(|reason| {
        let plain = Command::new(device::built(repo, device)?);
        eprintln!(
            "{reason:#}\nwhere the lines run, LD_LIBRARY_PATH has to name the folders of these libraries"
        );
        anyhow::Ok(plain)
    })?;
    let mut lines = String::new();
    for (at, cell) in read(run_dir)?.iter().enumerate() {
        if !positions.contains(&at) || is_done(run_dir, cell) {
            continue;
        }
        let command = cell_command(device::again(&program), run_dir, cell, 1);
        let settings = command.get_envs().filter_map(|(name, value)| {
            Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy()))
        });
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words = words.map(|word| word.to_string_lossy().into_owned());
        let words: Vec<String> = std::iter::once("env".into()).chain(settings).chain(words).collect();
        lines += &shlex::try_join(words.iter().map(String::as_str))?;
        lines.push('\n');
    }
    text::print(&lines)
}
