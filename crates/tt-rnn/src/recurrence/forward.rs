//! The forward pass of one group of clips.

#![expect(
    unsafe_code,
    reason = "vector loads and stores through pointers; the driver below sizes every buffer"
)]

use super::batch::split;
use super::pack::Packed;
use super::{Batch, Cell, Layout, Output, Saved, Workspace};
use rayon::prelude::*;
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
    /// `[H]` or `[T_b, H]`
    states: &'a mut [f32],
    /// Rows of [`Saved`]; empty when nothing is saved.
    hidden: &'a mut [f32],
    extra: &'a mut [f32],
    warm: &'a mut [f32],
}

/// Runs all groups.
#[expect(clippy::too_many_arguments, reason = "one caller, which has checked every size")]
pub(super) fn run(
    layout: &Layout,
    isa: Isa,
    workspace: &mut Workspace,
    x: &mut [f32],
    batch: &Batch<'_>,
    weights: &[f32],
    states: &mut [f32],
    saved: Option<&mut Saved>,
) {
    let save = saved.is_some();
    let mut nothing = Saved::default();
    let saved = saved.unwrap_or(&mut nothing);
    if save {
        saved.hidden.resize(batch.steps() * layout.hidden);
        saved.extra.resize(batch.steps() * layout.extra());
        saved.warm.resize(batch.warm_steps() * layout.row());
    }
    let clips = 0..batch.lengths.len();
    let kept = usize::from(save);
    let steps_of = |clip: usize| batch.lengths[clip] + batch.warm(clip);
    let x = split(x, clips.clone().map(|b| batch.lengths[b] * layout.row()));
    let states = split(states, clips.clone().map(|b| batch.states_of(b) * layout.hidden));
    let hidden = split(&mut saved.hidden, clips.clone().map(|b| kept * steps_of(b) * layout.hidden));
    let extra = split(&mut saved.extra, clips.clone().map(|b| kept * steps_of(b) * layout.extra()));
    let warm = split(&mut saved.warm, clips.clone().map(|b| kept * batch.warm(b) * layout.row()));
    let mut lanes: Vec<Option<Lane<'_>>> = x
        .into_iter()
        .zip(states)
        .zip(hidden)
        .zip(extra)
        .zip(warm)
        .enumerate()
        .map(|(clip, ((((x, states), hidden), extra), warm))| {
            let (warm_up, steps) = (batch.warm(clip), steps_of(clip));
            Some(Lane { clip, warm_up, steps, x, states, hidden, extra, warm })
        })
        .collect();

    let threads = rayon::current_num_threads();
    let groups = batch.groups(threads);
    workspace.packed.forward(layout, weights, batch.warm_x);
    workspace.groups.resize_with(workspace.groups.len().max(groups.len()), Buffer::default);
    let packed = &workspace.packed;
    let work: Vec<_> = groups
        .iter()
        .zip(&mut workspace.groups)
        .map(|(group, scratch)| {
            let lanes: Vec<_> = group.iter().filter_map(|&clip| lanes[clip].take()).collect();
            Group { layout, packed, batch, lanes, scratch, save }
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

/// Clips that walk through time together, longest first.
struct Group<'a, 'b> {
    layout: &'a Layout,
    packed: &'a Packed,
    batch: &'a Batch<'a>,
    lanes: Vec<Lane<'b>>,
    scratch: &'a mut Buffer,
    save: bool,
}

/// Pointers into the scratch memory; every row is `padded` long, zero beyond H.
#[derive(Clone, Copy)]
struct Scratch {
    /// h, `[rows, padded]`
    state: *mut f32,
    /// c of the LSTM, masked r∘h of the GRU, `[rows, padded]`
    extra: *mut f32,
    /// The masked h of each gate, `[masks, rows, padded]`, or h itself.
    masked: *mut f32,
    /// `h · U`, `[rows, G, padded]`
    sums: *mut f32,
}

impl Kernel for Group<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let layout = self.layout;
        let (rows, padded, gates) = (self.lanes.len(), layout.padded, layout.gates);
        let masks = self.masks();
        self.scratch.resize((2 + masks + gates) * rows * padded);
        self.scratch.fill(0.0);
        // SAFETY: the parts lie one after another inside the buffer just sized.
        unsafe {
            let state = self.scratch.as_mut_ptr();
            let extra = state.add(rows * padded);
            let masked = if masks == 0 { state } else { extra.add(rows * padded) };
            let sums = extra.add((1 + masks) * rows * padded);
            let scratch = Scratch { state, extra, masked, sums };
            let mut active = rows;
            let steps = self.lanes.first().map_or(0, |lane| lane.steps);
            for step in 0..steps {
                while self.lanes[active - 1].steps <= step {
                    active -= 1;
                }
                self.step::<S>(scratch, step, active);
                if self.batch.output == Output::Sequence {
                    self.keep_states(scratch, step, active);
                }
            }
            for (r, lane) in self.lanes.iter_mut().enumerate().filter(|_| self.batch.output == Output::Last) {
                let h = std::slice::from_raw_parts(state.add(r * padded), layout.hidden);
                lane.states.copy_from_slice(h);
            }
        }
    }
}

/// Full vectors of a row of `h` units, then the rest: `$n` of them at unit `$j`.
macro_rules! units {
    ($S:ty, $h:expr, $j:ident, $n:ident, $body:block) => {{
        let mut $j = 0;
        while $j + <$S>::LANES <= $h {
            let $n = <$S>::LANES;
            $body
            $j += <$S>::LANES;
        }
        if $j < $h {
            let $n = $h - $j;
            $body
        }
    }};
}
pub(super) use units;

/// `n` values, the other lanes zero.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(p: *const f32, n: usize) -> S::V {
    // SAFETY: the caller vouches for `n` numbers; only a whole vector is read as one.
    unsafe { if n == S::LANES { S::load(p) } else { S::load_partial(p, n) } }
}

