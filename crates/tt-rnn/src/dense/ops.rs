//! The dense projection by candle's operators: any device.
//!
//! One clip's frames are f32 at a time. The gradient is written by hand: candle's own would also compute that of
//! pixels, a product as large as the layer's, and throw it away.

use super::InputMask;
use crate::error::{Result, check_size};
use candle_core::{DType, Tensor};
use std::sync::Arc;
use tt_core::apply::Affine;
use tt_core::graft::graft2;

/// `y = (scale · rows + shift) W`, `[n, N]`; with a mask, gate block g sees the rows masked for g.
///
/// # Shapes
/// `rows [sum T_b, M]` in u8 or f32; `weights [M, N]`; `lengths` are T_b, none of them 0.
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
    let frames = Arc::new(Frames { rows: rows.detach(), affine, lengths: lengths.to_vec(), masks });
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
    let (with_rows, with_weights) = (rows.track_op(), weights.track_op());
    if !train || !(with_rows || with_weights) {
        return Ok(y);
    }
    Ok(graft2("dense", y, [rows, weights], move |dy| {
        let drows = with_rows.then(|| frames.row_gradient(dy, &detached, gates)).transpose()?;
        let dweights = with_weights.then(|| frames.weight_gradient(dy, gates)).transpose()?;
        Ok([drows, dweights])
    })?)
}

struct Frames {
    /// Detached.
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

    /// The same as a gate sees it; so is a gradient of it.
    fn masked(&self, rows: &Tensor, clip: usize, gate: usize) -> candle_core::Result<Tensor> {
        match self.masks[clip].get(gate) {
            Some(mask) => rows.broadcast_mul(mask),
            None => Ok(rows.clone()),
        }
    }

    /// Gradient of the weights `[M, N]`, clip by clip.
    fn weight_gradient(&self, dy: &Tensor, gates: usize) -> candle_core::Result<Tensor> {
        let block = dy.dim(1)? / gates;
        let mut total: Option<Tensor> = None;
        let mut start = 0;
        for (clip, length) in self.lengths.iter().enumerate() {
            let dy = dy.narrow(0, start, *length)?;
            start += length;
            let rows = self.clip(clip)?;
            let mut columns = Vec::with_capacity(gates);
            for gate in 0..gates {
                let dy = dy.narrow(1, gate * block, block)?.contiguous()?;
                columns.push(self.masked(&rows, clip, gate)?.t()?.matmul(&dy)?); // [M, N / gates]
            }
            let dw = if let [one] = &columns[..] { one.clone() } else { Tensor::cat(&columns, 1)? };
            total = Some(match total {
                Some(sum) => (sum + dw)?,
                None => dw,
            });
        }
        total.ok_or_else(|| candle_core::Error::Msg("dense projection of no clips".into()))
    }

    /// Gradient of the rows as they are stored, `[n, M]`.
    fn row_gradient(&self, dy: &Tensor, weights: &Tensor, gates: usize) -> candle_core::Result<Tensor> {
        let block = dy.dim(1)? / gates;
        let (mut parts, mut start) = (Vec::with_capacity(self.lengths.len()), 0);
        for (clip, length) in self.lengths.iter().enumerate() {
            let dy = dy.narrow(0, start, *length)?;
            start += length;
            let of_gate = |gate: usize| {
                let columns = |all: &Tensor| all.narrow(1, gate * block, block)?.contiguous();
                self.masked(&columns(&dy)?.matmul(&columns(weights)?.t()?)?, clip, gate) // [T_b, M]
            };
            let mut drows = of_gate(0)?;
            for gate in 1..gates {
                drows = (drows + of_gate(gate)?)?;
            }
            parts.push(drows);
        }
        Tensor::cat(&parts, 0)? * f64::from(self.affine.scale)
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
