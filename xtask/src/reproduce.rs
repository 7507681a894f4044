//! `cargo xtask reproduce`: packages, build, data, plan, cells, records, tables.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use bench_suite::record::{ParamsRow, Plan};

use crate::cells::{Runner, cheapest_first, is_done};
use crate::cli::{Reproduce, Verbosity};
use crate::interrupt::Interrupt;
use crate::packages::{self, Install};
use crate::progress::Progress;
use crate::records::{Page, Records, collect, hold};
use crate::repo::Repo;
use crate::selection::Selection;
use crate::{classes, cluster, cost, device, dry_run, engine, experiments, figures, final_model};

/// Runs an experiment from video files to `results/<experiment>/`, or submits its cells to a batch system.
pub(crate) fn reproduce(repo: &Repo, args: &Reproduce) -> Result<()> {
    let selection = &experiments::named(repo, &args.experiment, args.selection.on_this_machine(repo)?)?;
    // Refused before anything is built; nodes of a cluster have libraries of their own.
    match args.batch.on {
        Some(_) => drop(device::built(repo, selection.device)?),
        None => drop(device::device_program(repo, selection.device)?),
    }
    if args.batch.on.is_some() {
        cluster::check()?;
    }
    let results = experiments::results_root(repo, args.out.as_deref())?;
    if args.dry_run {
        let chosen = experiments::check(repo, &args.experiment, selection)?;
        eprintln!("{}", chosen.data);
        repo.build(&["bench-suite"], "the training engine", args.verbosity.quiet)?;
        let plan = engine::plan(repo, &selection.flags(&chosen.name)?, true, args.verbosity)?;
        dry_run::print(&plan, args.jobs)?;
        if args.batch.on.is_some() {
            cluster::show(repo, &engine::run_dir(repo, &plan), &plan, &args.batch)?;
        }
        eprintln!("{}", engine::data_line(&plan));
        return Ok(());
    }
    experiments::check_writable(&results)?;
    let interrupt = Interrupt::install()?;
    let how = (args.verbosity, Install::ALLOWED);
    let (chosen, plan) = prepared(repo, &args.experiment, selection, how, &interrupt)?;
    experiments::check_writable(&results.join(&plan.experiment))?;
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
        return cluster::submit(repo, &run_dir, &plan, &args.batch, args.out.as_deref());
    }
    cluster::keep(&run_dir, &plan)?;
    progress.say(&cost::check(&plan, &run_dir, args.jobs, args.force)?);
    let start = engine::cells(repo, selection.device, args.verbosity)?;
    let command = selection.command_line(&chosen);
    let tables = Tables::new(repo, &run_dir, &plan, args.out.as_deref(), &command)?;
    let ended = || {
        if let Err(error) = tables.write() {
            progress.say(&format!("no tables of the cells so far: {error:#}"));
        }
    };
    let runner = Runner {
        run_dir: &run_dir,
        jobs: args.jobs,
        engine: &start,
        interrupt: &interrupt,
        progress: &progress,
        ended: &ended,
    };
    let outcome = runner.run(&plan.cells);
    // What failed keeps nothing out of the tables; a signal leaves no time for them.
    interrupt.check()?;
    interrupt.explain(tables.write().and_then(|()| tables.report()))?;
    outcome
}

/// Prints the missing cells of an experiment as command lines.
pub(crate) fn plan(repo: &Repo, experiment: &str, selection: &Selection, install: Install) -> Result<()> {
    let verbosity = Verbosity { quiet: true, verbose: 0 };
    let selection = &experiments::named(repo, experiment, selection.on_this_machine(repo)?)?;
    let (_, plan) = prepared(repo, experiment, selection, (verbosity, install), &Interrupt::install()?)?;
    cluster::plan(repo, &engine::run_dir(repo, &plan), &plan)
}

