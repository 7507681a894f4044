//! Tensor-Train shapes and cores, and the TT layer.

pub mod apply;
pub mod bench;
pub mod buffer;
pub mod cuda;
mod error;
pub mod graft;
pub mod init;
mod layer;
pub mod rng;
mod shape;
pub mod train;

/// The guide's code is run as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/tensor-train.md")]
mod guide {}

pub use error::{Error, Result};
pub use init::CoreInit;
pub use layer::TtLinear;
pub use shape::TtShape;
pub use train::{TtMatrix, TtTensor};
