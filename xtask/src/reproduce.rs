//! `cargo xtask reproduce`: packages, build, data, plan, cells, records, tables.

use std::path::Path;

use anyhow::{Context, Result, bail};
use bench_suite::record::Plan;

use crate::cells::Runner;
use crate::cli::{Reproduce, Selection, Verbosity};
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::records::{Page, Records, collect, hold};
use crate::repo::Repo;
use crate::{classes, cluster, device, dry_run, engine, experiments, figures, packages};

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
        eprintln!("{}", checked(repo, &args.experiment, selection)?);
        repo.build(&["bench-suite"], "the training engine", args.verbosity.quiet)?;
        let plan = engine::plan(repo, &selection.flags(&args.experiment)?, true, args.verbosity)?;
        dry_run::print(&plan, args.jobs)?;
        if args.batch.on.is_some() {
            cluster::show(repo, &engine::run_dir(repo, &plan), &plan, &args.batch)?;
        }
        eprintln!("{}", engine::data_line(&plan));
        return Ok(());
    }
    experiments::check_writable(&results)?;
    let interrupt = Interrupt::install()?;
    let plan = prepared(repo, &args.experiment, selection, args.verbosity, &interrupt)?;
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
    let start = engine::cells(repo, selection.device, args.verbosity)?;
    let runner = Runner {
        run_dir: &run_dir,
        jobs: args.jobs,
        engine: &start,
        interrupt: &interrupt,
        progress: &progress,
    };
    runner.run(&plan.cells)?;
    interrupt.explain(write(
        repo,
        &run_dir,
        &plan,
        args.out.as_deref(),
        &selection.command_line(&args.experiment),
    ))
}

/// Prints the missing cells of an experiment as command lines.
pub(crate) fn plan(repo: &Repo, experiment: &str, selection: &Selection) -> Result<()> {
    let verbosity = Verbosity { quiet: true, verbose: 0 };
    let selection = &experiments::named(repo, experiment, selection.on_this_machine(repo)?)?;
    let plan = prepared(repo, experiment, selection, verbosity, &Interrupt::install()?)?;
    cluster::plan(repo, &engine::run_dir(repo, &plan), &plan)
}

/// The line that says which data an experiment will use; what is wrong with it is found before anything is built.
fn checked(repo: &Repo, experiment: &str, selection: &Selection) -> Result<String> {
    if let Some(list) = selection.split.as_deref().filter(|list| !list.is_file()) {
        bail!("--split {}: there is no such file", list.display());
    }
    experiments::check(repo, experiment, &selection.overrides(), selection.data.as_deref())
}

/// The plan of an experiment whose clips are decoded.
fn prepared(
    repo: &Repo,
    experiment: &str,
    selection: &Selection,
    verbosity: Verbosity,
    interrupt: &Interrupt,
) -> Result<Plan> {
    eprintln!("{}", checked(repo, experiment, selection)?);
    let flags = selection.flags(experiment)?;
    packages::ensure()?;
    repo.build(&["video-data"], "decoding, links FFmpeg", verbosity.quiet)?;
    repo.build(&["bench-suite"], "the training engine", verbosity.quiet)?;
    engine::prepare(repo, &flags, verbosity, interrupt)?;
    interrupt.explain(engine::plan(repo, &flags, false, verbosity))
}

/// Records, tables and charts from the cells of a plan, all of them finished.
pub(crate) fn write(
    repo: &Repo,
    run_dir: &Path,
    plan: &Plan,
    out: Option<&Path>,
    command: &str,
) -> Result<()> {
    let dir = experiments::results_root(repo, out)?.join(&plan.experiment);
    let params =
        engine::params(repo, &["--experiment".into(), plan.experiment.clone().into()], Verbosity::default())?;
    let kept = || format!("nothing is lost: the finished cells are in {}", repo.show(run_dir));
    let mut records = collect(run_dir, plan, params).with_context(kept)?;
    for run in &mut records.run_file.runs {
        run.commands.push(command.to_owned());
    }
    write_results(repo, run_dir, records, &dir).with_context(kept)?;
    report(repo, plan, &dir)
}

fn write_results(repo: &Repo, run_dir: &Path, records: Records, dir: &Path) -> Result<()> {
    let _held = hold(dir)?;
    let data_digest = records.run_file.data_digest.clone();
    let run = records.keep(dir)?;
    eprintln!("records in {}", repo.show(&run));
    let page = Page::read(dir)?;
    for row in page.hidden.iter().filter(|row| run.ends_with(&row.run)) {
        eprintln!("not on the page, {}: {row}", row.why);
    }
    let shown = &page.records;
    if shown.run_file.may_show_frames() && shown.run_file.data_digest == data_digest {
        engine::thumbnails(repo, run_dir, &classes::mistaken_clips(shown), &dir.join("thumbnails"))?;
    }
    figures::derive(dir)
}

/// The last lines: clips left out, where the results are, which data it was.
fn report(repo: &Repo, plan: &Plan, dir: &Path) -> Result<()> {
    const SHOWN: usize = 10;
    for clip in plan.left_out.iter().take(SHOWN) {
        eprintln!("left out: {} ({})", clip.clip.escape_debug(), clip.reason.escape_debug());
    }
    if plan.left_out.len() > SHOWN {
        eprintln!("left out: {} more, all named in run.toml", plan.left_out.len() - SHOWN);
    }
    if plan.with_errors > 0 {
        eprintln!("{} clips have decoder errors (decode.strict = true leaves them out)", plan.with_errors);
    }
    dry_run::print_table(dir)?;
    eprintln!("{}; results in {}", engine::data_line(plan), repo.show(dir));
    Ok(())
}
