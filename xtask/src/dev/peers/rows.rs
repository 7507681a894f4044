//! What a session measures: raw samples, facts of the workers, rows of the table.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::cli::bench::Cell;

/// One iteration of one worker.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Sample {
    pub(super) peer: &'static str,
    pub(super) cell: &'static str,
    pub(super) frames: usize,
    pub(super) threads: usize,
    pub(super) phase: &'static str,
    pub(super) round: usize,
    pub(super) cpu_s: f64,
    pub(super) wall_s: f64,
}

/// A worker that stayed to the end.
#[derive(Debug, Clone, Serialize)]
pub(super) struct WorkerFacts {
    pub(super) peer: &'static str,
    pub(super) cell: Cell,
    pub(super) frames: usize,
    pub(super) threads: usize,
    #[serde(skip)]
    pub(super) ours: bool,
    #[serde(skip)]
    pub(super) dense: bool,
    /// Where it is neither the train nor the dense matrix.
    #[serde(skip)]
    pub(super) format: Option<&'static str>,
    /// Resident memory before the first iteration.
    pub(super) start_rss_bytes: u64,
    pub(super) peak_rss_bytes: u64,
    /// Largest `max|error| / max|reference|` of h and all gradients.
    pub(super) largest_error: f64,
    pub(super) versions: Map<String, Value>,
}
