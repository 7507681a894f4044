//! Devices: their names, opening one, and feeding it frames.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "engine")]
mod feed;
#[cfg(feature = "engine")]
mod open;

pub use crate::device_name::{CardUse, DeviceName, NotOffered, Precision, UnknownName};
#[cfg(feature = "engine")]
pub use feed::Feed;
#[cfg(feature = "engine")]
pub use open::{Opened, open};
