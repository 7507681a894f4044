//! Arguments of `bench`.

use std::path::PathBuf;

use bench_suite::device::DeviceName;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use crate::cli::flags::at_least_one;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// The TT layer and the recurrence: floor, GFLOP/s, scaling with T, batch, ranks and threads
    #[command(
        after_help = "Examples:\n  cargo xtask bench kernels\n  cargo xtask bench kernels --only \"ucf11 tt-gru\" --out kernels\n  cargo xtask bench kernels --device cuda"
    )]
    Kernels(Kernels),
    /// A graphics card: its kernels checked, then the layer, training steps beside PyTorch, an epoch of UCF11's size
    #[command(
        after_help = "Examples:\n  cargo xtask bench gpu\n  cargo xtask bench gpu --device cpu --quick --out DIR"
    )]
    Gpu(Gpu),
    /// Other libraries' TT layers beside ours, measured in turns (needs Python)
    #[command(after_help = "Examples:\n  cargo xtask bench peers --peers torch_merged,t3f --frames 16")]
    Peers(Comparison),
    /// What UCF11's whole protocol takes here: steps at the clips' lengths, a real epoch of each model, the sum in hours
    #[command(
        after_help = "Examples:\n  cargo xtask bench study\n  cargo xtask bench study --clips 100 --models tt-gru,gru"
    )]
    Study(Study),
    /// TT-SVD, rounding and TT-matrix products: ours, tensorly, t3f (needs Python)
    #[command(after_help = "Examples:\n  cargo xtask bench decomposition --rounds 3")]
    Decomposition(Decomposition),
    /// Frames per second and CPU seconds of decoding: ours, the ffmpeg command line, PyAV, OpenCV, decord
    #[command(after_help = "Examples:\n  cargo xtask bench decode --rounds 5")]
    Decode(Decode),
    /// A model given frame by frame: ours, onnxruntime, OpenVINO, tract, onnxruntime-web, measured in turns
    #[command(after_help = "Examples:\n  cargo xtask bench inference --rounds 5")]
    Inference(Inference),
}

/// Seconds that a case may take on a card: many times what the slowest one does.
pub(crate) const CASE_LIMIT_S: u64 = 600;

/// What `cargo xtask bench gpu` may be told.
#[derive(Debug, Args)]
pub(crate) struct Gpu {
    /// Device to measure: cuda, cuda:N, metal, or cpu to try the command out
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    pub(crate) device: DeviceName,
    /// Parts to run, in this order
    #[arg(long, value_name = "A,B", default_value = "check,layer,epoch,step")]
    pub(crate) sections: String,
    /// Timed runs of each case, after one that is not timed
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Seconds after which a case that is not done is given up; those after it still run
    #[arg(long, value_name = "N", default_value_t = CASE_LIMIT_S, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) case_limit: u64,
    /// Use small sizes; the times mean nothing
    #[arg(long)]
    pub(crate) quick: bool,
    /// Python with PyTorch for this device, measured in turns with ours if it is there
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: PathBuf,
    /// Folder for the results [default: results/bench/<date>-<cpu>-<verb>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What `cargo xtask bench kernels` may be told.
#[derive(Debug, Args, Clone)]
pub(crate) struct Kernels {
    /// Device whose kernels are timed: cpu, cuda, cuda:N, metal, auto
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: DeviceName,
    /// On a card: Python with PyTorch for it, measured in turns with ours if it is there
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: PathBuf,
    /// Timed runs of each case
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Run only cases whose name contains this, such as "ucf11 tt-gru T=64" [default: all]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) only: String,
    /// Folder for the results [default: results/bench/<date>-<cpu>-<verb>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// The recurrent cell of a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Cell {
    /// Reset before U, gates `[z | r | h]`.
    Gru,
    /// Gates `[i | f | g | o]`.
    Lstm,
}

/// Names of the peers.
pub(crate) const PEERS: [&str; 21] = [
    "t3f",
    "tensorly_torch",
    "torchtt",
    "torch_merged",
    "torch_right_to_left",
    "torch_per_step",
    "torch_compile",
    "torch_compile_bf16",
    "torch_medium",
    "opt_einsum",
    "jax_merged",
    "tednet",
    "tednet_tr",
    "tednet_bt",
    "tednet_cp",
    "tntorch",
    "t3nsor",
    "candle_ops",
    "torch_dense_gru",
    "torch_dense_lstm",
    "floor",
];

/// What `cargo xtask bench peers` may be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct Comparison {
    /// Compare only these peers, at every T [default: all, the slow ones only at T <= 16]
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = PEERS)]
    pub(crate) peers: Vec<String>,
    /// Cells to compare; the LSTM only at the shortest T
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "gru,lstm")]
    pub(crate) cells: Vec<Cell>,
    /// Frames T of a clip
    #[arg(long, value_name = "T,T", value_delimiter = ',', default_value = "16,64", value_parser = at_least_one)]
    pub(crate) frames: Vec<usize>,
    /// Numbers of threads; 1 compares CPU time, more compare wall time (on an idle machine)
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1", value_parser = at_least_one)]
    pub(crate) threads: Vec<usize>,
    /// Rounds of measurements
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Python that makes the environments (3.11 to 3.13)
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: String,
    /// Use only the environments already installed
    #[arg(long)]
    pub(crate) offline: bool,
    /// Folder for the results [default: results/bench/<date>-<cpu>-<verb>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What `cargo xtask bench study` may be told.
#[derive(Debug, Args)]
pub(crate) struct Study {
    /// Clips to generate, below data/; UCF11's number takes 44.6 GB
    #[arg(long, value_name = "N", default_value_t = 1600, value_parser = at_least_one)]
    pub(crate) clips: usize,
    /// Frames of the shortest clip, of one on average, of the longest
    #[arg(long, value_name = "A,B,C", default_value = "204,484,1492")]
    pub(crate) frames: String,
    /// Models, in this order
    #[arg(long, value_name = "A,B", default_value = "tt-mlp,tt-gru,tt-lstm,gru,lstm")]
    pub(crate) models: String,
    /// Timed steps of each length
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Leave the generated clips for the next time
    #[arg(long)]
    pub(crate) keep: bool,
    /// Folder for the results [default: results/bench/<date>-<cpu>-<verb>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What `cargo xtask bench decomposition` may be told.
#[derive(Debug, Args)]
pub(crate) struct Decomposition {
    /// Rounds of measurements
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Threads of every library
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) threads: usize,
    /// Python that makes the environments (3.11 to 3.13)
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: String,
    /// Use only the environments already installed
    #[arg(long)]
    pub(crate) offline: bool,
    /// Folder for the results [default: results/bench/<date>-<cpu>-<verb>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What `cargo xtask bench decode` may be told.
#[derive(Debug, Args)]
pub(crate) struct Decode {
    /// Times that each program decodes each clip
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Python that makes the environment
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: String,
    /// Folder for the results [default: results/bench/<date>-<cpu>-<verb>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What `cargo xtask bench inference` may be told.
#[derive(Debug, Args)]
pub(crate) struct Inference {
    /// Model folder, which `export` writes
    #[arg(long, value_name = "DIR", default_value = "results/models/ucf11-sample-tt-gru")]
    pub(crate) model: PathBuf,
    /// Times that each program is given the clip
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = at_least_one)]
    pub(crate) rounds: usize,
    /// Python that makes the environment
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: String,
    /// Folder for the results [default: results/bench/<date>-<cpu>-<verb>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
