//! The tiles of the projection and of its gradients.

#![expect(unsafe_code, reason = "tiles of one matrix are written from several threads, each tile from one")]

use super::{Dense, FEATURES, InputMask, Rows};
use crate::simd::product::{Operands, product};
use crate::simd::{Buffer, Kernel, Simd};
use std::ops::Range;

/// Features multiplied at once in the forward pass.
const DEPTH: usize = 192;
/// Rows multiplied at once in the weight gradient.
const STEPS: usize = 128;
/// Features side by side in the packed left factor of the weight gradient.
const GROUP: usize = 16;

/// A result that several threads fill, each its own tiles.
#[derive(Clone, Copy)]
pub(super) struct Target(pub(super) *mut f32);
// SAFETY: every work item writes its own tile and reads no other.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// The rows as one gate sees them.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) mask: Option<&'a InputMask<'a>>,
    pub(super) gate: usize,
    /// The clip of each row; empty without a mask.
    pub(super) clips: &'a [usize],
    pub(super) features: usize,
}

impl Source<'_> {
    /// Features `from..from + out.len()` of one row in f32; `mask` holds the factors of its clip.
    #[inline(always)]
    unsafe fn read<S: Simd>(&self, row: usize, from: usize, mask: Option<&[f32]>, out: &mut [f32]) {
        let start = row * self.features + from;
        let count = out.len();
        match self.rows {
            Rows::F32(rows) => out.copy_from_slice(&rows[start..start + count]),
            Rows::U8 { frames, affine } => {
                let frames = &frames[start..start + count];
                let whole = count - count % S::LANES;
                for j in (0..whole).step_by(S::LANES) {
                    // SAFETY: `j + LANES <= count`, the length of both slices.
                    unsafe {
                        let p = S::load_u8(frames.as_ptr().add(j));
                        let v = S::fma(p, S::splat(affine.scale), S::splat(affine.shift));
                        S::store(out.as_mut_ptr().add(j), v);
                    }
                }
                for (out, p) in out[whole..].iter_mut().zip(&frames[whole..]) {
                    *out = f32::from(*p) * affine.scale + affine.shift;
                }
            }
        }
        if let Some(mask) = mask {
            out.iter_mut().zip(mask).for_each(|(out, m)| *out *= m);
        }
    }

    /// Calls `f` with every row of the span and the factors of its clip for the features of `mask`.
    #[inline(always)]
    fn each_row(
        &self,
        span: Range<usize>,
        from: usize,
        mask: &mut [f32],
        mut f: impl FnMut(usize, Option<&[f32]>),
    ) {
        let mut current = None;
        for row in span {
            let factors = self.mask.map(|m| {
                let clip = self.clips[row];
                if current != Some(clip) {
                    current = Some(clip);
                    m.keyed(self.gate, clip).fill(from, mask);
                }
                &*mask
            });
            f(row, factors);
        }
    }
}

/// One tile of the forward pass.
pub(super) struct Forward<'a> {
    pub(super) dense: &'a Dense,
    pub(super) rows: Source<'a>,
    pub(super) span: Range<usize>,
    pub(super) w: &'a [f32],
    pub(super) column: usize,
    pub(super) columns: usize,
    pub(super) out: Target,
    pub(super) scratch: &'a mut Buffer,
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Dense { features, outputs, .. } = *self.dense;
        let panel = 2 * S::LANES;
        let rows = self.span.len();
        self.scratch.resize(rows * DEPTH + DEPTH * panel + DEPTH);
        let (a, rest) = self.scratch.split_at_mut(rows * DEPTH);
        let (b, mask) = rest.split_at_mut(DEPTH * panel);
        for from in (0..features).step_by(DEPTH) {
            let k = DEPTH.min(features - from);
            let mut blocks = a.chunks_exact_mut(DEPTH);
            self.rows.each_row(self.span.clone(), from, &mut mask[..k], |row, mask| {
                if let Some(a) = blocks.next() {
                    // SAFETY: `Isa::run` vouches for the instruction set.
                    unsafe { self.rows.read::<S>(row, from, mask, &mut a[..k]) };
                }
            });
            for column in (self.column..self.column + self.columns).step_by(panel) {
                let columns = panel.min(self.column + self.columns - column);
                for (row, b) in (from..from + k).zip(b.chunks_exact_mut(panel)) {
                    let at = row * outputs + column;
                    b[..columns].copy_from_slice(&self.w[at..at + columns]);
                    b[columns..].fill(0.0);
                }
                // SAFETY: the tile lies inside `[n, N]`, and the scratch parts were sized above.
                unsafe {
                    product::<S>(&Operands {
                        rows,
                        k,
                        a: a.as_ptr(),
                        a_row: DEPTH,
                        a_k: 1,
                        b: b.as_ptr(),
                        c: self.out.0.add(self.span.start * outputs + column),
                        c_row: outputs,
                        columns,
                        add: from > 0,
                    });
                }
            }
        }
    }
}

