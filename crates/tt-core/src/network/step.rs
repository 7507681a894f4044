//! One contraction of two tensors as products of strided numbers with contiguous columns.
//!
//! The tensor on the left is read where it lies, a number at a time, so that the order of its axes costs nothing. The one
//! on the right is packed once a call: `[batch, summed, columns]`, columns padded to whole vectors. The result has the
//! free axes of the left in their order, then the common ones, then the columns.
#![expect(unsafe_code, reason = "hands pointers into checked buffers to the micro-kernels")]

use super::plan::Set;
use crate::apply::fused::drive::{RowCount, product};
use crate::apply::fused::micro::{Kernels, Product};
use crate::simd::Buffer;

/// Numbers behind a buffer that vectors may touch.
pub(super) const SLACK: usize = 64;

/// An axis, or neighbours that are one: how far apart its values are in the left tensor and in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Level {
    extent: usize,
    left: usize,
    other: usize,
}

/// A contraction of tensors of known axes.
#[derive(Debug)]
pub(super) struct Step {
    /// Axes of the left alone, and where they are in the result.
    free: Vec<Level>,
    /// Axes that are summed over, and their rows of the packed right.
    summed: Vec<Level>,
    /// Both as the forward pass goes through them: a row that comes alone shall take no memory.
    forward: (Vec<Row>, Vec<Sum>),
    /// Where each value of the common axes begins in the left and in the result.
    batch: Vec<(usize, usize)>,
    rows: usize,
    depth: usize,
    columns: usize,
    /// `columns` and `depth` in whole vectors.
    width: usize,
    back_width: usize,
    /// Place in the right of each packed number, `[batch, summed, columns]`.
    places: Vec<u32>,
    pub(super) left_len: usize,
    pub(super) out_len: usize,
    /// The axes of the result.
    pub(super) labels: Vec<usize>,
}

/// A contraction of a tensor so far (`left`: a merged one, or the row) with `right`, a core or a merged one.
#[derive(Debug)]
pub(super) struct Contraction {
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) step: Step,
}

/// Row-major distances of axes.
fn strides(labels: &[usize], size: impl Fn(usize) -> usize) -> Vec<usize> {
    let mut strides = vec![1; labels.len()];
    for k in (1..labels.len()).rev() {
        strides[k - 1] = strides[k] * size(labels[k]);
    }
    strides
}

/// Neighbouring axes that are one in both tensors become one.
fn joined(levels: impl IntoIterator<Item = Level>) -> Vec<Level> {
    let mut all: Vec<Level> = Vec::new();
    for level in levels {
        match all.last_mut() {
            Some(before)
                if before.left == level.extent * level.left && before.other == level.extent * level.other =>
            {
                *before = Level { extent: before.extent * level.extent, ..level };
            }
            _ => all.push(level),
        }
    }
    all
}

/// All values of some axes, slowest first: the sums of index times stride, for two lists of strides.
fn offsets(axes: &[(usize, usize, usize)]) -> Vec<(usize, usize)> {
    axes.iter().fold(vec![(0, 0)], |before, &(extent, a, b)| {
        before.iter().flat_map(|&(x, y)| (0..extent).map(move |i| (x + i * a, y + i * b))).collect()
    })
}

