//! Arguments of `setup`.

use clap::Args;

/// What `cargo xtask setup` may be told.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// Build the engine for NVIDIA's cards, with a toolkit from wheels where none is installed
    #[arg(long, conflicts_with = "metal")]
    pub(crate) cuda: bool,
    /// Build the engine for Apple's cards
    #[arg(long)]
    pub(crate) metal: bool,
    /// Compute capability of the oldest card to support: 75, 80, 86, 89; from 90 on only that card is supported
    #[arg(long, value_name = "N", default_value_t = 80, requires = "cuda")]
    pub(crate) compute_cap: u32,
}
