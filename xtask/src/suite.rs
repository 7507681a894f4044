//! `cargo xtask test`: everything that CI requires, step by step.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::repo::{self, Repo};
use crate::{packages, text};

/// Runs every step; stops at the first that fails.
pub(crate) fn test(repo: &Repo) -> Result<()> {
    let start = Instant::now();
    step("system packages", packages::ensure)?;
    for (name, mut command) in steps(repo) {
        step(name, || repo::run(&mut command))?;
    }
    eprintln!("all steps passed in {}", text::seconds(start.elapsed().as_secs_f64()));
    Ok(())
}

fn step(name: &str, run: impl FnOnce() -> Result<()>) -> Result<()> {
    eprintln!("==> {name}");
    let start = Instant::now();
    run().with_context(|| format!("step `{name}` failed"))?;
    eprintln!("<== {name}: {}", text::seconds(start.elapsed().as_secs_f64()));
    Ok(())
}

fn steps(repo: &Repo) -> Vec<(&'static str, Command)> {
    let cargo = |line: &str| {
        let mut cargo = repo.cargo();
        cargo.args(line.split_whitespace());
        cargo
    };
    let mut doc = cargo("doc --release --workspace --no-deps");
    doc.env("RUSTDOCFLAGS", "-D warnings");
    vec![
        ("fmt", cargo("fmt --all --check")),
        ("clippy", cargo("clippy --release --workspace --all-targets -- -D warnings")),
        ("rustdoc", doc),
        ("build", cargo("build --release --workspace --bins")),
        ("tests", cargo("test --release --workspace")),
    ]
}
