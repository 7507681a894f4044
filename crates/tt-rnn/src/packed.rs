//! Packed rows `[sum T_b, N]` of clips, clip by clip: what compositions of layers need.

use crate::Result;
use candle_core::Tensor;

/// Every clip back to front: before and after a layer, the other half of a bidirectional one.
///
/// # Errors
/// Lengths that do not add up to the rows.
pub fn reverse(rows: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    crate::error::check_size("rows of the clips", lengths.iter().sum(), rows.dim(0)?)?;
    let mut from = Vec::with_capacity(rows.dim(0)?);
    let mut end = 0;
    for length in lengths {
        end += length;
        from.extend((end - length..end).rev().map(|row| row as u32));
    }
    Ok(rows.index_select(&Tensor::new(from, rows.device())?, 0)?)
}

/// The mean row of every clip, `[B, N]`.
///
/// # Errors
/// Lengths that do not add up to the rows, or are zero.
pub fn mean(rows: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    crate::error::check_size("rows of the clips", lengths.iter().sum(), rows.dim(0)?)?;
    let mut means = Vec::with_capacity(lengths.len());
    let mut start = 0;
    for length in lengths {
        means.push(rows.narrow(0, start, *length)?.mean_keepdim(0)?); // [1, N]
        start += length;
    }
    Ok(Tensor::cat(&means, 0)?)
}
