//! One contraction of two tensors: what is packed of the right one, and which of two forms the products have.
//!
//! The tensor on the left is read where it lies, so that the order of its axes costs nothing; the one on the right is
//! packed once a call. [`Panels`] multiplies numbers of the left with vectors of the right's own axes, [`Lanes`] vectors
//! of the left's last axes with vectors of the right. Each form takes vectors of the width that its numbers fill best.

use super::lanes::Lanes;
use super::panels::Panels;
use super::plan::Set;
use crate::apply::fused::micro::{Kernels, kernels};
use crate::simd::{Buffer, Isa};

/// Numbers behind a buffer that vectors may touch.
pub(super) const SLACK: usize = 64;
/// Cost of a vector of half the width, of which twice as many are executed at a time.
const HALF: f64 = 0.55;

/// The vectors of a machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vectors {
    wide: Isa,
    half: Option<Isa>,
}

impl Vectors {
    pub(super) fn of(isa: Isa) -> Self {
        Self { wide: isa, half: isa.half() }
    }

    /// The vectors that so many numbers side by side fill best, and the cost of an operation on them; one of the widest
    /// vectors costs 1.
    pub(super) fn fitting(self, numbers: f64) -> (Isa, f64) {
        let whole = |isa: Isa| (numbers / isa.lanes() as f64).ceil();
        match self.half {
            Some(half) if HALF * whole(half) < whole(self.wide) => (half, HALF * whole(half)),
            _ => (self.wide, whole(self.wide)),
        }
    }

    /// The kernels for so many numbers side by side, and the numbers in whole vectors.
    pub(super) fn kernels(self, numbers: usize) -> (&'static Kernels, usize) {
        let (isa, _) = self.fitting(numbers as f64);
        (kernels(isa), numbers.next_multiple_of(isa.lanes()))
    }
}

/// An axis, or neighbours that are one: how far apart its values are in the left tensor and in the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) extent: usize,
    pub(super) left: usize,
    pub(super) other: usize,
}

/// The axes of a contraction as it is planned.
pub(super) struct Axes<'a> {
    pub(super) left: &'a [usize],
    pub(super) right: &'a [usize],
    /// Of the result.
    pub(super) out: Set,
    /// What the next contraction sums over.
    pub(super) next: Set,
    pub(super) size: &'a dyn Fn(usize) -> usize,
}

impl Axes<'_> {
    pub(super) fn kept(&self, label: usize) -> bool {
        self.out >> label & 1 == 1
    }

    pub(super) fn count(&self, labels: &[usize]) -> usize {
        labels.iter().map(|label| (self.size)(*label)).product()
    }

    /// Those of the right alone; what the next contraction sums over comes last.
    pub(super) fn columns(&self) -> Vec<usize> {
        let mut columns: Vec<usize> =
            self.right.iter().copied().filter(|label| !self.left.contains(label)).collect();
        columns.sort_by_key(|label| self.next >> label & 1);
        columns
    }

    /// The distances of some axes in the left tensor and in another.
    pub(super) fn levels(&self, labels: &[usize], other: &[usize]) -> Vec<Level> {
        joined(labels.iter().map(|label| Level {
            extent: (self.size)(*label),
            left: self.stride(self.left, *label),
            other: self.stride(other, *label),
        }))
    }

    /// How far apart the values of an axis are in a row-major tensor of these axes; 0 in one that does not have it.
    pub(super) fn stride(&self, of: &[usize], label: usize) -> usize {
        of.iter().position(|other| *other == label).map_or(0, |place| self.count(&of[place + 1..]))
    }

    /// Place in the right of all values of some axes, slowest first.
    pub(super) fn places(&self, labels: &[usize]) -> Vec<u32> {
        let level = |label: &usize| (self.stride(self.right, *label), (self.size)(*label));
        labels.iter().map(level).fold(vec![0], |before, (stride, extent)| {
            before.iter().flat_map(|at| (0..extent).map(move |i| at + (i * stride) as u32)).collect()
        })
    }
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

/// All values of some axes, slowest first: where each is in the left tensor and in the other.
pub(super) fn offsets(levels: &[Level]) -> Vec<(usize, usize)> {
    levels.iter().fold(vec![(0, 0)], |before, level| {
        let values = |(x, y)| (0..level.extent).map(move |i| (x + i * level.left, y + i * level.other));
        before.into_iter().flat_map(values).collect()
    })
}

