//! The dense input projection of u8 frames or f32 rows, its gradients, and its input dropout.
//!
//! Frames turn into f32 a block at a time inside the product, never as a whole batch; no gradient with respect
//! to pixels is computed unless asked for. Work items are fixed tiles of the result, each summed in one order:
//! results are bit-identical for any number of threads.

mod kernels;
mod mask;
pub mod ops;
#[cfg(test)]
mod tests;

use crate::error::{Result, check_size};
use crate::gradient::Pieces;
use kernels::{DEPTH, FeatureGradient, Forward, InputGradient, Source, Target};
pub use mask::InputMask;
use rayon::prelude::*;
use tt_core::apply::{Affine, Rows};
use tt_core::simd::{Buffer, Isa, Pool};

/// Rows of one tile of the forward pass at most: a panel of weights is packed once for all of them.
const ROWS: usize = 256;
/// Rows below which the features are cut into slabs, so that there is work for several threads.
const FEW_ROWS: usize = 1024;
/// Slabs at most.
const SLABS: usize = 8;
/// Features of a piece of the weight gradient.
const FEATURES: usize = 64;

/// A dense projection of M features to N outputs, `(scale · rows + shift) W`; holds sizes, not weights (`W`
/// `[M, N]` row-major).
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    features: usize,
    outputs: usize,
    affine: Affine,
    isa: Isa,
}

impl Dense {
    /// A projection on the best instruction set of this machine.
    ///
    /// # Panics
    /// If a size is zero.
    pub fn new(features: usize, outputs: usize, affine: Affine) -> Self {
        Self::with_isa(features, outputs, affine, Isa::best())
    }

    /// The same on a chosen instruction set.
    pub fn with_isa(features: usize, outputs: usize, affine: Affine, isa: Isa) -> Self {
        assert!(features > 0 && outputs > 0, "a projection needs features and outputs");
        Self { features, outputs, affine, isa }
    }

    /// M
    pub fn features(&self) -> usize {
        self.features
    }

    /// N
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Pixel scaling.
    pub fn affine(&self) -> Affine {
        self.affine
    }

    /// `out = (scale · rows + shift) W`, `[n, N]`; with a mask, gate block g of the result sees the rows masked for g.
    ///
    /// # Errors
    /// A buffer of the wrong size.
    pub fn forward(
        &self,
        rows: Rows<'_>,
        mask: Option<&InputMask<'_>>,
        w: &[f32],
        out: &mut [f32],
    ) -> Result<()> {
        let n = self.check(rows, mask, w.len(), out.len())?;
        let tiles = self.column_tiles(mask, 2 * self.isa.lanes());
        let clips = clips(mask, n);
        // Whole blocks of depth to each slab; how many slabs depends on the sizes alone.
        let slabs = (FEW_ROWS / n.max(1)).clamp(1, SLABS);
        let slab = self.features.div_ceil(slabs).next_multiple_of(DEPTH);
        let slabs = self.features.div_ceil(slab);
        // The rows of a tile, unlike its features, may depend on the threads: a row is summed alone.
        let blocks = n.div_ceil(ROWS).max((2 * rayon::current_num_threads()).div_ceil(slabs));
        let rows_each = n.div_ceil(blocks).next_multiple_of(8);
        let mut partial = Buffer::default();
        partial.resize((slabs - 1) * out.len());
        let mut targets = vec![Target(out.as_mut_ptr())];
        targets.extend(partial.chunks_exact_mut(out.len().max(1)).map(|part| Target(part.as_mut_ptr())));
        each_item(n.div_ceil(rows_each) * slabs, |i, scratch| {
            let (first, from) = (i / slabs * rows_each, i % slabs * slab);
            self.isa.run(Forward {
                dense: self,
                rows: Source { rows, dense: self, mask, gate: 0, clips: &clips },
                span: first..n.min(first + rows_each),
                slab: from..self.features.min(from + slab),
                w,
                tiles: &tiles,
                out: targets[i % slabs],
                scratch,
            });
        });
        for part in partial.chunks_exact(out.len().max(1)) {
            out.iter_mut().zip(part).for_each(|(out, part)| *out += part);
        }
        Ok(())
    }

