//! `cargo xtask test`: everything that CI requires, step by step.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cli::flags::Install;
use crate::dev::check;
use crate::dev::outside::{self, Check};
use crate::machine::packages;
use crate::repo::{self, Repo};
use crate::text;

/// Where the tests find NVIDIA's run-time compiler.
const NVRTC: &str = "TT_NVRTC";

/// Runs every step; stops at the first that fails. With `all` the checks that install packages follow, and each is tried.
pub(crate) fn test(repo: &Repo, all: bool) -> Result<()> {
    let start = Instant::now();
    step("system packages", || packages::ensure(Install::ALLOWED))?;
    for (name, command, without) in steps(repo)? {
        match command {
            Some(mut command) => step(name, || repo::run(&mut command))?,
            None => eprintln!("==> {name}: skipped, {without}"),
        }
    }
    step("tests", || repo::run(&mut tests(repo, all)))?;
    let checks = outside::checks(repo)?;
    if all {
        let failed: Vec<&str> =
            checks.iter().filter(|check| !passes(check)).map(|check| check.name.as_str()).collect();
        if !failed.is_empty() {
            bail!("these checks failed (see above): {}", failed.join(", "));
        }
    } else {
        let names: Vec<&str> = checks.iter().map(|check| check.name.as_str()).collect();
        eprintln!("not run without --all, since they install packages: {}", names.join(", "));
    }
    eprintln!("all steps passed in {}", text::seconds(start.elapsed().as_secs_f64()));
    Ok(())
}

/// Whether a check passes; what it says and why it fails goes to the terminal.
fn passes(check: &Check) -> bool {
    eprintln!("{}", check.about);
    let ran = step(&check.name, || repo::run(&mut check.command()));
    ran.inspect_err(|error| eprintln!("{error:#}")).is_ok()
}

fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("==> {name}");
    let start = Instant::now();
    run().with_context(|| format!("step `{name}` failed"))?;
    eprintln!("<== {name}: {}", text::seconds(start.elapsed().as_secs_f64()));
    Ok(())
}

/// The steps before the tests: name, command, and why there is none where there is none.
fn steps(repo: &Repo) -> Result<Vec<(&'static str, Option<Command>, &'static str)>> {
    let cargo = |line: &str| {
        let mut cargo = repo.cargo();
        cargo.args(line.split_whitespace());
        cargo
    };
    let mut doc = cargo("doc --release --workspace --no-deps");
    doc.env("RUSTDOCFLAGS", "-D warnings");
    let mac = "rustup has not installed the target aarch64-apple-darwin";
    Ok(vec![
        ("fmt", Some(cargo("fmt --all --check")), ""),
        ("clippy", Some(cargo("clippy --release --workspace --all-targets -- -D warnings")), ""),
        ("clippy (cuda)", check::clippy_cuda(repo)?, "CUDA is for Linux"),
        ("clippy (metal)", check::clippy_metal(repo), mac),
        ("rustdoc", Some(doc), ""),
        ("build", Some(cargo("build --release --workspace --bins")), ""),
    ])
}

/// Every test, told of a run-time compiler for CUDA's kernels where there is one; with `all` it is fetched.
fn tests(repo: &Repo, all: bool) -> Command {
    let mut cargo = repo.cargo();
    cargo.args(["test", "--release", "--workspace"]);
    match check::nvrtc(repo, all) {
        Ok(Some(library)) => {
            eprintln!("CUDA's kernels are compiled by {}", library.display());
            cargo.env(NVRTC, library);
        }
        Ok(None) => eprintln!(
            "CUDA's kernels are not compiled: NVIDIA's compiler is not here (--all fetches it for Linux)"
        ),
        Err(reason) => eprintln!("CUDA's kernels are not compiled: {reason:#}"),
    }
    cargo
}
