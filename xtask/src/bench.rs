//! `cargo xtask bench`: measurements of this machine, alone or beside other libraries.

pub(crate) mod decode;
pub(crate) mod machine;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use self::machine::{Machine, load};
use crate::cli::{Bench, Kernels};
use crate::peers;
use crate::repo::{self, Repo};

/// Builds what the measurement needs and hands over.
pub(crate) fn bench(repo: &Repo, what: &Bench) -> Result<()> {
    repo.build(&["bench-suite"], "the training engine", false)?;
    match what {
        Bench::Kernels(options) => kernels(repo, options),
        Bench::Decode(options) => decode::decode(repo, options),
        Bench::Decomposition(options) => peers::decomposition::decomposition(repo, options),
        Bench::Peers(options) => {
            let engine = repo.binary("bench-suite");
            peers::run(&repo.path(""), Path::new(engine.get_program()), options)
        }
    }
}

/// What `machine.toml` says of this verb.
#[derive(Serialize)]
struct Section {
    rounds: usize,
    only: String,
    /// Of the system.
    load_start: Option<f64>,
    load_end: Option<f64>,
}

fn kernels(repo: &Repo, options: &Kernels) -> Result<()> {
    let machine = Machine::read();
    let out = options.out.clone().unwrap_or_else(|| repo.path("results/bench").join(machine.folder()));
    fs::create_dir_all(&out).with_context(|| format!("failed to make {}", out.display()))?;
    let load_start = load();
    let mut engine = repo.binary("bench-suite");
    engine.arg("bench").arg("--out").arg(out.join("kernels.csv"));
    engine.args(["--rounds", &options.rounds.to_string(), "--only", &options.only]);
    repo::run(&mut engine)?;
    let (rounds, only) = (options.rounds, options.only.clone());
    machine.write(&out, "kernels", &Section { rounds, only, load_start, load_end: load() })?;
    eprintln!("written to {}", repo.show(&out));
    Ok(())
}
