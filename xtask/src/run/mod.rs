//! Runs: experiments checked, cells as processes, here or on a cluster, and what is left of them.

pub(crate) mod cells;
pub(crate) mod cluster;
pub(crate) mod collect;
pub(crate) mod cost;
pub(crate) mod engine;
pub(crate) mod experiments;
pub(crate) mod final_model;
pub(crate) mod interrupt;
pub(crate) mod prepare;
pub(crate) mod progress;
pub(crate) mod runs;
pub(crate) mod studies;
pub(crate) mod summary;
pub(crate) mod tables;
pub(crate) mod trials;
