//! The command line: every verb, every flag, an example each.

pub(crate) mod bench;
pub(crate) mod data;
pub(crate) mod flags;
pub(crate) mod runs;
pub(crate) mod selection;
pub(crate) mod setup;
pub(crate) mod stress;
pub(crate) mod studies;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use bench::Bench;
use data::{Data, Results};
use flags::Install;
use runs::{Compare, Compress, Export, Predict, Reproduce, Serve};
use selection::Selection;
use setup::Setup;
use stress::StressArguments;
use studies::{Ablation, Rates, Tune};

/// Examples under `cargo xtask help`, one per verb.
const EXAMPLES: &str = "\
Examples:
  cargo xtask reproduce ucf11              the main job: from video files to tables and charts
  cargo xtask compare ucf11 --devices cpu  seconds per epoch and memory of the five models
  cargo xtask ablation miracl-words        what the paper leaves open, one factor at a time
  cargo xtask tune miracl-words --data D   every model tuned alike, by inner splits
  cargo xtask rates miracl-words --data D  training loss against the learning rate, by size
  cargo xtask plan ucf11                   the missing cells as command lines, to run anywhere
  cargo xtask status ucf11                 cells done, running, waiting, failed
  cargo xtask collect ucf11                tables and charts from cells computed elsewhere
  cargo xtask cancel ucf11                 take a run's cells out of the queue
  cargo xtask predict folder clip.mp4      classes of any video file, by a trained model
  cargo xtask export ucf11 --to DIR        a trained model for use elsewhere, as a folder or ONNX
  cargo xtask serve DIR                    a page of `export --page`, to browsers on this machine
  cargo xtask compress ucf11 --rank 4      the input matrix of a trained model as a Tensor Train
  cargo xtask data list                    which datasets are here and which are missing
  cargo xtask results list ucf11-sample    the runs behind a page; `remove` removes one
  cargo xtask figures ucf11-sample         redraw tables, charts and report from the records
  cargo xtask setup --cuda                 build the engine for NVIDIA's cards
  cargo xtask test                         fmt, clippy, rustdoc and every test
  cargo xtask stress resume --kills 20     kill runs at random instants, compare what they leave
  cargo xtask bench kernels                GFLOP/s, scaling and memory of the TT layer
  cargo xtask help reproduce               all flags of a verb, with more examples";

/// Verbs that had another name, and the one that they have now.
const RENAMED: [(&str, &str); 2] = [("ledger", "ablation"), ("torture", "stress")];

/// A verb's old name and its new one, where it has an old one.
pub(crate) fn renamed(verb: &str) -> Option<(&'static str, &'static str)> {
    RENAMED.into_iter().find(|(old, _)| *old == verb)
}

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
    /// Print the state of every cell of a run
    #[command(after_help = "\
Examples:
  cargo xtask status ucf11")]
    Status {
        /// Experiment, or the run's folder under data/runs/
        run: String,
    },
    /// Write tables and charts from the finished cells of a run; fails and names the cells that are missing
    #[command(after_help = "\
