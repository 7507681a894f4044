//! Flags that several verbs share.

use std::path::PathBuf;

use bench_suite::device::DeviceName;
use clap::Args;

/// Whether system packages may be installed.
#[derive(Debug, Args, Clone, Copy, Default)]
pub(crate) struct Install {
    /// Install missing system packages with apt-get, as root or with password-less sudo
    #[arg(long, global = true)]
    pub(crate) install: bool,
}

impl Install {
    /// As in the two commands of the README, which ask nobody.
    pub(crate) const ALLOWED: Self = Self { install: true };
}

/// What a study is told beside its name.
#[derive(Debug, Args)]
pub(crate) struct Study {
    /// The dataset's folder or its parent [default: data/<experiment>/]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Device to train on: cpu, cuda, cuda:N, metal, auto
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: DeviceName,
    /// Cells trained at the same time; with more than one, no seconds per epoch are recorded
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = at_least_one)]
    pub(crate) jobs: usize,
    /// Folder for the results, instead of results/
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Print cells, expected memory and time; touch nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) install: Install,
    #[command(flatten)]
    pub(crate) verbosity: Verbosity,
}

#[derive(Debug, Args, Clone, Copy, Default)]
pub(crate) struct Verbosity {
    /// Print only the first line, the last line and errors
    #[arg(long, short, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Print more: the engine's debug lines, and every epoch above the bar
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
