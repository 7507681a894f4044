//! The dense input projection of u8 frames or f32 rows, its gradients, and its input dropout.
//!
//! Frames turn into f32 a block at a time inside the product, never as a whole batch; no gradient with respect
//! to pixels is computed unless asked for. Work items are fixed tiles of the result, each summed in one order:
//! results are bit-identical for any number of threads.

mod kernels;
pub mod ops;
#[cfg(test)]
mod tests;

use crate::error::{Result, check_size};
use crate::gradient::Pieces;
pub use crate::mask::InputMask;
use kernels::{DEPTH, FeatureGradient, Forward, InputGradient, Source, Target};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};
use tt_core::apply::matrix::{self, ByteProducts, Cut};
use tt_core::apply::{Affine, Path, Rows};
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
    /// Of frames in bytes, where a unit multiplies them.
    digits: Option<ByteProducts>,
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
        Self { features, outputs, affine, isa, digits: None }
    }

    /// The same on the kernels of this path: frames in bytes without input dropout by digits, where it names a unit.
    ///
    /// # Errors
    /// A unit that this machine lacks.
    pub fn on(self, path: Path) -> Result<Self> {
        Ok(Self { digits: ByteProducts::new(path, self.affine)?, ..self })
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
        panels: &mut Panels,
    ) -> Result<()> {
        let n = self.check(rows, mask, w.len(), out.len())?;
        if let Some(products) = self.by_digits(rows, mask.is_some())
            && products.multiply_pays(n)
            && self.forward_by_digits(products, rows, w, out, panels)
        {
            return Ok(());
        }
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
        if let Some(products) = self.by_digits(rows, mask.is_some())
            && products.outer_pays(n)
            && products.cut(dout, self.outputs, &mut panels.cut)
        {
            let form = Form::Digits { products, rows };
            return Ok(WeightGradient { dense: *self, form, panels });
        }
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
        Ok(WeightGradient { dense: *self, form: Form::F32 { rows, mask, clips, tiles }, panels })
    }

    /// The unit, where products can run by digits: a mask makes pixels numbers that are no bytes.
    fn by_digits(&self, rows: Rows<'_>, masked: bool) -> Option<ByteProducts> {
        self.digits.filter(|_| !masked && !matches!(rows, Rows::F32(_)))
    }

    /// What multiplies frames in the place of vectors of f32, if anything does: for records.
    pub fn unit(&self) -> Option<String> {
        self.digits.map(|products| products.name())
    }

    /// [`Dense::forward`] by digits; whether the weights can be cut into some.
    fn forward_by_digits(
        &self,
        products: ByteProducts,
        rows: Rows<'_>,
        w: &[f32],
        out: &mut [f32],
        panels: &mut Panels,
    ) -> bool {
        let Self { features, outputs, .. } = *self;
        let slab = features.div_ceil(SLABS);
        let Panels { partial, digits, .. } = panels;
        for (block, out) in out.chunks_mut(FEW_ROWS * outputs).enumerate() {
            let rows = rows.rows(block * FEW_ROWS, out.len() / outputs, features);
            partial.resize(features.div_ceil(slab) * out.len());
            let cut = AtomicBool::new(true);
            crate::recurrence::each(partial, out.len(), |at, sums| {
                let span = at * slab..features.min((at + 1) * slab);
                if !digits.with(|work| products.multiply((rows, features), span, w, sums, work)) {
                    cut.store(false, Ordering::Relaxed);
                }
            });
            if !cut.into_inner() {
                return false;
            }
            out.fill(0.0);
            for part in partial.chunks_exact(out.len()) {
                out.iter_mut().zip(part).for_each(|(out, part)| *out += part);
            }
        }
        true
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

/// What calls use again.
#[derive(Debug, Default)]
pub struct Panels {
    /// `dout` in panels, `[tiles, n, panel]`.
    dout: Buffer,
    scratch: Pool<Buffer>,
    /// `dout` in digits.
    cut: Cut,
    digits: Pool<matrix::Panels>,
    /// What slabs of features add to the result, `[slabs, n, N]`.
    partial: Buffer,
}

/// The gradient of the weights as the product it is.
pub(crate) struct WeightGradient<'a> {
    dense: Dense,
    form: Form<'a>,
    panels: &'a Panels,
}

/// What the product is computed from, beside what the panels hold of `dout`.
enum Form<'a> {
    F32 { rows: Rows<'a>, mask: Option<InputMask<'a>>, clips: Vec<usize>, tiles: Vec<(usize, usize, usize)> },
    Digits { products: ByteProducts, rows: Rows<'a> },
}

impl Pieces for WeightGradient<'_> {
    fn values(&self) -> usize {
        self.dense.features * self.dense.outputs
    }

    fn piece(&self) -> usize {
        FEATURES * self.dense.outputs
    }

    fn compute(&self, index: usize, piece: &mut [f32]) {
        let Self { dense, form, panels } = self;
        let from = index * FEATURES;
        match form {
            Form::F32 { rows, mask, clips, tiles } => panels.scratch.with(|scratch| {
                let rows = Source { rows: *rows, dense, mask: mask.as_ref(), gate: 0, clips };
                let panels = &panels.dout;
                dense.isa.run(FeatureGradient { dense, rows, from, panels, tiles, dw: piece, scratch });
            }),
            Form::Digits { products, rows } => panels.digits.with(|work| {
                let features = from..dense.features.min(from + FEATURES);
                products.outer((*rows, dense.features), features, &panels.cut, piece, work);
            }),
        }
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
