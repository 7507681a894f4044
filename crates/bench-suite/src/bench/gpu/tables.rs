//! The rows of `checks.csv`, `limits.csv` and `gpu.csv`, in the memory of a process and on their way to another.

use super::Part;
use crate::places::write;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The text of CSV files by their names.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Tables(BTreeMap<String, String>);

/// A row of `checks.csv`.
#[derive(Serialize)]
pub(super) struct CheckRow {
    /// `tt-layer`, `recurrence` or `training`.
    pub(super) kernel: &'static str,
    pub(super) case: String,
    /// `value`, or which gradient; `run` where the case could not be run.
    pub(super) what: &'static str,
    pub(super) precision: &'static str,
    /// Largest difference over the largest expected number.
    pub(super) error: f64,
    pub(super) bar: f64,
    pub(super) passed: bool,
}

/// A row of `gpu.csv`; its columns are described in `docs/formats.md`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Row {
    /// `layer`, `step` or `epoch`.
    pub(super) section: &'static str,
    /// What was run.
    pub(super) case: String,
    /// `ours`, or whose version.
    pub(super) peer: String,
    pub(super) precision: String,
    pub(super) frames: Option<usize>,
    pub(super) ms_min: Option<f64>,
    pub(super) ms_median: Option<f64>,
    /// Least time by the limits measured in the same call; none for what has no such bound here.
    pub(super) floor_ms: Option<f64>,
    /// Median over floor.
    pub(super) floor_ratio: Option<f64>,
    /// Why there are no times.
    pub(super) error: String,
}

impl Tables {
    /// One row more of a file.
    pub(super) fn add<T: Serialize>(&mut self, file: &str, row: &T) -> Result<()> {
        let text = self.0.entry(file.to_owned()).or_default();
        let mut csv = csv::WriterBuilder::new().has_headers(text.is_empty()).from_writer(Vec::new());
        csv.serialize(row)?;
        let bytes = csv.into_inner().map_err(csv::IntoInnerError::into_error)?;
        text.push_str(std::str::from_utf8(&bytes)?);
        Ok(())
    }

    /// A row that says why a case, whose name begins with its kernel's, has no numbers.
    pub(super) fn not_run(&mut self, part: Part, case: &str, reason: &str) -> Result<()> {
        let reason = reason.lines().next().unwrap_or_default();
        match part {
            Part::TtLayer | Part::Recurrence | Part::Training => {
                let (kernel, case) = (part.name(), format!("{case}: {reason}"));
                let (what, precision) = ("run", "");
                let error = f64::INFINITY;
                self.add(
                    "checks.csv",
                    &CheckRow { kernel, case, what, precision, error, bar: 0.0, passed: false },
                )
            }
            Part::Layer | Part::Epoch | Part::Step => {
                let (section, case, peer) = (part.name(), case.to_owned(), "ours".to_owned());
                self.add("gpu.csv", &Row { section, case, peer, error: reason.to_owned(), ..Row::default() })
            }
        }
    }

    /// All rows of another, after these.
    pub(super) fn append(&mut self, other: &Self) {
        for (file, rows) in &other.0 {
            let text = self.0.entry(file.clone()).or_default();
            let header = rows.find('\n').map_or(rows.len(), |end| end + 1);
            text.push_str(if text.is_empty() { rows } else { &rows[header..] });
        }
    }

    /// Writes the files.
    pub(super) fn save(&self, folder: &Path) -> Result<()> {
        self.0.iter().try_for_each(|(file, text)| write(&folder.join(file), text.as_bytes()))
    }

    #[cfg(test)]
    pub(super) fn text(&self, file: &str) -> &str {
        self.0.get(file).map_or("", String::as_str)
    }
}
