//! The command line: every verb, every flag, an example each.

use std::ffi::OsString;
use std::path::PathBuf;

use bench_suite::device::{DeviceName, Precision};
use clap::{Args, Parser, Subcommand};

use crate::cluster::Batch;
use crate::packages::Install;
use crate::selection::Selection;
use crate::trials::Study;

/// Examples under `cargo xtask help`, one per verb.
const EXAMPLES: &str = "\
Examples:
  cargo xtask reproduce ucf11              the main job: video files to tables and charts
  cargo xtask compare ucf11 --devices cpu  seconds per epoch and memory of the five models
  cargo xtask ledger miracl-words --data D what the paper leaves open, one factor at a time
  cargo xtask tune miracl-words --data D   every model tuned alike, by inner splits
  cargo xtask rates miracl-words --data D  training loss against the rate, by size
  cargo xtask plan ucf11                   the missing cells as command lines, to run anywhere
  cargo xtask status ucf11                 cells done, running, waiting, failed
  cargo xtask collect ucf11                tables and charts from cells computed elsewhere
  cargo xtask cancel ucf11                 take a run's cells out of the queue
  cargo xtask predict folder clip.mp4      what a trained model says of any video file
  cargo xtask compress ucf11 --to tt --rank 4 a trained dense model as a Tensor Train
  cargo xtask data list                    the datasets: what is here, what is missing
  cargo xtask results list ucf11-sample    the runs behind a page; `remove` is the only way to lose one
  cargo xtask figures ucf11-sample         redraw tables, charts and report from the records
  cargo xtask setup --cuda                 build the engine for NVIDIA's cards
  cargo xtask test                         fmt, clippy, rustdoc and every test
  cargo xtask torture resume --kills 20    kill runs at random instants, compare what they leave
  cargo xtask bench kernels                GFLOP/s, scaling and memory of the TT layer
  cargo xtask help reproduce               all flags of a verb, with more examples";

/// Trains the models of the TT-RNN paper on video and draws its tables and figures.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXAMPLES, max_term_width = 100)]
#[command(arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Run an experiment from video files to results/<experiment>/
    #[command(after_help = "\
Examples:
  cargo xtask reproduce ucf11
  cargo xtask reproduce ucf11 --data /videos/UCF11_updated_mpg --dry-run
  cargo xtask reproduce ucf11 --models gru,tt-gru --folds 0,1 --set model.rank=5
  cargo xtask reproduce folder --data my-clips --protocol groups --jobs 2
  cargo xtask reproduce folder --data UCF-101 --split ucfTrainTestlist/testlist01.txt
  cargo xtask reproduce folder --data my-clips --final
  cargo xtask reproduce ucf11 --on slurm --sbatch \"--partition=cpu --time=8:00:00\" --max-parallel 20")]
    Reproduce(Reproduce),
    /// Print where every cell of a run stands
    #[command(after_help = "\
Examples:
  cargo xtask status ucf11")]
    Status {
        /// Experiment, or the run's folder under data/runs/
        run: String,
    },
    /// Write tables and charts from the finished cells of a run; fails, naming them, where cells are missing
    #[command(after_help = "\
