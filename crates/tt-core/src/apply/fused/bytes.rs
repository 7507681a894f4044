//! The last two cores on bytes by digits: as one matrix forwards, and as the gradient of that matrix backwards.
//!
//! In f32 both cores one after the other cost least; a unit for bytes and digits does their product, a matrix of many
//! columns, in less time still, and the running tensor between them is never there. Bytes count from the whole number
//! that the affine map sends nearest to zero: what a shift and its opposite in the mean would lose to rounding is
//! subtracted in whole numbers.
//!
//! Frames are done in groups whose rows fill tiles. Forwards every row is its own, whatever its group; backwards the
//! columns of a group share a unit, and groups follow from the number of frames alone.

#![expect(unsafe_code, reason = "implements a kernel of vectors")]

use super::forward::{Call, Workspace};
use super::pack::Packed;
use super::panels::{ByDigits, GROUP_MOST, Panels};
use super::plan::Plan;
use crate::apply::{ByteRows, Row};
use crate::digits::{Product, TakeRows, Tiles};
use crate::simd::{Kernel, Simd};

impl Packed {
    /// The digits of the last two cores' product, from the cores that are packed already. Refuses what has no normal
    /// numbers in f32.
    pub(super) fn product(&mut self, plan: &Plan, by: ByDigits) -> bool {
        let mut taken = false;
        by.isa.run(TakeProduct { packed: self, plan, centre: by.centre, taken: &mut taken });
        taken
    }

    #[inline(always)]
    fn take_product(&mut self, plan: &Plan, centre: u8) -> bool {
        let [.., before, last] = &plan.steps[..] else { return false };
        let [.., before_core, last_core] = &self.forward[..] else { return false };
        let (columns, rank) = (before.columns, before.right);
        let row = before.rho * columns;
        let mut product = vec![0.0_f64; before.m * last.m * row]; // [(i, i'), (j, c)]
        let mut constants = vec![0.0_f64; row];
        for (at, to) in product.chunks_exact_mut(columns).enumerate() {
            let (i, i_last, j) = (at / before.rho / last.m, at / before.rho % last.m, at % before.rho);
            for a in 0..rank {
                let weight = f64::from(last_core[i_last * last.width + j * rank + a]);
                let from = &before_core[(i * rank + a) * before.width..][..columns];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * f64::from(*from));
            }
        }
        for (j, to) in constants.chunks_exact_mut(columns).enumerate() {
            for a in 0..before.m * rank {
                let weight = f64::from(self.centred_bias[j * rank + a % rank]);
                let from = &before_core[a * before.width..][..columns];
                to.iter_mut().zip(from).for_each(|(to, from)| *to += weight * f64::from(*from));
            }
        }
        self.product.take_weights(&product, row, row, centre, &constants)
    }
}