impl Step {
    /// Contracts tensors of these axes into one with the axes of `out`; those of `next` come last.
    pub(super) fn new(
        left: &[usize],
        right: &[usize],
        out: Set,
        next: Set,
        size: &dyn Fn(usize) -> usize,
        lanes: usize,
    ) -> Self {
        let kept = |label: &usize| out >> label & 1 == 1;
        let both: Vec<usize> = left.iter().copied().filter(|label| right.contains(label)).collect();
        let free: Vec<usize> = left.iter().copied().filter(|label| !right.contains(label)).collect();
        let (batch, summed): (Vec<usize>, Vec<usize>) = both.into_iter().partition(kept);
        let mut columns: Vec<usize> = right.iter().copied().filter(|label| !left.contains(label)).collect();
        columns.sort_by_key(|label| next >> label & 1);
        let labels = [&free[..], &batch, &columns].concat();
        let (of_left, of_out) = (strides(left, size), strides(&labels, size));
        let of_right = strides(right, size);
        let stride = |labels: &[usize], strides: &[usize], label: usize| {
            labels.iter().position(|other| *other == label).map_or(0, |place| strides[place])
        };
        let count = |labels: &[usize]| labels.iter().map(|label| size(*label)).product::<usize>();
        let row = strides(&summed, size);
        let level =
            |label: usize, other| Level { extent: size(label), left: stride(left, &of_left, label), other };
        let packed: Vec<(usize, usize, usize)> = [&batch[..], &summed, &columns]
            .concat()
            .iter()
            .map(|label| (size(*label), stride(right, &of_right, *label), 0))
            .collect();
        let common: Vec<(usize, usize, usize)> = batch
            .iter()
            .map(|label| (size(*label), stride(left, &of_left, *label), stride(&labels, &of_out, *label)))
            .collect();
        let (depth, columns) = (count(&summed), count(&columns));
        let width = columns.next_multiple_of(lanes);
        let rows = count(&free);
        let free = joined(free.iter().map(|label| level(*label, stride(&labels, &of_out, *label))));
        let summed = joined(summed.iter().zip(row).map(|(label, row)| level(*label, row)));
        let sum = |level: &Level| Sum { extent: level.extent, a: level.left, b: level.other * width };
        Self {
            forward: (free.iter().map(Row::of).collect(), summed.iter().map(sum).collect()),
            free,
            summed,
            batch: offsets(&common),
            rows,
            depth,
            columns,
            width,
            back_width: depth.next_multiple_of(lanes),
            places: offsets(&packed).into_iter().map(|(place, _)| place as u32).collect(),
            left_len: count(left),
            out_len: count(&labels),
            labels,
        }
    }

    /// Numbers of the packed right, and of its gradient.
    pub(super) fn packed_len(&self) -> usize {
        self.batch.len() * self.depth * self.width
    }

    /// Packs the right for [`Step::forward`].
    pub(super) fn pack(&self, right: &[f32], packed: &mut Buffer) {
        packed.resize(self.packed_len() + SLACK);
        for (row, places) in packed.chunks_exact_mut(self.width).zip(self.places.chunks_exact(self.columns)) {
            for (value, place) in row.iter_mut().zip(places) {
                *value = right[*place as usize];
            }
        }
    }

    /// Packs the right for [`Step::left_gradient`]: `[batch, columns, summed]`.
    pub(super) fn pack_back(&self, packed: &[f32], back: &mut Buffer) {
        let (rows, columns) = (self.depth * self.width, self.columns * self.back_width);
        back.resize(self.batch.len() * columns + SLACK);
        for (from, to) in packed.chunks_exact(rows).zip(back.chunks_exact_mut(columns)) {
            for (row, from) in from.chunks_exact(self.width).enumerate() {
                for (column, value) in from[..self.columns].iter().enumerate() {
                    to[column * self.back_width + row] = *value;
                }
            }
        }
    }

    /// The gradient of the packed right in the order of the right.
    pub(super) fn unpack(&self, gradient: &[f32], right: &mut [f32]) {
        for (row, places) in gradient.chunks_exact(self.width).zip(self.places.chunks_exact(self.columns)) {
            for (value, place) in row.iter().zip(places) {
                right[*place as usize] = *value;
            }
        }
    }

    /// `out = left · right`.
    pub(super) fn forward(&self, kernels: &Kernels, left: &[f32], packed: &[f32], out: &mut [f32]) {
        assert!(left.len() >= self.left_len && out.len() >= self.out_len + SLACK);
        assert!(packed.len() >= self.packed_len() + SLACK);
        let (rows, sums) = &self.forward;
        for (batch, (from, to)) in self.batch.iter().enumerate() {
            let panel = Panel {
                a: left.as_ptr().wrapping_add(*from),
                b: packed.as_ptr().wrapping_add(batch * self.depth * self.width),
                c: out.as_mut_ptr().wrapping_add(*to),
                columns: self.columns,
                add: false,
            };
            // SAFETY: the lengths were checked above; vectors reach at most `SLACK` numbers beyond.
            unsafe { panel.run(kernels, rows, sums) }
        }
    }

