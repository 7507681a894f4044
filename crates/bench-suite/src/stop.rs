//! The flag that stops training.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

/// Set by signals: stop at the next step with a checkpoint.
pub static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The run was told to stop; a checkpoint was written.
#[derive(Debug, thiserror::Error)]
#[error("stopped by a signal; the next run goes on from the checkpoint")]
pub struct Stopped;
