//! `cargo xtask status`: where every cell of a run stands.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use bench_suite::record::{Lease, cell_folder, host};
use bench_suite::results::cells::is_done;

use crate::repo::Repo;
use crate::run::cluster::plan::Run;
use crate::run::cluster::slurm;
use crate::text;

/// Prints a count per state, then every cell that is not finished.
pub(crate) fn status(repo: &Repo, name: &str) -> Result<()> {
    let run = Run::find(repo, name)?;
    let queue = slurm::queue(&run.dir).unwrap_or_else(|error| {
        eprintln!("Slurm's queue could not be read, so only the run's folder was looked at: {error:#}");
        BTreeMap::new()
    });
    let logs: Vec<_> = slurm::submissions(&run.dir)?.into_iter().flat_map(|one| one.arrays).collect();
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lines = Vec::new();
    for (at, cell) in run.plan.cells.iter().enumerate() {
        let id = cell.id();
        let (state, detail) = if is_done(&run.dir, cell) {
            ("done", String::new())
        } else if let Some(lease) = holder(&cell_folder(&run.dir, &id)) {
            ("running", running(&lease))
        } else if let Some(queued) = queue.get(&at) {
            ("waiting", format!("{} {} {}", queued.job, queued.state.to_lowercase(), queued.place))
        } else {
            let log =
                logs.iter().rev().find(|array| at >= array.base && array.tasks.contains(&(at - array.base)));
            match log.map(|array| last_line(&slurm::log(&run.dir, array, &(at - array.base).to_string()))) {
                Some(line) => ("failed", line),
                None => ("not started", String::new()),
            }
        };
        *counts.entry(state).or_default() += 1;
        if state != "done" {
            lines.push(format!("{state:13}  {id}  {}", detail.trim_end()));
        }
    }
    let states = ["done", "running", "waiting", "failed", "not started"];
    let counted = states.iter().filter_map(|state| Some(format!("{} {state}", counts.get(state)?)));
    let counted = counted.collect::<Vec<_>>().join(", ");
    let mut answer = format!("{}: {} cells: {counted}\n", run.plan.experiment, run.plan.cells.len());
    for line in lines {
        answer += line.trim_end();
        answer.push('\n');
    }
    text::print(&answer)
}

/// Whoever computes the cell: on this host the lock says so, elsewhere a lease that still beats.
fn holder(folder: &Path) -> Option<Lease> {
    let path = folder.join("lock");
    let lease: Lease = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    if lease.ended {
        return None;
    }
    let locked = matches!(File::open(&path).ok()?.try_lock_shared(), Err(TryLockError::WouldBlock));
    let beaten = fs::metadata(&path).ok()?.modified().ok()?.elapsed().unwrap_or_default();
    (locked || (lease.host != host() && beaten < Duration::from_secs(Lease::STALE_S))).then_some(lease)
}

fn running(lease: &Lease) -> String {
    let began = SystemTime::UNIX_EPOCH + Duration::from_secs(lease.since);
    let since = text::seconds(began.elapsed().unwrap_or_default().as_secs_f64());
    let job =
        if lease.job.is_empty() { format!("process {}", lease.pid) } else { format!("job {}", lease.job) };
    format!("on {} for {since} ({job}, start {})", lease.host, lease.starts)
}

fn last_line(path: &Path) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    text.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("no output")
        .trim()
        .escape_debug()
        .to_string()
}
