//! SHA-256 as lower-case hexadecimal text.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

use crate::files;
pub use crate::files::hex;

/// Digest of a byte string.
pub fn of_bytes(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hex(hash)
}

/// Digest of a file, read in bounded memory.
pub fn of_file(path: &Path) -> Result<String> {
    files::digest(path).map_err(Error::io("read", path))
}

/// Digest of a file that must be a regular one, or why there is none.
pub(crate) fn of_regular_file(path: &Path) -> std::result::Result<String, String> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => files::digest(path).map_err(|error| format!("cannot be read: {error}")),
        Ok(_) => Err("not a regular file".into()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}
