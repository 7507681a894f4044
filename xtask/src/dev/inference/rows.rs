//! What `bench inference` leaves: how long a frame takes in a model that is given frame by frame.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What `machine.toml` says of this verb.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Section {
    pub(super) model: String,
    pub(super) frames: usize,
    pub(super) rounds: usize,
    pub(super) threads: usize,
    /// Of the system.
    pub(super) load_start: Option<f64>,
    pub(super) load_end: Option<f64>,
    /// Programs that are not here, and why.
    pub(super) missing: BTreeMap<String, String>,
}

/// Columns of `inference.csv`.
pub(super) const HEADER: &str = "program,version,us_median,us_least,to_ours,error";
/// Columns of `inference_raw.csv`.
pub(super) const RAW_HEADER: &str = "program,round,us_median,us_least";

/// A program that runs the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InferenceRow {
    /// `ours`, `onnxruntime`, …
    pub(super) program: String,
    /// Its version.
    pub(super) version: String,
    /// Microseconds of a frame: the median over rounds of the median of a clip's frames.
    pub(super) us_median: f64,
    /// Least median of a clip.
    pub(super) us_least: f64,
    /// Median over rounds of its time over ours in the same round.
    pub(super) to_ours: f64,
    /// Largest difference of a probability from ours, where there are probabilities.
    pub(super) error: Option<f64>,
}

/// A sample: a clip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct InferenceSample {
    /// As in the row.
    pub(super) program: String,
    /// Which of the interleaved rounds.
    pub(super) round: usize,
    /// Median of the clip's frames.
    pub(super) us_median: f64,
    /// Least of them.
    pub(super) us_least: f64,
}
