//! From a matrix to the weights of a format: the decompositions of [`crate::decomposition`], their numbers in the order of
//! the network.

use super::FormatShape;
use crate::decomposition::{Alternating, Core, Fit, pair_modes};
use crate::error::count;
use crate::{Error, Result};

impl FormatShape {
    /// Weights whose matrix is near a row-major `W [M, G·N]`, at the ranks of this shape, and how near; see
    /// [`crate::decomposition`] for what bounds are known. `search` is for those that have none.
    ///
    /// # Cost
    /// That of the decomposition; the matrix in `f64`, three or four times.
    ///
    /// # Errors
    /// [`Error::Size`] for another matrix, [`Error::Shape`] for one that has smaller ranks, and those of the decomposition.
    pub fn decompose(&self, matrix: &[f32], search: &Alternating) -> Result<Fit<Vec<f32>>> {
        let numbers = count("matrix", &[self.network().in_features(), self.network().out_features()])?;
        if matrix.len() != numbers {
            return Err(Error::Size {
                what: "matrix",
                expected: format!("{numbers} numbers for {self}"),
                found: matrix.len().to_string(),
            });
        }
        let Fit { found, relative_error, sweeps, converged } =
            self.format().decompose(self, matrix, search)?;
        if found.len() != self.network().params() {
            return Err(Error::Shape(format!("the matrix has smaller ranks than {self}: ask for no more")));
        }
        let weights: Vec<f32> = found.iter().map(|value| *value as f32).collect();
        if weights.iter().all(|weight| weight.is_finite()) {
            return Ok(Fit { found: weights, relative_error, sweeps, converged });
        }
        Err(Error::Overflow("weight of the decomposed matrix"))
    }

    /// The tensor of the matrix whose modes are pairs `m_k · n_k`.
    pub(super) fn paired(&self, matrix: &[f32]) -> Result<(Vec<f32>, Vec<usize>)> {
        let (inputs, outputs) = (&self.modes.inputs, self.modes.gated());
        let modes = inputs.iter().zip(&outputs).map(|(m, n)| m * n).collect();
        Ok((pair_modes(matrix, inputs, &outputs)?, modes))
    }

    /// The modes of the matrix as the tensor that it is: `m_1 … m_d n_1 … n_e`.
    pub(super) fn split(&self) -> Vec<usize> {
        [&self.modes.inputs[..], &self.modes.gated()].concat()
    }
}

/// Another form of what was found.
pub(super) fn with<A>(fit: Fit<A>, weights: impl FnOnce(&A) -> Vec<f64>) -> Fit<Vec<f64>> {
    let Fit { found, relative_error, sweeps, converged } = fit;
    Fit { found: weights(&found), relative_error, sweeps, converged }
}

/// The numbers of cores, one after the other.
pub(super) fn numbers<'a>(cores: impl IntoIterator<Item = &'a Core<f64>>) -> Vec<f64> {
    cores.into_iter().flat_map(Core::values).copied().collect()
}
