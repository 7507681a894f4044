//! `cargo xtask stress cluster`: whatever dies on a cluster, the tables are those of an undisturbed run on one machine.

mod daemons;

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench_suite::record::{CellRecord, PlannedCell, cell_folder};
use bench_suite::results::cells::is_done;
use bench_suite::results::{RUNS, holding, read_json};
use clap::ValueEnum;

use crate::cli::flags::Install;
use crate::cli::stress::{ClusterOptions, Scenario};
use crate::dev::stress::{EXPERIMENT, Root, remove};
use crate::machine::packages;
use crate::repo::{self, Repo};
use crate::run::cells::cheapest_first;
use crate::run::interrupt::Interrupt;
use crate::text;
use daemons::Cluster;

/// Scenarios at the same time.
const LANES: usize = 3;
/// Cells of this model are long where a scenario needs time, all others are short.
const LONG: &str = "tt-lstm";
/// Its epochs then: half a minute where three such cells share two cores.
const LONG_EPOCHS: usize = 6000;
/// Time limit and notice that stop a task ten seconds after its start, or half a minute later at Slurm's pace.
const SHORT_LIMIT: &str = "--time=1 --signal=B:USR1@50";
/// The least that a time limit has to stop some cell.
const REQUEUES: u64 = 2;
/// Files on nodes with a full disk may have this many blocks of 512 bytes: weights of trains fit, dense ones do not.
const BLOCKS: usize = 100;

impl Scenario {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Settings of the experiment.
    fn settings(self) -> Vec<String> {
        match self {
            Self::Undisturbed | Self::TwoSubmits | Self::FailingCell | Self::FullDisk => Vec::new(),
            _ => {
                let long = format!("train.epochs.{LONG}={LONG_EPOCHS}");
                ["--set", &long, "--set", "train.settled=0.0"].map(str::to_owned).to_vec()
            }
        }
    }
}

/// What a scenario left.
struct Verdict {
    name: String,
    cells: usize,
    lost: usize,
    /// Cells whose record was not written just once.
    twice: usize,
    identical: bool,
}

impl Verdict {
    fn is_good(&self) -> bool {
        self.lost == 0 && self.twice == 0 && self.identical
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, cells, lost, twice, identical } = self;
        let identical = if *identical { "yes" } else { "no" };
        write!(f, "{name} cells={cells} lost={lost} twice={twice} identical={identical}")
    }
}

/// Runs the scenarios, some at a time, each on a cluster of its own, and prints a line for each.
#[expect(clippy::print_stdout, reason = "the lines are what the verb is for")]
pub(super) fn stress(repo: &Repo, options: &ClusterOptions, install: Install) -> Result<()> {
    packages::ensure_slurm(install)?;
    let interrupt = Interrupt::install()?;
    let base = repo.path("data/stress-cluster");
    remove(&base)?;
    let wanted = if options.scenarios.is_empty() { Scenario::value_variants() } else { &options.scenarios };
    for scenario in wanted {
        reference(repo, &base, *scenario)?;
    }
    let left = Mutex::new(wanted.iter());
    let bad = AtomicUsize::new(0);
    thread::scope(|lanes| {
        let lane = || {
            loop {
                let next = left.lock().ok().and_then(|mut left| left.next());
                let Some(scenario) = next else { return };
                let started = Instant::now();
                let verdict =
                    Stage::new(repo, &base, *scenario, &interrupt).and_then(|stage| stage.run(*scenario));
                match verdict {
                    Ok(verdict) => {
                        println!("{verdict}");
                        bad.fetch_add(usize::from(!verdict.is_good()), Ordering::Relaxed);
                    }
                    Err(error) => {
                        eprintln!("{} failed: {error:#}", scenario.name());
                        bad.fetch_add(1, Ordering::Relaxed);
                    }
                }
                eprintln!("{}: {}", scenario.name(), text::seconds(started.elapsed().as_secs_f64()));
            }
        };
        for _ in 0..LANES {
            lanes.spawn(lane);
        }
    });
    interrupt.check()?;
    let bad = bad.into_inner();
    if bad > 0 {
        bail!("{bad} of {} scenarios went wrong; all is kept in {}", wanted.len(), repo.show(&base));
    }
    remove(&base)
}

/// A scenario's cluster, its folder, and the run in it.
struct Stage<'a> {
    repo: &'a Repo,
    base: &'a Path,
    cluster: Cluster,
    root: Root,
    settings: Vec<String>,
    run_dir: PathBuf,
    cells: Vec<PlannedCell>,
}

