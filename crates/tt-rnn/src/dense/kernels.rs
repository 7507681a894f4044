//! The tiles of the projection and of its gradients.

#![expect(unsafe_code, reason = "tiles of one matrix are written from several threads, each tile from one")]

use super::{Dense, FEATURES, InputMask};
use std::ops::Range;
use tt_core::apply::{Affine, Row, Rows};
use tt_core::simd::product::{Operands, pack_row, prefetch, product};
use tt_core::simd::{Buffer, Kernel, Simd};

/// Features multiplied at once in the forward pass.
pub(super) const DEPTH: usize = 128;
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
    pub(super) dense: &'a Dense,
    pub(super) mask: Option<&'a InputMask<'a>>,
    pub(super) gate: usize,
    /// The clip of each row; empty without a mask.
    pub(super) clips: &'a [usize],
}

impl Source<'_> {
    /// Features `from..from + out.len()` of one row in f32; `mask` holds the factors of its clip.
    #[inline(always)]
    unsafe fn read<S: Simd>(&self, row: usize, from: usize, mask: Option<&[f32]>, out: &mut [f32]) {
        let Dense { features, affine, .. } = *self.dense;
        let count = out.len();
        match self.rows.row(row, features).range(from, count) {
            Row::F32(rows) if affine == Affine::IDENTITY => out.copy_from_slice(rows),
            Row::F32(rows) => {
                out.iter_mut().zip(rows).for_each(|(out, p)| *out = *p * affine.scale + affine.shift);
            }
            Row::U8(frames) => {
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

    /// Asks for `count` features of a row.
    #[inline(always)]
    unsafe fn prefetch<S: Simd>(&self, row: usize, from: usize, count: usize) {
        let row = self.rows.row(row, self.dense.features);
        for j in (0..count).step_by(64) {
            // SAFETY: a hint, which faults on no address.
            unsafe {
                match row {
                    Row::U8(frames) => S::prefetch(frames.as_ptr().wrapping_add(from + j)),
                    Row::F32(rows) => prefetch::<S>(rows.as_ptr().wrapping_add(from + j), 64),
                }
            }
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

/// Rows between two requests for what comes next.
const SLICE: usize = 16;

/// One block of rows times one slab of features, all columns.
pub(super) struct Forward<'a> {
    pub(super) dense: &'a Dense,
    pub(super) rows: Source<'a>,
    pub(super) span: Range<usize>,
    pub(super) slab: Range<usize>,
    pub(super) w: &'a [f32],
    /// (gate, first column, columns) of every panel.
    pub(super) tiles: &'a [(usize, usize, usize)],
    pub(super) out: Target,
    pub(super) scratch: &'a mut Buffer,
}

impl Kernel for Forward<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let panel = 2 * S::LANES;
        let rows = self.span.len();
        self.scratch.resize(rows * DEPTH + DEPTH * panel + DEPTH);
        // SAFETY: the three parts lie one after another inside the buffer just sized.
        let (a, b, mask) = unsafe {
            let a = self.scratch.as_mut_ptr();
            let b = a.add(rows * DEPTH);
            (a, b, std::slice::from_raw_parts_mut(b.add(DEPTH * panel), DEPTH))
        };
        for from in self.slab.clone().step_by(DEPTH) {
            let depth = from..self.slab.end.min(from + DEPTH);
            let mut converted_for = None;
            for tile in 0..self.tiles.len() {
                let gate = self.tiles[tile].0;
                // SAFETY: `a` has `rows` rows of `DEPTH`, `b` one panel.
                unsafe {
                    if converted_for != Some(gate) {
                        converted_for = Some(gate);
                        self.rows.gate = gate;
                        let first = self.span.start;
                        self.rows.each_row(self.span.clone(), from, &mut mask[..depth.len()], |row, mask| {
                            let to = a.add((row - first) * DEPTH);
                            let to = std::slice::from_raw_parts_mut(to, depth.len());
                            self.rows.read::<S>(row, from, mask, to);
                        });
                    }
                    self.multiply::<S>(depth.clone(), tile, a, b);
                }
            }
        }
    }
}

impl Forward<'_> {
    /// `out[:, tile] += a · w[depth, tile]`, asking for the weights and frames that come next meanwhile.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, depth: Range<usize>, tile: usize, a: *const f32, b: *mut f32) {
        let outputs = self.dense.outputs;
        let (panel, rows, k) = (2 * S::LANES, self.span.len(), depth.len());
        let (_, column, columns) = self.tiles[tile];
        // The panel after this one: beside it, or the first of the features to come.
        let next = match self.tiles.get(tile + 1) {
            Some((_, column, _)) => depth.start * outputs + column,
            None => depth.end * outputs,
        };
        // SAFETY: rows of `w` and of the result lie inside matrices of checked sizes, `a` and `b` are the parts of the
        // scratch that the caller has sized, and prefetches fault on no address.
        unsafe {
            let w = self.w.as_ptr();
            let at = w.add(depth.start * outputs + column);
            for k in 0..k {
                pack_row::<S>(at.add(k * outputs), columns, b.add(k * panel));
            }
            for row in (0..rows).step_by(SLICE) {
                let slice = SLICE.min(rows - row);
                for ahead in row * k / rows..(row + slice) * k / rows {
                    prefetch::<S>(w.wrapping_add(next + ahead * outputs), panel);
                }
                if tile == 0 {
                    let first = self.span.start + row;
                    (first..first + slice).for_each(|row| self.rows.prefetch::<S>(row, depth.end, DEPTH));
                }
                product::<S>(&Operands {
                    rows: slice,
                    k,
                    a: a.add(row * DEPTH),
                    a_row: DEPTH,
                    a_k: 1,
                    b,
                    c: self.out.0.add((self.span.start + row) * outputs + column),
                    c_row: outputs,
                    columns,
                    add: depth.start > self.slab.start,
                });
            }
        }
    }
}