    /// Adds to the gradient of the packed right.
    pub(super) fn right_gradient(&self, kernels: &Kernels, left: &[f32], dout: &[f32], dright: &mut [f32]) {
        assert!(left.len() >= self.left_len && dout.len() >= self.out_len + SLACK);
        assert!(dright.len() >= self.packed_len() + SLACK);
        let rows: Vec<Row> = self
            .summed
            .iter()
            .map(|level| Row { extent: level.extent, a: level.left, c: level.other * self.width })
            .collect();
        let sums: Vec<Sum> = self
            .free
            .iter()
            .map(|level| Sum { extent: level.extent, a: level.left, b: level.other })
            .collect();
        for (batch, (from, to)) in self.batch.iter().enumerate() {
            let panel = Panel {
                a: left.as_ptr().wrapping_add(*from),
                b: dout.as_ptr().wrapping_add(*to),
                c: dright.as_mut_ptr().wrapping_add(batch * self.depth * self.width),
                columns: self.columns,
                add: true,
            };
            // SAFETY: as in `forward`.
            unsafe { panel.run(kernels, &rows, &sums) }
        }
    }

    /// The gradient of the left, `back` being packed by [`Step::pack_back`].
    pub(super) fn left_gradient(
        &self,
        kernels: &Kernels,
        dout: &[f32],
        back: &[f32],
        dleft: &mut [f32],
        room: &mut Buffer,
    ) {
        assert!(dout.len() >= self.out_len && dleft.len() >= self.left_len + SLACK);
        assert!(back.len() >= self.batch.len() * self.columns * self.back_width + SLACK);
        // What is summed over may be apart in the left; its products come side by side.
        let direct = matches!(self.summed[..], [] | [Level { left: 1, .. }]);
        room.resize(if direct { 0 } else { self.rows * self.depth + SLACK });
        let mut apart = self.rows * self.depth;
        let mut levels: Vec<(usize, usize, usize)> = self
            .free
            .iter()
            .map(|level| {
                apart /= level.extent;
                (level.extent, apart, level.left)
            })
            .collect();
        let rows: Vec<Row> = self
            .free
            .iter()
            .zip(&levels)
            .map(|(level, (_, apart, left))| Row {
                extent: level.extent,
                a: level.other,
                c: if direct { *left } else { *apart },
            })
            .collect();
        levels.extend(self.summed.iter().map(|level| (level.extent, level.other, level.left)));
        let sums = [Sum { extent: self.columns, a: 1, b: self.back_width }];
        for (batch, (to, from)) in self.batch.iter().enumerate() {
            let dleft = dleft.as_mut_ptr().wrapping_add(*to);
            let panel = Panel {
                a: dout.as_ptr().wrapping_add(*from),
                b: back.as_ptr().wrapping_add(batch * self.columns * self.back_width),
                c: if direct { dleft } else { room.as_mut_ptr() },
                columns: self.depth,
                add: false,
            };
            // SAFETY: as in `forward`; the levels are all values of the left at this batch.
            unsafe {
                panel.run(kernels, &rows, &sums);
                if !direct {
                    scatter(&levels, room.as_ptr(), dleft);
                }
            }
        }
    }
}

/// Copies numbers to other distances: for each axis its extent and both distances.
unsafe fn scatter(levels: &[(usize, usize, usize)], from: *const f32, to: *mut f32) {
    // SAFETY: the caller vouches for all values of the levels.
    unsafe {
        match *levels {
            [] => *to = *from,
            [(extent, 1, 1)] => std::ptr::copy_nonoverlapping(from, to, extent),
            [(extent, a, b)] => (0..extent).for_each(|i| *to.add(i * b) = *from.add(i * a)),
            [runs, (1, _, _)] => scatter(&[runs], from, to),
            [runs, (2, 1, 1)] => copy::<2>(runs, from, to),
            [runs, (3, 1, 1)] => copy::<3>(runs, from, to),
            [runs, (4, 1, 1)] => copy::<4>(runs, from, to),
            [runs, (5, 1, 1)] => copy::<5>(runs, from, to),
            [runs, (6, 1, 1)] => copy::<6>(runs, from, to),
            [runs, (7, 1, 1)] => copy::<7>(runs, from, to),
            [runs, (8, 1, 1)] => copy::<8>(runs, from, to),
            [(extent, a, b), (inner, c, d)] => {
                for i in 0..extent {
                    for j in 0..inner {
                        *to.add(i * b + j * d) = *from.add(i * a + j * c);
                    }
                }
            }
            [(extent, a, b), ref rest @ ..] => {
                (0..extent).for_each(|i| scatter(rest, from.add(i * a), to.add(i * b)));
            }
        }
    }
}