/// The first `n` lanes.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(p: *mut f32, v: S::V, n: usize) {
    // SAFETY: the caller vouches for `n` numbers; only a whole vector is written as one.
    unsafe { if n == S::LANES { S::store(p, v) } else { S::store_partial(p, v, n) } }
}

#[inline(always)]
unsafe fn gate<S: Simd>(hard: bool, x: S::V) -> S::V {
    // SAFETY: arithmetic on registers; the caller has the instruction set.
    unsafe { if hard { math::hard_sigmoid::<S>(x) } else { math::sigmoid::<S>(x) } }
}

/// One row of one step.
struct Row {
    /// Pre-activations, `[G, H]`
    x: *const f32,
    /// Where activations go when they are kept, `[G, H]`
    out: Option<*mut f32>,
    bias: *const f32,
    sums: *mut f32,
    state: *mut f32,
    extra: *mut f32,
}

impl Group<'_, '_> {
    /// Copies of h with different masks: none, one, or one for each gate that meets h.
    fn masks(&self) -> usize {
        match self.batch.masks {
            super::Masks::None => 0,
            super::Masks::Shared(_) => 1,
            super::Masks::PerGate(_) => self.gates_on_state(),
        }
    }

    /// Gates whose product is with h: all but the candidate of the GRU.
    fn gates_on_state(&self) -> usize {
        if self.layout.cell == Cell::Gru { 2 } else { self.layout.gates }
    }

    #[inline(always)]
    unsafe fn step<S: Simd>(&mut self, scratch: Scratch, step: usize, active: usize) {
        let Layout { cell, hard, hidden, padded, .. } = *self.layout;
        let rows = self.lanes.len();
        // SAFETY: `active` is at most the number of lanes, and each of them has a row of every part of the scratch; `extra` of
        // a lane holds H numbers a step.
        unsafe {
            self.keep_and_mask::<S>(scratch, step, active);
            let per_gate = self.masks() > 1;
            for gate in 0..self.gates_on_state() {
                let a = scratch.masked.add(if per_gate { gate * rows * padded } else { 0 });
                self.multiply::<S>(scratch, a, gate, active);
            }
            for r in 0..active {
                self.prefetch::<S>(step + 1, r);
                let row = self.row(scratch, step, r);
                match cell {
                    Cell::Rnn => rnn::<S>(&row, hidden),
                    Cell::Lstm => lstm::<S>(&row, hard, hidden, padded),
                    Cell::Gru => {
                        let mask = self.batch.mask(2, self.lanes[r].clip, hidden);
                        gru_gates::<S>(&row, hard, hidden, padded, mask);
                        if self.save {
                            let to = self.lanes[r].extra[step * hidden..].as_mut_ptr();
                            std::ptr::copy_nonoverlapping(row.extra, to, hidden);
                        }
                    }
                }
            }
            if cell == Cell::Gru {
                self.multiply::<S>(scratch, scratch.extra, 2, active);
                for r in 0..active {
                    gru_candidate::<S>(&self.row(scratch, step, r), hidden, padded);
                }
            }
        }
    }

