//! Set-up, orchestration, tables and charts: `cargo xtask VERB`.
//!
//! One file per verb, in rooms whose imports point one way (ARCHITECTURE.md). This program links neither candle nor FFmpeg: it starts `bench-suite`, reads its
//! records and draws.
#![expect(
    rustdoc::invalid_html_tags,
    reason = "the command line's doc comments are its help text, with <placeholders>"
)]

mod cli;
mod dev;
mod machine;
mod repo;
mod run;
mod text;
mod verbs;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::cli::{Cli, Verb};
use crate::dev::{bench, stress, suite};
use crate::repo::Repo;
use crate::run::cells::StillLocked;
use crate::run::engine::{self, BadInput};
use crate::run::interrupt::Interrupted;
use crate::verbs::{
    ablation, cancel, cell_task, collect, compare, compress, data, export, figures, plan, predict, rates,
    reproduce, serve, setup, status, tune,
};

fn main() -> ExitCode {
    if let Some((old, new)) = std::env::args().nth(1).and_then(|verb| cli::renamed(&verb)) {
        eprintln!("error: `{old}` is called `{new}` now: say `cargo xtask {new}`");
        return ExitCode::from(2);
    }
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
        Err(error) if error.is::<BadInput>() => {
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
        Verb::CellTask { run_dir, line } => return cell_task::task(&repo, run_dir, *line),
        Verb::Status { run } => status::status(&repo, run),
        Verb::Collect { run, out } => collect::collect(&repo, run, out.as_deref()),
        Verb::Cancel { run } => cancel::cancel(&repo, run),
        Verb::Plan { experiment, selection, install } => plan::plan(&repo, experiment, selection, *install),
        Verb::Reproduce(args) => reproduce::reproduce(&repo, args),
        Verb::Figures { experiment, out } => figures::figures(&repo, out.as_deref(), experiment.as_deref()),
        Verb::Predict(args) => predict::predict(&repo, args),
        Verb::Serve(args) => serve::serve(args),
        Verb::Export(args) => export::export(&repo, args),
        Verb::Compress(args) => compress::compress(&repo, args),
        Verb::Data(verb) => data::data(&repo, verb),
        Verb::Results(verb) => verbs::results::results(&repo, verb),
        Verb::Setup(options) => setup::setup(&repo, options),
        Verb::Test { all } => suite::test(&repo, *all),
        Verb::Bench(what) => bench::bench(&repo, what),
        Verb::Stress(args) => stress::stress(&repo, args),
        Verb::Compare(args) => compare::compare(&repo, args),
        Verb::Ablation(args) => ablation::ablation(&repo, args),
        Verb::Tune(args) => tune::tune(&repo, args),
        Verb::Rates(args) => rates::rates(&repo, args),
    }?;
    Ok(ExitCode::SUCCESS)
}
