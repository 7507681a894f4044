//! The records of a study of rates: a row per cell.

use bench_suite::provenance::Provenance;
use serde::{Deserialize, Serialize};

/// Header of `rates.csv`.
pub(crate) const RATES_HEADER: &str = "model,size,lr,loss,epochs,steps,params_input,train_s,run";

/// A finished cell of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RateRow {
    pub(crate) model: String,
    pub(crate) size: String,
    pub(crate) lr: f64,
    /// Mean training loss of the last epoch.
    pub(crate) loss: f64,
    pub(crate) epochs: usize,
    /// Updates in all.
    pub(crate) steps: usize,
    pub(crate) params_input: usize,
    /// Seconds of training.
    pub(crate) train_s: f64,
    /// Folder under `data/runs/`.
    pub(crate) run: String,
}

/// What the rows of a study have in common: `run.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct About {
    pub(crate) study: String,
    pub(crate) title: String,
    pub(crate) data: String,
    pub(crate) data_digest: String,
    pub(crate) protocol: String,
    pub(crate) fold: usize,
    /// Configuration of the first cell.
    pub(crate) config: String,
    /// What computed the cells: one entry unless they differ.
    pub(crate) provenance: Vec<Provenance>,
}

/// The row with the lowest loss.
pub(crate) fn best<'a>(rows: &[&'a RateRow]) -> Option<&'a RateRow> {
    rows.iter().copied().min_by(|a, b| a.loss.total_cmp(&b.loss))
}
