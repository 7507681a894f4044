//! `cargo xtask figures`: tables, charts and report from the records alone.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::classes::{CLASSES_HEADER, CONFUSION_HEADER, classes, confusion};
use crate::paired::PAIRED_HEADER;
use crate::records::{Page, csv_bytes, write_atomic};
use crate::repo::Repo;
use crate::tables::{SOTA_HEADER, TABLE_HEADER, Tables};
use crate::{charts, compare, compress, findings, ledger, rates, readme, report, tune};

/// Regenerates one folder under `root`, or every folder that holds records.
pub(crate) fn figures(repo: &Repo, root: &Path, experiment: Option<&str>) -> Result<()> {
    let names = match experiment {
        Some(name) => vec![name.to_owned()],
        None => folders(root)?,
    };
    let mut drawn = 0;
    for name in &names {
        let dir = root.join(name);
        if Page::is_in(&dir) {
            derive(&dir)?;
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
        drawn += compare::redraw(repo, &root.join("devices"))?;
        drawn += compress::redraw(repo, &root.join("compression"))?;
        drawn += ledger::redraw(repo, &root.join("ledger"))?;
        drawn += tune::redraw(repo, &root.join("tuning"))?;
        drawn += rates::redraw(repo, &root.join("rates"))?;
    }
    if experiment.is_none_or(|name| name == readme::SHOWN) && root == repo.path("results") {
        readme::splice(repo)?;
        findings::write(repo)?;
    }
    if drawn == 0 {
        eprintln!("{} holds no records yet: cargo xtask reproduce ucf11 makes some", repo.show(root));
    }
    Ok(())
}

/// Writes everything that follows from the records of a folder, next to them.
pub(crate) fn derive(dir: &Path) -> Result<()> {
    let page = Page::read(dir)?;
    let records = &page.records;
    let tables = Tables::derive(records).with_context(|| format!("records in {}", dir.display()))?;
    for (name, bytes) in [
        ("table.csv", csv_bytes(TABLE_HEADER, &tables.table)?),
        ("paired.csv", csv_bytes(PAIRED_HEADER, &tables.paired)?),
        ("sota.csv", csv_bytes(SOTA_HEADER, &tables.sota)?),
        ("classes.csv", csv_bytes(CLASSES_HEADER, &classes(records)?)?),
        ("confusion.csv", csv_bytes(CONFUSION_HEADER, &confusion(records))?),
    ] {
        write_atomic(&dir.join(name), &bytes)?;
    }
    let drawn = charts::draw(dir, records, &tables)?;
    report::write(dir, &page, &tables, &drawn)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use std::collections::BTreeMap;

    /// Every file below a folder with its bytes.
    fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut all = BTreeMap::new();
        let mut todo = vec![dir.to_owned()];
        while let Some(folder) = todo.pop() {
            for entry in fs::read_dir(&folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    todo.push(entry.path());
                } else {
                    let name = entry.path().strip_prefix(dir).unwrap().display().to_string();
                    all.insert(name, fs::read(entry.path()).unwrap());
                }
            }
        }
        all
    }

    #[test]
    fn figures_are_byte_identical_from_the_records_alone() {
        let dir = tempfile::tempdir().unwrap();
        fixture::five_models().keep(dir.path()).unwrap();
        derive(dir.path()).unwrap();
        let first = files(dir.path());
        for name in first.keys().filter(|name| !name.starts_with("runs/")) {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        derive(dir.path()).unwrap();
        assert_eq!(files(dir.path()), first);
        assert!(first.contains_key("charts/accuracy.png") && first.contains_key("table.csv"));
    }

    /// Also where no cell has a score yet.
    #[test]
    fn a_run_of_a_final_model_alone_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = fixture::records("a", &[]);
        let run = &mut records.run_file.runs[0];
        run.finals.push(fixture::final_model("tt-gru"));
        records.keep(dir.path()).unwrap();
        derive(dir.path()).unwrap();
        let page = fs::read_to_string(dir.path().join("report.md")).unwrap();
        assert!(page.contains("Models for use") && page.contains("data/models/tt-gru"), "{page}");
    }
}
