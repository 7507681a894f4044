//! Full tensors in `f64` whose axes come in any order: what every decomposition but TT-SVD works on.

use super::scale::{norm, norm_or_infinite, tame, times_two_to};
use super::{Core, Scalar, finite, linear, whole};
use crate::{Error, Result};

/// A tensor, row-major over the sizes of its axes.
#[derive(Debug, Clone)]
pub(super) struct Full {
    pub(super) values: Vec<f64>,
    pub(super) sizes: Vec<usize>,
}

impl Full {
    /// A copy in the comfortable range, and the exponent taken out of it.
    pub(super) fn new<T: Scalar>(values: &[T], modes: &[usize]) -> Result<(Self, i64)> {
        whole(values, modes)?;
        let mut values: Vec<f64> = values.iter().map(|value| value.to_f64()).collect();
        let taken = tame(&mut values);
        Ok((Self { values, sizes: modes.to_vec() }, taken))
    }

    /// The Frobenius norm.
    pub(super) fn norm(&self) -> f64 {
        norm_or_infinite(&self.values)
    }

    /// The same tensor with its axes in this order.
    pub(super) fn permuted(self, order: &[usize]) -> Self {
        if order.iter().copied().eq(0..order.len()) {
            return self;
        }
        let mut strides = vec![1; order.len()];
        for axis in (1..order.len()).rev() {
            strides[axis - 1] = strides[axis] * self.sizes[axis];
        }
        let sizes: Vec<usize> = order.iter().map(|axis| self.sizes[*axis]).collect();
        let strides: Vec<usize> = order.iter().map(|axis| strides[*axis]).collect();
        let inner = sizes.len() - 1;
        let mut values = Vec::with_capacity(self.values.len());
        let (mut index, mut base) = (vec![0; inner], 0);
        while values.len() < self.values.len() {
            values.extend((0..sizes[inner]).map(|at| self.values[base + at * strides[inner]]));
            for axis in (0..inner).rev() {
                index[axis] += 1;
                base += strides[axis];
                if index[axis] < sizes[axis] {
                    break;
                }
                base -= strides[axis] * sizes[axis];
                index[axis] = 0;
            }
        }
        Self { values, sizes }
    }

    /// The same tensor with its first axis last: a transposition of the first unfolding.
    pub(super) fn rotated(mut self) -> Self {
        let (first, rest) = self.first_unfolding();
        self.values = transposed((&self.values, first, rest));
        self.sizes.rotate_left(1);
        self
    }

    /// Rows and columns of the unfolding whose rows are the first axis.
    pub(super) fn first_unfolding(&self) -> (usize, usize) {
        let first = self.sizes[0];
        (first, self.values.len() / first)
    }

    /// Contracts the first axis with the rows of `U [n, r]`; r becomes the last axis.
    pub(super) fn contracted(mut self, (matrix, rows, columns): linear::Rows<'_, f64>) -> Self {
        let (first, rest) = self.first_unfolding();
        self.values = linear::product_of_transposed((&self.values, first, rest), (matrix, rows, columns)); // [rest, r]
        self.sizes.rotate_left(1);
        if let Some(last) = self.sizes.last_mut() {
            *last = columns;
        }
        self
    }
}

/// `Aᵀ`, row-major.
pub(super) fn transposed((values, rows, columns): linear::Rows<'_, f64>) -> Vec<f64> {
    /// Rows and columns that stay in a cache meanwhile.
    const TILE: usize = 32;
    let mut out = vec![0.0; values.len()];
    for from_row in (0..rows).step_by(TILE) {
        for from_column in (0..columns).step_by(TILE) {
            for row in from_row..rows.min(from_row + TILE) {
                for column in from_column..columns.min(from_column + TILE) {
                    out[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    out
}

/// A tensor given by a network of cores: an element is a sum of products with one number of each core, or a sum of such
/// terms.
pub trait Decomposed {
    /// The cores; which is what, the type says.
    fn cores(&self) -> Vec<&Core<f64>>;

    /// Modes `n_1 … n_d` of the tensor.
    fn modes(&self) -> Vec<usize>;

    /// The whole tensor, row-major; an element too large for its number type is infinite.
    ///
    /// # Panics
    /// If memory cannot hold the tensor.
    fn reconstruct(&self) -> Vec<f64>;

    /// The distance to a full tensor in the Frobenius norm, relative to that tensor; 0 between tensors of zeros.
    ///
    /// # Cost
    /// That of [`Decomposed::reconstruct`].
    ///
    /// # Errors
    /// [`Error::Size`] for another number of values; [`Error::NotFinite`].
    ///
    /// # Panics
    /// If memory cannot hold the tensor.
    fn relative_error<T: Scalar>(&self, values: &[T]) -> Result<f64> {
        let found = self.reconstruct();
        if found.len() != values.len() {
            return Err(Error::Size {
                what: "tensor",
                expected: format!("{} numbers for modes {:?}", found.len(), self.modes()),
                found: values.len().to_string(),
            });
        }
        finite("tensor", values)?;
        let wide: Vec<f64> = values.iter().map(|value| value.to_f64()).collect();
        let lost: Vec<f64> = found.iter().zip(&wide).map(|(found, value)| found - value).collect();
        let ((wrong, by), (all, of_all)) = (norm(&lost), norm(&wide));
        Ok(if wrong == 0.0 { 0.0 } else { times_two_to(wrong / all, by - of_all) })
    }

    /// Numbers stored.
    fn storage(&self) -> usize {
        self.cores().iter().map(|core| core.values.len()).sum()
    }
}

/// What an iterative decomposition found.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit<F> {
    /// The best of all starts.
    pub found: F,
    /// Its error in the Frobenius norm, relative to the tensor; 0 for a tensor of zeros.
    pub relative_error: f64,
    /// Sweeps that its start took.
    pub sweeps: usize,
    /// Whether the error had stopped changing; otherwise more sweeps would go on.
    pub converged: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_come_in_any_order() {
        let tensor = Full { values: (0..24).map(f64::from).collect(), sizes: vec![2, 3, 4] };
        for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0], [1, 0, 2]] {
            let moved = tensor.clone().permuted(&order);
            let mut at = 0;
            for i in 0..moved.sizes[0] {
                for j in 0..moved.sizes[1] {
                    for k in 0..moved.sizes[2] {
                        let mut index = [0; 3];
                        (index[order[0]], index[order[1]], index[order[2]]) = (i, j, k);
                        assert_eq!(moved.values[at], (index[0] * 12 + index[1] * 4 + index[2]) as f64);
                        at += 1;
                    }
                }
            }
        }
        let rotated = tensor.clone().rotated();
        let moved = tensor.permuted(&[1, 2, 0]);
        assert_eq!((rotated.values, rotated.sizes), (moved.values, moved.sizes));
    }
}