    /// Returns the states after a step.
    unsafe fn keep_states(&mut self, scratch: Scratch, step: usize, active: usize) {
        let Layout { hidden, padded, .. } = *self.layout;
        for (r, lane) in self.lanes.iter_mut().enumerate().take(active) {
            let Some(frame) = step.checked_sub(lane.warm_up) else { continue };
            // SAFETY: `r` is a row of the scratch memory, `padded >= hidden` long.
            let h = unsafe { std::slice::from_raw_parts(scratch.state.add(r * padded), hidden) };
            lane.states[frame * hidden..][..hidden].copy_from_slice(h);
        }
    }

    /// Saves the state before the step and makes its masked copies.
    #[inline(always)]
    unsafe fn keep_and_mask<S: Simd>(&mut self, scratch: Scratch, step: usize, active: usize) {
        let Layout { cell, hidden, padded, .. } = *self.layout;
        let (rows, masks) = (self.lanes.len(), self.masks());
        for (r, lane) in self.lanes.iter_mut().enumerate().take(active) {
            // SAFETY: `r` is a lane with rows `padded >= H` long in the scratch; saved rows and masks hold H numbers.
            unsafe {
                let state = scratch.state.add(r * padded);
                if self.save {
                    let at = step * hidden;
                    std::ptr::copy_nonoverlapping(state, lane.hidden[at..].as_mut_ptr(), hidden);
                    if cell == Cell::Lstm {
                        let from = scratch.extra.add(r * padded);
                        std::ptr::copy_nonoverlapping(from, lane.extra[at..].as_mut_ptr(), hidden);
                    }
                }
                for gate in 0..masks {
                    let Some(mask) = self.batch.mask(gate, lane.clip, hidden) else { continue };
                    let to = scratch.masked.add((gate * rows + r) * padded);
                    units!(S, hidden, j, n, {
                        let m = load::<S>(mask.as_ptr().add(j), n);
                        store::<S>(to.add(j), S::mul(load::<S>(state.add(j), n), m), n);
                    });
                }
            }
        }
    }

    /// `sums[gate] = a · U_gate`
    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, scratch: Scratch, a: *const f32, gate: usize, active: usize) {
        let Layout { hidden, gates, panel, padded, .. } = *self.layout;
        let panels = padded / panel;
        for q in 0..panels {
            // SAFETY: `active` rows of `a` and of the sums, and panels packed for these sizes.
            unsafe {
                product::<S>(&Operands {
                    rows: active,
                    k: hidden,
                    a,
                    a_row: padded,
                    a_k: 1,
                    b: self.packed.panels.as_ptr().add((gate * panels + q) * hidden * panel),
                    c: scratch.sums.add(gate * padded + q * panel),
                    c_row: gates * padded,
                    columns: panel,
                    add: false,
                });
            }
        }
    }

    /// Asks for the input of a step to come.
    #[inline(always)]
    unsafe fn prefetch<S: Simd>(&self, step: usize, r: usize) {
        let (lane, width) = (&self.lanes[r], self.layout.row());
        if step >= lane.warm_up {
            // SAFETY: a hint, which faults on no address.
            unsafe { prefetch::<S>(lane.x.as_ptr().wrapping_add((step - lane.warm_up) * width), width) };
        }
    }

    #[inline(always)]
    unsafe fn row(&mut self, scratch: Scratch, step: usize, r: usize) -> Row {
        let Layout { gates, padded, .. } = *self.layout;
        let width = self.layout.row();
        let lane = &mut self.lanes[r];
        let (x, out) = if step < lane.warm_up {
            let out = self.save.then(|| lane.warm[step * width..].as_mut_ptr());
            (self.packed.warm_x.as_ptr(), out)
        } else {
            let row = lane.x[(step - lane.warm_up) * width..].as_mut_ptr();
            (row.cast_const(), self.save.then_some(row))
        };
        // SAFETY: `r` is a lane, which has a row in every part of the scratch.
        unsafe {
            Row {
                x,
                out,
                bias: self.packed.bias.as_ptr(),
                sums: scratch.sums.add(r * gates * padded),
                state: scratch.state.add(r * padded),
                extra: scratch.extra.add(r * padded),
            }
        }
    }
}