Examples:
  cargo xtask collect ucf11")]
    Collect {
        /// Experiment, or the run's folder under data/runs/
        run: String,
        /// Folder for the results, in place of results/
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Cancel the jobs of a run; finished cells stay
    #[command(after_help = "\
Examples:
  cargo xtask cancel ucf11")]
    Cancel {
        /// Experiment, or the run's folder under data/runs/
        run: String,
    },
    /// Print the missing cells of an experiment as command lines, for GNU parallel, HyperQueue or Kubernetes
    #[command(after_help = "\
Examples:
  cargo xtask plan ucf11 --format lines | parallel --jobs 4")]
    Plan {
        /// Name of a TOML in experiments/
        experiment: String,
        #[command(flatten)]
        selection: Selection,
        /// One command a line
        #[arg(long, value_name = "F", default_value = "lines", value_parser = ["lines"])]
        format: String,
        #[command(flatten)]
        install: Install,
    },
    /// One task of a Slurm array
    #[command(hide = true)]
    CellTask {
        /// Folder of the run.
        run_dir: PathBuf,
        /// Line of plan.jsonl, from 0.
        line: usize,
    },
    /// Measure the five models on one fold, per device
    #[command(after_help = "\
Examples:
  cargo xtask compare --devices cpu
  cargo xtask compare ucf11 --devices cpu --epochs 3 --dry-run")]
    Compare(Compare),
    /// Vary one factor at a time on real clips, as experiments/ledger/<name>.toml says
    #[command(after_help = "\
Examples:
  cargo xtask ledger miracl-words --data /videos/miracl_words
  cargo xtask ledger miracl-words --data /videos/miracl_words --jobs 2")]
    Ledger(Ledger),
    /// Tune every model with the same budget, as experiments/tune/<name>.toml says, and score each choice once
    #[command(after_help = "\
Examples:
  cargo xtask tune miracl-words --data /videos/miracl_words
  cargo xtask tune miracl-words --data /videos/miracl_words --models tt-gru --folds 0 --jobs 2")]
    Tune(crate::tune::Options),
    /// Measure the training loss against the rate at several sizes, as experiments/rates/<name>.toml says
    #[command(after_help = "\
Examples:
  cargo xtask rates miracl-words --data /videos/miracl_words --jobs 2")]
    Rates(crate::rates::Options),
    /// Print the most probable classes of video files, by a model of a finished run
    #[command(after_help = "\
Examples:
  cargo xtask predict folder clip.mp4 another.avi
  cargo xtask predict ucf11-sample --model tt-lstm --top 3 --json clip.mpg
  cargo xtask predict --model-file data/models/folder-tt-gru-s0-0a1b2c3d.safetensors clip.mp4")]
    Predict(Predict),
    /// Factorize the input matrix of a trained dense model and fine-tune it
    #[command(after_help = "\
Examples:
  cargo xtask compress miracl-words --to tt --rank 4,8,16
  cargo xtask compress ucf11-sample --to tt --rank 64 --forms separate --epochs 0")]
    Compress(crate::compress::Options),
    /// Fetch, import, verify, describe and remove datasets
    #[command(subcommand)]
    Data(crate::data::Data),
    /// Regenerate tables, charts and report from the committed records
    #[command(after_help = "\
Examples:
  cargo xtask figures
  cargo xtask figures ucf11-sample")]
    Figures {
        /// Folder under results/; all of them when left out
        experiment: Option<String>,
        /// Folder that holds the experiments' results [default: results/ of the repository]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// List the runs behind a page, and remove one
    #[command(subcommand)]
    Results(crate::results::Results),
    /// Print what this machine has; build the engine for a graphics card
    #[command(after_help = "\
Examples:
  cargo xtask setup
  cargo xtask setup --cuda")]
    Setup(crate::setup::Options),
    /// Run the whole suite: fmt, clippy, rustdoc, build, tests; warnings are errors
    #[command(after_help = "\
Examples:
  cargo xtask test")]
    Test,
    /// Measure this machine
    #[command(subcommand)]
    Bench(Bench),
    /// Show that nothing is lost or changed by kills
    Torture(crate::torture::Arguments),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// The TT layer and the recurrence: floor, GFLOP/s, scaling with T, batch, ranks and threads
    #[command(
        after_help = "Examples:\n  cargo xtask bench kernels\n  cargo xtask bench kernels --only \"ucf11 tt-gru\" --out kernels\n  cargo xtask bench kernels --device cuda"
    )]
    Kernels(crate::bench::Kernels),
    /// A graphics card: kernels checked, then layer, training steps beside PyTorch, and an epoch of UCF11's size
    #[command(
        after_help = "Examples:\n  cargo xtask bench gpu\n  cargo xtask bench gpu --device cpu --quick --out DIR"
    )]
    Gpu(crate::bench::Gpu),
    /// Other libraries' TT layers beside ours: live processes visited round robin (needs Python)
    #[command(after_help = "Examples:\n  cargo xtask bench peers --peers torch_merged,t3f --frames 16")]
    Peers(crate::peers::Options),
    /// TT-SVD, rounding and TT-matrix products: ours, tensorly, t3f (needs Python)
    #[command(after_help = "Examples:\n  cargo xtask bench decomposition --rounds 3")]
    Decomposition(crate::peers::decomposition::Options),
    /// Frames per second and CPU seconds of decoding: ours, the ffmpeg command line, PyAV, OpenCV, decord
    #[command(after_help = "Examples:\n  cargo xtask bench decode --rounds 5")]
    Decode(crate::bench::decode::Options),
}

