//! JSON files, and files with a JSON value a line; an error names the file.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::write_atomic;

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
}

/// Reads a file with a JSON value a line; one that is not there has none.
pub(crate) fn read_lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    if !path.is_file() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let values = text.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    values.with_context(|| format!("{} is damaged", path.display()))
}

/// Writes a file with a JSON value a line, whole or not at all.
pub(crate) fn write_lines<T: Serialize>(path: &Path, values: &[T]) -> Result<()> {
    let line = |value| Ok(serde_json::to_string(value)? + "\n");
    write_atomic(path, values.iter().map(line).collect::<Result<String>>()?.as_bytes())
}
