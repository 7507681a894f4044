//! What `bench inference` leaves: how long a frame takes in a model that is given frame by frame.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What `machine.toml` says of this verb.
#[derive(Debug, Serialize, Deserialize)]
pub struct Section {
    /// The model that is run.
    pub model: String,
    /// Frames of the clip.
    pub frames: usize,
    /// Interleaved rounds.
    pub rounds: usize,
    /// Threads of each program.
    pub threads: usize,
    /// Load of the system at the start.
    pub load_start: Option<f64>,
    /// At the end.
    pub load_end: Option<f64>,
    /// Programs that are not here, and why.
    pub missing: BTreeMap<String, String>,
}

/// Columns of `inference.csv`.
pub const HEADER: &str = "program,version,us_median,us_least,to_ours,error";
/// Columns of `inference_raw.csv`.
pub const RAW_HEADER: &str = "program,round,us_median,us_least";

/// A program that runs the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InferenceRow {
    /// `ours`, `onnxruntime`, …
    pub program: String,
    /// Its version.
    pub version: String,
    /// Microseconds of a frame: the median over rounds of the median of a clip's frames.
    pub us_median: f64,
    /// Least median of a clip.
    pub us_least: f64,
    /// Median over rounds of its time over ours in the same round.
    pub to_ours: f64,
    /// Largest difference of a probability from ours, where there are probabilities.
    pub error: Option<f64>,
}

/// A sample: a clip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InferenceSample {
    /// As in the row.
    pub program: String,
    /// Which of the interleaved rounds.
    pub round: usize,
    /// Median of the clip's frames.
    pub us_median: f64,
    /// Least of them.
    pub us_least: f64,
}
