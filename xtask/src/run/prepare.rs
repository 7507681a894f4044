//! An experiment made ready: packages, programs, clips decoded, plan.

use anyhow::Result;
use bench_suite::record::Plan;

use crate::cli::flags::{Install, Verbosity};
use crate::cli::selection::Selection;
use crate::machine::packages;
use crate::repo::Repo;
use crate::run::cells::cheapest_first;
use crate::run::interrupt::Interrupt;
use crate::run::{engine, experiments};

/// The experiment that is chosen, and its plan; its clips are decoded.
pub(crate) fn prepared(
    repo: &Repo,
    experiment: &str,
    selection: &Selection,
    (verbosity, install): (Verbosity, Install),
    interrupt: &Interrupt,
) -> Result<(String, Plan)> {
    let chosen = experiments::check(repo, experiment, selection)?;
    eprintln!("{}", chosen.data);
    let flags = selection.flags(&chosen.name)?;
    packages::ensure(install)?;
    repo.build_all(verbosity.quiet)?;
    engine::prepare(repo, &flags, verbosity, interrupt)?;
    let mut plan = interrupt.explain(engine::plan(repo, &flags, false, verbosity))?;
    cheapest_first(&mut plan.cells);
    Ok((chosen.name, plan))
}
