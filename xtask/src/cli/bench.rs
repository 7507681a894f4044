//! Arguments of `bench`.

use std::path::PathBuf;

use bench_suite::device::DeviceName;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// The TT layer and the recurrence: floor, GFLOP/s, scaling with T, batch, ranks and threads
    #[command(
        after_help = "Examples:\n  cargo xtask bench kernels\n  cargo xtask bench kernels --only \"ucf11 tt-gru\" --out kernels\n  cargo xtask bench kernels --device cuda"
    )]
    Kernels(Kernels),
    /// A graphics card: kernels checked, then layer, training steps beside PyTorch, and an epoch of UCF11's size
    #[command(
        after_help = "Examples:\n  cargo xtask bench gpu\n  cargo xtask bench gpu --device cpu --quick --out DIR"
    )]
    Gpu(Gpu),
    /// Other libraries' TT layers beside ours: live processes visited round robin (needs Python)
    #[command(after_help = "Examples:\n  cargo xtask bench peers --peers torch_merged,t3f --frames 16")]
    Peers(Peers),
    /// TT-SVD, rounding and TT-matrix products: ours, tensorly, t3f (needs Python)
    #[command(after_help = "Examples:\n  cargo xtask bench decomposition --rounds 3")]
    Decomposition(Decomposition),
    /// Frames per second and CPU seconds of decoding: ours, the ffmpeg command line, PyAV, OpenCV, decord
    #[command(after_help = "Examples:\n  cargo xtask bench decode --rounds 5")]
    Decode(Decode),
}

/// What `cargo xtask bench gpu` may be told.
#[derive(Debug, Args)]
pub(crate) struct Gpu {
    /// Device to measure: cuda, cuda:N, metal, or cpu to try the verb
    #[arg(long, value_name = "DEVICE", default_value = "cuda")]
    pub(crate) device: DeviceName,
    /// What to do, in this order
    #[arg(long, value_name = "A,B", default_value = "check,layer,epoch,step")]
    pub(crate) sections: String,
    /// How often each case is run, after one that is not counted
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub(crate) rounds: usize,
    /// Small sizes, whose times mean nothing
    #[arg(long)]
    pub(crate) quick: bool,
    /// A Python whose PyTorch, if it has one for the device, is measured in turns with ours
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: PathBuf,
    /// Where the records go [default: results/bench/<date>-<cpu>-<verb>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What `cargo xtask bench kernels` may be told.
#[derive(Debug, Args, Clone)]
pub(crate) struct Kernels {
    /// Device whose kernels are timed: cpu, cuda, cuda:N, metal, auto
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: DeviceName,
    /// On a card: a Python whose PyTorch, if it has one for the device, is measured in turns with ours
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: PathBuf,
    /// How often each case is run
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub(crate) rounds: usize,
    /// Only cases whose name contains this, such as "ucf11 tt-gru T=64" [default: all]
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) only: String,
    /// Where the results go [default: results/bench/<date>-<cpu>-<verb>]
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
pub(crate) const PEERS: [&str; 13] = [
    "t3f",
    "tensorly_torch",
    "torch_merged",
    "torch_right_to_left",
    "torch_per_step",
    "jax_merged",
    "tednet",
    "tntorch",
    "t3nsor",
    "candle_ops",
    "torch_dense_gru",
    "torch_dense_lstm",
    "floor",
];

/// What `cargo xtask bench peers` may be told.
#[derive(Debug, Clone, Args)]
pub(crate) struct Peers {
    /// Only these peers, at every T [default: all, the slow ones at T <= 16 only]
    #[arg(long, value_name = "A,B", value_delimiter = ',', value_parser = PEERS)]
    pub(crate) peers: Vec<String>,
    /// Cells to compare; the LSTM at the shortest T only
    #[arg(long, value_name = "A,B", value_delimiter = ',', default_value = "gru,lstm")]
    pub(crate) cells: Vec<Cell>,
    /// Frames T of a clip
    #[arg(long, value_name = "T,T", value_delimiter = ',', default_value = "16,64")]
    pub(crate) frames: Vec<usize>,
    /// Threads; 1 compares process CPU time, more compare wall time (on a quiet machine)
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1")]
    pub(crate) threads: Vec<usize>,
    /// How often each peer is visited
    #[arg(long, value_name = "N", default_value_t = 15)]
    pub(crate) rounds: usize,
    /// Python that makes the environments (3.11 to 3.13)
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: String,
    /// Use the environments that are there and install nothing
    #[arg(long)]
    pub(crate) offline: bool,
    /// Where the results go [default: results/bench/<date>-<cpu>-<verb>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What `cargo xtask bench decomposition` may be told.
#[derive(Debug, Args)]
pub(crate) struct Decomposition {
    /// How often each library does everything
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Threads of every library
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) threads: usize,
    /// Python that makes the environments (3.11 to 3.13)
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: String,
    /// Use the environments that are there and install nothing
    #[arg(long)]
    pub(crate) offline: bool,
    /// Where the results go [default: results/bench/<date>-<cpu>-<verb>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What `cargo xtask bench decode` may be told.
#[derive(Debug, Args)]
pub(crate) struct Decode {
    /// How often each program decodes each clip
    #[arg(long, value_name = "N", default_value_t = 7)]
    pub(crate) rounds: usize,
    /// Python that makes the environment
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub(crate) python: String,
    /// Where the results go [default: results/bench/<date>-<cpu>-<verb>]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}
