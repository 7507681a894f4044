//! Arguments of `stress`.

use clap::{Args, Subcommand, ValueEnum};

use crate::cli::flags::Install;

#[derive(Debug, Args)]
pub(crate) struct StressArguments {
    #[command(flatten)]
    pub(crate) install: Install,
    #[command(subcommand)]
    pub(crate) what: Stress,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Stress {
    /// Kill runs of the five models at random instants and compare what they leave with an undisturbed run
    #[command(after_help = "\
Examples:
  cargo xtask stress resume
  cargo xtask stress resume --kills 20 --seed 7")]
    Resume(ResumeOptions),
    /// Decode damaged clips of every codec: nothing may crash or hang, and damage should be noticed
    #[command(after_help = "\
Examples:
  cargo xtask stress clips --count 1000
  cargo xtask stress clips --count 50 --seed 7")]
    Clips(ClipOptions),
    /// Kill an import at random instants: it must end with the same frame store, byte for byte
    #[command(after_help = "\
Examples:
  cargo xtask stress import --kills 50")]
    Import(ImportOptions),
    /// Disturb a Slurm of two nodes on this machine: nothing may be lost, computed twice or changed
    #[command(after_help = "\
Examples:
  cargo xtask stress cluster
  cargo xtask stress cluster --scenarios node-killed,time-limit")]
    Cluster(ClusterOptions),
}

#[derive(Debug, Args)]
pub(crate) struct ImportOptions {
    /// Kills to survive
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) kills: usize,
    /// Seed of the instants of the kills
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ClipOptions {
    /// Damaged clips of each codec
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(crate) count: usize,
    /// Seed of the damage
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeOptions {
    /// Kills to survive
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(crate) kills: usize,
    /// Seed of the instants of the kills, signals, thread counts and checkpoint intervals
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
pub(crate) struct ClusterOptions {
    /// Disturbances to try [default: all]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    pub(crate) scenarios: Vec<Scenario>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Nothing happens
    Undisturbed,
    /// A node is killed with everything on it
    NodeKilled,
    /// A node's daemon is killed while its cells live on, so that Slurm starts them a second time
    DaemonKilled,
    /// The controller is killed and comes back later
    ControllerKilled,
    /// No cell fits into the time limit
    TimeLimit,
    /// The same cells are submitted twice at the same time
    TwoSubmits,
    /// A cell fails, is repaired and is submitted again
    FailingCell,
    /// Writes fail on the nodes
    FullDisk,
    /// Cells are cancelled and submitted again
    Cancelled,
}
