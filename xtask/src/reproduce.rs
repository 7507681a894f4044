//! `cargo xtask reproduce`: packages, build, data, plan, cells, records, tables.

use std::path::Path;

use anyhow::{Context, Result};
use bench_suite::record::Plan;

use crate::cells::Runner;
use crate::cli::Reproduce;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::records::{Records, collect, hold, merge};
use crate::repo::Repo;
use crate::{classes, dry_run, engine, experiments, figures, packages};

/// Runs an experiment from video files to `results/<experiment>/`.
pub(crate) fn reproduce(repo: &Repo, args: &Reproduce) -> Result<()> {
    let selection = &args.selection;
    experiments::check_devices(std::slice::from_ref(&args.device))?;
    let data = experiments::check(repo, &args.experiment, &selection.overrides(), selection.data.as_deref())?;
    let results = experiments::results_root(repo, args.out.as_deref())?;
    if !args.dry_run {
        experiments::check_writable(&results)?;
    }
    eprintln!("{data}");
    let flags = selection.flags(&args.experiment)?;
    let verbosity = args.verbosity;
    let quiet = verbosity.quiet;
    if args.dry_run {
        repo.build(&["bench-suite"], "the training engine", quiet)?;
        let plan = engine::plan(repo, &flags, true, verbosity)?;
        dry_run::print(&plan, args.jobs)?;
        eprintln!("{}", engine::data_line(&plan));
        return Ok(());
    }
    packages::ensure()?;
    repo.build(&["video-data"], "decoding, links FFmpeg", quiet)?;
    repo.build(&["bench-suite"], "the training engine", quiet)?;
    let interrupt = Interrupt::install()?;
    engine::prepare(repo, &flags, verbosity, &interrupt)?;
    let plan = interrupt.explain(engine::plan(repo, &flags, false, verbosity))?;
    let dir = results.join(&plan.experiment);
    experiments::check_writable(&dir)?;
    let run_dir = engine::run_dir(repo, &plan);
    let progress = Progress::new(quiet, verbosity.verbose);
    progress.say(&format!(
        "{} cells on {} clips, {} frames; state in {}",
        plan.cells.len(),
        plan.clips,
        plan.frames,
        repo.show(&run_dir)
    ));
    let start = || engine::command(repo, "cell", verbosity);
    let runner = Runner {
        run_dir: &run_dir,
        jobs: args.jobs,
        engine: &start,
        interrupt: &interrupt,
        progress: &progress,
    };
    runner.run(&plan.cells)?;
    let params = interrupt.explain(engine::params(repo, &flags, verbosity))?;
    let kept = || format!("nothing is lost: the finished cells are in {}", repo.show(&run_dir));
    let mut records = collect(repo, &run_dir, &plan, params).with_context(kept)?;
    for run in &mut records.run_file.runs {
        run.commands.push(selection.command_line(&plan.experiment));
    }
    write_results(repo, &run_dir, records, &dir).with_context(kept)?;
    report(repo, &plan, &dir)
}

fn write_results(repo: &Repo, run_dir: &Path, mut records: Records, dir: &Path) -> Result<()> {
    let _held = hold(dir)?;
    if Records::are_in(dir) {
        let (merged, note) = merge(Records::read(dir)?, records);
        records = merged;
        if let Some(note) = note {
            eprintln!("{}: {note}", repo.show(dir));
        }
    }
    records.write(dir)?;
    if records.run_file.may_show_frames() {
        engine::thumbnails(repo, run_dir, &classes::mistaken_clips(&records), &dir.join("thumbnails"))?;
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
    dry_run::print_table(dir)?;
    eprintln!("{}; results in {}", engine::data_line(plan), repo.show(dir));
    Ok(())
}
