//! Arguments of the verbs that train, and of those that use what was trained.

use std::ffi::OsString;
use std::path::PathBuf;

use bench_suite::device::{DeviceName, Precision};
use bench_suite::spec::FORMAT_NAMES;
use clap::Args;
use clap::builder::PossibleValuesParser;

use crate::cli::flags::{Install, Verbosity, at_least_one};
use crate::cli::selection::Selection;

#[derive(Debug, Args)]
pub(crate) struct Reproduce {
    /// Name of a TOML in experiments/
    pub(crate) experiment: String,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Folder to write DIR/<experiment>/ to, instead of results/
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Cells trained at the same time; with more than one, no seconds per epoch are recorded
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) jobs: usize,
    /// Start even where the cells need more memory than this machine has
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) batch: Batch,
    /// Print cells, frames, parameters, expected memory and time; touch nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
}

/// What `--on` may name.
pub(crate) const ENGINES: [&str; 1] = ["slurm"];

/// How cells are handed to Slurm.
#[derive(Debug, Args, Clone, Default)]
pub(crate) struct Batch {
    /// Submit the cells to a batch system and leave
    #[arg(long, value_name = "ENGINE", value_parser = ENGINES, conflicts_with = "jobs")]
    pub(crate) on: Option<String>,
    /// Options for sbatch, such as "--partition=gpu --time=8:00:00"
    #[arg(long, value_name = "OPTIONS", requires = "on", allow_hyphen_values = true)]
    pub(crate) sbatch: Option<String>,
    /// Cells computed at the same time, at most
    #[arg(long, value_name = "N", requires = "on", value_parser = at_least_one)]
    pub(crate) max_parallel: Option<usize>,
}

/// Which model of a run.
#[derive(Debug, Default, Args)]
pub(crate) struct Which {
    /// Model to take [default: tt-gru]
    #[arg(long, value_name = "M")]
    pub(crate) model: Option<String>,
    /// Fold that was held back [default: that of the cell finished last]
    #[arg(long, value_name = "N")]
    pub(crate) fold: Option<usize>,
    /// Seed it was trained with [default: that of the cell finished last]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Protocol of the fold [default: that of the cell finished last]
    #[arg(long, value_name = "P")]
    pub(crate) protocol: Option<String>,
}

impl Which {
    /// Whether one of several models is asked for.
    pub(crate) fn is_given(&self) -> bool {
        self.model.is_some() || self.fold.is_some() || self.seed.is_some() || self.protocol.is_some()
    }
}

/// What to export, and where to.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Experiment of a finished run, the run's folder under data/runs/, or a model folder
    pub(crate) run: String,
    #[command(flatten)]
    pub(crate) which: Which,
    /// The model of all clips, which `reproduce --final` trains
    #[arg(long = "final", conflicts_with_all = ["fold", "protocol"])]
    pub(crate) final_model: bool,
    /// Folder for the model, or an ONNX file: a name that ends in .onnx
    #[arg(long, value_name = "DIR|FILE", required_unless_present = "page", conflicts_with = "page")]
    pub(crate) to: Option<PathBuf>,
    /// Folder for a page that classifies videos and a camera in the browser, with the model; needs npm once
    #[arg(long, value_name = "DIR", conflicts_with = "form")]
    pub(crate) page: Option<PathBuf>,
    /// How an ONNX graph walks through time: by Scan, by the operator GRU, LSTM or RNN, or a frame at a time
    /// [default: scan]
    #[arg(long, value_name = "F", value_parser = ["scan", "operator", "step"])]
    pub(crate) form: Option<String>,
    /// How weights are kept: as trained, in half precision, or matrices as whole numbers with a scale per output
    #[arg(long, value_name = "W", default_value = "f32", value_parser = ["f32", "f16", "int8"])]
    pub(crate) weights: String,
    /// Replace the model, graph or page that is there
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Folder with an index.html
    pub(crate) dir: PathBuf,
    /// Port on 127.0.0.1
    #[arg(long, value_name = "N", default_value_t = 8000)]
    pub(crate) port: u16,
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Name of a TOML in experiments/
    #[arg(default_value = "ucf11")]
    pub(crate) experiment: String,
    /// Devices to measure: cpu, cuda, cuda:N, metal, auto
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "cpu")]
    pub(crate) devices: Vec<DeviceName>,
    /// Precision of products on CUDA cards: f32, tf32 or bf16
    #[arg(long, value_name = "P", default_value = "f32")]
    pub(crate) precision: Precision,
    /// Epochs per model; the first is not timed
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) epochs: usize,
    /// Models to measure [default: the five of the paper]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(crate) models: Vec<String>,
    /// The dataset's folder or its parent [default: data/<experiment>/, else a rendered sample]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Override a key of the experiment's TOML; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Folder for the results, instead of results/
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print cells, frames, parameters, expected memory and time; touch nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) install: Install,
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
}

#[derive(Debug, Args)]
pub(crate) struct Predict {
    /// Experiment of a finished run, the run's folder under data/runs/, or a model folder (`export` makes one); then
    /// video files. With --model-file video files alone
    #[arg(required = true, value_name = "RUN|CLIP")]
    pub(crate) words: Vec<OsString>,
    /// A model's file: from data/models/, or weights.safetensors of any finished cell
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "fold", "seed", "protocol"])]
    pub(crate) model_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Device to run on: cpu, cuda, cuda:N, metal, auto
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: DeviceName,
    /// An answer after each frame on standard input (rgb24 of the model's size), by a model folder, which is then the only
    /// word
    #[arg(long, conflicts_with_all = ["model_file", "model", "fold", "seed", "protocol", "device"])]
    pub(crate) live: bool,
    /// Classes to print per clip
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    pub(crate) top: usize,
    /// Print a JSON list; with --live an object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// Names of what an input matrix can be factorized into.
fn formats() -> PossibleValuesParser {
    FORMAT_NAMES.iter().copied().into()
}

/// What `cargo xtask compress` may be told.
#[derive(Debug, Args)]
pub(crate) struct Compress {
    /// Experiment of a finished run, or the run's folder under data/runs/
    pub(crate) run: String,
    /// Formats that the input matrix is factorized into; of the kernels of a CNN tt and cp
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "tt", value_parser = formats())]
    pub(crate) to: Vec<String>,
    /// Inner ranks; larger ones than a bond can have are lowered to what it can
    #[arg(long, value_name = "4,8", value_delimiter = ',', required = true, value_parser = at_least_one)]
    pub(crate) rank: Vec<usize>,
    /// One network of cores for all gates, or one per gate; kernels have none
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "concatenated,separate",
        value_parser = ["concatenated", "separate"])]
    pub(crate) forms: Vec<String>,
    /// Models to compress: the input matrix of dense ones, the kernels of a CNN
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "gru,lstm",
        value_parser = ["gru", "lstm", "rnn", "cnn-gru", "cnn-lstm", "frozen-cnn-gru"])]
    pub(crate) models: Vec<String>,
    /// Epochs of fine-tuning, and of the same model from initial weights; 0 for the factorization alone
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) epochs: usize,
    /// Device to train on: cpu, cuda, cuda:N, metal, auto
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: DeviceName,
    /// Folder for the results, instead of results/
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
}
