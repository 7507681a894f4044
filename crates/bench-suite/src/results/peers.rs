//! `peers.csv`: other programs beside our models, in one interleaved run.

use serde::Serialize;

/// What is timed of a training step.
pub const PHASES: [&str; 2] = ["forward", "step"];

/// A row of `peers.csv`. `ratio` is the peer's time over ours: above 1 we are faster.
#[derive(Debug, Clone, Serialize)]
pub struct PeerRow {
    /// The program or model that ours is measured against.
    pub peer: &'static str,
    /// Our model.
    pub ours: &'static str,
    /// Frames of a clip.
    pub frames: usize,
    /// Clips of a step.
    pub batch: usize,
    /// Threads of each.
    pub threads: usize,
    /// One of [`PHASES`].
    pub phase: &'static str,
    /// Milliseconds, least of the rounds: process CPU time at 1 thread, wall time at more.
    pub ms_min: f64,
    /// The same, median over rounds.
    pub ms_median: f64,
    /// Ours, least of the rounds.
    pub ours_ms_min: f64,
    /// The peer's time over ours.
    pub ratio: f64,
    /// Peak resident memory of the peer's process.
    pub peak_rss_bytes: u64,
}
