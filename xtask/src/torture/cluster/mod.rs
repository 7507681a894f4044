//! `cargo xtask torture cluster`: whatever dies on a cluster, the tables are those of an undisturbed run on one machine.

mod daemons;

use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench_suite::record::{CellRecord, PlannedCell};
use clap::{Args, ValueEnum};

use super::{EXPERIMENT, Root, remove};
use crate::cells::is_done;
use crate::repo::{self, Repo};
use crate::{packages, text};
use daemons::{Cluster, wait};

/// Cells of this model are long where a scenario needs time, all others are short.
const LONG: &str = "tt-lstm";
/// Its epochs then: half a minute where three such cells share two cores.
const LONG_EPOCHS: usize = 6000;
/// Time limit and notice that stop a task ten seconds after its start, give or take Slurm's pace.
const SHORT_LIMIT: &str = "--time=1 --signal=B:USR1@50";
/// The least that a time limit has to stop some cell.
const REQUEUES: u64 = 2;
/// Files of the node with a full disk may have this many blocks of 512 bytes: weights of trains fit, dense ones do not.
const BLOCKS: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Nothing happens
    Undisturbed,
    /// A node is gone with everything on it
    NodeKilled,
    /// A node's daemon is gone and its cells live on: Slurm starts them a second time
    DaemonKilled,
    /// The controller is gone for a while
    ControllerKilled,
    /// No cell fits into the time limit
    TimeLimit,
    /// The same cells are submitted twice at the same time
    TwoSubmits,
    /// A cell fails, is repaired and submitted again
    FailingCell,
    /// Writes fail on one node
    FullDisk,
    /// Cells are cancelled and submitted again
    Cancelled,
}