impl Row {
    /// `x + h·U + b` of one gate at unit `j`.
    #[inline(always)]
    unsafe fn input<S: Simd>(&self, gate: usize, h: usize, padded: usize, j: usize, n: usize) -> S::V {
        // SAFETY: unit `j + n` is at most H; bias and sums are padded to whole vectors.
        unsafe {
            let x = load::<S>(self.x.add(gate * h + j), n);
            let b = S::load(self.bias.add(gate * padded + j));
            S::add(S::load(self.sums.add(gate * padded + j)), S::add(x, b))
        }
    }

    #[inline(always)]
    unsafe fn keep<S: Simd>(&self, gate: usize, h: usize, j: usize, n: usize, v: S::V) {
        if let Some(out) = self.out {
            // SAFETY: unit `j + n` is at most H, and the row holds G gates of H.
            unsafe { store::<S>(out.add(gate * h + j), v, n) };
        }
    }
}

#[inline(always)]
unsafe fn rnn<S: Simd>(row: &Row, h: usize) {
    // SAFETY: `units` stays below H, and rows of the scratch are whole vectors long.
    unsafe {
        units!(S, h, j, n, {
            let y = math::tanh::<S>(row.input::<S>(0, h, 0, j, n));
            row.keep::<S>(0, h, j, n, y);
            store::<S>(row.state.add(j), y, n);
        });
    }
}

#[inline(always)]
unsafe fn lstm<S: Simd>(row: &Row, hard: bool, h: usize, padded: usize) {
    // SAFETY: `units` stays below H, and rows of the scratch are whole vectors long.
    unsafe {
        units!(S, h, j, n, {
            let i = gate::<S>(hard, row.input::<S>(0, h, padded, j, n));
            let f = gate::<S>(hard, row.input::<S>(1, h, padded, j, n));
            let g = math::tanh::<S>(row.input::<S>(2, h, padded, j, n));
            let o = gate::<S>(hard, row.input::<S>(3, h, padded, j, n));
            row.keep::<S>(0, h, j, n, i);
            row.keep::<S>(1, h, j, n, f);
            row.keep::<S>(2, h, j, n, g);
            row.keep::<S>(3, h, j, n, o);
            let c = S::fma(f, S::load(row.extra.add(j)), S::mul(i, g));
            store::<S>(row.extra.add(j), c, n);
            store::<S>(row.state.add(j), S::mul(o, math::tanh::<S>(c)), n);
        });
    }
}

/// z and r; leaves z in `sums` and the masked r∘h in `extra`.
#[inline(always)]
unsafe fn gru_gates<S: Simd>(row: &Row, hard: bool, h: usize, padded: usize, mask: Option<&[f32]>) {
    // SAFETY: `units` stays below H, the length of a mask; rows of the scratch are whole vectors long.
    unsafe {
        units!(S, h, j, n, {
            let z = gate::<S>(hard, row.input::<S>(0, h, padded, j, n));
            let r = gate::<S>(hard, row.input::<S>(1, h, padded, j, n));
            row.keep::<S>(0, h, j, n, z);
            row.keep::<S>(1, h, j, n, r);
            S::store(row.sums.add(j), z);
            let mut rh = S::mul(r, S::load(row.state.add(j)));
            if let Some(mask) = mask {
                rh = S::mul(rh, load::<S>(mask.as_ptr().add(j), n));
            }
            store::<S>(row.extra.add(j), rh, n);
        });
    }
}

/// c and the new state c + z∘(h - c).
#[inline(always)]
unsafe fn gru_candidate<S: Simd>(row: &Row, h: usize, padded: usize) {
    // SAFETY: `units` stays below H, and rows of the scratch are whole vectors long.
    unsafe {
        units!(S, h, j, n, {
            let c = math::tanh::<S>(row.input::<S>(2, h, padded, j, n));
            row.keep::<S>(2, h, j, n, c);
            let z = S::load(row.sums.add(j));
            let old = S::load(row.state.add(j));
            store::<S>(row.state.add(j), S::fma(z, S::sub(old, c), c), n);
        });
    }
}