/// The experiment that is chosen, and its plan; its clips are decoded.
fn prepared(
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
    repo.build(&["video-data"], "decoding, links FFmpeg", verbosity.quiet)?;
    repo.build(&["bench-suite"], "the training engine", verbosity.quiet)?;
    engine::prepare(repo, &flags, verbosity, interrupt)?;
    let mut plan = interrupt.explain(engine::plan(repo, &flags, false, verbosity))?;
    cheapest_first(&mut plan.cells);
    Ok((chosen.name, plan))
}

/// Records, tables and charts of a plan's cells, as far as they are finished.
pub(crate) struct Tables<'a> {
    repo: &'a Repo,
    run_dir: &'a Path,
    plan: &'a Plan,
    command: &'a str,
    /// `results/<experiment>/`.
    dir: PathBuf,
    /// Figure 1's counts.
    params: Vec<ParamsRow>,
    /// How many cells the tables have, and the folder of their records.
    written: Mutex<Option<(usize, PathBuf)>>,
}

impl<'a> Tables<'a> {
    /// Of a run that `command` repeats.
    pub(crate) fn new(
        repo: &'a Repo,
        run_dir: &'a Path,
        plan: &'a Plan,
        out: Option<&Path>,
        command: &'a str,
    ) -> Result<Self> {
        let dir = experiments::results_root(repo, out)?.join(&plan.experiment);
        let flags = ["--experiment".into(), plan.experiment.clone().into()];
        let params = engine::params(repo, &flags, Verbosity::default())?;
        Ok(Self { repo, run_dir, plan, command, dir, params, written: Mutex::default() })
    }

    /// Writes them, unless no cell was finished since the last time.
    pub(crate) fn write(&self) -> Result<()> {
        let Self { repo, run_dir, plan, command, dir, params, written } = self;
        let done = plan.cells.iter().filter(|cell| is_done(run_dir, cell)).count();
        let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
        if done == written.as_ref().map_or(0, |(cells, _)| *cells) {
            return Ok(());
        }
        let write = || {
            final_model::keep(repo, run_dir, plan)?;
            let mut records = collect(run_dir, plan, params.clone())?;
            for run in &mut records.run_file.runs {
                run.commands.push((*command).to_owned());
            }
            write_results(repo, run_dir, records, dir)
        };
        let kept = || format!("nothing is lost: the finished cells are in {}", repo.show(run_dir));
        *written = Some((done, write().with_context(kept)?));
        Ok(())
    }

    /// The last lines: clips left out, where the results are, which data it was.
    pub(crate) fn report(&self) -> Result<()> {
        const SHOWN: usize = 10;
        let Self { repo, plan, dir, .. } = self;
        for clip in plan.left_out.iter().take(SHOWN) {
            eprintln!("left out: {} ({})", clip.clip.escape_debug(), clip.reason.escape_debug());
        }
        if plan.left_out.len() > SHOWN {
            eprintln!("left out: {} more, all named in run.toml", plan.left_out.len() - SHOWN);
        }
        if plan.with_errors > 0 {
            eprintln!(
                "{} clips have decoder errors (decode.strict = true leaves them out)",
                plan.with_errors
            );
        }
        if let Some((_, run)) = &*self.written.lock().unwrap_or_else(PoisonError::into_inner) {
            eprintln!("records in {}", repo.show(run));
            for row in Page::read(dir)?.hidden.iter().filter(|row| run.ends_with(&row.run)) {
                eprintln!("not on the page, {}: {row}", row.why);
            }
            dry_run::print_table(dir)?;
            eprintln!("{}; results in {}", engine::data_line(plan), repo.show(dir));
        }
        Ok(())
    }
}

/// Puts records beside those of other runs, draws the page anew, and returns the folder of the records.
fn write_results(repo: &Repo, run_dir: &Path, records: Records, dir: &Path) -> Result<PathBuf> {
    let _held = hold(dir)?;
    let run = records.keep(dir)?;
    let mut whole = Records::read(&run)?;
    if whole.run_file.may_show_frames() {
        whole.strips = engine::strips(repo, run_dir, &classes::mistaken_clips(&whole))?;
        whole.write(&run)?;
    }
    figures::derive(dir)?;
    Ok(run)
}
