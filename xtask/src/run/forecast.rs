//! What a study of many runs would take, said without touching anything.

use std::iter;

use anyhow::Result;
use bench_suite::record::PlannedCell;

use crate::cli::flags::Study;
use crate::cli::selection::Selection;
use crate::machine::packages;
use crate::repo::Repo;
use crate::run::cost::Cost;
use crate::run::{engine, experiments};
use crate::text::{self, bytes, columns, seconds, thousands};

/// Cells that a study would train alike.
#[derive(Debug)]
pub(crate) struct Part {
    /// The step of the study.
    pub(crate) what: String,
    pub(crate) selection: Selection,
    /// How often, with settings that change no cost.
    pub(crate) times: usize,
}

/// A model in a step.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    what: String,
    model: String,
    cells: usize,
    epochs: usize,
    bytes: u64,
    seconds: f64,
}

/// Prints cells, memory and time of a study, a row for each of its steps and models.
///
/// # Errors
/// What is wrong with any part, found first.
pub(crate) fn print(repo: &Repo, experiment: &str, parts: &[Part], study: &Study) -> Result<()> {
    for part in parts {
        experiments::check(repo, experiment, &part.selection)?;
    }
    packages::require()?;
    repo.build_all(study.verbosity.quiet)?;
    let (mut planned, mut data) = (Vec::new(), String::new());
    for part in parts {
        let plan = engine::plan(repo, &part.selection.flags(experiment)?, true, study.verbosity)?;
        data = engine::data_line(&plan);
        planned.push((part, plan.cells));
    }
    text::print(&table(&planned, study.jobs))?;
    eprintln!("{data}");
    Ok(())
}

fn add(lines: &mut Vec<Line>, part: &Part, cells: &[PlannedCell]) {
    for cell in cells {
        let at = lines.iter().position(|line| (&line.what, &line.model) == (&part.what, &cell.model));
        let at = at.unwrap_or_else(|| {
            let (what, model) = (part.what.clone(), cell.model.clone());
            lines.push(Line { what, model, cells: 0, epochs: cell.epochs, bytes: 0, seconds: 0.0 });
            lines.len() - 1
        });
        let line = &mut lines[at];
        line.cells += part.times;
        line.bytes = line.bytes.max(cell.expected_rss_bytes);
        line.seconds += part.times as f64 * cell.expected_s;
    }
}

fn table(planned: &[(&Part, Vec<PlannedCell>)], jobs: usize) -> String {
    let mut lines = Vec::new();
    for (part, cells) in planned {
        add(&mut lines, part, cells);
    }
    let mut rows = vec![["step", "model", "cells", "epochs", "memory", "time"].map(str::to_owned).to_vec()];
    rows.extend(lines.iter().map(|line| {
        vec![
            line.what.clone(),
            line.model.clone(),
            thousands(line.cells),
            line.epochs.to_string(),
            bytes(line.bytes),
            seconds(line.seconds),
        ]
    }));
    let every = planned
        .iter()
        .flat_map(|(part, cells)| cells.iter().flat_map(move |cell| iter::repeat_n(cell, part.times)));
    let Cost { cells, seconds: s, bytes: memory, .. } = Cost::of(every, jobs);
    format!(
        "{}\n{} cells, {jobs} at a time: expected memory {}, time {}\n",
        columns(&rows, 2),
        thousands(cells),
        bytes(memory),
        seconds(s),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::planned_cell;

    #[test]
    fn parts_of_a_step_are_summed_by_model() {
        let part = |what: &str, times| Part { what: what.into(), selection: Selection::default(), times };
        let (small, mut large) = (planned_cell("tt-gru", 0), planned_cell("gru", 0));
        (large.expected_s, large.expected_rss_bytes) = (60.0, 3_000_000_000);
        let first = vec![small.clone(), planned_cell("tt-gru", 1), large.clone()];
        let planned = [(&part("step 1", 12), first), (&part("step 2", 4), vec![small, large])];
        insta::assert_snapshot!(table(&planned, 2));
    }
}
