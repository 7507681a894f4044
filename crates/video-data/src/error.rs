//! The one error type of this crate.

use std::path::{Path, PathBuf};

/// What can go wrong between a folder of clips and a batch of frames.
///
/// A clip that cannot be decoded is never an `Error`: it is a row of the manifest with its reason.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was being done, as a verb: "read", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The folder does not have the layout of the expected dataset.
    #[error("{} is not a {dataset} folder: {reason}", dir.display())]
    Layout {
        /// Which dataset was looked for.
        dataset: &'static str,
        /// The folder given.
        dir: PathBuf,
        /// What was expected and what was found.
        reason: String,
    },
    /// An official dataset lacks clips, and the caller did not allow that.
    #[error("{dataset} is incomplete: expected {expected} clips, found {found}\n{differences}")]
    Incomplete {
        /// Which dataset.
        dataset: String,
        /// Clips in the official distribution.
        expected: usize,
        /// Clips found.
        found: usize,
        /// One line per difference.
        differences: String,
    },
    /// A file of ours (store, journal, class list) is inconsistent.
    #[error("{}: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A worker process cannot be started or does not speak our protocol.
    #[error("video worker {}: {reason}", program.display())]
    Worker {
        /// The program.
        program: PathBuf,
        /// What went wrong.
        reason: String,
    },
    /// Another process held the lock for too long.
    #[error("{} is being written by another process (waited {waited_s} s)", path.display())]
    Busy {
        /// What is locked.
        path: PathBuf,
        /// How long we waited, in seconds.
        waited_s: u64,
    },
    /// The disk is too full for the frames.
    #[error(
        "not enough disk space at {}: about {} MB needed, {} MB free: free some, and the same command goes on",
        path.display(), need_bytes.div_ceil(1_000_000), free_bytes / 1_000_000
    )]
    Space {
        /// The folder to be written to.
        path: PathBuf,
        /// Bytes needed.
        need_bytes: u64,
        /// Bytes free.
        free_bytes: u64,
    },
    /// A request that makes no sense, such as more folds than clips.
    #[error("{0}")]
    Invalid(String),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Wraps a system error with what was being done to which path.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// An inconsistency in one of our own files.
    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_path_buf(), reason: reason.into() }
    }
}