/// `FEATURES` rows of the weight gradient, for the packed rows of `dout`.
pub(super) struct WeightGradient<'a> {
    pub(super) dense: &'a Dense,
    pub(super) rows: Source<'a>,
    pub(super) span: Range<usize>,
    pub(super) from: usize,
    /// Panels of `dout`, `[tiles, span, panel]`.
    pub(super) packed: &'a [f32],
    pub(super) tiles: &'a [(usize, usize, usize)],
    pub(super) dw: Target,
    pub(super) scratch: &'a mut Buffer,
}

impl Kernel for WeightGradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let Dense { features, outputs, .. } = *self.dense;
        let panel = 2 * S::LANES;
        let count = FEATURES.min(features - self.from);
        self.scratch.resize(STEPS * FEATURES + 2 * FEATURES);
        let (a, rest) = self.scratch.split_at_mut(STEPS * FEATURES);
        let (line, mask) = rest.split_at_mut(FEATURES);
        for first in self.span.clone().step_by(STEPS) {
            let steps = first..self.span.end.min(first + STEPS);
            let k = steps.len();
            let mut packed_for = None;
            for (tile, &(gate, column, columns)) in self.tiles.iter().enumerate() {
                if packed_for != Some(gate) {
                    packed_for = Some(gate);
                    self.rows.gate = gate;
                    // SAFETY: `Isa::run` vouches for the instruction set.
                    unsafe { pack_features::<S>(&self.rows, steps.clone(), self.from, count, mask, line, a) };
                }
                let b = tile * self.span.len() * panel + (first - self.span.start) * panel;
                for group in (0..count).step_by(GROUP) {
                    // SAFETY: the tile lies inside `[M, N]`, and the scratch parts were sized above.
                    unsafe {
                        product::<S>(&Operands {
                            rows: GROUP.min(count - group),
                            k,
                            a: a.as_ptr().add(group * STEPS),
                            a_row: 1,
                            a_k: GROUP,
                            b: self.packed.as_ptr().add(b),
                            c: self.dw.0.add((self.from + group) * outputs + column),
                            c_row: outputs,
                            columns,
                            add: first > 0,
                        });
                    }
                }
            }
        }
    }
}

/// Features `from..from + count` of the rows, as `[count / GROUP, STEPS, GROUP]`.
#[inline(always)]
unsafe fn pack_features<S: Simd>(
    rows: &Source<'_>,
    span: Range<usize>,
    from: usize,
    count: usize,
    mask: &mut [f32],
    line: &mut [f32],
    a: &mut [f32],
) {
    let first = span.start;
    rows.each_row(span, from, &mut mask[..count], |row, mask| {
        // SAFETY: passed on from the caller.
        unsafe { rows.read::<S>(row, from, mask, &mut line[..count]) };
        for (group, part) in line[..count].chunks(GROUP).enumerate() {
            let at = (group * STEPS + row - first) * GROUP;
            a[at..at + part.len()].copy_from_slice(part);
        }
    });
}

/// One panel of columns of the input gradient.
pub(super) struct InputGradient<'a> {
    pub(super) dense: &'a Dense,
    pub(super) span: Range<usize>,
    pub(super) from: usize,
    pub(super) gates: usize,
    pub(super) masks: Option<(&'a InputMask<'a>, &'a [usize])>,
    pub(super) dout: &'a [f32],
    pub(super) w: &'a [f32],
    pub(super) dx: Target,
    pub(super) scratch: &'a mut Buffer,
}

impl Kernel for InputGradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Dense { features, outputs, .. } = *self.dense;
        let panel = 2 * S::LANES;
        let (rows, width) = (self.span.len(), outputs / self.gates);
        let count = panel.min(features - self.from);
        self.scratch.resize(width * panel + rows * panel + panel);
        let (b, rest) = self.scratch.split_at_mut(width * panel);
        let (sums, mask) = rest.split_at_mut(rows * panel);
        for gate in 0..self.gates {
            for (k, b) in b.chunks_exact_mut(panel).enumerate() {
                let column = &self.w[self.from * outputs + gate * width + k..];
                b.fill(0.0);
                b[..count].iter_mut().zip(column.iter().step_by(outputs)).for_each(|(b, w)| *b = *w);
            }
            // SAFETY: `dout` is `[n, N]` and the scratch parts were sized above.
            unsafe {
                product::<S>(&Operands {
                    rows,
                    k: width,
                    a: self.dout.as_ptr().add(self.span.start * outputs + gate * width),
                    a_row: outputs,
                    a_k: 1,
                    b: b.as_ptr(),
                    c: sums.as_mut_ptr(),
                    c_row: panel,
                    columns: panel,
                    add: false,
                });
            }
            for (row, sums) in self.span.clone().zip(sums.chunks_exact(panel)) {
                mask.fill(1.0);
                if let Some((input, clips)) = self.masks {
                    input.fill(gate, clips[row], self.from, &mut mask[..count]);
                }
                for j in 0..count {
                    // SAFETY: the panel lies inside `[n, M]`, and no other item writes it.
                    let dx = unsafe { &mut *self.dx.0.add(row * features + self.from + j) };
                    *dx = if gate == 0 { 0.0 } else { *dx } + mask[j] * sums[j];
                }
            }
        }
    }
}
