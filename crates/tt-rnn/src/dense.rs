//! The dense input projection of u8 frames or f32 rows, its gradients, and its input dropout.
//!
//! Frames turn into f32 a block at a time inside the product, never as a whole batch; no gradient with respect
//! to pixels is computed unless asked for. Work items are fixed tiles of the result, each summed in one order:
//! results are bit-identical for any number of threads.

#![expect(unsafe_code, reason = "tiles of one matrix are written from several threads, each tile from one")]

use crate::error::{Result, check_size};
use crate::simd::product::{Operands, product};
use crate::simd::{Buffer, Isa, Kernel, Simd};
use rayon::prelude::*;

/// Frames of one tile of the forward pass.
const ROWS: usize = 128;
/// Columns of one tile of the forward pass and of the input gradient.
const COLUMNS: usize = 128;
/// Features multiplied at once in the forward pass.
const DEPTH: usize = 192;
/// Features of one tile of the weight gradient.
const FEATURES: usize = 64;
/// Rows multiplied at once in the weight gradient.
const STEPS: usize = 128;
/// Rows of `dout` packed at once in the weight gradient.
const PACKED_ROWS: usize = 1024;
/// Features side by side in the packed left factor of the weight gradient.
const GROUP: usize = 16;

/// A pixel p enters the network as `scale·p + shift`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Factor.
    pub scale: f32,
    /// Summand.
    pub shift: f32,
}

/// The rows to project, `[n, M]`.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// Pixels.
    U8 {
        /// `[n, M]`
        frames: &'a [u8],
        /// What a pixel becomes.
        affine: Affine,
    },
    /// Values as they are.
    F32(&'a [f32]),
}

impl Rows<'_> {
    fn len(&self) -> usize {
        match self {
            Self::U8 { frames, .. } => frames.len(),
            Self::F32(rows) => rows.len(),
        }
    }
}

/// Dropout of the input: a factor for each feature, clip and gate, constant over the frames of the clip, and
/// computed from a hash where it is used rather than stored.
#[derive(Clone, Copy, Debug)]
pub struct InputMask<'a> {
    /// Draws the masks.
    pub seed: u64,
    /// p, the share of features that a gate does not see; the others grow by `1 / (1-p)`.
    pub probability: f32,
    /// G: the outputs are G blocks of the same width, each with its own mask.
    pub gates: usize,
    /// T_b, so that rows find their clip. `[B]`
    pub lengths: &'a [usize],
}

