//! The section of docs/export.md on how fast a frame is, from the newest record.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::results::inference::{InferenceRow, Section};
use crate::results::{read_csv, read_toml, write_atomic};
use crate::text::md_table;

const PAGE: &str = "docs/export.md";
const BEGIN: &str = "<!-- frames: written by cargo xtask bench inference -->\n";
const END: &str = "<!-- end of frames -->";

/// Writes the section of the repository at `root` anew.
///
/// # Errors
/// A record or page that cannot be read, or a page without the section's markers.
pub fn splice(root: &Path, record: &Path) -> Result<()> {
    let path = root.join(PAGE);
    let text = fs::read_to_string(&path).with_context(|| format!("{PAGE} cannot be read"))?;
    write_atomic(&path, spliced(&text, &block(record)?)?.as_bytes())
}

fn spliced(text: &str, block: &str) -> Result<String> {
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.with_context(|| format!("{PAGE} has lost the markers of its times"))?;
    Ok(format!("{before}{BEGIN}{block}{END}{after}"))
}

/// What the section says of `machine.toml`.
#[derive(Deserialize)]
struct Record {
    date: String,
    provenance: Computed,
    inference: Section,
}

#[derive(Deserialize)]
struct Computed {
    machine: Machine,
}

#[derive(Deserialize)]
struct Machine {
    cpu: String,
    cores: usize,
}

fn block(record: &Path) -> Result<String> {
    let Record { date, provenance, inference } = read_toml(&record.join("machine.toml"))?;
    let rows: Vec<InferenceRow> = read_csv(&record.join("inference.csv"))?;
    let name = record.file_name().unwrap_or_default().to_string_lossy();
    let line = |row: &InferenceRow| {
        let InferenceRow { program, version, us_median, us_least, to_ours, error } = row;
        let error =
            error.filter(|error| *error > 0.0).map_or_else(String::new, |error| format!("{error:.0e}"));
        let numbers = [us_median, us_least].map(|us| format!("{us:.0}"));
        [&[program.clone(), version.clone()][..], &numbers, &[format!("{to_ours:.1}"), error]].concat()
    };
    let header = ["program", "version", "µs a frame", "least", "times ours", "error"];
    let table = md_table(&header, &rows.iter().map(line).collect::<Vec<_>>());
    let Section { model, frames, rounds, load_start, load_end, missing, .. } = inference;
    let load = match (load_start, load_end) {
        (Some(start), Some(end)) => format!(", load {start:.1} at the start and {end:.1} at the end"),
        _ => String::new(),
    };
    let missing: Vec<String> =
        missing.iter().map(|(program, reason)| format!("Not measured: {program} ({reason}).\n")).collect();
    let missing = missing.concat();
    let Machine { cpu, cores } = provenance.machine;
    Ok(format!(
        "{table}\n{model}, one thread each, {rounds} rounds in turns of a clip of {frames} frames; median over \
         rounds of the median of a clip, and the least of these \
         ([record](../results/bench/{name}/inference.csv); {cpu}, {cores} cores{load}, {date}).\n{missing}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture;
    use std::path::PathBuf;

    /// The newest record, whose name begins with its day.
    fn newest(bench: &Path) -> Option<PathBuf> {
        let folders = fs::read_dir(bench).ok()?.flatten().map(|entry| entry.path());
        let mut records: Vec<PathBuf> = folders
            .filter(|dir| dir.join("inference.csv").is_file() && dir.join("machine.toml").is_file())
            .collect();
        records.sort();
        records.pop()
    }

    #[test]
    fn the_page_shows_the_newest_record() {
        let root = fixture::repository();
        let record = newest(&root.join("results/bench")).unwrap();
        let text = fs::read_to_string(root.join(PAGE)).unwrap();
        assert!(
            spliced(&text, &block(&record).unwrap()).unwrap() == text,
            "{} is not shown",
            record.display()
        );
        assert!(spliced("no markers", "").is_err());
    }
}