#[derive(Debug, Args)]
pub(crate) struct Reproduce {
    /// Name of a TOML in experiments/
    pub(crate) experiment: String,
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Folder for the results, in place of results/: they land in DIR/<experiment>/
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Cells trained at the same time; with more than one, seconds per epoch stay empty
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

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Name of a TOML in experiments/
    #[arg(default_value = "ucf11")]
    pub(crate) experiment: String,
    /// Devices to measure: cpu, cuda, cuda:N, metal, auto
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "cpu")]
    pub(crate) devices: Vec<DeviceName>,
    /// Products on CUDA cards: f32, tf32 or bf16
    #[arg(long, value_name = "P", default_value = "f32")]
    pub(crate) precision: Precision,
    /// Epochs per model; the first is left out of the seconds
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
    /// Folder for the results, in place of results/
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
pub(crate) struct Ledger {
    /// Name of a TOML in experiments/ledger/
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) study: Study,
}

#[derive(Debug, Args)]
pub(crate) struct Predict {
    /// Experiment of a finished run, or the run's folder under data/runs/; then video files. With --model-file
    /// video files alone
    #[arg(required = true, value_name = "RUN|CLIP")]
    pub(crate) words: Vec<OsString>,
    /// A model's file: from data/models/, or weights.safetensors of any finished cell
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "fold", "seed", "protocol"])]
    pub(crate) model_file: Option<PathBuf>,
    /// Model to ask
    #[arg(long, value_name = "M", default_value = "tt-gru")]
    pub(crate) model: String,
    /// Fold whose training clips it saw
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) fold: usize,
    /// Seed it was trained with [default: that of the cell finished last]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Protocol of the fold [default: that of the cell finished last]
    #[arg(long, value_name = "P")]
    pub(crate) protocol: Option<String>,
    /// Device to run on: cpu, cuda, cuda:N, metal, auto
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: DeviceName,
    /// Classes to print per clip
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    pub(crate) top: usize,
    /// Print a JSON list
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args, Clone, Copy, Default)]
pub(crate) struct Verbosity {
    /// Only the first line, the last line and errors
    #[arg(long, short, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// More detail: the engine's debug lines, and every epoch above the bar
    #[arg(long, short, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

impl Verbosity {
    /// The engine's flags for it.
    pub(crate) fn flags(self) -> &'static [&'static str] {
        match (self.quiet, self.verbose) {
            (true, _) => &["--quiet"],
            (false, 0) => &[],
            _ => &["--verbose"],
        }
    }
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number from 1".into()),
        Ok(n) => Ok(n),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn help_snapshot() {
        insta::assert_snapshot!(Cli::command().render_help());
    }

    #[test]
    fn reproduce_help_snapshot() {
        let mut cli = Cli::command();
        cli.build();
        insta::assert_snapshot!(cli.find_subcommand_mut("reproduce").unwrap().render_help());
    }

    #[test]
    fn every_verb_has_an_example() {
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            assert!(EXAMPLES.contains(&format!("cargo xtask {} ", verb.get_name())), "{}", verb.get_name());
        }
        Cli::command().debug_assert();
    }
}
