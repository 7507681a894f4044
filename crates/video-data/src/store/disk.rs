//! Free space, locks, and files that survive a crash.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// Bytes that an ordinary user can still write below `dir`.
#[expect(unsafe_code, reason = "statvfs has no safe form in std")]
pub(crate) fn free_bytes(dir: &Path) -> Result<u64> {
    let fail = |error| Error::io("ask for free space of", dir)(error);
    let path = CString::new(dir.as_os_str().as_bytes()).map_err(|error| fail(error.into()))?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `path` is NUL-terminated and `stat` has room for what the call writes.
    if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return Err(fail(std::io::Error::last_os_error()));
    }
    // SAFETY: the call succeeded, so it filled `stat`.
    let stat = unsafe { stat.assume_init() };
    #[cfg_attr(target_os = "linux", expect(clippy::useless_conversion, reason = "narrower on other systems"))]
    Ok(u64::from(stat.f_bavail).saturating_mul(u64::from(stat.f_frsize)))
}

/// Locks the file at `path` for this process; the lock ends with the value, or with the process.
///
/// A lock whose owner was killed is free at once, because the system holds it.
///
/// # Errors
/// [`Error::Busy`] when a living process holds it for longer than `wait`.
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

/// Writes a file so that after a crash there is the old one or the new one, whole.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = temporary(path);
    let mut file = File::create(&temporary).map_err(Error::io("create", &temporary))?;
    file.write_all(bytes).map_err(Error::io("write", &temporary))?;
    file.sync_all().map_err(Error::io("sync", &temporary))?;
    fs::rename(&temporary, path).map_err(Error::io("rename", &temporary))?;
    sync_folder(path.parent().unwrap_or(path))
}

/// The name that [`write_whole`] writes to first.
pub(crate) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// Makes the entries of a folder last.
pub(crate) fn sync_folder(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::io("sync", dir))
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
