//! `cargo xtask bench`: measurements of this machine by `bench-suite bench`.

use anyhow::Result;

use crate::cli::Bench;
use crate::repo::{self, Repo};

/// Builds what the measurement needs and hands over.
pub(crate) fn bench(repo: &Repo, what: &Bench) -> Result<()> {
    match what {
        Bench::Kernels(forwarded) => {
            repo.build(&["bench-suite"], "the training engine", false)?;
            repo::run(repo.binary("bench-suite").arg("bench").args(&forwarded.args))
        }
    }
}
