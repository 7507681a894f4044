//! Devices: their names, opening one, and feeding it frames.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "engine")]
mod feed;
pub(crate) mod name;
#[cfg(feature = "engine")]
mod open;

#[cfg(feature = "engine")]
pub use feed::Feed;
pub use name::{CardUse, DeviceName, NotOffered, Precision, UnknownName};
#[cfg(feature = "engine")]
pub use open::{Opened, open};
