//! The dense projection by candle's operators: any device.
//!
//! One clip's frames are f32 at a time. The gradient is written by hand: candle's own would also compute that of the
//! pixels, a product as large as the layer's, and throw it away.

use super::InputMask;
use crate::error::{Result, check_size};
use candle_core::{DType, Tensor};
use std::sync::Arc;
use tt_core::apply::Affine;
use tt_core::graft::graft1;

/// `y = (scale · rows + shift) W`, `[n, N]`; with a mask, gate block g sees the rows masked for g.
///
/// # Shapes
/// `rows [sum T_b, M]` in u8 or f32, without a gradient of their own; `weights [M, N]`; `lengths` are T_b.
///
/// # Cost
/// Beside the products, one clip in f32 (with a mask, twice).
///
/// # Errors
/// Sizes that do not fit.
pub fn forward(
    rows: &Tensor,
    affine: Affine,
    weights: &Tensor,
    lengths: &[usize],
    mask: Option<&InputMask<'_>>,
    train: bool,
) -> Result<Tensor> {
    check_size("rows", lengths.iter().sum(), rows.dim(0)?)?;
    let gates = mask.map_or(1, |mask| mask.gates);
    let block = weights.dim(1)? / gates;
    let mut masks = Vec::new();
    for clip in 0..lengths.len() {
        masks.push(mask.map(|mask| clip_masks(mask, clip, rows)).transpose()?.unwrap_or_default());
    }
    let frames = Arc::new(Frames { rows: rows.clone(), affine, lengths: lengths.to_vec(), masks });
    let detached = weights.detach();
    let mut parts = Vec::with_capacity(lengths.len());
    for clip in 0..lengths.len() {
        let rows = frames.clip(clip)?;
        let mut columns = Vec::with_capacity(gates);
        for gate in 0..gates {
            let w = detached.narrow(1, gate * block, block)?.contiguous()?;
            columns.push(frames.masked(&rows, clip, gate)?.matmul(&w)?); // [T_b, N / gates]
        }
        parts.push(Tensor::cat(&columns, 1)?);
    }
    let y = Tensor::cat(&parts, 0)?; // [n, N]
    if !train {
        return Ok(y);
    }
    Ok(graft1("dense", &y, weights, move |dy| {
        let mut total: Option<Tensor> = None;
        let mut start = 0;
        for (clip, length) in frames.lengths.iter().enumerate() {
            let dy = dy.narrow(0, start, *length)?;
            start += length;
            let rows = frames.clip(clip)?;
            let mut columns = Vec::with_capacity(gates);
            for gate in 0..gates {
                let dy = dy.narrow(1, gate * block, block)?.contiguous()?;
                columns.push(frames.masked(&rows, clip, gate)?.t()?.matmul(&dy)?); // [M, N / gates]
            }
            let dw = if let [one] = &columns[..] { one.clone() } else { Tensor::cat(&columns, 1)? };
            total = Some(match total {
                Some(sum) => (sum + dw)?,
                None => dw,
            });
        }
        Ok([total])
    })?)
}

struct Frames {
    rows: Tensor,
    affine: Affine,
    lengths: Vec<usize>,
    /// A tensor `[1, M]` for each gate of each clip; none without dropout.
    masks: Vec<Vec<Tensor>>,
}

impl Frames {
    /// A clip in f32, `[T_b, M]`.
    fn clip(&self, clip: usize) -> candle_core::Result<Tensor> {
        let start = self.lengths[..clip].iter().sum();
        let rows = self.rows.narrow(0, start, self.lengths[clip])?.to_dtype(DType::F32)?;
        rows.affine(f64::from(self.affine.scale), f64::from(self.affine.shift))
    }

    /// The same as a gate sees it.
    fn masked(&self, rows: &Tensor, clip: usize, gate: usize) -> candle_core::Result<Tensor> {
        match self.masks[clip].get(gate) {
            Some(mask) => rows.broadcast_mul(mask),
            None => Ok(rows.clone()),
        }
    }
}

fn clip_masks(mask: &InputMask<'_>, clip: usize, rows: &Tensor) -> Result<Vec<Tensor>> {
    let features = rows.dim(1)?;
    let of_gate = |gate| {
        let mut factors = vec![0.0; features];
        mask.fill(gate, clip, 0, &mut factors);
        Ok(Tensor::from_vec(factors, (1, features), rows.device())?)
    };
    (0..mask.gates).map(of_gate).collect()
}
