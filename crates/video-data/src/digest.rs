//! SHA-256 as lower-case hexadecimal text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::{Error, Result};

/// The hexadecimal text of a finished hash.
pub fn hex(hash: Sha256) -> String {
    use std::fmt::Write as _;
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Digest of a byte string.
pub fn of_bytes(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hex(hash)
}

/// Digest of a file, read in bounded memory.
pub fn of_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io("read", path))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if n == 0 {
            return Ok(hex(hash));
        }
        hash.update(&buffer[..n]);
    }
}

/// Digest of a file that must be a regular one, or why there is none.
pub(crate) fn of_regular_file(path: &Path) -> std::result::Result<String, String> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => of_file(path).map_err(|error| match error {
            Error::Io { source, .. } => format!("cannot be read: {source}"),
            other => other.to_string(),
        }),
        Ok(_) => Err("not a regular file".into()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}
