//! `cargo xtask bench`: measurements of this machine by `bench-suite bench`.

use anyhow::Result;

use crate::cli::Bench;
use crate::packages;
use crate::repo::{self, Repo};

/// Builds what the measurement needs and hands over.
pub(crate) fn bench(repo: &Repo, what: &Bench) -> Result<()> {
    let (name, args) = match what {
        Bench::Kernels(forwarded) => ("kernels", &forwarded.args),
        Bench::Decode(forwarded) => {
            packages::ensure()?;
            repo.build(&["video-data"], "decoding, links FFmpeg", false)?;
            ("decode", &forwarded.args)
        }
    };
    repo.build(&["bench-suite"], "the training engine", false)?;
    repo::run(repo.binary("bench-suite").args(["bench", name]).args(args))
}
