//! File names as text without loss: any name survives a round trip through CSV.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

/// Writes a path as printable UTF-8: a backslash as `\\`, control and non-UTF-8 bytes as `\xNN`.
///
/// # Examples
/// ```
/// # use std::path::Path;
/// assert_eq!(video_data::name::escape(Path::new("a\nb.mpg")), r"a\x0Ab.mpg");
/// ```
pub fn escape(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\\' => text.push_str(r"\\"),
                _ if letter.is_control() => {
                    let mut bytes = [0; 4];
                    for byte in letter.encode_utf8(&mut bytes).bytes() {
                        push_hex(&mut text, byte);
                    }
                }
                _ => text.push(letter),
            }
        }
        for byte in chunk.invalid() {
            push_hex(&mut text, *byte);
        }
    }
    text
}

fn push_hex(text: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(text, "\\x{byte:02X}");
}

/// The path that was given to [`escape`], or `None` for text it cannot have written.
pub fn unescape(text: &str) -> Option<OsString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'\\' {
            bytes.push(*first);
            continue;
        }
        match rest {
            [b'\\', tail @ ..] => {
                bytes.push(b'\\');
                rest = tail;
            }
            [b'x', high, low, tail @ ..] => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                rest = tail;
            }
            _ => return None,
        }
    }
    Some(OsString::from_vec(bytes))
}

/// A single name for messages, escaped.
pub(crate) fn show(name: &OsStr) -> String {
    escape(Path::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_survive(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let path = OsString::from_vec(bytes);
            let text = escape(Path::new(&path));
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(unescape(&text), Some(path));
        }
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in [r"\", r"\x1", r"\xZZ", r"\q"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }
}
