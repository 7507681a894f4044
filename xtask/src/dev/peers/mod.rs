//! `cargo xtask bench peers`: other libraries beside ours, live processes visited round robin.
//!
//! Every peer is checked against a reference before it is timed. A peer that cannot be installed, fails or
//! computes something else is named with its reason, and the rest runs. Work, protocol and files:
//! `xtask/peers/README.md`.

mod case;
mod check;
pub(crate) mod decomposition;
mod environment;
mod plan;
mod report;
mod session;
pub(crate) mod worker;

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result};

use self::case::Case;
use self::environment::Environments;
use self::plan::Round;
use self::report::Results;
use self::session::Session;
use crate::cli::bench::{Cell, Comparison};
use crate::dev::measured::Bench;

/// Runs the whole comparison: `root` is the repository, `engine` the built `bench-suite`.
///
/// # Errors
/// If our own side fails or computes something else than the reference, or if a file cannot be written.
pub(crate) fn run(root: &Path, engine: &Path, options: &Comparison) -> Result<()> {
    let data = root.join("data/peers");
    let machine = Bench::new(root, engine)?;
    let out = machine.folder(root, "peers", options.out.as_deref())?;
    let environments =
        Environments::ensure(root, &data, (&options.python, options.offline), &wanted(options))?;
    let mut results = Results::new(machine, options.rounds);
    for (cell, frames) in shapes(options) {
        let rounds = || options.threads.iter().map(|&threads| round(options, cell, frames, threads));
        let formats: Vec<&str> = rounds().flat_map(|round| round.formats().collect::<Vec<_>>()).collect();
        let dense = rounds().any(|round| round.has_dense());
        let case = Case::write(&data, cell, frames, (dense, &formats))?;
        let reference = environments.reference(&case, &data, cores())?;
        for &threads in &options.threads {
            let session = Session {
                case: &case,
                reference: &reference,
                environments: &environments,
                engine,
                logs: &data.join("logs"),
                round: &round(options, cell, frames, threads),
                rounds: options.rounds,
            };
            session.run(&mut results)?;
            // After each session, so that an interrupted run keeps what it has.
            results.write(&out)?;
        }
    }
    fs::remove_dir_all(data.join("cases")).context("failed to remove data/peers/cases")?;
    results.say(&out);
    Ok(())
}

/// The peers of one session.
fn round(options: &Comparison, cell: Cell, frames: usize, threads: usize) -> Round {
    Round::new(&options.peers, cell, frames, threads)
}

/// Cell and T of every case.
fn shapes(options: &Comparison) -> Vec<(Cell, usize)> {
    let shortest = options.frames.iter().min();
    let pairs =
        options.cells.iter().flat_map(|&cell| options.frames.iter().map(move |&frames| (cell, frames)));
    pairs.filter(|(cell, frames)| *cell == Cell::Gru || Some(frames) == shortest).collect()
}

/// Every environment that some session needs.
fn wanted(options: &Comparison) -> Vec<plan::Home> {
    let mut homes: Vec<_> = shapes(options)
        .into_iter()
        .flat_map(|(cell, frames)| options.threads.iter().map(move |&threads| (cell, frames, threads)))
        .flat_map(|(cell, frames, threads)| round(options, cell, frames, threads).peers)
        .map(|peer| peer.home)
        .collect();
    homes.sort_unstable();
    homes.dedup();
    homes
}

/// Hardware threads.
fn cores() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}