impl Call<'_> {
    /// T_{d-2} of some frames, each in its place among its `tensors`: T_1 and the following, or T_0 alone. What comes `ahead`
    /// is asked for meanwhile.
    pub(super) fn last_two_bytes(
        &self,
        unit: &mut dyn Tiles,
        by: ByDigits,
        (x, ahead): (ByteRows, ByteRows),
        tensors: &mut [f32],
        panels: &mut Panels,
    ) {
        let [.., step, last] = &self.plan.steps[..] else { return };
        let (rows, stride) = (x.count() * step.outer, self.tensors());
        let (depth, row) = (step.m * last.m, step.rho * step.columns);
        panels.bytes.take_rows(rows, depth, parts(x, depth));
        panels.places.clear();
        for frame in 0..x.count() {
            let first = frame * stride + step.saved;
            panels.places.extend((first..first + step.outer * row).step_by(row));
        }
        let ahead: [&[u8]; GROUP_MOST] =
            std::array::from_fn(|at| if at < ahead.count() { ahead.row(at) } else { &[] });
        by.isa.run(Product {
            unit,
            bytes: &panels.bytes,
            digits: &self.packed.product,
            places: &panels.places,
            to: tensors,
            add: false,
            ahead: ahead.split(|row| row.is_empty()).next().unwrap_or_default(),
            scratch: &mut panels.scratch,
        });
    }

    /// Numbers of a frame's running tensors, where there are two cores that of its outputs.
    fn tensors(&self) -> usize {
        if self.plan.steps.len() == 2 { self.plan.outputs } else { self.plan.saved }
    }

    /// [`Call::forward`] of bytes, for a train of two cores or more.
    pub(super) fn forward_bytes(
        &self,
        by: ByDigits,
        all: ByteRows,
        out: &mut [f32],
        saved: &mut [f32],
        work: &mut Workspace,
    ) {
        let (plan, stride, group) = (self.plan, self.tensors(), by.groups.forward);
        let mut own = std::mem::take(&mut work.frame);
        own.resize(group * stride);
        work.out.resize(plan.outputs);
        let mut unit = by.unit.start();
        for (index, out) in out.chunks_mut(group * plan.outputs).enumerate() {
            let (first, frames) = (index * group, out.len() / plan.outputs);
            let x = all.rows(first, frames);
            let kept = saved.len().saturating_sub(first * plan.saved).min(frames * plan.saved);
            // A group that is not kept whole is computed apart.
            let apart = kept < frames * stride;
            let tensors =
                if apart { &mut own[..frames * stride] } else { &mut saved[first * stride..][..kept] };
            let after = first + frames;
            let ahead = all.rows(after, group.min(all.count() - after));
            self.last_two_bytes(&mut *unit, by, (x, ahead), tensors, &mut work.panels);
            for (tensors, out) in tensors.chunks_exact_mut(stride).zip(out.chunks_exact_mut(plan.outputs)) {
                if plan.steps.len() == 2 {
                    self.natural(tensors, out);
                } else {
                    self.steps_to_first(tensors);
                    self.step(0, 1, &tensors[plan.steps[1].saved..], &mut work.out);
                    self.natural(&work.out, out);
                }
            }
            if apart && kept > 0 {
                saved[first * plan.saved..][..kept].copy_from_slice(&own[..kept]);
            }
        }
        work.frame = own;
    }

    /// [`Call::backward`] of bytes, for a train of two cores or more.
    pub(super) fn backward_bytes(
        &self,
        (by, x): (ByDigits, ByteRows),
        saved: &[f32],
        dout: &[f32],
        gradient: &mut [f32],
        mut dx: Option<&mut [f32]>,
        work: &mut Workspace,
    ) {
        let plan = self.plan;
        let ([.., step, last], Some(pair)) = (&plan.steps[..], plan.pair) else { return };
        let (features, row) = (step.m * last.m, step.rho * step.columns);
        let mut flow = std::mem::take(&mut work.flow);
        let mut own = std::mem::take(&mut work.frame);
        flow.resize(plan.flow);
        own.resize(plan.saved);
        let mut unit = by.unit.start();
        let group = by.groups.backward;
        for (index, dout) in dout.chunks(group * plan.outputs).enumerate() {
            let frames = dout.len() / plan.outputs;
            let mut back = std::mem::take(&mut work.panels.flow);
            let each = step.outer * step.rho * step.width;
            back.resize(frames * each);
            for (at, dout) in dout.chunks_exact(plan.outputs).enumerate() {
                let frame = index * group + at;
                let saved = saved.get(frame * plan.saved..(frame + 1) * plan.saved);
                let tensors = if let Some(tensors) = saved {
                    tensors
                } else if let Some(by) = self.by_digits {
                    let ahead = x.rows(frame + 1, usize::from(frame + 1 < x.count()));
                    self.last_two_bytes(
                        &mut *unit,
                        by,
                        (x.rows(frame, 1), ahead),
                        &mut own,
                        &mut work.panels,
                    );
                    self.steps_to_first(&mut own);
                    &own
                } else {
                    self.running(Row::U8(x.row(frame)), &mut own, None, work);
                    &own
                };
                let last = &mut back[at * each..][..each];
                self.first_back(tensors, dout, (&mut flow, last), gradient, &mut work.expanded);
                if let Some(dx) = &mut dx {
                    self.input_back(last, &mut dx[frame * plan.inputs..][..plan.inputs], work);
                }
            }
            let panels = &mut work.panels;
            close_gaps(&mut back, step.columns, step.width);
            let rows = &back[..frames * step.outer * row];
            by.isa.run(TakeRows { digits: &mut panels.digits, rows, columns: row, centre: by.centre });
            let x = x.rows(index * group, frames);
            panels.bytes.take_columns(frames * step.outer, features, parts(x, features));
            panels.places.clear();
            panels.places.extend((0..features).map(|feature| pair.start + feature * row));
            by.isa.run(Product {
                unit: &mut *unit,
                bytes: &panels.bytes,
                digits: &panels.digits,
                places: &panels.places,
                to: gradient,
                add: true,
                ahead: &[],
                scratch: &mut panels.scratch,
            });
            panels.flow = back;
        }
        (work.flow, work.frame) = (flow, own);
    }
}

/// The rows of `depth` bytes that frames have.
fn parts(frames: ByteRows<'_>, depth: usize) -> impl Iterator<Item = &[u8]> {
    (0..frames.count()).flat_map(move |at| frames.row(at).chunks_exact(depth))
}

/// Rows of `columns` numbers that lie `width` apart, one after the other.
fn close_gaps(rows: &mut [f32], columns: usize, width: usize) {
    if columns < width {
        for row in 1..rows.len() / width {
            rows.copy_within(row * width..row * width + columns, row * columns);
        }
    }
}

/// [`Packed::take_product`] with an instruction set.
struct TakeProduct<'a> {
    packed: &'a mut Packed,
    plan: &'a Plan,
    centre: u8,
    taken: &'a mut bool,
}

impl Kernel for TakeProduct<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        *self.taken = self.packed.take_product(self.plan, self.centre);
    }
}
