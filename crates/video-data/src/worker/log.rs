//! libav's log lines of the current clip, kept as flags.
#![expect(unsafe_code, reason = "av_log_set_callback is C; the callback reads one C string")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Mutex, PoisonError};

use ffmpeg_next::ffi;

/// What libav said about one clip.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Lines at level error or worse.
    pub(crate) errors: u64,
    /// Lines at level warning.
    pub(crate) warnings: u64,
    /// The first error lines, each once, numbers left out.
    pub(crate) texts: Vec<String>,
}

static LINES: Mutex<Lines> = Mutex::new(Lines { errors: 0, warnings: 0, texts: Vec::new() });
/// Different error lines kept for one clip.
const KEPT: usize = 2;

/// Sends libav's log here, for the whole process.
pub(crate) fn capture() {
    // SAFETY: `on_line` has the C signature that libav expects, is valid for the life of the process and may run on any
    // thread. Its last
    // parameter, a `va_list`, is passed in one register on every platform and never looked at.
    unsafe {
        ffi::av_log_set_callback(Some(on_line));
    }
}

/// Takes the lines of the clip that just ended.
pub(crate) fn take() -> Lines {
    std::mem::take(&mut *LINES.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Counts one line. `V` is the platform's `va_list`: the format string alone says enough, and stays the same
/// from run to run, which addresses and offsets would not.
unsafe extern "C" fn on_line<V>(_: *mut c_void, level: c_int, format: *const c_char, _: V) {
    if level > ffi::AV_LOG_WARNING || format.is_null() {
        return;
    }
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    if level > ffi::AV_LOG_ERROR {
        lines.warnings += 1;
        return;
    }
    lines.errors += 1;
    if lines.texts.len() < KEPT {
        // SAFETY: libav passes a NUL-terminated format string that outlives this call.
        let text = plain(&unsafe { CStr::from_ptr(format) }.to_string_lossy());
        if text.len() > 2 && !lines.texts.contains(&text) {
            lines.texts.push(text);
        }
    }
}

/// A printf format with its conversions replaced by `_`.
fn plain(format: &str) -> String {
    let mut text = String::new();
    let mut letters = format.trim().chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
        } else if letters.next_if_eq(&'%').is_some() {
            text.push('%');
        } else {
            text.push('_');
            // Flags, width and length modifiers come before the letter that ends the conversion.
            while letters.next_if(|c| "0123456789.-+ #*hlzjt".contains(*c)).is_some() {}
            letters.next();
        }
    }
    text.retain(|letter| !letter.is_control());
    text
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn conversions_are_left_out() {
        assert_eq!(plain("ac-tex damaged at %d %d\n"), "ac-tex damaged at _ _");
        assert_eq!(plain("100%% of %-8.3lf and 0x%016lx"), "100% of _ and 0x_");
    }
}
