//! The axes of a contraction, the vectors of a machine, and what the forms of products have in common.

use crate::apply::fused::micro::{Kernels, kernels};
use crate::simd::Isa;

/// A set of labels or of cores.
pub(super) type Set = u64;
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

/// A contraction of tensors of known axes, its products in a form `F`.
#[derive(Debug)]
pub(super) struct Planned<F> {
    pub(super) form: F,
    pub(super) packing: Packing,
    pub(super) left_len: usize,
    pub(super) out_len: usize,
    /// The axes of the result.
    pub(super) labels: Vec<usize>,
    /// Operations on vectors, forwards and backwards.
    pub(super) cost: f64,
}

impl<F> Planned<F> {
    /// The same with the form in a wider type.
    pub(super) fn map<G>(self, wider: impl FnOnce(F) -> G) -> Planned<G> {
        let Self { form, packing, left_len, out_len, labels, cost } = self;
        Planned { form: wider(form), packing, left_len, out_len, labels, cost }
    }
}
