//! Why a clip ended early.

use std::io;

/// The pipe broke (end the worker) or the clip is bad (report it).
pub(crate) enum Stop {
    Pipe(io::Error),
    Clip(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Pipe(error)
    }
}
