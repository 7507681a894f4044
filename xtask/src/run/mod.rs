//! Runs: experiments checked, cells as processes, here or on a cluster, and what is left of them.

pub(crate) mod cells;
pub(crate) mod cluster;
pub(crate) mod cost;
pub(crate) mod engine;
pub(crate) mod experiments;
pub(crate) mod final_model;
pub(crate) mod forecast;
pub(crate) mod interrupt;
pub(crate) mod prepare;
pub(crate) mod progress;
pub(crate) mod runs;
pub(crate) mod studies;
pub(crate) mod summary;
pub(crate) mod tables;
pub(crate) mod trials;

/// A cell of one second.
#[cfg(test)]
pub(crate) fn planned_cell(model: &str, fold: usize) -> bench_suite::record::PlannedCell {
    bench_suite::record::PlannedCell {
        model: model.into(),
        protocol: "clips".into(),
        recipe: "scaled".into(),
        fold,
        seed: 0,
        epochs: 1,
        train_clips: 8,
        test_clips: 2,
        train_frames: 80,
        params_input: 1,
        params_total: 1,
        macs_per_frame: 2_000_000,
        expected_rss_bytes: 1,
        expected_s: 1.0,
    }
}