/// The right as it is packed: rows of numbers, each padded to whole vectors.
#[derive(Debug)]
pub(super) struct Packing {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) width: usize,
    /// Place in the right of each number.
    pub(super) places: Vec<u32>,
}

/// The form of a contraction's products.
#[derive(Debug)]
pub(super) enum Form {
    Panels(Panels),
    Lanes(Lanes),
}

/// A contraction of tensors of known axes.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) form: Form,
    pub(super) packing: Packing,
    pub(super) left_len: usize,
    pub(super) out_len: usize,
    /// The axes of the result.
    pub(super) labels: Vec<usize>,
    /// Operations on vectors, forwards and backwards.
    pub(super) cost: f64,
}

/// A contraction of a tensor so far (`left`: a merged one, or the row) with `right`, a core or a merged one.
#[derive(Debug)]
pub(super) struct Contraction {
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) step: Step,
}

impl Step {
    /// In the cheapest form; of the `first` step, whose left is the row itself, a gradient is rarely asked for.
    pub(super) fn new(axes: &Axes, vectors: Vectors, first: bool) -> Self {
        let panels = Panels::step(axes, vectors, first);
        match Lanes::step(axes, vectors, first) {
            Some(lanes) if lanes.cost < panels.cost => lanes,
            _ => panels,
        }
    }

    /// Numbers of the packed right, and of its gradient.
    pub(super) fn packed_len(&self) -> usize {
        self.packing.rows * self.packing.width
    }

    /// Packs the right for [`Step::forward`].
    pub(super) fn pack(&self, right: &[f32], packed: &mut Buffer) {
        packed.resize(self.packed_len() + SLACK);
        let Packing { columns, width, places, .. } = &self.packing;
        for (row, places) in packed.chunks_exact_mut(*width).zip(places.chunks_exact(*columns)) {
            for (value, place) in row.iter_mut().zip(places) {
                *value = right[*place as usize];
            }
        }
    }

    /// Packs the right for [`Step::left_gradient`].
    pub(super) fn pack_back(&self, packed: &[f32], back: &mut Buffer) {
        match &self.form {
            Form::Panels(panels) => panels.pack_back(packed, back),
            Form::Lanes(_) => {
                back.resize(packed.len());
                back.copy_from_slice(packed);
            }
        }
    }

    /// Adds the gradient of the packed right to that of the right.
    pub(super) fn unpack(&self, gradient: &[f32], right: &mut [f32]) {
        let Packing { columns, width, places, .. } = &self.packing;
        for (row, places) in gradient.chunks_exact(*width).zip(places.chunks_exact(*columns)) {
            for (value, place) in row.iter().zip(places) {
                right[*place as usize] += *value;
            }
        }
    }

    /// `out = left · right`.
    pub(super) fn forward(&self, left: &[f32], packed: &[f32], out: &mut [f32]) {
        assert!(left.len() >= self.left_len && out.len() >= self.out_len + SLACK);
        assert!(packed.len() >= self.packed_len() + SLACK);
        match &self.form {
            Form::Panels(panels) => panels.forward(left, packed, out),
            Form::Lanes(lanes) => lanes.forward(left, packed, out),
        }
    }

    /// Adds to the gradient of the packed right.
    pub(super) fn right_gradient(&self, left: &[f32], dout: &[f32], dright: &mut [f32]) {
        assert!(left.len() >= self.left_len && dout.len() >= self.out_len + SLACK);
        assert!(dright.len() >= self.packed_len() + SLACK);
        match &self.form {
            Form::Panels(panels) => panels.right_gradient(left, dout, dright),
            Form::Lanes(lanes) => lanes.right_gradient(left, dout, dright),
        }
    }

    /// The gradient of the left, `back` being packed by [`Step::pack_back`].
    pub(super) fn left_gradient(&self, dout: &[f32], back: &[f32], dleft: &mut [f32], room: &mut Buffer) {
        assert!(dout.len() >= self.out_len && dleft.len() >= self.left_len + SLACK);
        match &self.form {
            Form::Panels(panels) => panels.left_gradient(dout, back, dleft, room),
            Form::Lanes(lanes) => lanes.left_gradient(dout, back, dleft),
        }
    }
}
