//! The folder in which an archive is unpacked before its clips are put in place.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest;
use crate::error::{Error, Result};
use crate::store::lock;

/// Suffix of every such folder's name, after that of the clips' folder.
const MARK: &str = ".unpacking";

/// A folder beside the clips' own, bound to one archive: its name holds the archive's digest. An import of
/// the same archive continues what a failed or killed one left there; an import of another archive removes
/// it.
///
/// One process at a time unpacks for a folder; the lock ends with the value.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    _lock: File,
}

impl Staging {
    /// Locks and prepares the folder in which `archive` is unpacked before it is renamed to `folder`.
    ///
    /// # Errors
    /// [`Error::Busy`] while another process unpacks for `folder`, [`Error::Io`].
    pub fn open(archive: &Path, folder: &Path) -> Result<Self> {
        let lock = lock(&folder.with_added_extension("unpacking.lock"), Duration::from_secs(2))?;
        let digest = digest::of_file(archive)?;
        let dir = folder.with_added_extension(format!("{}-{}", &MARK[1..], &digest[..12]));
        for left in Self::leftovers(folder)? {
            if left != dir && left.is_dir() {
                tracing::warn!("removing {}: another archive's import left it", left.display());
                fs::remove_dir_all(&left).map_err(Error::io("remove", &left))?;
            }
        }
        Ok(Self { dir, _lock: lock })
    }

    /// The folder to unpack in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Everything that archive imports left beside `folder`, including the lock file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn leftovers(folder: &Path) -> Result<Vec<PathBuf>> {
        let (Some(parent), Some(name)) = (folder.parent(), folder.file_name()) else { return Ok(Vec::new()) };
        let mut start = name.to_owned();
        start.push(MARK);
        let mut found = Vec::new();
        if parent.is_dir() {
            for entry in fs::read_dir(parent).map_err(Error::io("list", parent))? {
                let entry = entry.map_err(Error::io("list", parent))?;
                if entry.file_name().as_encoded_bytes().starts_with(start.as_encoded_bytes()) {
                    found.push(entry.path());
                }
            }
        }
        found.sort();
        Ok(found)
    }
}
