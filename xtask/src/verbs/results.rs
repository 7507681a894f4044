//! `cargo xtask results`: which runs there are, and the only way to remove one.

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bench_suite::draw::{ablation, compression, page};
use bench_suite::results::{Listed, Page, RUNS, Run, hold, holding};

use crate::cli::data::Results;
use crate::repo::Repo;
use crate::text;

/// Runs a verb.
pub(crate) fn results(repo: &Repo, verb: &Results) -> Result<()> {
    match verb {
        Results::List { experiment, out } => {
            let dir = folder(repo, &repo.results(out.as_deref())?, experiment)?;
            match study(experiment) {
                Some(_) => text::print(&lines(&holding(&runs(&dir, experiment), "")?)),
                None => list(&dir),
            }
        }
        Results::Remove { experiment, run, yes, out } => {
            let root = repo.results(out.as_deref())?;
            folder(repo, &root, experiment)?;
            remove(repo, (&root, experiment), run, *yes)
        }
    }
}

/// Folders of `results/` that are no experiment's page.
const STUDIES: [&str; 7] = ["ablation", "bench", "compression", "devices", "models", "rates", "tuning"];

/// Of an experiment, or of a study such as `compression/ucf11`, the study.
fn study(experiment: &str) -> Option<&str> {
    experiment.split('/').next().filter(|first| STUDIES.contains(first))
}

/// Where its runs are: beside the page of several, or pages themselves.
fn runs(dir: &Path, experiment: &str) -> PathBuf {
    let of_several = match study(experiment) {
        Some("ablation" | "compression") => experiment.contains('/'),
        Some(_) => false,
        None => true,
    };
    if of_several { dir.join(RUNS) } else { dir.to_owned() }
}

fn lines(names: &[String]) -> String {
    names.iter().fold(String::new(), |text, name| text + name + "\n")
}

/// The folder of an experiment's results.
fn folder(repo: &Repo, root: &Path, experiment: &str) -> Result<PathBuf> {
    let dir = root.join(experiment);
    if !dir.is_dir() {
        bail!("{} is not there; results of: {}", repo.show(&dir), text::listed(holding(root, "")?));
    }
    Ok(dir)
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
    let parent = runs(&dir, experiment);
    let folder = parent.join(run);
    let plain = Path::new(run).components().count() == 1 && !run.starts_with('.');
    if ["ablation", "compression", "rates", "tuning"].contains(&experiment) {
        bail!("{experiment} holds studies: name one, as {experiment}/NAME");
    }
    if !plain || !folder.is_dir() {
        let known = holding(&parent, "")?.join(", ");
        bail!("{} holds no run {run:?}; there are: {known}", repo.show(&parent));
    }
    let is_last = || Ok::<_, anyhow::Error>(parent != dir && holding(&parent, "")?.len() == 1);
    let with = if is_last()? { ", and with it the page, which shows no other run" } else { "" };
    eprintln!("{} would be removed for good{with}", repo.show(&folder));
    if !yes && !confirmed()? {
        bail!("nothing was removed");
    }
    let _held = hold(&dir)?;
    // Another may have been added meanwhile.
    let last = is_last()?;
    // Renamed first: a run that is half removed must not look like one.
    let gone = folder.with_file_name(format!(".{run}.tmp"));
    fs::rename(&folder, &gone).with_context(|| format!("{} cannot be removed", folder.display()))?;
    fs::remove_dir_all(&gone).with_context(|| format!("{} cannot be removed", gone.display()))?;
    eprintln!("{} is removed", repo.show(&folder));
    if last {
        remove_page(repo, &dir)?;
    }
    match study(experiment) {
        _ if last => Ok(()),
        Some("compression") => compression::derive(&dir),
        Some("ablation") => ablation::derive(&dir),
        Some(_) => Ok(()),
        None => page::derive(&dir),
    }
}

/// Removes what was derived from a folder's runs, which are gone, and the folder, unless something else is in it.
fn remove_page(repo: &Repo, dir: &Path) -> Result<()> {
    for name in [&page::DERIVED[..], &ablation::DERIVED, &compression::DERIVED].concat() {
        let path = dir.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed
            .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
            .with_context(|| format!("{} cannot be removed", path.display()))?;
    }
    for empty in [dir.join(RUNS), dir.to_owned()] {
        match fs::remove_dir(&empty) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
                eprintln!("{} is kept: other files are in it", repo.show(&empty));
            }
            removed => removed.with_context(|| format!("{} cannot be removed", empty.display()))?,
        }
    }
    Ok(())
}

/// Whether a person at the terminal says yes; without a terminal nobody does.
fn confirmed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask on: give --yes to remove it");
    }
    eprint!("remove it? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