    /// `dw = (scale · rows + shift)^T · dout`, `[M, N]`, to be computed [`FEATURES`] rows of it at a time.
    ///
    /// # Errors
    /// A buffer of the wrong size.
    pub(crate) fn weight_gradient<'a>(
        &self,
        rows: Rows<'a>,
        mask: Option<InputMask<'a>>,
        dout: &[f32],
        panels: &'a mut Panels,
    ) -> Result<WeightGradient<'a>> {
        let n = self.check(rows, mask.as_ref(), self.features * self.outputs, dout.len())?;
        let panel = 2 * self.isa.lanes();
        let tiles = self.column_tiles(mask.as_ref(), panel);
        panels.dout.resize(tiles.len() * n * panel);
        crate::recurrence::each(&mut panels.dout, n * panel, |i, out| {
            let (_, column, columns) = tiles[i];
            for (dout, out) in dout.chunks_exact(self.outputs).zip(out.chunks_exact_mut(panel)) {
                out[..columns].copy_from_slice(&dout[column..column + columns]);
                out[columns..].fill(0.0);
            }
        });
        let clips = clips(mask.as_ref(), n);
        Ok(WeightGradient { dense: *self, rows, mask, clips, tiles, panels })
    }

    /// `dx = scale · dout · W^T`, `[n, M]`, overwritten; for rows that are themselves the output of something.
    ///
    /// # Errors
    /// A buffer of the wrong size.
    pub fn input_gradient(
        &self,
        dout: &[f32],
        mask: Option<&InputMask<'_>>,
        w: &[f32],
        dx: &mut [f32],
    ) -> Result<()> {
        let n = self.check(Rows::F32(dx), mask, w.len(), dout.len())?;
        let panel = 2 * self.isa.lanes();
        let gates = mask.map_or(1, |m| m.gates);
        let clips = clips(mask, n);
        let tiles = self.features.div_ceil(panel);
        let target = Target(dx.as_mut_ptr());
        each_item(n.div_ceil(ROWS) * tiles, |i, scratch| {
            let first = i / tiles * ROWS;
            let span = first..n.min(first + ROWS);
            let from = i % tiles * panel;
            let masks = mask.map(|mask| (mask, &clips[..]));
            self.isa.run(InputGradient {
                dense: self,
                span,
                from,
                gates,
                masks,
                dout,
                w,
                dx: target,
                scratch,
            });
        });
        Ok(())
    }

    /// n, after checking every size.
    fn check(&self, rows: Rows<'_>, mask: Option<&InputMask<'_>>, w: usize, out: usize) -> Result<usize> {
        let n = rows.count(self.features)?;
        check_size("dense weights", self.features * self.outputs, w)?;
        check_size("projected rows", n * self.outputs, out)?;
        if let Some(mask) = mask {
            check_size("lengths of the masked clips", n, mask.lengths.iter().sum())?;
            check_size("outputs of the masked gates", self.outputs, self.outputs / mask.gates * mask.gates)?;
        }
        Ok(n)
    }

    /// (gate, first column, columns) of tiles that do not cross gates with different masks.
    fn column_tiles(&self, mask: Option<&InputMask<'_>>, size: usize) -> Vec<(usize, usize, usize)> {
        let gates = mask.map_or(1, |m| m.gates);
        let width = self.outputs / gates;
        (0..gates)
            .flat_map(|gate| {
                (0..width)
                    .step_by(size)
                    .map(move |column| (gate, gate * width + column, size.min(width - column)))
            })
            .collect()
    }
}

/// What weight gradients use again.
#[derive(Debug, Default)]
pub(crate) struct Panels {
    /// `dout` in panels, `[tiles, n, panel]`.
    dout: Buffer,
    scratch: Pool<Buffer>,
}

/// The gradient of the weights as the product it is.
pub(crate) struct WeightGradient<'a> {
    dense: Dense,
    rows: Rows<'a>,
    mask: Option<InputMask<'a>>,
    clips: Vec<usize>,
    tiles: Vec<(usize, usize, usize)>,
    panels: &'a Panels,
}

impl Pieces for WeightGradient<'_> {
    fn values(&self) -> usize {
        self.dense.features * self.dense.outputs
    }

    fn piece(&self) -> usize {
        FEATURES * self.dense.outputs
    }

    fn compute(&self, index: usize, piece: &mut [f32]) {
        let Self { dense, rows, mask, clips, tiles, panels } = self;
        let rows = Source { rows: *rows, dense, mask: mask.as_ref(), gate: 0, clips };
        let from = index * FEATURES;
        panels.scratch.with(|scratch| {
            dense.isa.run(FeatureGradient {
                dense,
                rows,
                from,
                panels: &panels.dout,
                tiles,
                dw: piece,
                scratch,
            });
        });
    }
}

/// The clip of each row; empty without a mask.
fn clips(mask: Option<&InputMask<'_>>, rows: usize) -> Vec<usize> {
    let mut clips = Vec::with_capacity(rows);
    if let Some(mask) = mask {
        for (clip, &length) in mask.lengths.iter().enumerate() {
            clips.resize(clips.len() + length, clip);
        }
    }
    clips
}

/// Calls `f` for `0..count` with a scratch buffer, in parallel where there are threads.
fn each_item(count: usize, f: impl Fn(usize, &mut Buffer) + Sync) {
    if rayon::current_num_threads() == 1 {
        let mut scratch = Buffer::default();
        (0..count).for_each(|i| f(i, &mut scratch));
    } else {
        (0..count).into_par_iter().for_each_init(Buffer::default, |scratch, i| f(i, scratch));
    }
}
