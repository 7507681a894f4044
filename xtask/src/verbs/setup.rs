//! `cargo xtask setup`: what this machine has, the engine for a graphics card, and weights of a pretrained network.

use anyhow::Result;

use crate::cli::setup::Setup;
use crate::machine::{engines, pretrained, survey};
use crate::repo::Repo;

/// Prepares what is asked for; without a flag it only looks.
pub(crate) fn setup(repo: &Repo, options: &Setup) -> Result<()> {
    match options {
        Setup { cuda: true, compute_cap, .. } => engines::cuda(repo, *compute_cap),
        Setup { metal: true, .. } => engines::metal(repo),
        Setup { pretrained: Some(weights), .. } => pretrained::setup(repo, weights),
        _ => survey::print(repo),
    }
}
