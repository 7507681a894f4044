//! `cargo xtask results`: which runs there are, and the only way to remove one.

use std::fmt::Write as _;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::records::{Listed, Page, RUNS, Run, hold, holding};
use crate::repo::Repo;
use crate::{compress, experiments, figures, ledger, text};

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Results {
    /// Print every run of an experiment, with its cells and how many of them the page shows
    #[command(after_help = "Examples:\n  cargo xtask results list ucf11-sample")]
    List {
        /// Folder under results/
        experiment: String,
        /// Folder that holds the experiments' results [default: results/ of the repository]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Remove a run's records for good, after asking, and draw the page anew
    #[command(after_help = "\
Examples:
  cargo xtask results remove ucf11-sample scaled-cpu-d312d35b
  cargo xtask results remove devices 2026-11-26-amd-epyc --yes")]
    Remove {
        /// Folder under results/: an experiment, compression/NAME, ledger/NAME, devices or bench
        experiment: String,
        /// The run's folder in it
        run: String,
        /// Do it without asking
        #[arg(long)]
        yes: bool,
        /// Folder that holds the experiments' results [default: results/ of the repository]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// Runs a verb.
pub(crate) fn results(repo: &Repo, verb: &Results) -> Result<()> {
    match verb {
        Results::List { experiment, out } => {
            list(&experiments::results_root(repo, out.as_deref())?.join(experiment))
        }
        Results::Remove { experiment, run, yes, out } => {
            let root = experiments::results_root(repo, out.as_deref())?;
            remove(repo, (&root, experiment), run, *yes)
        }
    }
}

fn list(dir: &Path) -> Result<()> {
    let page = Page::read(dir)?;
    let mut answer = String::new();
    for Listed { name, file, shown } in &page.runs {
        let cells: usize = file.runs.iter().map(|run| run.cells.len()).sum();
        let finished = file.runs.iter().map(Run::finished).max().unwrap_or_default();
        writeln!(answer, "{name}  finished {finished}, {cells} cells, {shown} shown  {}", file.data)?;
    }
    for row in &page.hidden {
        writeln!(answer, "not shown of {}, {}: {row}", row.run, row.why)?;
    }
    text::print(&answer)
}

fn remove(repo: &Repo, (root, experiment): (&Path, &str), run: &str, yes: bool) -> Result<()> {
    let dir = root.join(experiment);
    // Comparisons and measurements are pages themselves.
    let parent = if ["devices", "bench"].contains(&experiment) { dir.clone() } else { dir.join(RUNS) };
    let folder = parent.join(run);
    let plain = Path::new(run).components().count() == 1 && !run.starts_with('.');
    if !plain || !folder.is_dir() {
        let known = holding(&parent, "")?.join(", ");
        bail!("{} holds no run {run:?}; there are: {known}", repo.show(&parent));
    }
    let last = parent != dir && holding(&parent, "")?.len() == 1;
    let with = if last { ", and with it the page, which shows no other" } else { "" };
    eprintln!("{} would be removed for good{with}", repo.show(&folder));
    if !yes && !confirmed()? {
        bail!("nothing was removed");
    }
    let _held = hold(&dir)?;
    // Renamed first: a run that is half removed must not look like one.
    let gone = folder.with_file_name(format!(".{run}.tmp"));
    fs::rename(&folder, &gone).with_context(|| format!("{} cannot be removed", folder.display()))?;
    let gone = if last { dir.clone() } else { gone };
    fs::remove_dir_all(&gone).with_context(|| format!("{} cannot be removed", gone.display()))?;
    eprintln!("{} is removed", repo.show(&folder));
    match experiment.split('/').next() {
        _ if last => Ok(()),
        Some("devices" | "bench") => Ok(()),
        Some("compression") => compress::derive(&dir),
        Some("ledger") => ledger::derive(&dir),
        _ => figures::derive(&dir),
    }
}

/// Whether a person at the terminal says yes; without a terminal nobody does.
fn confirmed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("no terminal to ask at: --yes removes it");
    }
    eprint!("remove it? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
