//! The README's results: a table and a chart of real clips, spliced in from the records.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::results::tables::{TableRow, Tables};
use crate::results::{Page, Run, write_atomic};
use crate::text::{md_table, score, thousands};

/// The experiment that the README shows.
pub const SHOWN: &str = "miracl-words";
const BEGIN: &str = "<!-- results: written by cargo xtask figures -->\n";
const END: &str = "<!-- end of results -->";

/// Writes the block between the markers of the README at `root` anew, if there are records to write it from.
pub fn splice(root: &Path) -> Result<()> {
    let dir = root.join("results").join(SHOWN);
    if !Page::is_in(&dir) {
        return Ok(());
    }
    let path = root.join("README.md");
    let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let new = spliced(&text, &block(&dir)?).context("README.md has lost the markers of its results")?;
    if new != text {
        write_atomic(&path, new.as_bytes())?;
    }
    Ok(())
}

fn spliced(text: &str, block: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{block}{END}{after}"))
}

fn block(dir: &Path) -> Result<String> {
    let Page { records, .. } = Page::read(dir)?;
    let tables = Tables::derive(&records)?;
    let run = &records.run_file;
    let machine = run.runs.first().map(Run::machine_line).unwrap_or_default();
    let (whole, partial): (Vec<&TableRow>, Vec<&TableRow>) =
        tables.table.iter().partition(|row| row.folds == most_folds(&tables.table, row));
    let rows: Vec<Vec<String>> = whole.into_iter().map(line).collect();
    let partial: Vec<String> = partial
        .into_iter()
        .map(|row| format!("{} ({}, {} folds)", row.model, row.protocol, row.folds))
        .collect();
    let partial = if partial.is_empty() {
        String::new()
    } else {
        format!("Left out, for fewer folds than the others have: {}.\n\n", partial.join(", "))
    };
    let header = ["model", "protocol", "accuracy", "95 % interval", "folds", "epochs", "input weights"];
    Ok(format!(
        "Real clips, {} ([records and report](results/{SHOWN}/report.md); {machine}). Protocol `clips` deals clips to folds, \
         as in the paper; `groups` holds whole speakers out. Below the paper's five models stand \
         [controls](docs/methodology.md#controls) and [opponents](docs/opponents.md), of which `frozen-cnn-gru` reads features \
         of a network that has seen ImageNet.\n\n\
         {}\n{partial}What they say of the paper's claims is in [docs/findings.md](docs/findings.md).\n\n\
         ![accuracy per model](results/{SHOWN}/charts/accuracy.svg)\n",
        run.data,
        md_table(&header, &rows)
    ))
}

/// The most folds that a row of the same protocol has.
fn most_folds(table: &[TableRow], row: &TableRow) -> usize {
    table
        .iter()
        .filter(|other| other.protocol == row.protocol)
        .map(|other| other.folds)
        .max()
        .unwrap_or_default()
}

fn line(row: &TableRow) -> Vec<String> {
    vec![
        row.model.clone(),
        row.protocol.clone(),
        match row.std {
            Some(std) => format!("{} ± {}", score(row.mean), score(std)),
            None => score(row.mean),
        },
        match (row.ci_low, row.ci_high) {
            (Some(low), Some(high)) => format!("{} to {}", score(low), score(high)),
            _ => String::new(),
        },
        row.folds.to_string(),
        row.epochs(),
        thousands(row.params_input),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture;

    #[test]
    fn only_the_block_between_the_markers_changes() {
        let text = format!("# a\n{BEGIN}old\n{END}\nz\n");
        assert_eq!(spliced(&text, "new\n").unwrap(), format!("# a\n{BEGIN}new\n{END}\nz\n"));
        assert_eq!(spliced("no markers", "new"), None);
    }

    #[test]
    fn the_readme_shows_the_committed_records() {
        let root = fixture::repository();
        let dir = root.join("results").join(SHOWN);
        if !Page::is_in(&dir) {
            eprintln!("skipped: results/{SHOWN} is not there");
            return;
        }
        let text = fs::read_to_string(root.join("README.md")).unwrap();
        assert_eq!(spliced(&text, &block(&dir).unwrap()).unwrap(), text, "run cargo xtask figures");
    }
}
