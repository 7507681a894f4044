//! What each format of the input matrix reaches at how many weights: the rows of an experiment, and of those beside it that
//! differ from it in the budget.

use std::path::Path;

use anyhow::{Context, Result};

use crate::results::folders::{RUNS, holding};
use crate::results::page::Page;
use crate::results::records::Records;
use crate::results::tables::{TableRow, Tables};
use crate::spec::{FORMAT_NAMES, format_of};

/// A model whose input matrix has a format.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FormatRow {
    /// One of [`FORMAT_NAMES`].
    pub(crate) format: &'static str,
    /// `gru`, `lstm`, `rnn` or `mlp`.
    pub(crate) cell: String,
    pub(crate) row: TableRow,
    /// Multiply-accumulates of a frame, forwards; none in records of before they were kept.
    pub(crate) macs_per_frame: Option<usize>,
    /// Microseconds of training a frame; none unless the cells ran alone on all cores.
    pub(crate) frame_us: Option<f64>,
}

/// Experiments whose records stand in the charts of `name` beside its own: `name-1200` is `name` at another budget.
///
/// # Errors
/// A folder that cannot be read.
pub fn beside(results: &Path, name: &str) -> Result<Vec<String>> {
    let number = |other: &str| {
        let end = other.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        end.is_some_and(|end| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit()))
    };
    Ok(holding(results, RUNS)?.into_iter().filter(|other| number(other)).collect())
}

/// The rows of an experiment's folder and of those beside it, by protocol, recipe, cell and format, the fewest weights
/// first. Empty unless there are two formats to compare.
pub(crate) fn formats(dir: &Path, records: &Records, tables: &Tables) -> Result<Vec<FormatRow>> {
    let mut rows = rows_of(records, tables);
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let results = dir.parent().unwrap_or(dir);
    for other in beside(results, &name)? {
        let page = Page::read(&results.join(&other))?.records;
        let data =
            |records: &Records| (records.run_file.data_digest.clone(), records.run_file.metric.clone());
        if data(&page) == data(records) {
            let tables = Tables::derive(&page).with_context(|| format!("records of {other}"))?;
            rows.extend(rows_of(&page, &tables));
        }
    }
    if rows.iter().all(|row| row.format == rows[0].format) {
        return Ok(Vec::new());
    }
    rows.sort_by(|a, b| a.key().cmp(&b.key()));
    Ok(rows)
}

fn rows_of(records: &Records, tables: &Tables) -> Vec<FormatRow> {
    let row = |row: &TableRow| {
        let (format, cell) = format_of(&row.model)?;
        let of_row = |key: (&str, &str, &str)| key == (&row.model, &row.protocol, &row.recipe);
        // How clips were dealt changes no product, and early records do not have them.
        let macs = records.run_file.runs.iter().flat_map(|run| &run.cells).find_map(|meta| {
            let same =
                (&meta.model, &meta.recipe, meta.params_input) == (&row.model, &row.recipe, row.params_input);
            (same && meta.macs_per_frame > 0).then_some(meta.macs_per_frame)
        });
        let frames = records.folds.iter().find(|fold| of_row((&fold.model, &fold.protocol, &fold.recipe)));
        let frames = frames.map(|fold| {
            let file = &records.run_file;
            fold.train_clips as f64 * file.frames as f64 / file.clips.max(1) as f64
        });
        Some(FormatRow {
            format,
            cell: cell.to_owned(),
            row: row.clone(),
            macs_per_frame: macs,
            frame_us: row.epoch_s.zip(frames).map(|(seconds, frames)| 1e6 * seconds / frames),
        })
    };
    tables.table.iter().filter_map(row).collect()
}

impl FormatRow {
    /// What their order follows from.
    fn key(&self) -> (&str, &str, &str, Option<usize>, usize) {
        let place = FORMAT_NAMES.iter().position(|name| *name == self.format);
        (&self.row.protocol, &self.row.recipe, &self.cell, place, self.row.params_input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture;

    /// Two formats at one budget, and one of them at another beside it.
    #[test]
    fn budgets_beside_an_experiment_are_rows_of_its_formats() {
        let dir = tempfile::tempdir().unwrap();
        let results = dir.path();
        let folds: &[usize] = &[0, 1];
        let main =
            fixture::records("a", &[("tt-gru", "clips", folds, 0.45), ("cp-gru", "clips", folds, 0.6)]);
        let mut small = fixture::records("b", &[("cp-gru", "clips", folds, 0.3)]);
        for cell in &mut small.run_file.runs[0].cells {
            (cell.params_input, cell.macs_per_frame) = (1_200, 500_000);
        }
        for (name, records) in [("words", &main), ("words-1200", &small), ("words-more", &small)] {
            records.clone().keep_alone(&results.join(name)).unwrap();
        }
        let rows = |name: &str, records: &Records| {
            let tables = Tables::derive(records).unwrap();
            let rows = formats(&results.join(name), records, &tables).unwrap();
            rows.into_iter()
                .map(|row| (row.format, row.row.params_input, row.macs_per_frame))
                .collect::<Vec<_>>()
        };
        let weights = main.run_file.runs[0].cells[0].params_input;
        let found = rows("words", &main);
        assert_eq!(found, [("tt", weights, None), ("cp", 0, None), ("cp", 1_200, Some(500_000))]);
        assert!(rows("words-1200", &small).is_empty(), "one format alone");
        small.run_file.data_digest = "other clips".into();
        std::fs::remove_dir_all(results.join("words-1200")).unwrap();
        small.clone().keep_alone(&results.join("words-1200")).unwrap();
        assert_eq!(rows("words", &main).len(), 2, "other data");
    }

    #[test]
    fn seconds_of_an_epoch_are_spread_over_its_frames() {
        let folds: &[usize] = &[0];
        let records =
            fixture::records("a", &[("tt-gru", "clips", folds, 0.5), ("cp-gru", "clips", folds, 0.6)]);
        let rows = formats(Path::new("none"), &records, &Tables::derive(&records).unwrap()).unwrap();
        // 80 training clips of 24 frames on average, in 1.75 s.
        assert!((rows[0].frame_us.unwrap() - 1.75e6 / (80.0 * 24.0)).abs() < 1e-6);
    }
}
