//! `cargo xtask cancel`: takes a run's cells out of the queue.

use std::process::Command;

use anyhow::Result;

use crate::repo::{self, Repo};
use crate::run::cluster::plan::Run;
use crate::run::cluster::slurm::{queue, submissions};

/// Cancels whatever of a run is in the queue.
pub(crate) fn cancel(repo: &Repo, name: &str) -> Result<()> {
    let run = Run::find(repo, name)?;
    let mut jobs: Vec<String> = Vec::new();
    for submission in submissions(&run.dir)? {
        jobs.extend(submission.arrays.into_iter().map(|array| array.job));
        jobs.extend((!submission.report.is_empty()).then_some(submission.report));
    }
    let before = queue(&run.dir)?.len();
    if !jobs.is_empty() {
        repo::run(Command::new("scancel").arg("--quiet").args(&jobs))?;
    }
    eprintln!(
        "{before} cells of {} were in the queue and are cancelled; what is finished stays",
        run.plan.experiment
    );
    Ok(())
}