/// The weight gradient of `FEATURES` features, `[FEATURES, N]`.
pub(super) struct FeatureGradient<'a> {
    pub(super) dense: &'a Dense,
    pub(super) rows: Source<'a>,
    pub(super) from: usize,
    /// Panels of `dout`, `[tiles, n, panel]`.
    pub(super) panels: &'a [f32],
    pub(super) tiles: &'a [(usize, usize, usize)],
    pub(super) dw: &'a mut [f32],
    pub(super) scratch: &'a mut Buffer,
}

impl Kernel for FeatureGradient<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let outputs = self.dense.outputs;
        let panel = 2 * S::LANES;
        let rows = self.panels.len() / (self.tiles.len() * panel);
        let count = self.dw.len() / outputs;
        self.scratch.resize(STEPS * FEATURES + 2 * FEATURES);
        let (a, rest) = self.scratch.split_at_mut(STEPS * FEATURES);
        let (line, mask) = rest.split_at_mut(FEATURES);
        for first in (0..rows).step_by(STEPS) {
            let steps = first..rows.min(first + STEPS);
            let k = steps.len();
            let mut packed_for = None;
            for (tile, &(gate, column, columns)) in self.tiles.iter().enumerate() {
                if packed_for != Some(gate) {
                    packed_for = Some(gate);
                    self.rows.gate = gate;
                    // SAFETY: `Isa::run` vouches for the instruction set.
                    unsafe { pack_features::<S>(&self.rows, steps.clone(), self.from, count, mask, line, a) };
                }
                for group in (0..count).step_by(GROUP) {
                    // SAFETY: the tile lies inside `[count, N]`, and the scratch parts were sized above.
                    unsafe {
                        product::<S>(&Operands {
                            rows: GROUP.min(count - group),
                            k,
                            a: a.as_ptr().add(group * STEPS),
                            a_row: 1,
                            a_k: GROUP,
                            b: self.panels.as_ptr().add((tile * rows + first) * panel),
                            c: self.dw.as_mut_ptr().add(group * outputs + column),
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
        // SAFETY: passed on from the caller; `line` has room for whole groups.
        unsafe {
            rows.read::<S>(row, from, mask, &mut line[..count]);
            for group in 0..count.div_ceil(GROUP) {
                let to = a[(group * STEPS + row - first) * GROUP..][..GROUP].as_mut_ptr();
                for j in (0..GROUP).step_by(S::LANES) {
                    S::store(to.add(j), S::load(line.as_ptr().add(group * GROUP + j)));
                }
            }
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
        let Dense { features, outputs, affine, .. } = *self.dense;
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
                    *dx = if gate == 0 { 0.0 } else { *dx } + affine.scale * mask[j] * sums[j];
                }
            }
        }
    }
}
