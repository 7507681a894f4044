//! What a machine without a card can check of the code for cards: that it compiles.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::machine::devices;
use crate::machine::toolkit::Toolkit;
use crate::machine::wheels;
use crate::repo::{self, Repo};

/// Leaves empty outputs in the place of compiled kernels, which no type check looks into.
const STAND_IN: &str = include_str!("nvcc-stand-in.sh");
/// The toolkit whose bindings are checked, as candle's take it.
const CUDA_VERSION: &str = "13000";
/// The target of Macs with cards that Metal drives.
const MAC: &str = "aarch64-apple-darwin";

/// Clippy over everything of feature `cuda`, with a stand-in for nvcc; none on systems that CUDA is not for.
///
/// # Errors
/// If the stand-in cannot be written.
pub(crate) fn clippy_cuda(repo: &Repo) -> Result<Option<Command>> {
    if env::consts::OS != "linux" {
        return Ok(None);
    }
    let target = repo.target().join("check-cuda");
    let home = target.join("nvcc");
    let nvcc = home.join("bin/nvcc");
    fs::create_dir_all(home.join("bin")).with_context(|| format!("failed to make {}", home.display()))?;
    fs::write(&nvcc, STAND_IN).with_context(|| format!("failed to write {}", nvcc.display()))?;
    fs::set_permissions(&nvcc, fs::Permissions::from_mode(0o755))?;
    let mut cargo = repo.cargo();
    Toolkit::stand_in(home).show_to(&mut cargo)?;
    cargo.env("CUDARC_CUDA_VERSION", CUDA_VERSION).env("CUDA_COMPUTE_CAP", "80");
    cargo.args([
        "clippy",
        "--release",
        "--features",
        "cuda",
        "--package",
        "bench-suite",
        "--package",
        "tt-rnn",
    ]);
    cargo.args(["--package", "tt-core", "--all-targets", "--target-dir"]).arg(target);
    cargo.args(["--", "-D", "warnings"]);
    Ok(Some(cargo))
}

/// Clippy over the networks with feature `metal`, for Macs; none where rustup did not install their target.
pub(crate) fn clippy_metal(repo: &Repo) -> Option<Command> {
    let mut rustup = Command::new("rustup");
    let installed = repo::output(rustup.args(["target", "list", "--installed"]).current_dir(repo.root()))?;
    installed.lines().find(|target| *target == MAC)?;
    let mut cargo = repo.cargo();
    cargo.args(["clippy", "--release", "--target", MAC, "--features", "metal", "--package", "tt-rnn"]);
    cargo.args(["--package", "tt-core", "--", "-D", "warnings"]);
    Some(cargo)
}

/// NVIDIA's run-time compiler: the library that is here, else, where one may `fetch`, the one of its wheel.
///
/// # Errors
/// As [`wheels::install`].
pub(crate) fn nvrtc(repo: &Repo, fetch: bool) -> Result<Option<PathBuf>> {
    if env::consts::OS != "linux" {
        return Ok(None);
    }
    let here = devices::nvrtc(repo);
    if here.is_some() || !fetch {
        return Ok(here);
    }
    wheels::install(repo, &wheels::NVRTC, |_| Ok(()))?;
    Ok(devices::nvrtc(repo))
}