impl<'a> Stage<'a> {
    /// Starts the cluster, makes clips, frame store and plan.
    fn new(repo: &'a Repo, base: &'a Path, scenario: Scenario, interrupt: &Interrupt) -> Result<Self> {
        let dir = base.join(scenario.name());
        let root = Root::new(repo, dir.clone())?;
        let settings = scenario.settings();
        finished(xtask(repo, &root.path, &["plan", EXPERIMENT]).args(&settings))?;
        let (run_dir, plan) = root.plan()?;
        let cluster = Cluster::start(dir.join("slurm"), interrupt.clone())?;
        // As they are submitted.
        let mut cells = plan.cells;
        cheapest_first(&mut cells);
        Ok(Self { repo, base, cluster, root, settings, run_dir, cells })
    }

    fn run(&self, scenario: Scenario) -> Result<Verdict> {
        match scenario {
            Scenario::Undisturbed => self.submit()?,
            Scenario::NodeKilled => self.node_killed()?,
            Scenario::DaemonKilled => self.daemon_killed()?,
            Scenario::ControllerKilled => self.controller_killed()?,
            Scenario::TimeLimit => self.time_limit()?,
            Scenario::TwoSubmits => self.two_submits()?,
            Scenario::FailingCell => self.failing_cell()?,
            Scenario::FullDisk => self.full_disk()?,
            Scenario::Cancelled => self.cancelled()?,
        }
        self.verdict(scenario)
    }

    fn node_killed(&self) -> Result<()> {
        self.start()?;
        let (_, node) = self.long_cell()?;
        self.cluster.kill_node(&node);
        self.cluster.until_empty()?;
        if self.restarts()? == 0 {
            bail!("{node} was killed and no cell with it");
        }
        Ok(())
    }

    fn daemon_killed(&self) -> Result<()> {
        self.start()?;
        let (at, node) = self.long_cell()?;
        self.cluster.kill_daemon(&node)?;
        // Slurm takes half a minute to notice; the cell is still there when it is started again.
        self.cluster.pause(&node, true);
        self.cluster.wait("a second start of a cell that lives", || {
            self.log(at).matches(": starts on").count() > 1
        })?;
        self.cluster.pause(&node, false);
        self.cluster.until_empty()
    }

    fn controller_killed(&self) -> Result<()> {
        self.start()?;
        self.long_cell()?;
        // It writes its jobs down every five seconds.
        thread::sleep(Duration::from_secs(6));
        self.cluster.kill_controller()?;
        thread::sleep(Duration::from_secs(5));
        self.cluster.start_controller()?;
        self.cluster.until_idle()?;
        self.submit()
    }

    fn time_limit(&self) -> Result<()> {
        finished(self.reproduce().args(["--sbatch", SHORT_LIMIT]))?;
        // What takes half a minute meets a limit of a minute twice at a quarter of its speed, then goes on at full.
        let starts = |at: usize| self.log(at).matches(": starts on").count() as u64;
        self.cluster.slow_motion("time limits to be met", || {
            (0..self.cells.len()).any(|at| starts(at) > REQUEUES) || self.cluster.is_empty()
        })?;
        self.cluster.until_empty()?;
        let most = self.restarts()?;
        if most < REQUEUES {
            bail!("no cell was stopped more than {most} times");
        }
        Ok(())
    }

    fn two_submits(&self) -> Result<()> {
        let both = [self.reproduce(), self.reproduce()].map(|mut command| {
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("failed to start xtask")
        });
        for child in both {
            let output = child?.wait_with_output()?;
            if !output.status.success() {
                bail!("one of two submissions failed: {}", errors(&output));
            }
        }
        self.cluster.until_empty()
    }

    fn failing_cell(&self) -> Result<()> {
        let id = self.cells[self.cells.len() / 2].id();
        let folder = cell_folder(&self.run_dir, &id);
        fs::create_dir_all(self.run_dir.join("cells"))?;
        fs::write(&folder, "a file where the cell's folder should be")?;
        self.submit()?;
        let said = self.xtask(&["collect", EXPERIMENT]).output().context("failed to start xtask")?;
        if said.status.success() || !errors(&said).contains(&format!("1 of 15 cells are missing:\n{id}")) {
            bail!("collect does not name the cell that failed: {}", errors(&said));
        }
        fs::remove_file(&folder)?;
        self.submit()
    }

    fn full_disk(&self) -> Result<()> {
        self.cluster.restart_nodes(&format!("trap '' XFSZ; ulimit -f {BLOCKS}"))?;
        self.submit()?;
        let failed: Vec<usize> =
            (0..self.cells.len()).filter(|at| !is_done(&self.run_dir, &self.cells[*at])).collect();
        let named = |at: &usize| self.log(*at).contains("File too large");
        if failed.is_empty() || !failed.iter().all(named) {
            bail!("cells {failed:?} should say that a file is too large");
        }
        self.cluster.restart_nodes("")?;
        self.submit()
    }

