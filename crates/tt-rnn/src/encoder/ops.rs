//! The encoder by candle's operators, for every device: an independent statement of what the kernels do.

use super::plan::{GROUP, Unit};
use super::{Network, Seen};
use crate::Result;
use candle_core::{DType, Tensor, Var};
use std::sync::Arc;
use tt_core::graft::graft2;

/// Frames whose activations are held at once.
const CHUNK: usize = 64;

/// Features `[n, F]` or `[n, P·F]`, a chunk of frames after the other; a backward pass computes each chunk again.
pub(super) fn features(network: &Arc<Network>, rows: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let fixed = weights.detach();
    let parts = chunks(rows)?.iter().map(|rows| chunk(network, rows, &fixed)).collect::<Result<Vec<_>>>()?;
    let (network, frames) = (Arc::clone(network), rows.clone());
    let backward = move |gradient: &Tensor| {
        let weights = Var::from_tensor(&fixed)?;
        let (mut sum, mut first) = (fixed.zeros_like()?, 0);
        for rows in chunks(&frames).map_err(candle_core::Error::wrap)? {
            let features = chunk(&network, &rows, &weights).map_err(candle_core::Error::wrap)?;
            let gradient = gradient.narrow(0, first, rows.dim(0)?)?;
            first += rows.dim(0)?;
            if let Some(more) = (features * gradient)?.sum_all()?.backward()?.get(&weights) {
                sum = (sum + more)?;
            }
        }
        Ok([Some(sum), None])
    };
    Ok(graft2("encoder", Tensor::cat(&parts, 0)?, [weights, weights], backward)?)
}

fn chunks(rows: &Tensor) -> Result<Vec<Tensor>> {
    let n = rows.dim(0)?;
    let chunk = |first: usize| Ok(rows.narrow(0, first, CHUNK.min(n - first))?);
    (0..n).step_by(CHUNK).map(chunk).collect()
}

/// The larger of each number and zero. NaN stays NaN, which candle's `relu` makes zero.
fn rectified(x: &Tensor) -> Result<Tensor> {
    Ok(x.lt(0.0_f32)?.where_cond(&x.zeros_like()?, x)?)
}

fn chunk(network: &Network, rows: &Tensor, weights: &Tensor) -> Result<Tensor> {
    let (plan, affine) = (&network.plan, network.affine);
    let frame = plan.stem.conv;
    let x = rows.to_dtype(DType::F32)?.affine(f64::from(affine.scale), f64::from(affine.shift))?;
    let x = x.reshape(((), frame.height, frame.width, frame.channels))?.permute((0, 3, 1, 2))?;
    let mut x = rectified(&normalised(&x.contiguous()?, &plan.stem, weights)?)?;
    for block in &plan.blocks {
        let inner = rectified(&normalised(&x, &block.a, weights)?)?;
        let beside = normalised(&x, &block.skip, weights)?;
        x = rectified(&(normalised(&inner, &block.b, weights)? + beside)?)?;
    }
    Ok(match network.seen {
        Seen::Means => x.mean((2, 3))?,                         // [n, F]
        Seen::Map => x.permute((0, 2, 3, 1))?.flatten_from(1)?, // [n, P·F]
    })
}

/// A convolution of images `[n, C, H, W]` and the normalisation of what it puts out.
fn normalised(x: &Tensor, unit: &Unit, weights: &Tensor) -> Result<Tensor> {
    let conv = unit.conv;
    let part = |range: std::ops::Range<usize>| weights.narrow(0, range.start, range.len());
    let kernel = part(unit.kernel())?.reshape((conv.side, conv.side, conv.channels, conv.outputs))?;
    let kernel = kernel.permute((3, 2, 0, 1))?.contiguous()?;
    // Just the pixels that the kernel reaches: candle 0.11 has no gradient where it leaves some over along one side alone.
    let reached = |places: usize| (places - 1) * conv.stride + conv.side;
    let around = conv.side / 2;
    let x = x.pad_with_zeros(2, around, around)?.narrow(2, 0, reached(conv.out_height()))?;
    let x = x.pad_with_zeros(3, around, around)?.narrow(3, 0, reached(conv.out_width()))?;
    let y = x.contiguous()?.conv2d(&kernel, 0, conv.stride, 1, 1)?;
    let groups = y.reshape(((), unit.groups(), GROUP * conv.pixels()))?;
    let centred = groups.broadcast_sub(&groups.mean_keepdim(2)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(2)? + super::norm::EPSILON)?.sqrt()?;
    let normal = centred.broadcast_div(&deviation)?.reshape(y.shape())?;
    let by_channel = |range| part(range)?.reshape((1, conv.outputs, 1, 1));
    Ok(normal.broadcast_mul(&by_channel(unit.scale())?)?.broadcast_add(&by_channel(unit.shift())?)?)
}
