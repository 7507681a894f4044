//! `video-worker`: the only program of this project that links FFmpeg.
//!
//! Verbs: `decode [MEMORY_BYTES]` (serves requests on stdin until it closes), `render` (writes a part of a
//! rendered sample), `version`.
#![warn(clippy::undocumented_unsafe_blocks)]

use std::io::Write as _;
use std::process::ExitCode;

mod clock;
mod decode;
mod encode;
mod health;
mod log;
mod logmel;
mod open;
mod os;
mod sound;
mod stop;
mod turn;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let result = match arguments.first().and_then(|verb| verb.to_str()) {
        Some("decode") => decode::serve(&arguments[1..]),
        Some("render") => encode::render(&arguments[1..]),
        Some("version") => {
            writeln!(std::io::stdout(), "{}", open::libav()).map_err(|error| error.to_string())
        }
        _ => Err("usage: video-worker decode [MEMORY_BYTES] | render --layout L --out DIR --seed N \
                  [--part I/N] | version"
            .into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // Nothing can be done if stderr is gone, too.
            let _ = writeln!(std::io::stderr(), "video-worker: {reason}");
            ExitCode::FAILURE
        }
    }
}