impl Scenario {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Settings of the experiment.
    fn settings(self) -> Vec<String> {
        match self {
            Self::Undisturbed | Self::TwoSubmits | Self::FailingCell | Self::FullDisk => Vec::new(),
            _ => vec!["--set".into(), format!("train.epochs.{LONG}={LONG_EPOCHS}")],
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What happens [default: all of them]
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    scenarios: Vec<Scenario>,
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

/// Runs the scenarios one after another and prints a line for each.
#[expect(clippy::print_stdout, reason = "the lines are what the verb is for")]
pub(super) fn torture(repo: &Repo, options: &Options) -> Result<()> {
    packages::ensure_slurm()?;
    let base = repo.path("data/torture-cluster");
    remove(&base)?;
    let cluster = Cluster::start(base.join("slurm"))?;
    let torture = Torture { repo, base: &base, cluster: &cluster };
    let wanted = if options.scenarios.is_empty() { Scenario::value_variants() } else { &options.scenarios };
    let mut bad = 0;
    for scenario in wanted {
        let started = Instant::now();
        let verdict = torture.run(*scenario).with_context(|| format!("{} failed", scenario.name()))?;
        println!("{verdict}");
        eprintln!("{}: {}", verdict.name, text::seconds(started.elapsed().as_secs_f64()));
        bad += usize::from(!verdict.is_good());
    }
    drop(cluster);
    if bad > 0 {
        bail!(
            "{bad} of {} scenarios lost or changed something; all is kept in {}",
            wanted.len(),
            repo.show(&base)
        );
    }
    remove(&base)
}

struct Torture<'a> {
    repo: &'a Repo,
    base: &'a Path,
    cluster: &'a Cluster,
}

/// A scenario's folder, and the run in it.
struct Site {
    root: Root,
    settings: Vec<String>,
    run_dir: PathBuf,
    cells: Vec<PlannedCell>,
}

impl Site {
    fn log(&self, at: usize) -> String {
        fs::read_to_string(self.run_dir.join(format!("slurm/logs/0-{at}.log"))).unwrap_or_default()
    }

    fn done(&self) -> usize {
        self.cells.iter().filter(|cell| is_done(&self.run_dir, cell)).count()
    }

    fn restarts(&self) -> Result<u64> {
        let mut most = 0;
        for cell in &self.cells {
            let path = self.run_dir.join("cells").join(cell.id()).join("cell.json");
            let Ok(bytes) = fs::read(&path) else { continue };
            let record: CellRecord =
                serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
            most = most.max(record.provenance.map_or(0, |provenance| provenance.restarts));
        }
        Ok(most)
    }
}

impl Torture<'_> {
    fn run(&self, scenario: Scenario) -> Result<Verdict> {
        let site = self.site(&scenario.name(), scenario.settings())?;
        match scenario {
            Scenario::Undisturbed => self.submit(&site, &[])?,
            Scenario::NodeKilled => self.node_killed(&site)?,
            Scenario::DaemonKilled => self.daemon_killed(&site)?,
            Scenario::ControllerKilled => {
                self.submit(&site, &[])?;
                self.long_cell(&site)?;
                self.cluster.kill_controller()?;
                thread::sleep(Duration::from_secs(5));
                self.cluster.start_controller()?;
                self.cluster.until_empty()?;
            }
            Scenario::TimeLimit => {
                self.submit(&site, &["--sbatch", SHORT_LIMIT])?;
                let most = site.restarts()?;
                if most < REQUEUES {
                    bail!("no cell was stopped more than {most} times");
                }
            }
            Scenario::TwoSubmits => self.two_submits(&site)?,
            Scenario::FailingCell => self.failing_cell(&site)?,
            Scenario::FullDisk => self.full_disk(&site)?,
            Scenario::Cancelled => self.cancelled(&site)?,
        }
        self.verdict(scenario, &site)
    }

    fn node_killed(&self, site: &Site) -> Result<()> {
        self.start(site, &[])?;
        let (_, node) = self.long_cell(site)?;
        self.cluster.kill_node(&node)?;
        self.cluster.until_empty()?;
        if site.restarts()? == 0 {
            bail!("{node} was killed and no cell with it");
        }
        self.cluster.restart_nodes()
    }

    fn daemon_killed(&self, site: &Site) -> Result<()> {
        self.start(site, &[])?;
        let (at, node) = self.long_cell(site)?;
        self.cluster.kill_daemon(&node)?;
        // Slurm takes half a minute to notice; the cell is still there when it is started again.
        self.cluster.pause(&node, true)?;
        let twice = || site.log(at).matches(": starts on").count() > 1;
        wait("a second start of a cell that lives", twice)?;
        self.cluster.pause(&node, false)?;
        self.cluster.until_empty()?;
        self.cluster.restart_nodes()
    }

    fn two_submits(&self, site: &Site) -> Result<()> {
        let mut both = [self.reproduce(site, &[]), self.reproduce(site, &[])];
        let children = both.each_mut().map(|command| command.spawn().context("failed to start xtask"));
        for child in children {
            if !child?.wait()?.success() {
                bail!("one of two submissions failed");
            }
        }
        self.cluster.until_empty()
    }

    fn failing_cell(&self, site: &Site) -> Result<()> {
        let id = site.cells[site.cells.len() / 2].id();
        let folder = site.run_dir.join("cells").join(&id);
        fs::create_dir_all(site.run_dir.join("cells"))?;
        fs::write(&folder, "a file where the cell's folder should be")?;
        self.submit(site, &[])?;
        let said = self.xtask(site, &["collect", EXPERIMENT]).output().context("failed to start xtask")?;
        if said.status.success() || !errors(&said).contains(&format!("1 of 15 cells are missing:\n{id}")) {
            bail!("collect does not name the cell that failed: {}", errors(&said));
        }
        fs::remove_file(&folder)?;
        self.submit(site, &[])
    }

    fn full_disk(&self, site: &Site) -> Result<()> {
        self.cluster.kill_node("n1")?;
        self.cluster.start_node("n1", &format!("trap '' XFSZ; ulimit -f {BLOCKS}"))?;
        self.cluster.until_idle()?;
        self.submit(site, &[])?;
        let failed: Vec<usize> =
            (0..site.cells.len()).filter(|at| !is_done(&site.run_dir, &site.cells[*at])).collect();
        let named = |at: &usize| site.log(*at).contains("File too large");
        if failed.is_empty() || !failed.iter().all(named) {
            bail!("cells {failed:?} should say that a file is too large");
        }
        self.cluster.restart_nodes()?;
        self.submit(site, &[])
    }

    fn cancelled(&self, site: &Site) -> Result<()> {
        self.start(site, &[])?;
        self.long_cell(site)?;
        finished(&mut self.xtask(site, &["cancel", EXPERIMENT]))?;
        self.cluster.until_empty()?;
        if site.done() == site.cells.len() {
            bail!("cancelled cells came back");
        }
        self.submit(site, &[])
    }

    /// A folder with clips, frame store and plan.
    fn site(&self, name: &str, settings: Vec<String>) -> Result<Site> {
        let root = Root::new(self.repo, self.base.join(name))?;
        let mut site = Site { root, settings, run_dir: PathBuf::new(), cells: Vec::new() };
        let mut words = vec!["plan", EXPERIMENT];
        words.extend(site.settings.iter().map(String::as_str));
        finished(&mut self.xtask(&site, &words))?;
        let (run_dir, plan) = site.root.plan()?;
        (site.run_dir, site.cells) = (run_dir, plan.cells);
        Ok(site)
    }

    fn xtask(&self, site: &Site, words: &[&str]) -> Command {
        let own = env::current_exe().unwrap_or_else(|_| "xtask".into());
        let release = PathBuf::from(self.repo.binary("bench-suite").get_program());
        let mut command = self.cluster.command(own);
        command.args(words).current_dir(&site.root.path);
        // As cargo would start it there; everything is built.
        command.env("CARGO", "true").env("CARGO_MANIFEST_DIR", site.root.path.join("xtask"));
        command.env("CARGO_TARGET_DIR", release.ancestors().nth(2).unwrap_or(Path::new("target")));
        command
    }

    fn reproduce(&self, site: &Site, more: &[&str]) -> Command {
        let mut words = vec!["reproduce", EXPERIMENT, "--on", "slurm"];
        words.extend(site.settings.iter().map(String::as_str));
        words.extend(more);
        self.xtask(site, &words)
    }

    /// Submits what is missing.
    fn start(&self, site: &Site, more: &[&str]) -> Result<()> {
        finished(&mut self.reproduce(site, more))
    }

    /// Submits what is missing and waits for the end of it.
    fn submit(&self, site: &Site, more: &[&str]) -> Result<()> {
        self.start(site, more)?;
        self.cluster.until_empty()
    }

    /// Waits for a long cell that trains, and says where it does.
    fn long_cell(&self, site: &Site) -> Result<(usize, String)> {
        let mut found = None;
        wait("a long cell that trains", || {
            let trains = |(at, _): &(usize, String)| {
                site.cells.get(*at).is_some_and(|cell| cell.model == LONG)
                    && site.log(*at).contains(": epoch ")
            };
            found = self.cluster.running().into_iter().find(trains);
            found.is_some()
        })?;
        found.context("a cell that trains")
    }

    fn verdict(&self, scenario: Scenario, site: &Site) -> Result<Verdict> {
        let reference = self.reference(scenario)?;
        let finished = |at: &usize| site.log(*at).matches(": finished").count();
        let same = |name: &str| {
            let of = |root: &Path| fs::read(root.join("results").join(EXPERIMENT).join(name)).ok();
            of(&site.root.path).is_some_and(|bytes| of(&reference).is_some_and(|other| bytes == other))
        };
        Ok(Verdict {
            name: scenario.name(),
            cells: site.cells.len(),
            lost: site.cells.len() - site.done(),
            twice: (0..site.cells.len()).filter(|at| finished(at) != 1).count(),
            identical: same("folds.csv") && same("predictions.csv"),
        })
    }

    /// Folder of the same run on this machine, without Slurm.
    fn reference(&self, scenario: Scenario) -> Result<PathBuf> {
        let settings = scenario.settings();
        let name = if settings.is_empty() { "reference" } else { "reference-long" };
        let path = self.base.join(name);
        if !path.exists() {
            let site = self.site(name, settings)?;
            let mut words = vec!["reproduce", EXPERIMENT, "--jobs", "2", "--quiet"];
            words.extend(site.settings.iter().map(String::as_str));
            finished(&mut self.xtask(&site, &words))?;
        }
        Ok(path)
    }
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
