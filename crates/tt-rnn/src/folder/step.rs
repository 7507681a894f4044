//! One step of a cell for one clip, on the CPU's vectors.

#![expect(unsafe_code, reason = "vectors over slices whose lengths are checked when a step begins")]

use crate::recurrence::{Cell, GateActivation};
use crate::row::RowProduct;
use tt_core::simd::math::{hard_sigmoid, sigmoid, tanh};
use tt_core::simd::{Kernel, Simd};

/// A step from `h` (LSTM: and `c`) to the state after a frame.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) cell: Cell,
    pub(super) activation: GateActivation,
    /// U `[H, G·H]`.
    pub(super) kernel: &'a [f32],
    /// Pre-activations `[G·H]` of the frame, bias included.
    pub(super) gates: &'a mut [f32],
    /// `[H]`
    pub(super) h: &'a mut [f32],
    /// The LSTM's cell `[H]`; of the GRU room for r∘h.
    pub(super) c: &'a mut [f32],
}

impl Step<'_> {
    #[inline(always)]
    unsafe fn gate<S: Simd>(&self, x: S::V) -> S::V {
        // SAFETY: arithmetic on registers; the caller has the instruction set.
        unsafe {
            match self.activation {
                GateActivation::HardSigmoid => hard_sigmoid::<S>(x),
                GateActivation::Sigmoid => sigmoid::<S>(x),
            }
        }
    }

    /// `gates[first..first + count] += from · U` of the same columns; `from` is h, or what stands in `c`.
    #[inline(always)]
    unsafe fn product<S: Simd>(&mut self, of_h: bool, first: usize, count: usize) {
        let (from, width) = (if of_h { &*self.h } else { &*self.c }, self.gates.len());
        let out = &mut self.gates[first..first + count];
        // SAFETY: the caller has the instruction set.
        unsafe { RowProduct::of(from, (self.kernel, width), first, out).run::<S>() };
    }
}

/// Numbers `at..` of a slice that belong to one vector, and how many.
#[inline(always)]
unsafe fn load<S: Simd>(from: &[f32], at: usize, count: usize) -> S::V {
    debug_assert!(at + count <= from.len());
    // SAFETY: the caller vouches for `count` numbers, at most a vector, and has the instruction set.
    unsafe {
        let from = from.as_ptr().add(at);
        if count == S::LANES { S::load(from) } else { S::load_partial(from, count) }
    }
}

#[inline(always)]
unsafe fn store<S: Simd>(to: &mut [f32], at: usize, value: S::V, count: usize) {
    debug_assert!(at + count <= to.len());
    // SAFETY: as for `load`.
    unsafe {
        let to = to.as_mut_ptr().add(at);
        if count == S::LANES { S::store(to, value) } else { S::store_partial(to, value, count) }
    }
}

impl Kernel for Step<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let n = self.h.len();
        assert!(self.c.len() == n && self.gates.len() == self.cell.gates() * n, "a state of the cell's size");
        // SAFETY: `at` and `count` of each vector are inside `h`, `c` and every block of `gates`, as was checked; the
        // caller has the instruction set.
        unsafe {
            let on_state = if self.cell == Cell::Gru { 2 } else { self.cell.gates() };
            self.product::<S>(true, 0, on_state * n);
            if self.cell == Cell::Gru {
                for at in (0..n).step_by(S::LANES) {
                    let count = S::LANES.min(n - at);
                    let r = self.gate::<S>(load::<S>(self.gates, n + at, count));
                    store::<S>(self.c, at, S::mul(r, load::<S>(self.h, at, count)), count);
                }
                self.product::<S>(false, 2 * n, n);
            }
            for at in (0..n).step_by(S::LANES) {
                self.next::<S>(at, S::LANES.min(n - at));
            }
        }
    }
}

impl Step<'_> {
    /// The state of units `at..at + count` from their gates.
    #[inline(always)]
    unsafe fn next<S: Simd>(&mut self, at: usize, count: usize) {
        let n = self.h.len();
        // SAFETY: the caller vouches for the units and has the instruction set.
        unsafe {
            let first = load::<S>(self.gates, at, count);
            let h = match self.cell {
                Cell::Rnn => tanh::<S>(first),
                Cell::Gru => {
                    let z = self.gate::<S>(first);
                    let candidate = tanh::<S>(load::<S>(self.gates, 2 * n + at, count));
                    // z·h + (1-z)·candidate
                    S::fma(z, S::sub(load::<S>(self.h, at, count), candidate), candidate)
                }
                Cell::Lstm => {
                    let i = self.gate::<S>(first);
                    let f = self.gate::<S>(load::<S>(self.gates, n + at, count));
                    let g = tanh::<S>(load::<S>(self.gates, 2 * n + at, count));
                    let o = self.gate::<S>(load::<S>(self.gates, 3 * n + at, count));
                    let c = S::fma(f, load::<S>(self.c, at, count), S::mul(i, g));
                    store::<S>(self.c, at, c, count);
                    S::mul(o, tanh::<S>(c))
                }
            };
            store::<S>(self.h, at, h, count);
        }
    }
}
