//! `cargo xtask figures`: tables, charts and report from the records alone.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::records::{Records, csv_bytes, write_atomic};
use crate::repo::Repo;
use crate::tables::{PAIRED_HEADER, SOTA_HEADER, TABLE_HEADER, Tables};

/// Regenerates one folder under `root`, or every folder that holds records.
pub(crate) fn figures(repo: &Repo, root: &Path, experiment: Option<&str>) -> Result<()> {
    let names = match experiment {
        Some(name) => vec![name.to_owned()],
        None => folders(root)?,
    };
    let mut drawn = 0;
    for name in &names {
        let dir = root.join(name);
        if Records::are_in(&dir) {
            derive(&dir)?;
            eprintln!("{} redrawn from its records", repo.show(&dir));
            drawn += 1;
        } else if experiment.is_some() {
            let known: Vec<String> =
                folders(root)?.into_iter().filter(|n| Records::are_in(&root.join(n))).collect();
            bail!("{} holds no records; there are {}", repo.show(&dir), known.join(", "));
        }
    }
    if drawn == 0 {
        eprintln!("{} holds no records yet: cargo xtask reproduce ucf11 makes some", repo.show(root));
    }
    Ok(())
}

/// Writes everything that follows from the records of a folder, next to them.
pub(crate) fn derive(dir: &Path) -> Result<()> {
    let records = Records::read(dir)?;
    let tables = Tables::derive(&records).with_context(|| format!("records in {}", dir.display()))?;
    for (name, bytes) in [
        ("table.csv", csv_bytes(TABLE_HEADER, &tables.table)?),
        ("paired.csv", csv_bytes(PAIRED_HEADER, &tables.paired)?),
        ("sota.csv", csv_bytes(SOTA_HEADER, &tables.sota)?),
    ] {
        write_atomic(&dir.join(name), &bytes)?;
    }
    Ok(())
}

fn folders(root: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(root).with_context(|| format!("{} cannot be read", root.display()))?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    Ok(names)
}