impl InputMask<'_> {
    /// The factors of the features `from..from + out.len()`.
    pub fn fill(&self, gate: usize, clip: usize, from: usize, out: &mut [f32]) {
        self.keyed(gate, clip).fill(from, out);
    }

    fn keyed(&self, gate: usize, clip: usize) -> MaskRow {
        // splitmix64 of (seed, gate, clip)
        let mut key = self.seed ^ ((gate as u64) << 48) ^ (clip as u64).wrapping_mul(0xD605_1A1B_4D5A_3C6F);
        key = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
        key = (key ^ (key >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        key = (key ^ (key >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        key ^= key >> 31;
        let threshold = (f64::from(self.probability) * 4_294_967_296.0) as u32;
        MaskRow {
            first: key as u32,
            second: (key >> 32) as u32,
            threshold,
            keep: 1.0 / (1.0 - self.probability),
        }
    }
}

/// The mask of one gate and clip.
#[derive(Clone, Copy)]
struct MaskRow {
    first: u32,
    second: u32,
    threshold: u32,
    keep: f32,
}

impl MaskRow {
    #[inline(always)]
    fn fill(self, from: usize, out: &mut [f32]) {
        for (feature, out) in (from as u32..).zip(out) {
            let mut h = feature.wrapping_mul(0x9E37_79B1) ^ self.first;
            h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
            h = (h ^ (h >> 13)).wrapping_add(self.second).wrapping_mul(0xC2B2_AE35);
            h ^= h >> 16;
            *out = if h < self.threshold { 0.0 } else { self.keep };
        }
    }
}

/// A dense projection of M features to N outputs; holds sizes, not weights (`W` `[M, N]` row-major).
#[derive(Clone, Copy, Debug)]
pub struct Dense {
    features: usize,
    outputs: usize,
    isa: Isa,
}

impl Dense {
    /// A projection on the best instruction set of this machine.
    ///
    /// # Panics
    /// If a size is zero.
    pub fn new(features: usize, outputs: usize) -> Self {
        Self::with_isa(features, outputs, Isa::best())
    }

    /// The same on a chosen instruction set.
    pub fn with_isa(features: usize, outputs: usize, isa: Isa) -> Self {
        assert!(features > 0 && outputs > 0, "a projection needs features and outputs");
        Self { features, outputs, isa }
    }

    /// `out = rows · W`, `[n, N]`; with a mask, gate block g of the result sees the rows masked for g.
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
        let tiles = self.column_tiles(mask, self.outputs, COLUMNS);
        let clips = clips(mask, n);
        let target = Target(out.as_mut_ptr());
        let work = n.div_ceil(ROWS) * tiles.len();
        each_item(work, |i, scratch| {
            let first = i / tiles.len() * ROWS;
            let (gate, column, columns) = tiles[i % tiles.len()];
            let rows = Source { rows, mask, gate, clips: &clips, features: self.features };
            let span = first..n.min(first + ROWS);
            self.isa.run(Forward { dense: self, rows, span, w, column, columns, out: target, scratch });
        });
        Ok(())
    }

    /// `dw = rows^T · dout`, `[M, N]`, overwritten.
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
        let tiles = self.column_tiles(mask, self.outputs, panel);
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
                let rows = Source { rows, mask, gate: 0, clips: &clips, features: self.features };
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

    /// `dx = dout · W^T`, `[n, M]`, overwritten; for rows that are themselves the output of something.
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
        let n = rows.len() / self.features;
        check_size("rows", n * self.features, rows.len())?;
        check_size("dense weights", self.features * self.outputs, w)?;
        check_size("projected rows", n * self.outputs, out)?;
        if let Some(mask) = mask {
            check_size("lengths of the masked clips", n, mask.lengths.iter().sum())?;
            check_size("outputs of the masked gates", self.outputs, self.outputs / mask.gates * mask.gates)?;
        }
        Ok(n)
    }

    /// (gate, first column, columns) of tiles that do not cross gates with different masks.
    fn column_tiles(
        &self,
        mask: Option<&InputMask<'_>>,
        outputs: usize,
        size: usize,
    ) -> Vec<(usize, usize, usize)> {
        let gates = mask.map_or(1, |m| m.gates);
        let width = outputs / gates;
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

/// A result that several threads fill, each its own tiles.
#[derive(Clone, Copy)]
struct Target(*mut f32);
// SAFETY: every work item writes its own tile and reads no other.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

/// The rows as one gate sees them.
#[derive(Clone, Copy)]
struct Source<'a> {
    rows: Rows<'a>,
    mask: Option<&'a InputMask<'a>>,
    gate: usize,
    /// The clip of each row; empty without a mask.
    clips: &'a [usize],
    features: usize,
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
        span: std::ops::Range<usize>,
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
struct Forward<'a> {
    dense: &'a Dense,
    rows: Source<'a>,
    span: std::ops::Range<usize>,
    w: &'a [f32],
    column: usize,
    columns: usize,
    out: Target,
    scratch: &'a mut Buffer,
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
struct WeightGradient<'a> {
    dense: &'a Dense,
    rows: Source<'a>,
    span: std::ops::Range<usize>,
    from: usize,
    /// Panels of `dout`, `[tiles, span, panel]`.
    packed: &'a [f32],
    tiles: &'a [(usize, usize, usize)],
    dw: Target,
    scratch: &'a mut Buffer,
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
    span: std::ops::Range<usize>,
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
struct InputGradient<'a> {
    dense: &'a Dense,
    span: std::ops::Range<usize>,
    from: usize,
    gates: usize,
    masks: Option<(&'a InputMask<'a>, &'a [usize])>,
    dout: &'a [f32],
    w: &'a [f32],
    dx: Target,
    scratch: &'a mut Buffer,
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

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    const AFFINE: Affine = Affine { scale: 1.0 / 127.5, shift: -1.0 };

    fn values(n: usize, purpose: &str) -> Vec<f32> {
        let mut rng = tt_core::rng::stream(4, purpose);
        (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect()
    }

    struct Case {
        features: usize,
        outputs: usize,
        lengths: Vec<usize>,
        gates: usize,
        frames: Vec<u8>,
        w: Vec<f32>,
        dout: Vec<f32>,
    }

    impl Case {
        fn new(features: usize, gates: usize, hidden: usize, lengths: &[usize]) -> Self {
            let n: usize = lengths.iter().sum();
            let mut rng = tt_core::rng::stream(5, "frames");
            Self {
                features,
                outputs: gates * hidden,
                lengths: lengths.to_vec(),
                gates,
                frames: (0..n * features).map(|_| rng.random()).collect(),
                w: values(features * gates * hidden, "w"),
                dout: values(n * gates * hidden, "dout"),
            }
        }

        /// out, dw, dx with the loops written out in f64.
        fn naive(&self, mask: Option<&InputMask<'_>>) -> [Vec<f64>; 3] {
            let (m, n, width) = (self.features, self.outputs, self.outputs / self.gates);
            let rows = self.frames.len() / m;
            let mut all = [vec![0.0; rows * n], vec![0.0; m * n], vec![0.0; rows * m]];
            let mut factors = vec![1.0; m];
            let clips: Vec<usize> =
                self.lengths.iter().enumerate().flat_map(|(clip, &t)| std::iter::repeat_n(clip, t)).collect();
            for (row, clip) in clips.into_iter().enumerate() {
                for gate in 0..self.gates {
                    if let Some(mask) = mask {
                        mask.fill(gate, clip, 0, &mut factors);
                    }
                    for i in 0..m {
                        let p = f64::from(self.frames[row * m + i]);
                        let f = f64::from(factors[i]);
                        let x = (p * f64::from(AFFINE.scale) + f64::from(AFFINE.shift)) * f;
                        for j in gate * width..(gate + 1) * width {
                            all[0][row * n + j] += x * f64::from(self.w[i * n + j]);
                            all[1][i * n + j] += x * f64::from(self.dout[row * n + j]);
                            all[2][row * m + i] +=
                                f * f64::from(self.w[i * n + j]) * f64::from(self.dout[row * n + j]);
                        }
                    }
                }
            }
            all
        }

        fn ours(&self, mask: Option<&InputMask<'_>>, isa: Isa, as_f32: bool) -> [Vec<f32>; 3] {
            let dense = Dense::with_isa(self.features, self.outputs, isa);
            let floats: Vec<f32> =
                self.frames.iter().map(|p| f32::from(*p).mul_add(AFFINE.scale, AFFINE.shift)).collect();
            let rows =
                if as_f32 { Rows::F32(&floats) } else { Rows::U8 { frames: &self.frames, affine: AFFINE } };
            let n = self.frames.len() / self.features;
            let mut out = vec![f32::NAN; n * self.outputs];
            let mut dw = vec![f32::NAN; self.w.len()];
            let mut dx = vec![f32::NAN; self.frames.len()];
            dense.forward(rows, mask, &self.w, &mut out).unwrap();
            dense.weight_gradient(rows, mask, &self.dout, &mut dw).unwrap();
            dense.input_gradient(&self.dout, mask, &self.w, &mut dx).unwrap();
            [out, dw, dx]
        }

        fn check(&self, probability: Option<f32>) {
            let mask = probability.map(|probability| InputMask {
                seed: 11,
                probability,
                gates: self.gates,
                lengths: &self.lengths,
            });
            let expected = self.naive(mask.as_ref());
            for isa in Isa::available() {
                for as_f32 in [false, true] {
                    for (what, (ours, naive)) in
                        self.ours(mask.as_ref(), isa, as_f32).iter().zip(&expected).enumerate()
                    {
                        let size = naive.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                        // A chain of k multiply-adds errs by about sqrt(k) roundings of its largest value.
                        let k = self.features.max(self.outputs).max(self.frames.len() / self.features);
                        let limit = f64::from(f32::EPSILON) * 4.0 * (k as f64).sqrt() * size;
                        for (a, b) in ours.iter().zip(naive) {
                            let error = (f64::from(*a) - b).abs();
                            assert!(error <= limit, "{what} on {}: {a} not {b}", isa.name());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn agrees_with_naive_loops() {
        for (features, gates, hidden, lengths) in [
            (1, 1, 1, &[1][..]),
            (7, 3, 5, &[2, 1, 4]),
            (193, 3, 43, &[60, 70]),
            (400, 4, 16, &[129]),
            (70, 1, 130, &[1100]),
            (64, 3, 32, &[16, 16]),
        ] {
            let case = Case::new(features, gates, hidden, lengths);
            case.check(None);
            case.check(Some(0.25));
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let case = Case::new(450, 3, 90, &[100, 40, 200]);
        let mask = InputMask { seed: 1, probability: 0.25, gates: 3, lengths: &case.lengths };
        for isa in Isa::available() {
            for mask in [None, Some(&mask)] {
                let run = |threads| {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                    pool.install(|| case.ours(mask, isa, false))
                };
                let one = run(1);
                for threads in [2, 3, 8] {
                    assert!(run(threads) == one, "{threads} threads");
                }
            }
        }
    }

    #[test]
    fn masks_drop_the_right_share_independently() {
        let mask = InputMask { seed: 9, probability: 0.25, gates: 3, lengths: &[1, 1] };
        let n = 57_600;
        let draw = |gate, clip| {
            let mut row = vec![0.0; n];
            mask.fill(gate, clip, 0, &mut row);
            row.iter().map(|m| f64::from(u8::from(*m == 0.0))).collect::<Vec<_>>()
        };
        let rows: Vec<_> = (0..6).map(|i| draw(i / 2, i % 2)).collect();
        // Standard deviation of a share: sqrt(0.25·0.75/n) = 0.0018; of a joint share: 0.001.
        for (i, a) in rows.iter().enumerate() {
            assert!((a.iter().sum::<f64>() / n as f64 - 0.25).abs() < 0.008);
            for b in &rows[..i] {
                let both = a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / n as f64;
                assert!((both - 0.0625).abs() < 0.005, "{both}");
            }
            for lag in [1, 2, 3, 480] {
                let both = a.iter().zip(&a[lag..]).map(|(a, b)| a * b).sum::<f64>() / n as f64;
                assert!((both - 0.0625).abs() < 0.005, "lag {lag}: {both}");
            }
        }
        let mut part = vec![0.0; 10];
        mask.fill(1, 1, 100, &mut part);
        assert!(part.iter().zip(&draw(1, 1)[100..]).all(|(m, dropped)| (*m == 0.0) == (*dropped == 1.0)));
        assert!(part.iter().all(|m| *m == 0.0 || *m == 4.0 / 3.0));
    }

    #[test]
    fn wrong_sizes_are_refused() {
        let dense = Dense::new(3, 2);
        assert!(dense.forward(Rows::F32(&[0.0; 7]), None, &[0.0; 6], &mut [0.0; 4]).is_err());
        assert!(dense.forward(Rows::F32(&[0.0; 6]), None, &[0.0; 5], &mut [0.0; 4]).is_err());
        assert!(dense.forward(Rows::F32(&[0.0; 6]), None, &[0.0; 6], &mut [0.0; 3]).is_err());
        let mask = InputMask { seed: 0, probability: 0.5, gates: 1, lengths: &[1] };
        assert!(dense.forward(Rows::F32(&[0.0; 6]), Some(&mask), &[0.0; 6], &mut [0.0; 4]).is_err());
    }
}
