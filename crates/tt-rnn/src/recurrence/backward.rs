//! Back-propagation through time of one group of clips: activations become gradients, in place.

#![expect(
    unsafe_code,
    reason = "vector loads and stores through pointers; the driver below sizes every buffer"
)]

use super::batch::split;
use super::forward::{load, store, units};
use super::pack::Packed;
use super::{Batch, Cell, Layout, Masks, Output, Saved, Workspace};
use rayon::prelude::*;
use std::ops::Range;
use tt_core::simd::product::{Operands, prefetch, product};
use tt_core::simd::{Buffer, Isa, Kernel, Simd, math};

/// One clip: its rows of everything.
struct Lane<'a> {
    clip: usize,
    /// W_b
    warm_up: usize,
    /// W_b + T_b
    steps: usize,
    /// `[T_b, G·H]`
    x: &'a mut [f32],
    /// `[W_b, G·H]`
    warm: &'a mut [f32],
    /// `[W_b + T_b, H]`
    hidden: &'a [f32],
    extra: &'a [f32],
    /// `[H]` or `[T_b, H]`
    dstates: &'a [f32],
}

/// Runs all groups; afterwards `x` and the warm-up rows of `saved` hold gradients.
#[expect(clippy::too_many_arguments, reason = "one caller, which has checked every size")]
pub(super) fn run(
    layout: &Layout,
    isa: Isa,
    workspace: &mut Workspace,
    x: &mut [f32],
    batch: &Batch<'_>,
    weights: &[f32],
    saved: &mut Saved,
    dstates: &[f32],
) {
    let clips = 0..batch.lengths.len();
    let x = split(x, clips.clone().map(|b| batch.lengths[b] * layout.row()));
    let warm = split(&mut saved.warm, clips.map(|b| batch.warm(b) * layout.row()));
    let (mut hidden, mut extra, mut dstates) = (&saved.hidden[..], &saved.extra[..], dstates);
    let mut lanes: Vec<Option<Lane<'_>>> = x
        .into_iter()
        .zip(warm)
        .enumerate()
        .map(|(clip, (x, warm))| {
            let warm_up = batch.warm(clip);
            let steps = batch.lengths[clip] + warm_up;
            let (own_hidden, rest) = hidden.split_at(steps * layout.hidden);
            hidden = rest;
            let (own_extra, rest) = extra.split_at(steps * layout.extra());
            extra = rest;
            let (own_dstates, rest) = dstates.split_at(batch.states_of(clip) * layout.hidden);
            dstates = rest;
            let (hidden, extra, dstates) = (own_hidden, own_extra, own_dstates);
            Some(Lane { clip, warm_up, steps, x, warm, hidden, extra, dstates })
        })
        .collect();

    let threads = rayon::current_num_threads();
    let groups = batch.groups(threads);
    workspace.packed.backward(layout, weights);
    workspace.groups.resize_with(workspace.groups.len().max(groups.len()), Buffer::default);
    let packed = &workspace.packed;
    let work: Vec<_> = groups
        .iter()
        .zip(&mut workspace.groups)
        .map(|(group, scratch)| {
            let lanes: Vec<_> = group.iter().filter_map(|&clip| lanes[clip].take()).collect();
            Group { layout, packed, batch, lanes, scratch }
        })
        .collect();
    if threads == 1 {
        for group in work {
            isa.run(group);
        }
    } else {
        work.into_par_iter().for_each(|group| isa.run(group));
    }
}

/// Clips that walk back through time together, longest first.
struct Group<'a, 'b> {
    layout: &'a Layout,
    packed: &'a Packed,
    batch: &'a Batch<'a>,
    lanes: Vec<Lane<'b>>,
    scratch: &'a mut Buffer,
}

/// Pointers into the scratch memory.
#[derive(Clone, Copy)]
struct Scratch {
    /// Gradient of h, `[rows, padded]`
    dh: *mut f32,
    /// Gradient of the LSTM's cell, `[rows, padded]`
    dc: *mut f32,
    /// Gradients of the pre-activations, `[rows, width]`, gates `H` apart.
    d: *mut f32,
    /// `d · U^T`, `[rows, padded]`
    product: *mut f32,
    /// G·H rounded up to whole panels.
    width: usize,
}

