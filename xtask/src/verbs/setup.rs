//! `cargo xtask setup`: what this machine has, and the engine for a graphics card.

use anyhow::Result;

use crate::cli::setup::Setup;
use crate::machine::{engines, survey};
use crate::repo::Repo;

/// Prepares what is asked for; without a flag it only looks.
pub(crate) fn setup(repo: &Repo, options: &Setup) -> Result<()> {
    match options {
        Setup { cuda: true, compute_cap, .. } => engines::cuda(repo, *compute_cap),
        Setup { metal: true, .. } => engines::metal(repo),
        _ => survey::print(repo),
    }
}
