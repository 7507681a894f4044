//! Writing files atomically, their digests, and free disk space.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

/// The temporary name of a file that only the holder of a lock writes: its own with `.tmp`. The next holder
/// finds what a killed one left there.
pub fn temporary(path: &Path) -> PathBuf {
    path.with_added_extension("tmp")
}

/// A temporary name that is unique per call and process.
fn unique(path: &Path) -> PathBuf {
    static CALLS: AtomicU64 = AtomicU64::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    path.with_added_extension(format!("{}-{call}.tmp", std::process::id()))
}

/// Creates or replaces a file atomically: `make` writes it under a temporary name, then it is
/// [settled](settle). A crash leaves the old file or the new one, never a part. Of two concurrent writers,
/// the last one wins.
///
/// # Errors
/// Those of `make` and of the system; the temporary file is removed.
pub fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let temporary = unique(path);
    let made = make(&temporary).and_then(|()| settle(&temporary, path));
    if made.is_err() {
        // A partial file only wastes space; the error says what failed.
        let _ = fs::remove_file(&temporary);
    }
    made
}

/// Removes a folder and what is in it; one that is not there is no error.
///
/// # Errors
/// Those of the system.
pub fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Gives a complete temporary file its final name: syncs it, renames it, syncs its folder.
///
/// # Errors
/// Those of the system.
pub fn settle(temporary: &Path, path: &Path) -> io::Result<()> {
    File::open(temporary)?.sync_all()?;
    fs::rename(temporary, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    sync_folder(folder.unwrap_or(Path::new(".")))
}

/// Writes a file atomically.
///
/// # Errors
/// As [`replace`].
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, |temporary| fs::write(temporary, bytes))
}

/// Syncs the entries of a folder.
///
/// # Errors
/// Those of the system.
pub fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// SHA-256 of a file as hexadecimal text, read in bounded memory.
///
/// # Errors
/// Those of the system.
pub fn digest(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut block) = (File::open(path)?, Sha256::new(), vec![0; 1 << 17]);
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex(hash)),
            count => hash.update(&block[..count]),
        }
    }
}

/// A hash as hexadecimal text.
pub fn hex(hash: Sha256) -> String {
    use std::fmt::Write as _;
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes that an ordinary user can still write below `dir`.
///
/// # Errors
/// Those of the system.
pub fn free_bytes(dir: &Path) -> io::Result<u64> {
    let room = rustix::fs::statvfs(dir)?;
    Ok(room.f_bavail.saturating_mul(room.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        write(&path, b"old").unwrap();
        let failed = replace(&path, |temporary| {
            fs::write(temporary, b"half")?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_writers_of_one_file_both_succeed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::thread::scope(|scope| {
            for byte in *b"ab" {
                let path = &path;
                scope.spawn(move || (0..200).for_each(|_| write(path, &[byte; 4096]).unwrap()));
            }
        });
        let found = fs::read(&path).unwrap();
        assert!(found == [b'a'; 4096] || found == [b'b'; 4096]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_digest_is_that_of_sha256sum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        write(&path, b"abc").unwrap();
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(&path).unwrap(), known);
    }

    #[test]
    fn there_is_as_much_room_as_df_says() {
        let dir = tempfile::tempdir().unwrap();
        let output = std::process::Command::new("df").arg("-Pk").arg(dir.path()).output().unwrap();
        let table = String::from_utf8(output.stdout).unwrap();
        let kib: u64 = table.lines().nth(1).unwrap().split_whitespace().nth(3).unwrap().parse().unwrap();
        // Others write meanwhile.
        let free = free_bytes(dir.path()).unwrap() >> 20;
        assert!(free.abs_diff(kib >> 10) < 2_000, "{free} MiB, df says {}", kib >> 10);
    }
}
