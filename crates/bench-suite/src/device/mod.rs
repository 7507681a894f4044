//! Devices: their names, opening one, and feeding it frames.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "engine")]
mod feed;
#[cfg(feature = "engine")]
mod open;
#[cfg(any(feature = "cuda", all(test, feature = "engine")))]
mod rows;

pub use crate::device_name::{CardUse, DeviceName, NotOffered, Precision, UnknownName};
#[cfg(feature = "engine")]
pub use feed::Feed;
#[cfg(feature = "engine")]
pub(crate) use feed::gathered;
#[cfg(feature = "engine")]
pub use open::{Opened, open};

/// Says which kernel gave up where the driver only knows that one did; every other error stays as it is.
#[cfg(feature = "engine")]
pub fn explain(error: anyhow::Error) -> anyhow::Error {
    #[cfg(feature = "cuda")]
    if let Some(stalled) = tt_core::cuda::launch::stalled() {
        return error.context(stalled);
    }
    error
}
