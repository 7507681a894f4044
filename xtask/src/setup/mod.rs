//! `cargo xtask setup`: what this machine has, and the engine for a graphics card.

mod build;
pub(crate) mod check;
mod survey;
mod toolkit;
mod wheels;

use anyhow::Result;
use clap::Args;

use crate::repo::Repo;

/// CUDA's toolkit, where it comes from wheels.
pub(crate) const TOOLKIT: &str = "data/cuda/nvidia/cu13";

/// What `cargo xtask setup` may be told.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Build the engine for NVIDIA's cards, with a toolkit from wheels where none is installed
    #[arg(long, conflicts_with = "metal")]
    cuda: bool,
    /// Build the engine for Apple's cards
    #[arg(long)]
    metal: bool,
    /// Oldest card that candle's kernels are for: 75, 80, 86, 89; from 90 on they run on that card alone
    #[arg(long, value_name = "N", default_value_t = 80, requires = "cuda")]
    compute_cap: u32,
}

/// Prepares what is asked for; without a flag it only looks.
pub(crate) fn setup(repo: &Repo, options: &Options) -> Result<()> {
    match options {
        Options { cuda: true, compute_cap, .. } => build::cuda(repo, *compute_cap),
        Options { metal: true, .. } => build::metal(repo),
        _ => survey::print(repo),
    }
}
