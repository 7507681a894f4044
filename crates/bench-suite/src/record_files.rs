//! CSV, JSON and TOML files: an error names the file, and a write leaves it complete or unchanged.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::files;

/// Rows as CSV below `header`, which is checked against the rows' fields.
pub fn csv_bytes<T: Serialize>(header: &str, rows: &[T]) -> Result<Vec<u8>> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record(header.split(','))?;
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(writer.into_inner()?)
}

/// Rows as CSV below the names of their fields; no line where there is no row.
pub fn csv_of<T: Serialize>(rows: impl IntoIterator<Item = T>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row)?;
    }
    Ok(writer.into_inner()?)
}

fn damaged(path: &Path) -> String {
    format!("{} is damaged: restore it, or remove its folder and run what made it again", path.display())
}

/// Of a file whose folder has more that is worth keeping.
fn damaged_alone(path: &Path) -> String {
    format!("{} is damaged: remove it, and the command that made it makes it again", path.display())
}

/// The rows of a CSV file; an error names the file and the line.
pub fn read_csv<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let mut rows = Vec::new();
    for row in csv::Reader::from_reader(file).deserialize() {
        rows.push(row.with_context(|| damaged(path))?);
    }
    Ok(rows)
}

/// The rows of a CSV file, none where there is no file yet.
pub fn read_csv_or_none<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    if path.is_file() { read_csv(path) } else { Ok(Vec::new()) }
}

/// Writes a file whole or not at all. One that has these bytes already is left alone.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    files::write(path, bytes).with_context(|| format!("{} cannot be written", path.display()))
}

/// Reads a JSON file: a plan, or the record of something computed.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| damaged_alone(path))
}

/// Reads a file with a JSON value a line; one that is not there has none.
pub fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let values = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    values.with_context(|| damaged_alone(path))
}

/// Writes a file with a JSON value a line, whole or not at all.
pub fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<()> {
    let line = |value| Ok(serde_json::to_string(value)? + "\n");
    write_atomic(path, values.iter().map(line).collect::<Result<String>>()?.as_bytes())
}

/// Reads a TOML file.
pub fn read_toml<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    toml::from_str(&text).with_context(|| damaged(path))
}

/// Writes a TOML file.
pub fn write_toml(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = toml::to_string(value).with_context(|| format!("{} cannot be TOML", path.display()))?;
    write_atomic(path, text.as_bytes())
}

#[cfg(test)]
#[cfg(feature = "report")]
mod tests {
    use super::*;
    use crate::results::{CURVES_HEADER, ClipRow, CurveRow, FOLDS_HEADER, FoldRow, PREDICTIONS_HEADER};

    #[test]
    fn headers_are_the_fields() {
        let fold = FoldRow {
            model: "gru".into(),
            protocol: "clips".into(),
            recipe: "scaled".into(),
            fold: 0,
            seed: 1,
            metric: "accuracy".into(),
            value: 0.1 + 0.2,
            epochs: 2,
            train_clips: 3,
            test_clips: 4,
            epoch_s: None,
        };
        let curve = CurveRow {
            model: "gru".into(),
            protocol: "clips".into(),
            recipe: "scaled".into(),
            fold: 0,
            seed: 1,
            epoch: 1,
            train_loss: 2.5,
            train_value: 0.25,
            test_value: Some(1e-7),
            wall_s: 1.0,
        };
        let clip = ClipRow {
            model: "gru".into(),
            protocol: "clips".into(),
            recipe: "scaled".into(),
            fold: 0,
            seed: 1,
            clip: "a \"b\",\nc".into(),
            label: "x".into(),
            predicted: "y".into(),
            probabilities: "0.5;0.5".into(),
            group: String::new(),
        };
        check(FOLDS_HEADER, fold);
        check(CURVES_HEADER, curve);
        check(PREDICTIONS_HEADER, clip);
    }

    /// What is written reads back, with and without the fixed header, and the header is the field names.
    fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(header: &str, row: T) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.serialize(&row).unwrap();
        let by_name = writer.into_inner().unwrap();
        let rows = vec![row];
        assert_eq!(csv_bytes(header, &rows).unwrap(), by_name);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.csv");
        write_atomic(&path, &by_name).unwrap();
        assert_eq!(read_csv::<T>(&path).unwrap(), rows);
    }

    #[test]
    fn a_failed_write_names_the_file_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("table.csv");
        write_atomic(&path, b"old").unwrap();
        // A folder cannot be replaced by a file, also by root.
        let folder = dir.path().join("folder.csv");
        fs::create_dir(&folder).unwrap();
        let error = write_atomic(&folder, b"new").unwrap_err();
        assert!(error.to_string().ends_with("folder.csv cannot be written"), "{error}");
        fs::remove_dir(&folder).unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
