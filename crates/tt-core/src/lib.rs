//! Tensor-Train shapes and cores, decomposition, and the TT layer.
//!
//! Feature `candle` (on by default) brings the layers for candle models, `tt_linear`, `tt_conv2d` and `cp_conv2d`, and conversions to candle's
//! tensors; without it, decomposition and the CPU kernel remain. Feature `serde` (on by default) makes shapes and trains
//! serializable.
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod apply;
#[doc(hidden)]
pub mod bench;
#[cfg(feature = "candle")]
mod convolution;
#[cfg(feature = "candle")]
#[doc(hidden)]
pub mod cuda;
pub mod decomposition;
mod digits;
mod error;
#[cfg(feature = "candle")]
#[doc(hidden)]
pub mod graft;
pub mod init;
#[cfg(feature = "candle")]
mod layer;
#[cfg(feature = "candle")]
mod module;
pub mod network;
mod precision;
pub mod rng;
mod shape;
#[doc(hidden)]
pub mod simd;

/// The code of the guide and of the README is run as tests.
#[cfg(all(doctest, feature = "candle"))]
mod guide {
    #[doc = include_str!("../../../docs/tensor-train.md")]
    mod guide {}
    #[doc = include_str!("../README.md")]
    mod readme {}
}

#[cfg(feature = "candle")]
pub use convolution::{CpConv2d, TtConv2d, cp_conv2d, tt_conv2d};
pub use decomposition::{TtMatrix, TtTensor};
pub use error::{Error, Result};
pub use init::CoreInit;
#[cfg(feature = "candle")]
pub use layer::TtOperator;
#[cfg(feature = "candle")]
pub use module::{TtLinear, tt_linear, tt_linear_no_bias};
pub use shape::TtShape;
