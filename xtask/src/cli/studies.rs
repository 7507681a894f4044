//! Arguments of the studies: many short runs, as a TOML of the study says.

use clap::Args;

use crate::cli::flags::Study;

#[derive(Debug, Args)]
pub(crate) struct Ablation {
    /// Name of a TOML in experiments/ablation/
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) study: Study,
}

#[derive(Debug, Args)]
pub(crate) struct Tune {
    /// Name of a TOML in experiments/tune/
    pub(crate) name: String,
    /// Use only these models of the search
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(crate) models: Vec<String>,
    /// Use only these folds of the search
    #[arg(long, value_name = "0,1", value_delimiter = ',')]
    pub(crate) folds: Vec<usize>,
    #[command(flatten)]
    pub(crate) study: Study,
}

#[derive(Debug, Args)]
pub(crate) struct Rates {
    /// Name of a TOML in experiments/rates/
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) study: Study,
}
