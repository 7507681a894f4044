//! `cargo xtask bench`: measurements of this machine, alone or beside other libraries.

use std::path::Path;

use anyhow::Result;

use crate::cli::Bench;
use crate::peers;
use crate::repo::{self, Repo};

/// Builds what the measurement needs and hands over.
pub(crate) fn bench(repo: &Repo, what: &Bench) -> Result<()> {
    match what {
        Bench::Kernels(forwarded) => {
            repo.build(&["bench-suite"], "the training engine", false)?;
            repo::run(repo.binary("bench-suite").arg("bench").args(&forwarded.args))
        }
        Bench::Peers(options) => {
            repo.build(&["bench-suite"], "the training engine", false)?;
            let engine = repo.binary("bench-suite");
            peers::run(&repo.path(""), Path::new(engine.get_program()), options)
        }
    }
}
