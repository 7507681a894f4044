//! The one error type of this crate.

use std::path::PathBuf;

/// What can go wrong with a recurrent network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A batch without clips, or with a clip that has no frame.
    #[error("empty batch: {0}")]
    Empty(String),
    /// A buffer whose size does not fit the shape.
    #[error("{what}: expected {expected} values, found {found}")]
    Size {
        /// Which buffer.
        what: &'static str,
        /// The number of values that the shape asks for.
        expected: usize,
        /// The number that was given.
        found: usize,
    },
    /// A name that is not in the list of choices.
    #[error("unknown {what} {name:?}: choose one of {choices}")]
    Unknown {
        /// What was being chosen.
        what: &'static str,
        /// The name given.
        name: String,
        /// The valid names.
        choices: &'static str,
    },
    /// Tensors or settings that this operator does not take.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A backward pass without the gradient or the saved activations that it needs.
    #[error("no gradient for {0}: run the forward pass in training mode and one backward pass first")]
    NoGradient(String),
    /// A file that cannot be written or read.
    #[error("cannot use file {}: {reason}{}", path.display(), remedy(reason))]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: std::io::Error,
    },
    /// A model folder that is not whole, or whose parts do not fit each other.
    #[error("cannot use the model in {path}: {reason}")]
    Folder {
        /// The file at fault.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The Tensor Train's own error.
    #[error(transparent)]
    Core(#[from] tt_core::Error),
    /// candle's own error, kept as the source.
    #[error("tensor operation failed")]
    Candle(#[from] candle_core::Error),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Refuses a buffer of the wrong size.
pub(crate) fn check_size(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::Size { what, expected, found }) }
}

fn remedy(reason: &std::io::Error) -> &'static str {
    match reason.kind() {
        std::io::ErrorKind::StorageFull => {
            ": free some space, and the same command goes on from what is finished"
        }
        _ => "",
    }
}