/// One row of one step.
struct Row<'a> {
    /// Activations in, gradients out, `[G, H]`
    x: *mut f32,
    d: *mut f32,
    dh: *mut f32,
    dc: *mut f32,
    product: *mut f32,
    /// The state before the step, `[H]`
    hidden: &'a [f32],
    /// The LSTM's cell before the step, `[H]`
    extra: &'a [f32],
    clip: usize,
}

impl Kernel for Group<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let layout = self.layout;
        let (rows, padded) = (self.lanes.len(), layout.padded);
        let width = layout.row().next_multiple_of(layout.panel);
        self.scratch.resize(rows * (3 * padded + width));
        self.scratch.fill(0.0);
        // SAFETY: the parts lie one after another inside the buffer just sized.
        unsafe {
            let dh = self.scratch.as_mut_ptr();
            let dc = dh.add(rows * padded);
            let product = dc.add(rows * padded);
            let scratch = Scratch { dh, dc, d: product.add(rows * padded), product, width };
            for (r, lane) in self.lanes.iter().enumerate().filter(|_| self.batch.output == Output::Last) {
                let dh = std::slice::from_raw_parts_mut(dh.add(r * padded), layout.hidden);
                dh.copy_from_slice(lane.dstates);
            }
            let mut active = 0;
            let steps = self.lanes.first().map_or(0, |lane| lane.steps);
            for step in (0..steps).rev() {
                while active < rows && self.lanes[active].steps > step {
                    active += 1;
                }
                if self.batch.output == Output::Sequence {
                    self.add_states::<S>(scratch, step, active);
                }
                self.step::<S>(scratch, step, active);
            }
        }
    }
}

/// The derivative of a gate from its value, times `d`.
#[inline(always)]
unsafe fn slope<S: Simd>(hard: bool, a: S::V, d: S::V) -> S::V {
    // SAFETY: arithmetic on registers; the caller has the instruction set.
    unsafe {
        let one = S::splat(1.0);
        if hard {
            let zero = S::splat(0.0);
            let inside = S::select_lt(a, one, S::splat(0.2), zero);
            S::mul(d, S::select_lt(zero, a, inside, zero))
        } else {
            S::mul(d, S::mul(a, S::sub(one, a)))
        }
    }
}

/// The derivative of tanh from its value, times `d`.
#[inline(always)]
unsafe fn tanh_slope<S: Simd>(a: S::V, d: S::V) -> S::V {
    // SAFETY: arithmetic on registers; the caller has the instruction set.
    unsafe { S::mul(d, S::sub(S::splat(1.0), S::mul(a, a))) }
}

impl Group<'_, '_> {
    #[inline(always)]
    unsafe fn step<S: Simd>(&mut self, scratch: Scratch, step: usize, active: usize) {
        let Layout { cell, hard, hidden, gates, .. } = *self.layout;
        let batch = self.batch;
        // SAFETY: `active` is at most the number of lanes, and each of them has a row of every part of the scratch.
        unsafe {
            for r in 0..active {
                self.prefetch::<S>(step, r);
                let row = self.row(scratch, step, r);
                match cell {
                    Cell::Rnn => rnn::<S>(&row, hidden),
                    Cell::Lstm => lstm::<S>(&row, hard, hidden),
                    Cell::Gru => gru_update::<S>(&row, hard, hidden),
                }
            }
            if cell == Cell::Gru {
                self.multiply::<S>(scratch, 2..3, active);
                for r in 0..active {
                    let row = self.row(scratch, step, r);
                    let mask = batch.mask(2, row.clip, hidden);
                    gru_reset::<S>(&row, hard, hidden, mask);
                }
            }
            let on_state = if cell == Cell::Gru { 2 } else { gates };
            match batch.masks {
                Masks::PerGate(_) => {
                    for gate in 0..on_state {
                        self.add_product::<S>(scratch, gate..gate + 1, step, active);
                    }
                }
                _ => self.add_product::<S>(scratch, 0..on_state, step, active),
            }
        }
    }

