//! Recurrent networks whose input projection is dense or a Tensor Train, on candle.
//!
//! Start with [`models::MODELS`]; [`layer`] is the one operator that all recurrent models run through;
//! [`load()`] reads a trained model from a folder.
#![warn(clippy::undocumented_unsafe_blocks)]

pub mod adam;
mod call;
pub mod checkpoint;
mod config;
#[doc(hidden)]
pub mod dense;
pub mod encoder;
mod error;
pub mod folder;
pub mod frames;
mod gradient;
pub mod layer;
pub mod lite0;
mod mask;
pub mod models;
pub mod onnx;
pub mod packed;
pub mod parameters;
pub mod projection;
pub mod rates;
pub mod recurrence;
mod row;
mod sink;
mod storage;

/// The README's code is run as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

pub use error::{Error, Result};
pub use folder::load;
