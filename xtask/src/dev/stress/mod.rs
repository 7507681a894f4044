//! `cargo xtask stress`: runs killed at random instants or on a disturbed cluster must end as if they had not been,
//! and damaged clips must cost themselves alone.

mod cluster;
mod equal;
mod import;
mod victim;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bench_suite::files;
use bench_suite::record::Plan;
use bench_suite::results::read_json;
use bench_suite::stats::Draws;

use crate::cli::stress::{ClipOptions, ResumeOptions, Stress, StressArguments};
use crate::machine::packages;
use crate::repo::{Repo, run};
use crate::run::interrupt::Interrupt;
use crate::text;
use victim::{Attempt, End, Tally};

/// The experiment that is run: five models, three folds, frames small enough for a cell a second.
const EXPERIMENT: &str = "folder-sample";
/// Of so many rounds, one starts without clips and frame store, so that kills fall into making these too.
const ROUNDS_PER_STORE: usize = 2;

/// A folder with a `data/` of its own, and the repository's experiments.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
}

impl Root {
    fn new(repo: &Repo, path: PathBuf) -> Result<Self> {
        let made = fs::create_dir_all(&path)
            .and_then(|()| std::os::unix::fs::symlink(repo.path("experiments"), path.join("experiments")));
        made.with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self { path })
    }

    /// Forgets cells and records; clips and frame store too, where `all` is said.
    fn clear(&self, all: bool) -> Result<()> {
        let below: &[&str] = if all { &["data", "results"] } else { &["data/runs", "results"] };
        below.iter().try_for_each(|name| remove(&self.path.join(name)))
    }

    /// The run's folder and the plan in it.
    fn plan(&self) -> Result<(PathBuf, Plan)> {
        let runs = self.path.join("data/runs");
        let entries = fs::read_dir(&runs).with_context(|| format!("{} cannot be read", runs.display()))?;
        let mut dirs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        let (Some(dir), true) = (dirs.pop(), dirs.is_empty()) else {
            bail!("{} should hold one run", runs.display())
        };
        let plan = read_json(&dir.join("plan.json"))?;
        Ok((dir, plan))
    }
}

/// Does what was asked for.
pub(crate) fn stress(repo: &Repo, args: &StressArguments) -> Result<()> {
    packages::ensure(args.install)?;
    repo.build_all(false)?;
    match &args.what {
        Stress::Resume(options) => resume(repo, options),
        Stress::Clips(options) => clips(repo, options),
        Stress::Import(options) => import::import(repo, options.kills, options.seed),
        Stress::Cluster(options) => cluster::stress(repo, options, args.install),
    }
}

fn clips(repo: &Repo, options: &ClipOptions) -> Result<()> {
    let mut engine = repo.binary("bench-suite");
    engine.args([
        "torture-clips",
        "--count",
        &options.count.to_string(),
        "--seed",
        &options.seed.to_string(),
    ]);
    engine.arg("--dir").arg(repo.path("data/stress-clips"));
    run(&mut engine)
}

fn resume(repo: &Repo, options: &ResumeOptions) -> Result<()> {
    let interrupt = Interrupt::install()?;
    let base = repo.path("data/stress");
    remove(&base)?;
    let reference = Root::new(repo, base.join("reference"))?;
    let killed = Root::new(repo, base.join("killed"))?;
    let log = base.join("engine.log");
    let mut draws = Draws::new(&format!("stress/resume/seed{}", options.seed));
    let mut tally = Tally::default();
    let started = Instant::now();
    let attempt = |root, draws: &mut Draws, tally: &mut Tally, kills| {
        Attempt { repo, root, log: &log, interrupt: &interrupt }.run(draws, tally, kills)
    };
    attempt(&reference, &mut draws, &mut tally, 0)?;
    equal::write_tables(&reference)?;
    let cells = reference.plan()?.1.cells.len();
    eprintln!("reference: {cells} cells in {}", text::seconds(started.elapsed().as_secs_f64()));
    let (mut round, mut survived, mut mismatches) = (0, 0, 0);
    while tally.kills() < options.kills {
        killed.clear(round % ROUNDS_PER_STORE == 0)?;
        round += 1;
        let before = tally.kills();
        while matches!(attempt(&killed, &mut draws, &mut tally, options.kills)?, End::Killed) {}
        equal::write_tables(&killed)?;
        let differing = equal::differing(&reference.path, &killed.path)?;
        for line in &differing {
            eprintln!("MISMATCH in round {round}: {line}");
        }
        mismatches += differing.len();
        survived += if differing.is_empty() { tally.kills() - before } else { 0 };
        eprintln!("round {round}: {} of {} kills", tally.kills(), options.kills);
    }
    eprintln!("{tally}, in {}", text::seconds(started.elapsed().as_secs_f64()));
    finish(
        repo,
        &base,
        &format!("{} kills, {survived} survived, {mismatches} mismatches", tally.kills()),
        mismatches,
    )
}

#[expect(clippy::print_stdout, reason = "the verdict is what the verb is for")]
fn finish(repo: &Repo, base: &Path, verdict: &str, mismatches: usize) -> Result<()> {
    if mismatches > 0 {
        bail!("{verdict}; both states are kept in {}", repo.show(base));
    }
    remove(base)?;
    println!("{verdict}");
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    files::remove_folder(path).with_context(|| format!("{} cannot be removed", path.display()))
}