    /// `dh +=` the gradient of the states after a step.
    #[inline(always)]
    unsafe fn add_states<S: Simd>(&self, scratch: Scratch, step: usize, active: usize) {
        let Layout { hidden, padded, .. } = *self.layout;
        for (r, lane) in self.lanes.iter().enumerate().take(active) {
            let Some(frame) = step.checked_sub(lane.warm_up) else { continue };
            let d = &lane.dstates[frame * hidden..][..hidden];
            // SAFETY: `r` is a row of the scratch memory, `padded >= hidden` long; `d` holds `hidden` numbers.
            unsafe {
                let dh = scratch.dh.add(r * padded);
                units!(S, hidden, j, n, {
                    store::<S>(dh.add(j), S::add(S::load(dh.add(j)), load::<S>(d.as_ptr().add(j), n)), n);
                });
            }
        }
    }

    /// `dh += mask ∘ (d[gates] · U[gates]^T)`
    #[inline(always)]
    unsafe fn add_product<S: Simd>(
        &mut self,
        scratch: Scratch,
        gates: Range<usize>,
        step: usize,
        active: usize,
    ) {
        let (hidden, batch, gate) = (self.layout.hidden, self.batch, gates.start);
        // SAFETY: units below `hidden` of rows `padded` long; a mask holds `hidden` factors.
        unsafe {
            self.multiply::<S>(scratch, gates, active);
            for r in 0..active {
                let row = self.row(scratch, step, r);
                let mask = batch.mask(gate, row.clip, hidden);
                units!(S, hidden, j, n, {
                    let mut v = S::load(row.product.add(j));
                    if let Some(mask) = mask {
                        v = S::mul(v, load::<S>(mask.as_ptr().add(j), n));
                    }
                    store::<S>(row.dh.add(j), S::add(S::load(row.dh.add(j)), v), n);
                });
            }
        }
    }

