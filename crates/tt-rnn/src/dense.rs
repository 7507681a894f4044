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
use kernels::{DEPTH, Forward, InputGradient, Source, Target, WeightGradient};
pub use mask::InputMask;
use rayon::prelude::*;
use tt_core::apply::{Affine, Rows};
use tt_core::simd::{Buffer, Isa};

/// Frames of one tile of the forward pass.
const ROWS: usize = 128;
/// Rows below which the features are cut into slabs, so that there is work for several threads.
const FEW_ROWS: usize = 1024;
/// Slabs at most.
const SLABS: usize = 8;
/// Features of one tile of the weight gradient.
const FEATURES: usize = 64;
/// Rows of `dout` packed at once in the weight gradient.
const PACKED_ROWS: usize = 1024;

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
        let mut partial = Buffer::default();
        partial.resize((slabs - 1) * out.len());
        let mut targets = vec![Target(out.as_mut_ptr())];
        targets.extend(partial.chunks_exact_mut(out.len().max(1)).map(|part| Target(part.as_mut_ptr())));
        each_item(n.div_ceil(ROWS) * slabs, |i, scratch| {
            let (first, from) = (i / slabs * ROWS, i % slabs * slab);
            self.isa.run(Forward {
                dense: self,
                rows: Source { rows, dense: self, mask, gate: 0, clips: &clips },
                span: first..n.min(first + ROWS),
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

    /// `dw = (scale · rows + shift)^T · dout`, `[M, N]`, overwritten.
    ///
    /// # Errors
    /// A buffer of the wrong size.
    pub fn weight_gradient(
        &self,
        rows: Rows<'_>,
        mask: Option<&InputMask<'_>>,
        dout: &[f32],
        dw: &mut [f32],
    ) -> Result<()> {
        let n = self.check(rows, mask, dw.len(), dout.len())?;
        let panel = 2 * self.isa.lanes();
        let tiles = self.column_tiles(mask, panel);
        let clips = clips(mask, n);
        let mut packed = Buffer::default();
        for first in (0..n).step_by(PACKED_ROWS) {
            let span = first..n.min(first + PACKED_ROWS);
            packed.resize(tiles.len() * span.len() * panel);
            crate::recurrence::each(&mut packed, span.len() * panel, |i, out| {
                let (_, column, columns) = tiles[i];
                for (row, out) in span.clone().zip(out.chunks_exact_mut(panel)) {
                    let from = row * self.outputs + column;
                    out[..columns].copy_from_slice(&dout[from..from + columns]);
                    out[columns..].fill(0.0);
                }
            });
            let (packed, tiles, target) = (&packed[..], &tiles[..], Target(dw.as_mut_ptr()));
            each_item(self.features.div_ceil(FEATURES), |i, scratch| {
                let from = i * FEATURES;
                let rows = Source { rows, dense: self, mask, gate: 0, clips: &clips };
                let span = span.clone();
                self.isa.run(WeightGradient {
                    dense: self,
                    rows,
                    span,
                    from,
                    packed,
                    tiles,
                    dw: target,
                    scratch,
                });
            });
        }
        Ok(())
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
