//! Devices by name, in one place: which there are, how one is opened, and what training took of it.

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