Examples:
  cargo xtask collect ucf11")]
    Collect {
        /// Experiment, or the run's folder under data/runs/
        run: String,
        /// Folder for the results, instead of results/
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Cancel the jobs of a run; finished cells are kept
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
  cargo xtask plan ucf11 | parallel --jobs 4")]
    Plan {
        /// Name of a TOML in experiments/
        experiment: String,
        #[command(flatten)]
        selection: Selection,
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
    /// Measure the five models on one fold, on each device
    #[command(after_help = "\
Examples:
  cargo xtask compare --devices cpu
  cargo xtask compare ucf11 --devices cpu --epochs 3 --dry-run")]
    Compare(Compare),
    /// Vary one factor at a time, as experiments/ablation/<name>.toml says
    #[command(after_help = "\
Examples:
  cargo xtask ablation miracl-words --data /videos/miracl_words
  cargo xtask ablation miracl-words --data /videos/miracl_words --jobs 2")]
    Ablation(Ablation),
    /// Tune every model with the same budget, as experiments/tune/<name>.toml says; each choice is scored once
    #[command(after_help = "\
Examples:
  cargo xtask tune miracl-words --data /videos/miracl_words --dry-run
  cargo xtask tune miracl-words --data /videos/miracl_words --models tt-gru --folds 0 --jobs 2")]
    Tune(Tune),
    /// Measure the training loss against the learning rate at several sizes, as experiments/rates/<name>.toml says
    #[command(after_help = "\
Examples:
  cargo xtask rates miracl-words --data /videos/miracl_words --jobs 2")]
    Rates(Rates),
    /// Print the most probable classes of video files, by a trained model
    #[command(after_help = "\
Examples:
  cargo xtask predict folder clip.mp4 another.avi
  cargo xtask predict ucf11-sample --model tt-lstm --top 3 --json clip.mpg
  cargo xtask predict results/models/ucf11-sample-tt-gru clip.mpg
  cargo xtask predict --model-file data/models/folder-tt-gru-s0-0a1b2c3d.safetensors clip.mp4")]
    Predict(Predict),
    /// Write a trained model for use elsewhere: as a folder with all that is needed, or as an ONNX graph
    #[command(after_help = "\
Examples:
  cargo xtask export ucf11-sample --to my-model
  cargo xtask export folder --model tt-lstm --fold 2 --to my-model
  cargo xtask export folder --final --to my-model
  cargo xtask export my-model --to my-model.onnx
  cargo xtask export my-model --page my-page
  cargo xtask export results/models/ucf11-sample-tt-gru --to live.onnx --form step
  cargo xtask predict my-model clip.mp4")]
    Export(Export),
    /// Serve a folder to browsers on this machine: a page that `export --page` wrote
    #[command(after_help = "\
Examples:
  cargo xtask serve my-page")]
    Serve(Serve),
    /// Factorize the input matrix of a trained dense model, or the kernels of a CNN, and fine-tune it
    #[command(after_help = "\
Examples:
  cargo xtask compress miracl-words --rank 4,8,16
  cargo xtask compress ucf11-sample --rank 64 --forms separate --epochs 0
  cargo xtask compress miracl-words --to tt,tr,ht --rank 4 --forms concatenated
  cargo xtask compress miracl-words --models cnn-gru,frozen-cnn-gru --to tt,cp --rank 16")]
    Compress(Compress),
    /// Fetch, import, verify, describe and remove datasets
    #[command(subcommand)]
    Data(Data),
    /// Redraw tables, charts, reports and the pages written from them, from the records alone
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
    Results(Results),
    /// Print what this machine has, or build the engine for a graphics card
    #[command(after_help = "\
Examples:
  cargo xtask setup
  cargo xtask setup --cuda")]
    Setup(Setup),
    /// Run fmt, clippy, rustdoc, the build and all tests; warnings are errors
    #[command(after_help = "\
Examples:
  cargo xtask test
  cargo xtask test --all")]
    Test {
        /// Run the checks in xtask/checks/ too: each installs what it needs, such as PyTorch, onnxruntime or Slurm
        #[arg(long)]
        all: bool,
    },
    /// Measure this machine
    #[command(subcommand)]
    Bench(Bench),
    /// Kill and disturb runs, and show that nothing is lost or changed
    Stress(StressArguments),
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
    fn no_verb_has_the_old_name_of_another() {
        let verbs: Vec<String> =
            Cli::command().get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        for (old, new) in RENAMED {
            assert!(verbs.iter().all(|verb| verb != old) && verbs.iter().any(|verb| verb == new), "{old}");
        }
    }

    #[test]
    fn every_verb_has_an_example() {
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            assert!(EXAMPLES.contains(&format!("cargo xtask {} ", verb.get_name())), "{}", verb.get_name());
        }
        Cli::command().debug_assert();
    }
}
