//! The verbs below `data` and `results`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::cli::flags::Install;

/// The verbs. NAME is an experiment that reads the dataset.
#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    /// Print which datasets are here and which are missing, with their sizes before and after an import
    #[command(after_help = "Examples:\n  cargo xtask data list")]
    List,
    /// Download the official archive into data/downloads/; an interrupted download continues
    #[command(after_help = "Examples:\n  cargo xtask data fetch ucf11")]
    Fetch {
        /// ucf11, hollywood2 or youtube-celebrities
        name: String,
    },
    /// Link a folder or unpack an archive (.rar .7z .zip .tar .tar.gz), check it and decode it
    #[command(after_help = "\
Examples:
  cargo xtask data import ucf11 data/downloads/UCF11_updated_mpg.rar
  cargo xtask data import ut-interaction /videos/ut_interaction
  cargo xtask data import ucf11            clips that lie in data/ucf11/ already")]
    Import {
        /// An experiment that reads the dataset
        name: String,
        /// Folder or archive [default: the clips already in data/NAME/]
        path: Option<PathBuf>,
        /// Import an official dataset even if clips are missing
        #[arg(long)]
        allow_partial: bool,
        /// List of clips with labels, groups and split, as `reproduce --split` takes it
        #[arg(long, value_name = "FILE")]
        split: Option<PathBuf>,
        #[command(flatten)]
        install: Install,
    },
    /// Compare every clip with what was imported; prints a CSV line each, exits with 65 if one differs
    #[command(after_help = "Examples:\n  cargo xtask data verify ucf11 --fast")]
    Verify {
        /// An experiment that reads the dataset
        name: String,
        /// Compare the SHA-256 of the files only, and decode nothing
        #[arg(long)]
        fast: bool,
        #[command(flatten)]
        install: Install,
    },
    /// Write lengths, rates, sizes, a chart and a sheet of pictures per class to data/stats/NAME/
    #[command(after_help = "Examples:\n  cargo xtask data stats ut-interaction")]
    Stats {
        /// An experiment that reads the dataset
        name: String,
    },
    /// Remove clips (a linked folder loses only its link), frames and statistics
    #[command(after_help = "Examples:\n  cargo xtask data remove ut-interaction --yes")]
    Remove {
        /// An experiment that reads the dataset
        name: String,
        /// Remove them; without this, only print what would be removed
        #[arg(long)]
        yes: bool,
    },
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Results {
    /// List the runs of an experiment, with their cells and how many of them the page shows
    #[command(after_help = "Examples:\n  cargo xtask results list ucf11-sample")]
    List {
        /// Folder under results/
        experiment: String,
        /// Folder that holds the experiments' results [default: results/ of the repository]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Remove a run's records for good, after asking, and redraw the page
    #[command(after_help = "\
Examples:
  cargo xtask results remove ucf11-sample scaled-cpu-c1e7ec12
  cargo xtask results remove devices 2026-11-29-amd-epyc --yes")]
    Remove {
        /// Folder under results/: an experiment, compression/NAME, ablation/NAME, devices or bench
        experiment: String,
        /// The run's folder in it
        run: String,
        /// Remove it without asking
        #[arg(long)]
        yes: bool,
        /// Folder that holds the experiments' results [default: results/ of the repository]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}
