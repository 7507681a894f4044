//! Packed rows `[sum T_b, N]` of clips, clip by clip: what compositions of layers need.

use crate::error::check_size;
use crate::{Error, Result};
use candle_core::Tensor;

/// Every clip back to front: before and after a layer, the other half of a bidirectional one.
///
/// # Errors
/// Lengths that do not add up to the rows.
pub fn reverse(rows: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    check_size("rows of the clips", lengths.iter().sum(), rows.dim(0)?)?;
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
    check(rows, lengths)?;
    let (device, clips) = (rows.device(), lengths.len());
    let clip_of_row: Vec<u32> =
        (0..).zip(lengths).flat_map(|(clip, length)| std::iter::repeat_n(clip, *length)).collect();
    let sums = Tensor::zeros((clips, rows.dim(1)?), rows.dtype(), device)?;
    let sums = sums.index_add(&Tensor::new(clip_of_row, device)?, rows, 0)?; // [B, N]
    let shares = lengths.iter().map(|length| 1.0 / *length as f32).collect();
    Ok(sums.broadcast_mul(&Tensor::from_vec(shares, (clips, 1), device)?.to_dtype(rows.dtype())?)?)
}

/// The largest value of every column over the rows of a clip, `[B, N]`: of equal ones the first, which alone has the
/// gradient.
///
/// # Errors
/// Lengths that do not add up to the rows, or are zero.
pub fn max(rows: &Tensor, lengths: &[usize]) -> Result<Tensor> {
    check(rows, lengths)?;
    let values = rows.detach();
    let mut places = Vec::with_capacity(lengths.len());
    let mut start = 0;
    for length in lengths {
        let place = values.narrow(0, start, *length)?.argmax_keepdim(0)?; // [1, N]
        places.push((place + start as f64)?);
        start += length;
    }
    Ok(rows.gather(&Tensor::cat(&places, 0)?, 0)?)
}

fn check(rows: &Tensor, lengths: &[usize]) -> Result<()> {
    if lengths.is_empty() {
        return Err(Error::Empty("it has no clips".into()));
    }
    if let Some(clip) = lengths.iter().position(|length| *length == 0) {
        return Err(Error::Empty(format!("clip {clip} has no frames")));
    }
    check_size("rows of the clips", lengths.iter().sum(), rows.dim(0)?)
}
