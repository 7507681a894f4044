//! Products of vectors of the left with vectors of the right.
//!
//! The last axes of the left, which stay in the result, are its vectors. The right is packed as `[summed, columns, lanes]`:
//! its common axes are among the lanes, and for those that it does not have it is repeated. Nothing is then transposed, in
//! no direction. The result has the other free axes of the left, then the columns, then the lanes.
#![expect(unsafe_code, reason = "hands pointers into checked buffers to the micro-kernels")]

use super::axes::{Axes, Level, Packing, Planned, Vectors, offsets};
use crate::apply::fused::drive::lanewise;
use crate::apply::fused::micro::{Kernels, Lanewise};

/// Numbers of the packed right at most: more would not stay in the nearest caches.
const PACKED: usize = 16_384;

/// A contraction as products `[rows, summed, lanes] · [summed, columns, lanes]`.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Where each value of the outer free axes begins in the left and in the result.
    outer: Vec<(usize, usize)>,
    /// The innermost free axis that is no lane, and where it is in the result.
    rows: Level,
    /// The axis that is summed over.
    summed: Level,
    columns: usize,
    /// Lanes, and the same in whole vectors.
    across: usize,
    width: usize,
    kernels: &'static Kernels,
}

impl Lanes {
    /// The cheapest choice of lanes, if the axes allow one.
    pub(super) fn step(axes: &Axes, vectors: Vectors, first: bool) -> Option<Planned<Self>> {
        let common = |label: &usize| axes.right.contains(label) && axes.kept(*label);
        let kept = axes.left.iter().rev().take_while(|label| axes.kept(**label)).count();
        let last = axes.left.iter().position(common).unwrap_or(axes.left.len());
        (axes.left.len() - kept..axes.left.len())
            .filter(|start| *start <= last)
            .rev()
            .filter_map(|start| Self::from(start, axes, vectors, first))
            .reduce(|best, step| if step.cost < best.cost { step } else { best })
    }

    /// With the axes of the left from `start` on as lanes.
    fn from(start: usize, axes: &Axes, vectors: Vectors, first: bool) -> Option<Planned<Self>> {
        let (others, across) = axes.left.split_at(start);
        let (free, summed): (Vec<usize>, Vec<usize>) = others.iter().partition(|label| axes.kept(**label));
        let columns = axes.columns();
        let labels = [&free[..], &columns, across].concat();
        let (lanes, width) = (axes.count(across), axes.count(&columns));
        let (kernels, padded) = vectors.kernels(lanes);
        let mut free = axes.levels(&free, &labels);
        let rows = free.pop().unwrap_or(Level { extent: 1, left: 0, other: 0 });
        let packing =
            Packing { rows: axes.count(&summed) * width, columns: lanes, width: padded, places: Vec::new() };
        let [summed_level] = axes.levels(&summed, &summed)[..] else { return None };
        if packing.rows * packing.width > PACKED {
            return None;
        }
        let outer = offsets(&free);
        let products = (outer.len() * rows.extent * packing.rows) as f64 * vectors.fitting(lanes as f64).1;
        let places = axes.places(&[&summed[..], &columns, across].concat());
        let form =
            Self { outer, rows, summed: summed_level, columns: width, across: lanes, width: padded, kernels };
        Some(Planned {
            form,
            packing: Packing { places, ..packing },
            left_len: axes.count(axes.left),
            out_len: axes.count(&labels),
            labels,
            cost: products * if first { 2.0 } else { 3.0 },
        })
    }

    /// Lanes of the last vector.
    fn last(&self) -> usize {
        self.kernels.lanes - (self.width - self.across)
    }

    pub(super) fn forward(&self, left: &[f32], packed: &[f32], out: &mut [f32]) {
        for (from, to) in &self.outer {
            let m = Lanewise {
                x: left.as_ptr().wrapping_add(*from),
                x_row: self.rows.left,
                x_c: self.summed.left,
                y: packed.as_ptr(),
                y_row: self.width,
                y_c: self.columns * self.width,
                c: out.as_mut_ptr().wrapping_add(*to),
                c_x: self.rows.other,
                c_y: self.across,
                cs: self.summed.extent,
                vectors: self.width / self.kernels.lanes,
                groups: 1,
                last: self.last(),
                add: false,
            };
            // SAFETY: `Step` checked the lengths; vectors reach at most `SLACK` numbers beyond.
            unsafe { lanewise(self.kernels, &m, self.rows.extent, self.columns, false) }
        }
    }

    pub(super) fn right_gradient(&self, left: &[f32], dout: &[f32], dright: &mut [f32]) {
        for (from, to) in &self.outer {
            let m = Lanewise {
                x: left.as_ptr().wrapping_add(*from),
                x_row: self.summed.left,
                x_c: self.rows.left,
                y: dout.as_ptr().wrapping_add(*to),
                y_row: self.across,
                y_c: self.rows.other,
                c: dright.as_mut_ptr(),
                c_x: self.columns * self.width,
                c_y: self.width,
                cs: self.rows.extent,
                vectors: self.width / self.kernels.lanes,
                groups: 1,
                // What lies behind the lanes is the next ones' and is never read.
                last: self.kernels.lanes,
                add: true,
            };
            // SAFETY: as in `forward`.
            unsafe { lanewise(self.kernels, &m, self.summed.extent, self.columns, false) }
        }
    }

    pub(super) fn left_gradient(&self, dout: &[f32], packed: &[f32], dleft: &mut [f32]) {
        for (to, from) in &self.outer {
            let m = Lanewise {
                x: dout.as_ptr().wrapping_add(*from),
                x_row: self.rows.other,
                x_c: self.across,
                y: packed.as_ptr(),
                y_row: self.columns * self.width,
                y_c: self.width,
                c: dleft.as_mut_ptr().wrapping_add(*to),
                c_x: self.rows.left,
                c_y: self.summed.left,
                cs: self.columns,
                vectors: self.width / self.kernels.lanes,
                groups: 1,
                last: self.last(),
                add: false,
            };
            // SAFETY: as in `forward`.
            unsafe { lanewise(self.kernels, &m, self.rows.extent, self.summed.extent, false) }
        }
    }
}
