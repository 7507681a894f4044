//! To and from the packed cores of a layer.

use super::{Core, TtMatrix, TtTensor};
use crate::{Error, Result, TtShape};

impl TtMatrix<f32> {
    /// The shape and packed cores of the layer that computes `x · W`; see [`TtShape`] for the layout.
    ///
    /// # Errors
    /// As [`TtShape::new`].
    pub fn to_layer(&self) -> Result<(TtShape, Vec<f32>)> {
        let ranks = self.train().ranks();
        let shape = TtShape::new(self.input_modes(), self.output_modes(), &ranks, 1)?;
        let mut packed = vec![0.0; shape.params()];
        for (k, core) in self.train().cores().iter().enumerate() {
            for (at, value) in core.values.iter().enumerate() {
                packed[packed_at(&shape, k, at)] = *value;
            }
        }
        Ok((shape, packed))
    }

    /// The matrix that a layer of packed cores computes; the gate factor stays in the first output mode.
    ///
    /// # Errors
    /// [`Error::Size`] for the wrong number of weights, [`Error::NotFinite`].
    pub fn from_layer(shape: &TtShape, packed: &[f32]) -> Result<Self> {
        if packed.len() != shape.params() {
            return Err(Error::Size {
                what: "cores",
                expected: shape.params().to_string(),
                found: packed.len().to_string(),
            });
        }
        let outputs: Vec<usize> = (0..shape.order()).map(|k| shape.output_mode(k)).collect();
        let core = |k: usize| {
            let values = (0..shape.core_len(k)).map(|at| packed[packed_at(shape, k, at)]).collect();
            Core::new(shape.ranks()[k], shape.input_modes()[k] * outputs[k], shape.ranks()[k + 1], values)
        };
        let train = TtTensor::new((0..shape.order()).map(core).collect::<Result<_>>()?)?;
        Self::new(train, shape.input_modes(), &outputs)
    }
}

/// Where number `at` of core `k`, `[r_{k-1}, m_k, n_k, r_k]`, lies in a layer's flat vector.
fn packed_at(shape: &TtShape, k: usize, at: usize) -> usize {
    let (n, right) = (shape.output_mode(k), shape.ranks()[k + 1]);
    let (b, j) = (at % right, at / right % n);
    let (i, a) = (at / right / n % shape.input_modes()[k], at / right / n / shape.input_modes()[k]);
    shape.core_offset(k) + (i * right + b) * shape.core_matrix(k).1 + a * n + j
}
