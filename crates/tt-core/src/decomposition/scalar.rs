//! The number types of trains.

use std::fmt::Display;
use std::iter::Sum;
use std::ops::Neg;

/// `f32` or `f64`.
pub trait Scalar: faer::traits::RealField + Copy + Send + Sync + Neg<Output = Self> + Sum + Display {
    /// Whether squares are summed exactly enough in `f64`, so that Gram matrices lose nothing.
    const SQUARES_FIT: bool;
    /// Norms from `2^-COMFORT` to `2^COMFORT` may be squared, and multiplied in threes.
    const COMFORT: i64;
    /// Norms from `2^-LARGEST` to `2^LARGEST` fit in one core.
    const LARGEST: i64;

    /// The nearest number of this type.
    fn from_f64(value: f64) -> Self;

    /// The same number.
    fn to_f64(self) -> f64;
}

impl Scalar for f32 {
    const SQUARES_FIT: bool = true;
    const COMFORT: i64 = 32;
    const LARGEST: i64 = 100;

    fn from_f64(value: f64) -> Self {
        value as Self
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

impl Scalar for f64 {
    const SQUARES_FIT: bool = false;
    const COMFORT: i64 = 256;
    const LARGEST: i64 = 900;

    fn from_f64(value: f64) -> Self {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }
}
