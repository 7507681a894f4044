//! Texts for people.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use bench_suite::files;
pub(crate) use bench_suite::text::{bytes, columns, seconds, thousands};
use sha2::{Digest, Sha256};

/// The first eight hexadecimal digits of a text's SHA-256, where names alone do not tell two folders apart.
pub(crate) fn short_digest(text: &str) -> String {
    let mut hash = files::hex(Sha256::new().chain_update(text));
    hash.truncate(8);
    hash
}

/// `a, b`, each name once, or `none`.
pub(crate) fn listed(mut names: Vec<String>) -> String {
    names.sort();
    names.dedup();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A text in which nothing moves a terminal's cursor.
pub(crate) fn visible(text: &str) -> String {
    let one = |letter: char| {
        if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
    };
    text.chars().map(one).collect()
}

/// Writes to standard output; a reader that has seen enough (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