    fn cancelled(&self) -> Result<()> {
        self.start()?;
        self.long_cell()?;
        finished(&mut self.xtask(&["cancel", EXPERIMENT]))?;
        self.cluster.until_empty()?;
        if self.done() == self.cells.len() {
            bail!("cancelled cells came back");
        }
        self.submit()
    }

    fn xtask(&self, words: &[&str]) -> Command {
        let mut command = xtask(self.repo, &self.root.path, words);
        self.cluster.address(&mut command);
        command
    }

    fn reproduce(&self) -> Command {
        let mut command = self.xtask(&["reproduce", EXPERIMENT, "--on", "slurm"]);
        command.args(&self.settings);
        command
    }

    /// Submits what is missing.
    fn start(&self) -> Result<()> {
        finished(&mut self.reproduce())
    }

    /// Submits what is missing and waits for the end of it.
    fn submit(&self) -> Result<()> {
        self.start()?;
        self.cluster.until_empty()
    }

    /// Waits for a long cell that trains, and says where it does.
    fn long_cell(&self) -> Result<(usize, String)> {
        let mut found = None;
        self.cluster.wait("a long cell that trains", || {
            let trains = |(at, _): &(usize, String)| {
                self.cells.get(*at).is_some_and(|cell| cell.model == LONG)
                    && self.log(*at).contains(": epoch ")
            };
            found = self.cluster.running().into_iter().find(trains);
            found.is_some()
        })?;
        found.context("a cell that trains")
    }

    fn log(&self, at: usize) -> String {
        fs::read_to_string(self.run_dir.join(format!("slurm/logs/0-{at}.log"))).unwrap_or_default()
    }

    fn done(&self) -> usize {
        self.cells.iter().filter(|cell| is_done(&self.run_dir, cell)).count()
    }

    /// How often the cell was started again that was so most often.
    fn restarts(&self) -> Result<u64> {
        let mut most = 0;
        for cell in &self.cells {
            let path = cell_folder(&self.run_dir, &cell.id()).join("cell.json");
            if !path.is_file() {
                continue;
            }
            let record: CellRecord = read_json(&path)?;
            most = most.max(record.origin.map_or(0, |origin| origin.restarts));
        }
        Ok(most)
    }

    fn verdict(&self, scenario: Scenario) -> Result<Verdict> {
        let reference = reference(self.repo, self.base, scenario)?;
        let finished = |at: &usize| self.log(*at).matches(": finished").count();
        let same = |name: &str| {
            let of = |root: &Path| {
                let runs = root.join("results").join(EXPERIMENT).join(RUNS);
                let run = holding(&runs, "run.toml").ok()?.pop()?;
                fs::read(runs.join(run).join(name)).ok()
            };
            of(&self.root.path).is_some_and(|bytes| of(&reference).is_some_and(|other| bytes == other))
        };
        Ok(Verdict {
            name: scenario.name(),
            cells: self.cells.len(),
            lost: self.cells.len() - self.done(),
            twice: (0..self.cells.len()).filter(|at| finished(at) != 1).count(),
            identical: same("folds.csv") && same("predictions.csv"),
        })
    }
}

/// Folder of the same run on this machine, without Slurm.
fn reference(repo: &Repo, base: &Path, scenario: Scenario) -> Result<PathBuf> {
    let settings = scenario.settings();
    let path = base.join(if settings.is_empty() { "reference" } else { "reference-long" });
    if !path.exists() {
        Root::new(repo, path.clone())?;
        finished(xtask(repo, &path, &["reproduce", EXPERIMENT, "--jobs", "2", "--quiet"]).args(settings))?;
    }
    Ok(path)
}

/// This program in a root of its own, as cargo would start it there; everything is built.
fn xtask(repo: &Repo, root: &Path, words: &[&str]) -> Command {
    let own = env::current_exe().unwrap_or_else(|_| "xtask".into());
    let release = PathBuf::from(repo.binary("bench-suite").get_program());
    let mut command = Command::new(own);
    command.args(words).current_dir(root).env("CARGO", "true").env("CARGO_MANIFEST_DIR", root.join("xtask"));
    command.env("CARGO_TARGET_DIR", release.ancestors().nth(2).unwrap_or(Path::new("target")));
    command
}

fn errors(said: &Output) -> String {
    String::from_utf8_lossy(&said.stderr).into_owned()
}

/// Runs a command without its words, unless it fails.
fn finished(command: &mut Command) -> Result<()> {
    let said = command.output().with_context(|| format!("failed to start {}", repo::line(command)))?;
    if !said.status.success() {
        bail!("{} failed ({}): {}", repo::line(command), said.status, errors(&said));
    }
    Ok(())
}
