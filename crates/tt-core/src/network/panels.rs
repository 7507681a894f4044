//! Products of single numbers of the left with vectors of the right.
//!
//! The right is packed as `[batch, summed, columns]`, columns padded to whole vectors. The result has the free axes of the
//! left in their order, then the common ones, then the columns.
#![expect(unsafe_code, reason = "hands pointers into checked buffers to the micro-kernels")]

use super::axes::{Axes, Level, Packing, Planned, SLACK, Vectors, offsets};
use crate::apply::fused::drive::{RowCount, product};
use crate::apply::fused::micro::{Kernels, Product};
use crate::simd::Buffer;

/// Cost of bringing a number of the left's gradient into its place, in vector operations.
pub(super) const SCATTERED: f64 = 0.5;

/// A contraction as products `[rows, depth] · [depth, columns]`, one for each value of the common axes.
#[derive(Debug)]
pub(super) struct Panels {
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
    /// For the columns, and for the depth.
    kernels: &'static Kernels,
    back_kernels: &'static Kernels,
}

impl Panels {
    pub(super) fn step(axes: &Axes, vectors: Vectors, first: bool) -> Planned<Self> {
        let both = axes.left.iter().copied().filter(|label| axes.right.contains(label));
        let free: Vec<usize> =
            axes.left.iter().copied().filter(|label| !axes.right.contains(label)).collect();
        let (batch, summed): (Vec<usize>, Vec<usize>) = both.partition(|label| axes.kept(*label));
        let columns = axes.columns();
        let labels = [&free[..], &batch, &columns].concat();
        let places = axes.places(&[&batch[..], &summed, &columns].concat());
        let (rows, depth, values) = (axes.count(&free), axes.count(&summed), axes.count(&batch));
        let width = axes.count(&columns);
        let (kernels, padded) = vectors.kernels(width);
        let (back_kernels, back_width) = vectors.kernels(depth);
        let (free, summed) = (axes.levels(&free, &labels), axes.levels(&summed, &summed));
        let sum = |level: &Level| Sum { extent: level.extent, a: level.left, b: level.other * padded };
        let panels = Self {
            forward: (free.iter().map(Row::of).collect(), summed.iter().map(sum).collect()),
            free,
            summed,
            batch: offsets(&axes.levels(&batch, &labels)),
            rows,
            depth,
            columns: width,
            width: padded,
            back_width,
            kernels,
            back_kernels,
        };
        let each = |numbers: usize| vectors.fitting(numbers as f64).1;
        let mut cost = 2.0 * (rows * depth) as f64 * each(width);
        if !first {
            let scattered = if panels.direct() { 0.0 } else { SCATTERED * (rows * depth) as f64 };
            cost += (rows * width) as f64 * each(depth) + scattered;
        }
        Planned {
            form: panels,
            packing: Packing { rows: values * depth, columns: width, width: padded, places },
            left_len: axes.count(axes.left),
            out_len: axes.count(&labels),
            labels,
            cost: cost * values as f64,
        }
    }

    /// Whether what is summed over lies side by side in the left.
    fn direct(&self) -> bool {
        matches!(self.summed[..], [] | [Level { left: 1, .. }])
    }

    /// `[batch, columns, summed]` from `[batch, summed, columns]`.
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

    /// `out = left · right`.
    pub(super) fn forward(&self, left: &[f32], packed: &[f32], out: &mut [f32]) {
        let (rows, sums) = &self.forward;
        for (batch, (from, to)) in self.batch.iter().enumerate() {
            let panel = Panel {
                a: left.as_ptr().wrapping_add(*from),
                b: packed.as_ptr().wrapping_add(batch * self.depth * self.width),
                c: out.as_mut_ptr().wrapping_add(*to),
                columns: self.columns,
                add: false,
            };
            // SAFETY: `Step` checked the lengths; vectors reach at most `SLACK` numbers beyond.
            unsafe { panel.run(self.kernels, rows, sums) }
        }
    }

    /// Adds to the gradient of the packed right.
    pub(super) fn right_gradient(&self, left: &[f32], dout: &[f32], dright: &mut [f32]) {
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
            unsafe { panel.run(self.kernels, &rows, &sums) }
        }
    }

    /// The gradient of the left, `back` being packed by [`Step::pack_back`].
    pub(super) fn left_gradient(&self, dout: &[f32], back: &[f32], dleft: &mut [f32], room: &mut Buffer) {
        assert!(back.len() >= self.batch.len() * self.columns * self.back_width + SLACK);
        // What is summed over may be apart in the left; its products come side by side.
        let direct = self.direct();
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
                panel.run(self.back_kernels, &rows, &sums);
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
