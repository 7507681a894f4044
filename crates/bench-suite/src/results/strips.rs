//! Six small frames of each clip that a report shows: `strips-<digest>.csv`.
//!
//! A record like the others, so that a page is the same wherever it is drawn. `run.toml` names it by its digest: a file
//! that it does not name is not of these records, whatever left it there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::files;
use crate::record_files::{csv_bytes, read_csv, write_atomic};

/// The columns.
const HEADER: &str = "clip,jpeg";

/// The frames of a clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strip {
    /// Path of the clip below the dataset.
    pub clip: String,
    /// A JPEG in base64.
    pub jpeg: String,
}

impl Strip {
    /// Of a JPEG's bytes.
    pub fn new(clip: &str, jpeg: &[u8]) -> Self {
        Self { clip: clip.to_owned(), jpeg: STANDARD.encode(jpeg) }
    }
}

fn file(dir: &Path, digest: &str) -> PathBuf {
    dir.join(format!("strips-{}.csv", digest.get(..8).unwrap_or(digest)))
}

/// The strips that `run.toml` names by their digest.
pub(super) fn read(dir: &Path, digest: Option<&str>) -> Result<Vec<Strip>> {
    let Some(digest) = digest else { return Ok(Vec::new()) };
    let path = file(dir, digest);
    let found = files::digest(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let strips: Vec<Strip> = read_csv(&path)?;
    if found != digest || strips.iter().any(|strip| STANDARD.decode(&strip.jpeg).is_err()) {
        bail!("{} is not what run.toml beside it names: put both back as they were", path.display());
    }
    Ok(strips)
}

/// Writes them and returns the file's digest; writes nothing where there are none.
pub(super) fn write(dir: &Path, strips: &[Strip]) -> Result<Option<String>> {
    if strips.is_empty() {
        return Ok(None);
    }
    let bytes = csv_bytes(HEADER, strips)?;
    let digest = files::hex(Sha256::new_with_prefix(&bytes));
    write_atomic(&file(dir, &digest), &bytes)?;
    Ok(Some(digest))
}

/// Removes what `run.toml` named before.
pub(super) fn sweep(dir: &Path, named: Option<&str>) -> Result<()> {
    let keep = named.map(|digest| file(dir, digest));
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("strips-") && name.ends_with(".csv") && Some(&path) != keep.as_ref() {
            fs::remove_file(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_that_the_run_does_not_name_are_not_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let strips = |clip: &str| [Strip { clip: clip.into(), jpeg: "anBlZw==".into() }];
        assert_eq!(write(dir.path(), &[]).unwrap(), None);
        let first = write(dir.path(), &strips("a, \"b\"\n.mpg")).unwrap().unwrap();
        // A kill before run.toml was written leaves both.
        let second = write(dir.path(), &strips("c.mpg")).unwrap().unwrap();
        assert_eq!(read(dir.path(), Some(&first)).unwrap(), strips("a, \"b\"\n.mpg"));
        assert_eq!(read(dir.path(), None).unwrap(), [], "left by something else");
        sweep(dir.path(), Some(&second)).unwrap();
        assert!(read(dir.path(), Some(&first)).is_err());
        assert_eq!(read(dir.path(), Some(&second)).unwrap(), strips("c.mpg"));
        fs::write(file(dir.path(), &second), "clip,jpeg\n").unwrap();
        let error = read(dir.path(), Some(&second)).unwrap_err().to_string();
        assert!(error.contains("is not what run.toml beside it names"), "{error}");
    }
}
