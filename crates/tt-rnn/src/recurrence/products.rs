//! What the recurrence by operators and CUDA's kernels have in common: the gradient of the weights.

use crate::error::Result;
use candle_core::Tensor;

/// Gradient of `[U | b]`, flat, from that of the pre-activations `d [n, G·H]`: products over all rows.
///
/// `before [n, H]` is the state before each step, and `reset` of a GRU the masked `r∘h` that met `U_c`. `each` gates side
/// by side met the state with the same dropout factors, `factors(first gate) [n, H]`.
pub(super) fn weight_gradient(
    d: &Tensor,
    before: &Tensor,
    reset: Option<&Tensor>,
    each: usize,
    factors: impl Fn(usize) -> Result<Option<Tensor>>,
) -> Result<Tensor> {
    let hidden = before.dim(1)?;
    let gates = d.dim(1)? / hidden;
    let product = |left: &Tensor, first: usize, count: usize| -> Result<Tensor> {
        let d = d.narrow(1, first * hidden, count * hidden)?.contiguous()?;
        Ok(left.t()?.matmul(&d)?) // [H, count·H]
    };
    let on_state = if reset.is_some() { gates - 1 } else { gates };
    let mut blocks = Vec::new();
    for first in (0..on_state).step_by(each) {
        let left = match factors(first)? {
            Some(factors) => (before * factors)?,
            None => before.clone(),
        };
        blocks.push(product(&left, first, each)?);
    }
    if let Some(reset) = reset {
        blocks.push(product(reset, on_state, 1)?);
    }
    let matrix = Tensor::cat(&blocks, 1)?.flatten_all()?;
    Ok(Tensor::cat(&[&matrix, &d.sum(0)?], 0)?)
}
