//! The records of a study of rates: a row per cell.

use serde::{Deserialize, Serialize};

use crate::provenance::Provenance;

/// Header of `rates.csv`.
pub const RATES_HEADER: &str = "model,size,lr,loss,epochs,steps,params_input,train_s,run";

/// A finished cell of a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RateRow {
    /// Name of the model.
    pub model: String,
    /// Name of the size.
    pub size: String,
    /// Learning rate.
    pub lr: f64,
    /// Mean training loss of the last epoch.
    pub loss: f64,
    /// Epochs trained.
    pub epochs: usize,
    /// Updates in all.
    pub steps: usize,
    /// Weights of the input matrix.
    pub params_input: usize,
    /// Seconds of training.
    pub train_s: f64,
    /// Folder under `data/runs/`.
    pub run: String,
}

/// What the rows of a study have in common: `run.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Name of the study.
    pub study: String,
    /// Title of page and chart.
    pub title: String,
    /// One line that says which data this is.
    pub data: String,
    /// SHA-256 over the store's manifest.
    pub data_digest: String,
    /// Name of the protocol, which makes the folds.
    pub protocol: String,
    /// Number of the fold, from 0.
    pub fold: usize,
    /// Configuration of the first cell.
    pub config: String,
    /// What computed the cells: one entry unless they differ.
    pub provenance: Vec<Provenance>,
}

/// The row with the lowest loss.
pub(crate) fn best<'a>(rows: &[&'a RateRow]) -> Option<&'a RateRow> {
    rows.iter().copied().min_by(|a, b| a.loss.total_cmp(&b.loss))
}