/// Copies runs of `N` numbers, a rank's: a call of `memcpy` for each would take longer than the product that made them.
unsafe fn copy<const N: usize>((extent, a, b): (usize, usize, usize), from: *const f32, to: *mut f32) {
    for i in 0..extent {
        // SAFETY: the caller vouches for `extent` runs on both sides.
        unsafe {
            let run = from.add(i * a).cast::<[f32; N]>().read_unaligned();
            to.add(i * b).cast::<[f32; N]>().write_unaligned(run);
        }
    }
}

/// An axis of rows: distances in A and C.
#[derive(Debug, Clone, Copy)]
struct Row {
    extent: usize,
    a: usize,
    c: usize,
}

impl Row {
    fn of(level: &Level) -> Self {
        Self { extent: level.extent, a: level.left, c: level.other }
    }
}

/// An axis that is summed over: distances in A and B.
#[derive(Debug, Clone, Copy)]
struct Sum {
    extent: usize,
    a: usize,
    b: usize,
}

/// `C [rows, columns] (+)= A [rows, sums] · B [sums, columns]`, rows and sums on any number of axes.
#[derive(Clone, Copy)]
struct Panel {
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    columns: usize,
    add: bool,
}

impl Panel {
    /// # Safety
    /// The axes must stay inside the buffers, vectors inside their slack.
    unsafe fn run(self, kernels: &Kernels, rows: &[Row], sums: &[Sum]) {
        // The kernels know two axes of each kind.
        if let [row, rows @ ..] = rows
            && rows.len() >= 2
        {
            for i in 0..row.extent {
                let part =
                    Self { a: self.a.wrapping_add(i * row.a), c: self.c.wrapping_add(i * row.c), ..self };
                // SAFETY: a part of the caller's rows.
                unsafe { part.run(kernels, rows, sums) }
            }
            return;
        }
        if let [sum, sums @ ..] = sums
            && sums.len() >= 2
        {
            for i in 0..sum.extent {
                let (a, b) = (self.a.wrapping_add(i * sum.a), self.b.wrapping_add(i * sum.b));
                // SAFETY: a part of the caller's sums.
                unsafe { Self { a, b, add: self.add || i > 0, ..self }.run(kernels, rows, sums) }
            }
            return;
        }
        let one = Row { extent: 1, a: 0, c: 0 };
        let (first, second) = match *rows {
            [] => (one, one),
            [row] => (row, one),
            [first, second, ..] => (first, second),
        };
        let once = Sum { extent: 1, a: 0, b: 0 };
        let (p, q) = match *sums {
            [] => (once, once),
            [sum] => (once, sum),
            [p, q, ..] => (p, q),
        };
        let mut m = Product {
            a: self.a,
            a_tile: 0,
            a_outer: first.a,
            a_inner: second.a,
            a_p: p.a,
            a_q: q.a,
            b: self.b,
            b_p: p.b,
            b_q: q.b,
            c: self.c,
            c_tile: 0,
            c_outer: first.c,
            c_inner: second.c,
            tiles: 1,
            ps: p.extent,
            qs: q.extent,
            last: 0,
            add: self.add,
            bias: std::ptr::null(),
            bytes: std::ptr::null(),
            ahead: std::ptr::null(),
            ahead_row: 0,
        };
        let count = if second.extent <= 4 {
            RowCount { outer: first.extent, inner: second.extent }
        } else {
            (m.tiles, m.a_tile, m.c_tile) = (first.extent, first.a, first.c);
            (m.a_outer, m.c_outer) = (second.a, second.c);
            RowCount { outer: second.extent, inner: 1 }
        };
        // SAFETY: the caller's axes.
        unsafe { product(kernels, &m, count, self.columns) }
    }
}
