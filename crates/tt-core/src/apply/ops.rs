//! The TT layer in candle tensor operations: any device, any floating-point type, differentiable.
//!
//! Neighbouring cores are multiplied first (the last with the second to last, and so on): the train becomes
//! half as long with larger matrices, which suits candle's matmul far better than the cheapest order.

use candle_core::{DType, Tensor};

use super::{Affine, check};
use crate::{Error, Result, TtShape};

/// `y = (scale * x + shift) W`.
///
/// # Shapes
/// `x [n, M]` in u8 or the type of the cores, `cores [L]`, result `[n, N]` in the type of the cores.
///
/// # Errors
/// [`Error::Size`] if the tensors do not fit the shape or there is no row.
pub fn forward(shape: &TtShape, affine: Affine, x: &Tensor, cores: &Tensor) -> Result<Tensor> {
    check("cores", cores.elem_count(), shape.params())?;
    let rows = match x.dims() {
        [rows, columns] if *rows > 0 && *columns == shape.in_features() => *rows,
        other => {
            return Err(Error::Size {
                what: "rows",
                expected: format!("[n >= 1, {}]", shape.in_features()),
                found: format!("{other:?}"),
            });
        }
    };
    let x = if x.dtype() == DType::U8 { x.to_dtype(cores.dtype())? } else { x.clone() };
    let x = if affine == Affine::IDENTITY {
        x
    } else {
        x.affine(f64::from(affine.scale), f64::from(affine.shift))?
    };
    let mut y = x;
    for pair in pairs(shape, cores)?.iter().rev() {
        let (m_r, r_n) = pair.matrix.dims2()?;
        y = y.reshape(((), m_r))?.contiguous()?; // [j_{k+1} … j_d · n · i_1 … i_{k-1}, m_k r_k]
        y = y.matmul(&pair.matrix)?; // [.., r_{k-1} n_k]
        y = y.reshape((y.elem_count() / pair.output, pair.output))?.t()?.contiguous()?; // [n_k, .. r_{k-1}]
        debug_assert_eq!(r_n % pair.output, 0);
    }
    Ok(y.reshape((shape.out_features(), rows))?.t()?.contiguous()?) // [n, N]
}

/// A core of the shortened train, as a matrix `[m r_right, r_left n]`, and its output mode n.
struct Core {
    matrix: Tensor,
    output: usize,
}

/// The cores multiplied pairwise from the end, first core first.
fn pairs(shape: &TtShape, cores: &Tensor) -> Result<Vec<Core>> {
    let matrix = |k: usize| -> Result<Tensor> {
        let len = shape.core_len(k);
        Ok(cores.flatten_all()?.narrow(0, shape.core_offset(k), len)?.reshape(shape.core_matrix(k))?)
    };
    let mut merged = Vec::new();
    let mut end = shape.order();
    while end > 0 {
        if end == 1 {
            merged.push(Core { matrix: matrix(0)?, output: shape.output_mode(0) });
            break;
        }
        let (k, l) = (end - 2, end - 1);
        let (m, n, r) = (shape.input_modes(), [shape.output_mode(k), shape.output_mode(l)], shape.ranks());
        let left = matrix(k)?.reshape((m[k], r[l], r[k] * n[0]))?; // [m_k, r_l, r_k n_k]
        let left = left.permute((0, 2, 1))?.reshape((m[k] * r[k] * n[0], r[l]))?; // [m_k r_k n_k, r_l]
        let right = matrix(l)?.reshape((m[l] * r[end], r[l], n[1]))?; // [m_l r_end, r_l, n_l]
        let right = right.permute((1, 0, 2))?.reshape((r[l], m[l] * r[end] * n[1]))?; // [r_l, m_l r_end n_l]
        let both = left.contiguous()?.matmul(&right.contiguous()?)?;
        let both = both.reshape((m[k], r[k] * n[0], m[l] * r[end], n[1]))?.permute((0, 2, 1, 3))?;
        let matrix = both.reshape((m[k] * m[l] * r[end], r[k] * n[0] * n[1]))?.contiguous()?;
        merged.push(Core { matrix, output: n[0] * n[1] });
        end = k;
    }
    merged.reverse();
    Ok(merged)
}
