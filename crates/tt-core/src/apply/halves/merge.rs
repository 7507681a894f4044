//! The two halves from the cores, in candle operators: small, and differentiable.

use candle_core::Tensor;

use super::Cut;
use crate::{Result, TtShape};

/// Core `k` as `[m_k, r_{k+1}, r_k, n_k]`.
fn core(shape: &TtShape, cores: &Tensor, k: usize) -> Result<Tensor> {
    let flat = cores.flatten_all()?.narrow(0, shape.core_offset(k), shape.core_len(k))?;
    let (ranks, modes) = (shape.ranks(), shape.input_modes());
    Ok(flat.reshape((modes[k], ranks[k + 1], ranks[k], shape.output_mode(k)))?)
}

/// The right half `[M_R, r N_R]`, columns `(a, j)`.
pub(super) fn right(shape: &TtShape, cut: &Cut, cores: &Tensor) -> Result<Tensor> {
    let ranks = shape.ranks();
    let mut half = Tensor::ones((1, 1, 1), cores.dtype(), cores.device())?; // [I, a, J]
    for k in (cut.bond..shape.order()).rev() {
        let (inputs, _, outputs) = half.dims3()?;
        let (m, n) = (shape.input_modes()[k], shape.output_mode(k));
        let core = core(shape, cores, k)?.permute((0, 2, 3, 1))?.reshape((m * ranks[k] * n, ranks[k + 1]))?;
        let rest = half.transpose(0, 1)?.reshape((ranks[k + 1], inputs * outputs))?;
        let product = core.contiguous()?.matmul(&rest.contiguous()?)?; // [i a' j, I J]
        let product = product.reshape((m, ranks[k] * n, inputs, outputs))?.transpose(1, 2)?;
        half = product.reshape((m * inputs, ranks[k], n * outputs))?; // [i I, a', j J]
    }
    Ok(half.reshape((cut.right_inputs, cut.right_columns()))?.contiguous()?)
}

/// The left half `[r, N_L, M_L]`.
pub(super) fn left(shape: &TtShape, cut: &Cut, cores: &Tensor) -> Result<Tensor> {
    let ranks = shape.ranks();
    let mut half = Tensor::ones((1, 1, 1), cores.dtype(), cores.device())?; // [a, J, I]
    for k in 0..cut.bond {
        let (_, outputs, inputs) = half.dims3()?;
        let (m, n) = (shape.input_modes()[k], shape.output_mode(k));
        let rest = half.reshape((ranks[k], outputs * inputs))?.t()?; // [J I, a]
        let core = core(shape, cores, k)?.permute((2, 1, 3, 0))?.reshape((ranks[k], ranks[k + 1] * n * m))?;
        let product = rest.contiguous()?.matmul(&core.contiguous()?)?; // [J I, a' j i]
        let product =
            product.reshape(&[outputs, inputs, ranks[k + 1], n, m][..])?.permute([2, 0, 3, 1, 4])?;
        half = product.reshape((ranks[k + 1], outputs * n, inputs * m))?; // [a', J j, I i]
    }
    Ok(half.contiguous()?)
}

/// What a row of ones gives, `[N]`.
pub(super) fn ones(cut: &Cut, right: &Tensor, left: &Tensor) -> Result<Tensor> {
    let right = right.sum(0)?.reshape((cut.rank, cut.right_outputs))?;
    let left = left.sum(2)?.t()?; // [N_L, r]
    Ok(left.contiguous()?.matmul(&right)?.reshape(cut.outputs())?)
}
