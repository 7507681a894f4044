//! The page of an experiment: everything that follows from its records, beside them.

use std::path::Path;

use anyhow::{Context, Result};

use crate::draw::{charts, report};
use crate::results::classes::{CLASSES_HEADER, CONFUSION_HEADER, classes, confusion};
use crate::results::formats::formats;
use crate::results::paired::PAIRED_HEADER;
use crate::results::tables::{SOTA_HEADER, TABLE_HEADER, Tables};
use crate::results::{Page, csv_bytes, write_atomic};

/// What [`derive()`] writes into a folder.
pub const DERIVED: [&str; 8] = [
    "charts",
    "report.md",
    "report.html",
    "table.csv",
    "paired.csv",
    "sota.csv",
    "classes.csv",
    "confusion.csv",
];

/// Writes everything that follows from the records of a folder, next to them.
pub fn derive(dir: &Path) -> Result<()> {
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
    let formats = formats(dir, records, &tables)?;
    let drawn = charts::draw(dir, records, &tables, &formats)?;
    report::write(dir, &page, &tables, &formats, &drawn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;

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
        fixture::five_models().keep_alone(dir.path()).unwrap();
        derive(dir.path()).unwrap();
        let first = files(dir.path());
        for name in first.keys().filter(|name| !name.starts_with("runs/")) {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
        derive(dir.path()).unwrap();
        assert_eq!(files(dir.path()), first);
        assert!(first.contains_key("charts/accuracy.png") && first.contains_key("table.csv"));
        let top: BTreeSet<&str> = first.keys().filter_map(|name| name.split('/').next()).collect();
        assert_eq!(top, DERIVED.into_iter().chain(["runs"]).collect());
    }

    /// Also where no cell has a score yet.
    #[test]
    fn a_run_of_a_final_model_alone_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let mut records = fixture::records("a", &[]);
        let run = &mut records.run_file.runs[0];
        run.finals.push(fixture::final_model("tt-gru"));
        records.keep_alone(dir.path()).unwrap();
        derive(dir.path()).unwrap();
        let page = fs::read_to_string(dir.path().join("report.md")).unwrap();
        assert!(page.contains("Models for use") && page.contains("data/models/tt-gru"), "{page}");
    }
}
