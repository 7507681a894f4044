//! `cargo xtask plan`: the missing cells of an experiment as command lines.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use bench_suite::record::Plan;
use bench_suite::results::cells::is_done;

use crate::cli::flags::{Install, Verbosity};
use crate::cli::selection::Selection;
use crate::machine::devices;
use crate::repo::Repo;
use crate::run::cluster::plan;
use crate::run::engine::{self, cell_command};
use crate::run::experiments;
use crate::run::interrupt::Interrupt;
use crate::run::prepare::prepared;
use crate::text;

/// Prints the missing cells of an experiment as command lines.
pub(crate) fn plan(repo: &Repo, experiment: &str, selection: &Selection, install: Install) -> Result<()> {
    let verbosity = Verbosity { quiet: true, verbose: 0 };
    let selection = &experiments::named(repo, experiment, experiments::on_this_machine(repo, selection)?)?;
    let (_, plan) = prepared(repo, experiment, selection, (verbosity, install), &Interrupt::install()?)?;
    print(repo, &engine::run_dir(repo, &plan), &plan)
}

/// Prints one command line for each cell that is missing.
fn print(repo: &Repo, run_dir: &Path, of: &Plan) -> Result<()> {
    let positions: BTreeSet<usize> = plan::keep(run_dir, of)?.into_iter().collect();
    let device = of.device;
    let program = devices::device_program(repo, device).or_else(|reason| {
        let plain = Command::new(devices::built(repo, device)?);
        eprintln!("{reason:#}\nset LD_LIBRARY_PATH to the folders of these libraries where the commands run");
        anyhow::Ok(plain)
    })?;
    let mut lines = String::new();
    for (at, cell) in plan::read(run_dir)?.iter().enumerate() {
        if !positions.contains(&at) || is_done(run_dir, cell) {
            continue;
        }
        let command = cell_command(devices::again(&program), run_dir, cell, 1);
        let settings = command.get_envs().filter_map(|(name, value)| {
            Some(format!("{}={}", name.to_string_lossy(), value?.to_string_lossy()))
        });
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words = words.map(|word| word.to_string_lossy().into_owned());
        let words: Vec<String> = std::iter::once("env".into()).chain(settings).chain(words).collect();
        lines += &shlex::try_join(words.iter().map(String::as_str))?;
        lines.push('\n');
    }
    text::print(&lines)
}
