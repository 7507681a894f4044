//! Recurrent networks whose input projection is dense or a Tensor Train.

pub mod adam;
pub mod dense;
pub mod error;
pub mod recurrence;
pub mod simd;

pub use error::{Error, Result};
