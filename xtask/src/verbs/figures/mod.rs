//! `cargo xtask figures`: tables, charts and report from the records alone.

mod commands;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bench_suite::draw::{ablation, compression, devices, findings, page, rates, readme, tuning};
use bench_suite::results::folders::below;
use bench_suite::results::{Page, RUNS, holding};

use crate::repo::Repo;

/// Writes what follows from the records in a folder.
type Derive = fn(&Path) -> Result<()>;

/// Regenerates one folder under `root`, or every folder that holds records.
pub(crate) fn figures(repo: &Repo, out: Option<&Path>, experiment: Option<&str>) -> Result<()> {
    let root = &repo.results(out)?;
    let names = match experiment {
        Some(name) => vec![name.to_owned()],
        None => holding(root, "")?,
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
                holding(root, "")?.into_iter().filter(|n| Page::is_in(&root.join(n))).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            bail!("{} holds no records; folders that do: {known}", repo.show(&dir));
        }
    }
    if experiment.is_none() {
        let in_folder = |folder: &str, holds: &str| -> Result<Vec<PathBuf>> {
            let dir = root.join(folder);
            Ok(holding(&dir, holds)?.into_iter().map(|name| dir.join(name)).collect())
        };
        let all: [(Vec<PathBuf>, Derive); 5] = [
            (in_folder("devices", "table.csv")?, devices::derive),
            (in_folder("compression", RUNS)?, compression::derive),
            (in_folder("ablation", RUNS)?, ablation::derive),
            (below(&root.join("tuning"), "finals.csv"), tuning::derive),
            (below(&root.join("rates"), "rates.csv"), rates::derive),
        ];
        for (dirs, derive) in all {
            for dir in dirs {
                derive(&dir)?;
                eprintln!("{} redrawn from its records", repo.show(&dir));
                drawn += 1;
            }
        }
    }
    if experiment.is_none_or(|name| name == readme::SHOWN) && *root == repo.path("results") {
        readme::splice(repo.root())?;
        findings::write(repo.root())?;
        commands::write(repo)?;
    }
    if drawn == 0 && out.is_some() {
        bail!("{} holds no records", repo.show(root));
    }
    if drawn == 0 {
        eprintln!("{} holds no records yet: cargo xtask reproduce ucf11 makes some", repo.show(root));
    }
    Ok(())
}