    /// `product = d[gates] · U[gates]^T`
    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, scratch: Scratch, gates: Range<usize>, active: usize) {
        let Layout { hidden, panel, padded, .. } = *self.layout;
        let (from, k) = (gates.start * hidden, gates.len() * hidden);
        for q in 0..padded / panel {
            // SAFETY: `active` rows of `d` and of the product, and the panels of all gates, packed for these sizes.
            unsafe {
                product::<S>(&Operands {
                    rows: active,
                    k,
                    a: scratch.d.add(from),
                    a_row: scratch.width,
                    a_k: 1,
                    b: self.packed.panels.as_ptr().add((q * self.layout.row() + from) * panel),
                    c: scratch.product.add(q * panel),
                    c_row: padded,
                    columns: panel,
                    add: false,
                });
            }
        }
    }

    /// Asks for the rows of the step before this one, the next to come.
    #[inline(always)]
    unsafe fn prefetch<S: Simd>(&self, step: usize, r: usize) {
        let (lane, width) = (&self.lanes[r], self.layout.row());
        if step > lane.warm_up {
            // SAFETY: a hint, which faults on no address.
            unsafe {
                prefetch::<S>(lane.x.as_ptr().wrapping_add((step - 1 - lane.warm_up) * width), width);
                let (hidden, extra) = (self.layout.hidden, self.layout.extra());
                prefetch::<S>(lane.hidden.as_ptr().wrapping_add((step - 1) * hidden), hidden);
                if self.layout.cell == Cell::Lstm {
                    prefetch::<S>(lane.extra.as_ptr().wrapping_add((step - 1) * extra), extra);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn row(&mut self, scratch: Scratch, step: usize, r: usize) -> Row<'_> {
        let Layout { hidden, padded, .. } = *self.layout;
        let (width, extra) = (self.layout.row(), self.layout.extra());
        let lane = &mut self.lanes[r];
        let x = if step < lane.warm_up {
            lane.warm[step * width..].as_mut_ptr()
        } else {
            lane.x[(step - lane.warm_up) * width..].as_mut_ptr()
        };
        // SAFETY: `r` is a lane, which has a row in every part of the scratch.
        unsafe {
            Row {
                x,
                d: scratch.d.add(r * scratch.width),
                dh: scratch.dh.add(r * padded),
                dc: scratch.dc.add(r * padded),
                product: scratch.product.add(r * padded),
                hidden: &lane.hidden[step * hidden..(step + 1) * hidden],
                extra: &lane.extra[step * extra..(step + 1) * extra],
                clip: lane.clip,
            }
        }
    }
}

impl Row<'_> {
    #[inline(always)]
    unsafe fn activation<S: Simd>(&self, gate: usize, h: usize, j: usize, n: usize) -> S::V {
        // SAFETY: unit `j + n` is at most H, the length of a gate in a row of activations.
        unsafe { load::<S>(self.x.add(gate * h + j), n) }
    }

    /// Writes the gradient of one gate's pre-activation to its two places.
    #[inline(always)]
    unsafe fn put<S: Simd>(&self, gate: usize, h: usize, j: usize, n: usize, v: S::V) {
        // SAFETY: unit `j + n` is at most H; both rows hold G gates of H.
        unsafe {
            store::<S>(self.x.add(gate * h + j), v, n);
            store::<S>(self.d.add(gate * h + j), v, n);
        }
    }
}

#[inline(always)]
unsafe fn rnn<S: Simd>(row: &Row<'_>, h: usize) {
    // SAFETY: `units` stays below H; rows of the scratch are whole vectors long.
    unsafe {
        units!(S, h, j, n, {
            let d = tanh_slope::<S>(row.activation::<S>(0, h, j, n), S::load(row.dh.add(j)));
            row.put::<S>(0, h, j, n, d);
            S::store(row.dh.add(j), S::splat(0.0));
        });
    }
}

#[inline(always)]
unsafe fn lstm<S: Simd>(row: &Row<'_>, hard: bool, h: usize) {
    // SAFETY: `units` stays below H, the length of `extra`; rows of the scratch are whole vectors long.
    unsafe {
        units!(S, h, j, n, {
            let i = row.activation::<S>(0, h, j, n);
            let f = row.activation::<S>(1, h, j, n);
            let g = row.activation::<S>(2, h, j, n);
            let o = row.activation::<S>(3, h, j, n);
            let old = load::<S>(row.extra.as_ptr().add(j), n);
            let out = math::tanh::<S>(S::fma(f, old, S::mul(i, g)));
            let dh = S::load(row.dh.add(j));
            let dc = S::add(S::load(row.dc.add(j)), tanh_slope::<S>(out, S::mul(dh, o)));
            row.put::<S>(0, h, j, n, slope::<S>(hard, i, S::mul(dc, g)));
            row.put::<S>(1, h, j, n, slope::<S>(hard, f, S::mul(dc, old)));
            row.put::<S>(2, h, j, n, tanh_slope::<S>(g, S::mul(dc, i)));
            row.put::<S>(3, h, j, n, slope::<S>(hard, o, S::mul(dh, out)));
            S::store(row.dc.add(j), S::mul(dc, f));
            S::store(row.dh.add(j), S::splat(0.0));
        });
    }
}

/// Gradients of z and c; `dh` keeps the carry's part.
#[inline(always)]
unsafe fn gru_update<S: Simd>(row: &Row<'_>, hard: bool, h: usize) {
    // SAFETY: `units` stays below H, the length of `hidden`; rows of the scratch are whole vectors long.
    unsafe {
        units!(S, h, j, n, {
            let z = row.activation::<S>(0, h, j, n);
            let c = row.activation::<S>(2, h, j, n);
            let old = load::<S>(row.hidden.as_ptr().add(j), n);
            let dh = S::load(row.dh.add(j));
            row.put::<S>(0, h, j, n, slope::<S>(hard, z, S::mul(dh, S::sub(old, c))));
            let carry = S::mul(dh, z);
            row.put::<S>(2, h, j, n, tanh_slope::<S>(c, S::sub(dh, carry)));
            S::store(row.dh.add(j), carry);
        });
    }
}

/// Gradient of r, from the product of the candidate; `dh` gains the reset state's part.
#[inline(always)]
unsafe fn gru_reset<S: Simd>(row: &Row<'_>, hard: bool, h: usize, mask: Option<&[f32]>) {
    // SAFETY: `units` stays below H, the length of `hidden` and of a mask; rows of the scratch are whole
    // vectors long.
    unsafe {
        units!(S, h, j, n, {
            let r = row.activation::<S>(1, h, j, n);
            let old = load::<S>(row.hidden.as_ptr().add(j), n);
            let mut v = S::load(row.product.add(j));
            if let Some(mask) = mask {
                v = S::mul(v, load::<S>(mask.as_ptr().add(j), n));
            }
            row.put::<S>(1, h, j, n, slope::<S>(hard, r, S::mul(v, old)));
            S::store(row.dh.add(j), S::fma(v, r, S::load(row.dh.add(j))));
        });
    }
}
