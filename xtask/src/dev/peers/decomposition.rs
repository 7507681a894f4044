//! `cargo xtask bench decomposition`: TT-SVD, rounding and TT-matrix products beside tensorly and t3f.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use bench_suite::results::write_atomic;
use serde::Serialize;

use crate::cli::bench::Decomposition;
use crate::dev::measured::{Bench, load};
use crate::dev::peers::environment::Environments;
use crate::dev::peers::plan::Home;
use crate::repo::{self, Repo};

/// What `machine.toml` says of this verb.
#[derive(Serialize)]
struct Section {
    rounds: usize,
    threads: usize,
    tensor: &'static str,
    /// Of the system.
    load_start: Option<f64>,
    load_end: Option<f64>,
}

/// Runs the comparison and writes `decomposition.csv`.
pub(crate) fn decomposition(repo: &Repo, options: &Decomposition) -> Result<()> {
    let engine = repo.binary("bench-suite");
    let machine = Bench::new(repo.root(), Path::new(engine.get_program()))?;
    let out = machine.folder(repo.root(), "decomposition", options.out.as_deref())?;
    let data = repo.path("data/peers");
    let wanted = [Home::Torch, Home::Tensorflow];
    let environments =
        Environments::ensure(&repo.path(""), &data, (&options.python, options.offline), &wanted)?;
    let [torch, tensorflow] = wanted.map(|home| environments.python(home));
    let load_start = load();
    let mut command = Command::new(torch?);
    command.arg(repo.path("xtask/peers/decomposition.py")).arg(engine.get_program());
    command.args([options.rounds.to_string(), options.threads.to_string()]);
    command.arg(data.join("decomposition")).arg(tensorflow?);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("failed to start {}", repo::line(&command)))?;
    if !output.status.success() {
        bail!("the comparison failed (see above)");
    }
    write_atomic(&out.join("decomposition.csv"), &output.stdout)?;
    let tensor = "57,600 x 256 as 32 x 80 x 80 x 72, f32: a train of rank 8 and noise a tenth its size";
    let (rounds, threads) = (options.rounds, options.threads);
    machine.write(
        &out,
        "decomposition",
        &Section { rounds, threads, tensor, load_start, load_end: load() },
    )?;
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    eprintln!("written to {}", repo.show(&out));
    Ok(())
}
