//! Set-up, orchestration, tables and charts: `cargo xtask VERB`.
//!
//! One file per verb. This program links neither candle nor FFmpeg: it starts `bench-suite`, reads its
//! records and draws.
#![expect(
    rustdoc::invalid_html_tags,
    reason = "the command line's doc comments are its help text, with <placeholders>"
)]

mod bench;
mod cells;
mod charts;
mod classes;
mod cli;
mod cluster;
mod compare;
mod compress;
mod cost;
mod data;
mod device;
mod dry_run;
mod engine;
mod experiments;
mod figures;
mod final_model;
mod findings;
#[cfg(test)]
mod fixture;
mod interrupt;
mod ledger;
mod packages;
mod paired;
mod peers;
mod predict;
mod progress;
mod rates;
mod readme;
mod records;
mod repo;
mod report;
mod reproduce;
mod results;
mod runs;
mod selection;
mod setup;
mod suite;
mod tables;
mod text;
mod torture;
mod trials;
mod tune;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::cells::StillLocked;
use crate::cli::{Cli, Verb};
use crate::interrupt::Interrupted;
use crate::predict::BadClips;
use crate::repo::Repo;

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(code) => code,
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("{error}");
            ExitCode::from(130)
        }
        Err(error) if error.is::<StillLocked>() => {
            eprintln!("{error}");
            ExitCode::from(engine::LOCKED as u8)
        }
        Err(error) if error.is::<BadClips>() || error.is::<data::BadData>() => {
            eprintln!("error: {error}");
            ExitCode::from(engine::BAD_DATA as u8)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<ExitCode> {
    let repo = Repo::find()?;
    match &cli.verb {
        Verb::CellTask { run_dir, line } => return cluster::task(&repo, run_dir, *line),
        Verb::Status { run } => cluster::status(&repo, run),
        Verb::Collect { run, out } => cluster::collect(&repo, run, out.as_deref()),
        Verb::Cancel { run } => cluster::cancel(&repo, run),
        Verb::Plan { experiment, selection, install, .. } => {
            reproduce::plan(&repo, experiment, selection, *install)
        }
        Verb::Reproduce(args) => reproduce::reproduce(&repo, args),
        Verb::Figures { experiment, out } => {
            let root = experiments::results_root(&repo, out.as_deref())?;
            figures::figures(&repo, &root, experiment.as_deref())
        }
        Verb::Predict(args) => predict::predict(&repo, args),
        Verb::Compress(args) => compress::compress(&repo, args),
        Verb::Data(verb) => data::data(&repo, verb),
        Verb::Results(verb) => results::results(&repo, verb),
        Verb::Setup(options) => setup::setup(&repo, options),
        Verb::Test => suite::test(&repo),
        Verb::Bench(what) => bench::bench(&repo, what),
        Verb::Torture(args) => torture::torture(&repo, args),
        Verb::Compare(args) => compare::compare(&repo, args),
        Verb::Ledger(args) => ledger::ledger(&repo, args),
        Verb::Tune(args) => tune::tune(&repo, args),
        Verb::Rates(args) => rates::rates(&repo, args),
    }?;
    Ok(ExitCode::SUCCESS)
}
