//! Free space, locks and atomic writes, with this crate's errors.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::files;

pub(crate) use crate::files::temporary;

/// Bytes that an ordinary user can still write below `dir`.
pub(crate) fn free_bytes(dir: &Path) -> Result<u64> {
    files::free_bytes(dir).map_err(Error::io("ask for free space of", dir))
}

/// Locks the file at `path`; dropping the value or ending the process unlocks it.
///
/// The system holds the lock, so a killed owner's is free at once.
///
/// # Errors
/// [`Error::Busy`] if a live process holds it for longer than `wait`.
pub(crate) fn lock(path: &Path, wait: Duration) -> Result<File> {
    let mut options = OpenOptions::new();
    let file =
        options.write(true).create(true).truncate(false).open(path).map_err(Error::io("create", path))?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < wait => {
                std::thread::sleep(Duration::from_millis(50).min(wait));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(Error::Busy { path: path.to_path_buf(), waited_s: wait.as_secs() });
            }
            Err(TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
        }
    }
}

/// Writes a file atomically.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    files::write(path, bytes).map_err(Error::io("write", path))
}

/// Syncs the entries of a folder.
pub(crate) fn sync_folder(dir: &Path) -> Result<()> {
    files::sync_folder(dir).map_err(Error::io("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_once_and_freed_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path, Duration::ZERO).unwrap();
        assert!(matches!(lock(&path, Duration::from_millis(60)), Err(Error::Busy { .. })));
        drop(held);
        assert!(lock(&path, Duration::ZERO).is_ok());
    }
}
