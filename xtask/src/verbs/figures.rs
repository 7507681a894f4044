//! `cargo xtask figures`: tables, charts and report from the records alone.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::draw::{ablation, commands, compression, devices, findings, page, rates, readme, tuning};
use crate::repo::Repo;
use crate::results::Page;
use crate::results::folders::results_root;

/// Regenerates one folder under `root`, or every folder that holds records.
pub(crate) fn figures(repo: &Repo, out: Option<&Path>, experiment: Option<&str>) -> Result<()> {
    let root = &results_root(repo, out)?;
    let names = match experiment {
        Some(name) => vec![name.to_owned()],
        None => folders(root)?,
    };
    let mut drawn = 0;
    for name in &names {
        let dir = root.join(name);
        if Page::is_in(&dir) {
            page::derive(&dir)?;
            eprintln!("{} redrawn from its records", repo.show(&dir));
            drawn += 1;
        } else if experiment.is_some() {
            let known: Vec<String> =
                folders(root)?.into_iter().filter(|n| Page::is_in(&root.join(n))).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            bail!("{} holds no records; folders that do: {known}", repo.show(&dir));
        }
    }
    if experiment.is_none() {
        drawn += devices::redraw(repo, &root.join("devices"))?;
        drawn += compression::redraw(repo, &root.join("compression"))?;
        drawn += ablation::redraw(repo, &root.join("ablation"))?;
        drawn += tuning::redraw(repo, &root.join("tuning"))?;
        drawn += rates::redraw(repo, &root.join("rates"))?;
    }
    if experiment.is_none_or(|name| name == readme::SHOWN) && *root == repo.path("results") {
        readme::splice(repo)?;
        findings::write(repo)?;
        commands::write(repo)?;
    }
    if drawn == 0 {
        eprintln!("{} holds no records yet: cargo xtask reproduce ucf11 makes some", repo.show(root));
    }
    Ok(())
}

fn folders(root: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("{} cannot be read", root.display()))?,
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}
