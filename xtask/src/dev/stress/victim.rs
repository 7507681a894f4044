//! One attempt at a run, and the signal that ends it.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bench_suite::record::cell_folder;
use bench_suite::results::cells::is_done;
use bench_suite::stats::Draws;

use crate::dev::stress::{EXPERIMENT, Root};
use crate::repo::{self, Repo};
use crate::run::engine::STOPPED;
use crate::run::interrupt::{Interrupt, signal};

/// Longest time until the kill, from the start of an attempt; the instant is uniform below it.
const SPAN: Duration = Duration::from_millis(900);
/// How often the victim is looked at.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// Time that a process gets to leave after a signal.
const GRACE: Duration = Duration::from_mins(1);
/// Seconds between checkpoints, from one a step to the default, where a kill costs the whole cell.
const INTERVALS: [&str; 6] = ["0", "0", "0.005", "0.02", "0.1", "60"];
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// Where the kills fell.
#[derive(Debug, Default)]
pub(super) struct Tally {
    making_data: usize,
    writing: usize,
    between: usize,
    before_first: usize,
    terms: usize,
}

impl Tally {
    /// Kills so far.
    pub(super) fn kills(&self) -> usize {
        self.making_data + self.writing + self.between + self.before_first
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "kills: {} while a file was being written, {} between two checkpoints, {} before a cell's first, \
             {} while clips, frame store or plan were made; {} of them by SIGTERM",
            self.writing, self.between, self.before_first, self.making_data, self.terms
        )
    }
}

/// How an attempt ended.
pub(super) enum End {
    Finished,
    Killed,
}

/// A kill to come.
struct Attack {
    at: Instant,
    /// Wait for a temporary file to appear after that.
    while_writing: bool,
    terminate: bool,
}

/// What a run needs.
pub(super) struct Attempt<'a> {
    pub(super) repo: &'a Repo,
    pub(super) root: &'a Root,
    pub(super) log: &'a Path,
    pub(super) interrupt: &'a Interrupt,
}

impl Attempt<'_> {
    /// Goes from clips to cells as `reproduce` does, until everything is finished or a signal ends it; after
    /// `kills` of them there is no more.
    pub(super) fn run(&self, draws: &mut Draws, tally: &mut Tally, kills: usize) -> Result<End> {
        let attack = (kills > tally.kills()).then(|| Attack {
            at: Instant::now() + SPAN * draws.below(1 << 16) as u32 / (1 << 16),
            while_writing: draws.below(3) == 0,
            terminate: draws.below(5) == 0,
        });
        for verb in ["prepare", "plan"] {
            let mut command = self.engine(verb);
            command.args(["--experiment", EXPERIMENT]);
            if self.spawn(&mut command, attack.as_ref(), None, tally)? {
                return Ok(End::Killed);
            }
        }
        let (run_dir, plan) = self.root.plan()?;
        for cell in plan.cells.iter().filter(|cell| !is_done(&run_dir, cell)) {
            let mut command = self.engine("cell");
            command.arg("--run-dir").arg(&run_dir).args(["--cell", &cell.id(), "--wait", "0"]);
            if attack.is_some() {
                let threads = (1 + draws.below(3)).to_string();
                let interval = INTERVALS[draws.below(INTERVALS.len())];
                command.args(["--threads", &threads, "--checkpoint-every", interval]);
            } else {
                command.args(["--threads", "1"]);
            }
            let folder = cell_folder(&run_dir, &cell.id());
            if self.spawn(&mut command, attack.as_ref(), Some(&folder), tally)? {
                return Ok(End::Killed);
            }
        }
        Ok(End::Finished)
    }

    fn engine(&self, verb: &str) -> Command {
        let mut command = self.repo.binary("bench-suite");
        command.args([verb, "--quiet", "--root"]).arg(&self.root.path);
        command
    }

    /// Runs one process of the run; whether it was killed. `folder` is the cell's.
    fn spawn(
        &self,
        command: &mut Command,
        attack: Option<&Attack>,
        folder: Option<&PathBuf>,
        tally: &mut Tally,
    ) -> Result<bool> {
        let log = File::options().create(true).append(true).open(self.log);
        let log = log.with_context(|| format!("{} cannot be written", self.log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut child =
            command.spawn().with_context(|| format!("failed to start {}", repo::line(command)))?;
        let mut sent: Option<Instant> = None;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if self.interrupt.raised() || sent.is_some_and(|at| at.elapsed() > GRACE) {
                child.kill()?;
                child.wait()?;
                self.interrupt.check()?;
                bail!("{} did not leave after SIGTERM", repo::line(command));
            }
            if let Some(attack) = attack.filter(|attack| sent.is_none() && Instant::now() >= attack.at)
                && (!attack.while_writing || folder.is_some_and(|folder| is_writing(folder)))
            {
                sent = Some(Instant::now());
                if attack.terminate {
                    signal("-TERM", &[child.id()]);
                } else {
                    child.kill()?;
                }
            }
            thread::sleep(LOOK_EVERY);
        };
        if status.success() {
            return Ok(false);
        }
        if sent.is_none() || !died_of_it(status) {
            let shown = self.repo.show(self.log);
            bail!("{} failed ({status}) after {} kills; see {shown}", repo::line(command), tally.kills());
        }
        tally.terms += usize::from(status.signal() != Some(SIGKILL));
        *match folder {
            None => &mut tally.making_data,
            Some(folder) if is_writing(folder) => &mut tally.writing,
            Some(folder) if folder.join("checkpoint.safetensors").exists() => &mut tally.between,
            Some(_) => &mut tally.before_first,
        } += 1;
        Ok(true)
    }
}

fn died_of_it(status: ExitStatus) -> bool {
    matches!(status.signal(), Some(SIGKILL | SIGTERM)) || status.code() == Some(STOPPED)
}

/// Whether a cell's folder holds a temporary file.
fn is_writing(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(".tmp") || name.ends_with(".tmp")
        })
    })
}
