//! `cargo xtask reproduce`: packages, build, data, plan, cells, records, tables.

use anyhow::Result;
use bench_suite::results::folders::check_writable;

use crate::cli::flags::Install;
use crate::cli::runs::Reproduce;
use crate::machine::{devices, packages};
use crate::repo::Repo;
use crate::run::cells::{Runner, Task};
use crate::run::cluster::{plan, slurm};
use crate::run::interrupt::Interrupt;
use crate::run::prepare::prepared;
use crate::run::progress::Progress;
use crate::run::tables::Tables;
use crate::run::{cost, engine, experiments, summary};
use crate::verbs::collect;

/// Runs an experiment from video files to `results/<experiment>/`, or submits its cells to a batch system.
pub(crate) fn reproduce(repo: &Repo, args: &Reproduce) -> Result<()> {
    let selection =
        &experiments::named(repo, &args.experiment, experiments::on_this_machine(repo, &args.selection)?)?;
    // Refused before anything is built; nodes of a cluster have libraries of their own.
    match args.batch.on {
        Some(_) => drop(devices::built(repo, selection.device)?),
        None => drop(devices::device_program(repo, selection.device)?),
    }
    if args.batch.on.is_some() {
        slurm::check()?;
    }
    let results = repo.results(args.out.as_deref())?;
    if args.dry_run {
        let chosen = experiments::check(repo, &args.experiment, selection)?;
        eprintln!("{}", chosen.data);
        packages::require()?;
        repo.build_all(args.verbosity.quiet)?;
        let plan = engine::plan(repo, &selection.flags(&chosen.name)?, true, args.verbosity)?;
        summary::print(&plan, args.jobs)?;
        if args.batch.on.is_some() {
            slurm::show(repo, &engine::run_dir(repo, &plan), &plan, &args.batch)?;
        }
        eprintln!("{}", engine::data_line(&plan));
        return Ok(());
    }
    check_writable(&results)?;
    let interrupt = Interrupt::install()?;
    let how = (args.verbosity, Install::ALLOWED);
    let (chosen, plan) = prepared(repo, &args.experiment, selection, how, &interrupt)?;
    check_writable(&results.join(&plan.experiment))?;
    let run_dir = engine::run_dir(repo, &plan);
    let progress = Progress::new(args.verbosity.quiet, args.verbosity.verbose);
    progress.say(&format!(
        "{} cells on {} clips, {} frames; state in {}",
        plan.cells.len(),
        plan.clips,
        plan.frames,
        repo.show(&run_dir)
    ));
    if args.batch.on.is_some() {
        let out = args.out.as_deref();
        let waits = slurm::submit(repo, &run_dir, &plan, &args.batch, out)?;
        return if waits { Ok(()) } else { collect::collect(repo, &plan.run_digest, out) };
    }
    plan::keep(&run_dir, &plan)?;
    progress.say(&cost::check(&plan, &run_dir, args.jobs, args.force)?);
    let start = engine::cells(repo, selection.device, args.verbosity)?;
    let command = selection.command_line(&chosen);
    let tables = Tables::new(repo, &run_dir, &plan, args.out.as_deref(), &command)?;
    let ended = || {
        if let Err(error) = tables.write() {
            progress.say(&format!("the tables could not be written yet: {error:#}"));
        }
    };
    let runner =
        Runner { jobs: args.jobs, engine: &start, interrupt: &interrupt, progress: &progress, ended: &ended };
    let outcome = runner.run(&Task::of_run(&run_dir, &plan.cells));
    // What failed keeps nothing out of the tables; a signal leaves no time for them.
    interrupt.check()?;
    interrupt.explain(tables.write().and_then(|()| tables.report()))?;
    outcome
}
