//! `+`, `-` and `*`. Like candle's, they return a `Result`: `(&a + &b)?`.

use std::fmt;
use std::ops::{Add, Mul, Neg, Sub};

use super::{Scalar, Truncation, TtMatrix, TtTensor};
use crate::Result;

impl<T: Scalar> Add for &TtTensor<T> {
    type Output = Result<TtTensor<T>>;

    /// See [`TtTensor::add`].
    fn add(self, other: Self) -> Self::Output {
        TtTensor::add(self, other)
    }
}

impl<T: Scalar> Sub for &TtTensor<T> {
    type Output = Result<TtTensor<T>>;

    /// See [`TtTensor::sub`].
    fn sub(self, other: Self) -> Self::Output {
        TtTensor::sub(self, other)
    }
}

impl<T: Scalar> Mul for &TtTensor<T> {
    type Output = Result<TtTensor<T>>;

    /// Entry by entry; see [`TtTensor::hadamard`].
    fn mul(self, other: Self) -> Self::Output {
        self.hadamard(other)
    }
}

impl<T: Scalar> Mul<T> for &TtTensor<T> {
    type Output = TtTensor<T>;

    /// See [`TtTensor::scale`].
    fn mul(self, factor: T) -> TtTensor<T> {
        self.scale(factor)
    }
}

impl<T: Scalar> Neg for &TtTensor<T> {
    type Output = TtTensor<T>;

    fn neg(self) -> TtTensor<T> {
        self.scale(T::from_f64(-1.0))
    }
}

impl<T: Scalar> Mul for &TtMatrix<T> {
    type Output = Result<TtMatrix<T>>;

    /// See [`TtMatrix::multiply`].
    fn mul(self, other: Self) -> Self::Output {
        self.multiply(other)
    }
}

impl<T: Scalar> fmt::Display for TtTensor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "train of modes {:?} and ranks {:?}: {} numbers",
            self.modes(),
            self.ranks(),
            self.storage()
        )
    }
}

impl<T: Scalar> fmt::Display for TtMatrix<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (modes, train) = ((self.input_modes(), self.output_modes()), self.train());
        write!(f, "matrix of modes {:?} x {:?} and ranks {:?}", modes.0, modes.1, train.ranks())?;
        write!(f, ": {} numbers", train.storage())
    }
}

impl fmt::Display for Truncation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RelativeError(error) => write!(f, "relative error {error:e}"),
            Self::Ranks(ranks) => write!(f, "ranks {ranks:?}"),
        }
    }
}
