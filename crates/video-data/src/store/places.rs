//! Which stores there are.

use std::path::{Path, PathBuf};

use super::format::INFO;
use super::reader::Store;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::kind::FrameSpec;

/// The newest complete store of this dataset and frame size, even if files have changed since.
///
/// # Errors
/// [`Error::Io`], [`Error::Corrupt`].
pub fn find_store(dataset: &Dataset, spec: &FrameSpec, data_root: &Path) -> Result<Option<Store>> {
    let mut found: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for dir in store_dirs(&dataset.name, data_root)? {
        if let Ok(time) = std::fs::metadata(dir.join(INFO)).and_then(|meta| meta.modified()) {
            found.push((time, dir));
        }
    }
    found.sort();
    while let Some((_, dir)) = found.pop() {
        let store = Store::open(&dir)?;
        if store.info().spec == *spec {
            return Ok(Some(store));
        }
    }
    Ok(None)
}

/// Folders of all stores, finished or not, of the dataset called `name`.
///
/// # Errors
/// [`Error::Io`].
pub fn store_dirs(name: &str, data_root: &Path) -> Result<Vec<PathBuf>> {
    let mut dirs = store_files(name, data_root)?;
    dirs.retain(|path| path.extension().is_none());
    Ok(dirs)
}

/// Everything below `stores/` that belongs to the dataset called `name`: stores, locks and saved digests.
///
/// # Errors
/// [`Error::Io`].
pub fn store_files(name: &str, data_root: &Path) -> Result<Vec<PathBuf>> {
    let stores = data_root.join("stores");
    if !stores.is_dir() {
        return Ok(Vec::new());
    }
    let mut dirs = Vec::new();
    for entry in std::fs::read_dir(&stores).map_err(Error::io("list", &stores))? {
        let path = entry.map_err(Error::io("list", &stores))?.path();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        let rest = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
        let digest = rest.strip_suffix(".lock").or(rest.strip_suffix(".seen")).unwrap_or(rest);
        if digest.len() == 12 && digest.bytes().all(|b| b.is_ascii_hexdigit()) {
            dirs.push(path);
        }
    }
    dirs.sort();
    Ok(dirs)
}
