//! Which cells of which experiment.

use std::path::{Path, PathBuf};

use anyhow::Result;
use bench_suite::device::{DeviceName, Precision};
use bench_suite::resolve::{Choice, Resolved, resolve};
use bench_suite::spec::Overrides;
use clap::Args;
use video_data::Dataset;

/// The choice that a command line makes.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Name of a file in experiments/.
    #[arg(long)]
    experiment: String,
    /// Folder of the clips, or its parent.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder of the results in the place of the experiment's; not for rendered samples.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// List of clips with labels, groups and split.
    #[arg(long)]
    split: Option<PathBuf>,
    /// Recipe in experiments/recipes/.
    #[arg(long)]
    recipe: Option<String>,
    /// Models to run.
    #[arg(long, value_delimiter = ',')]
    models: Vec<String>,
    /// Folds to run.
    #[arg(long, value_delimiter = ',')]
    folds: Vec<usize>,
    /// Seeds to run.
    #[arg(long, alias = "seed", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// Epochs of every model.
    #[arg(long)]
    epochs: Option<usize>,
    /// clips, groups, official or final.
    #[arg(long)]
    protocol: Option<String>,
    /// key=value, any key of the experiment's file.
    #[arg(long)]
    set: Vec<String>,
    /// Run on an official dataset that is not all there.
    #[arg(long)]
    allow_partial: bool,
    /// Device to train on: cpu, cuda, cuda:N or metal.
    #[arg(long, default_value = "cpu")]
    pub(crate) device: DeviceName,
    /// Precision of a card's products: f32, tf32 or bf16.
    #[arg(long, default_value = "f32")]
    pub(crate) precision: Precision,
    /// Touch nothing: estimate what is not decoded yet.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl Selection {
    /// The experiment and its clips.
    pub(crate) fn resolve(&self, root: &Path) -> Result<(Resolved, Option<Dataset>)> {
        let choice = Choice {
            data: self.data.as_deref(),
            split: self.split.as_deref(),
            allow_partial: self.allow_partial,
        };
        resolve(root, &self.experiment, choice, &self.overrides())
    }

    fn overrides(&self) -> Overrides {
        Overrides {
            recipe: self.recipe.clone(),
            models: self.models.clone(),
            folds: self.folds.clone(),
            seeds: self.seeds.clone(),
            epochs: self.epochs,
            protocol: self.protocol.clone(),
            set: self.set.clone(),
        }
    }
}
