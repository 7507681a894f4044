//! The backward pass of a work item.
#![expect(unsafe_code, reason = "hands pointers into checked buffers to the micro-kernels")]

use super::drive::{RowCount, lanewise, product};
use super::forward::{Ahead, Call, Workspace, as_f32, as_one};
use super::micro::{Lanewise, Product, Spread};
use super::pack::{NARROW, transposed_width};
use crate::apply::{ByteRows, Row, Rows};
use crate::simd::Buffer;

impl Call<'_> {
    /// Adds `dG_k [(i, a), c] += sum over (q, rho) of T_{k+1}[q, i, rho, a] dT_k[q, rho, c]`.
    fn core_gradient(&self, k: usize, q: usize, input: &[f32], flow: &[f32], gradient: &mut [f32]) {
        let step = &self.plan.steps[k];
        let gradient = &mut gradient[step.gradient..][..step.m * step.right * step.width];
        let per_q = step.m * step.right * step.rho;
        assert!(input.len() >= q * per_q && flow.len() >= q * step.rho * step.width);
        let mut m = Product {
            a: input.as_ptr(),
            a_tile: 0,
            a_outer: step.rho * step.right,
            a_inner: 1,
            a_p: per_q,
            a_q: step.right,
            b: flow.as_ptr(),
            b_p: step.rho * step.width,
            b_q: step.width,
            c: gradient.as_mut_ptr(),
            c_tile: 0,
            c_outer: step.right * step.width,
            c_inner: step.width,
            tiles: 1,
            ps: q,
            qs: step.rho,
            last: self.kernels.lanes,
            add: true,
            bias: std::ptr::null(),
            bytes: std::ptr::null(),
            ahead: std::ptr::null(),
            ahead_row: 0,
        };
        if step.rho == 1 {
            (m.ps, m.qs, m.a_q) = (1, q, per_q);
        }
        let rows = if step.right <= 4 {
            RowCount { outer: step.m, inner: step.right }
        } else {
            (m.tiles, m.a_tile, m.c_tile) = (step.right, 1, step.width);
            RowCount { outer: step.m, inner: 1 }
        };
        // SAFETY: the lengths were checked above.
        unsafe { product(self.kernels, &m, rows, step.width) }
    }

    /// Adds `dM [(i, i'), (rho, c)] += sum over q of x[q, i, i'] dT_{d-2}[q, rho, c]`, the gradient of the last
    /// two cores' product.
    fn pair_gradient(&self, q: usize, input: &[f32], ahead: Ahead, flow: &[f32], pair: &mut [f32]) {
        let step = &self.plan.steps[self.plan.steps.len() - 2];
        let (features, row) = (step.m * self.plan.last().m, step.rho * step.width);
        assert!(input.len() >= q * features && flow.len() >= q * row && pair.len() >= features * row);
        let m = Product {
            a: input.as_ptr(),
            a_tile: 0,
            a_outer: 1,
            a_inner: 0,
            a_p: 0,
            a_q: features,
            b: flow.as_ptr(),
            b_p: 0,
            b_q: row,
            c: pair.as_mut_ptr(),
            c_tile: 0,
            c_outer: row,
            c_inner: 0,
            tiles: 1,
            ps: 1,
            qs: q,
            last: self.kernels.lanes,
            add: true,
            bias: std::ptr::null(),
            bytes: std::ptr::null(),
            ahead: ahead.from,
            ahead_row: ahead.row,
        };
        // SAFETY: the lengths were checked above.
        unsafe { product(self.kernels, &m, RowCount { outer: features, inner: 1 }, row) }
    }

    /// `dT_{k+1} [q, i, rho', (j, a)] = sum over c of dT_k[q, (rho', j), c] G_k[i, a, c]`.
    fn flow_back(&self, k: usize, q: usize, from: &[f32], to: &mut [f32], expanded: &mut Buffer) {
        let (step, next) = (&self.plan.steps[k], &self.plan.steps[k + 1]);
        let narrow = step.right == NARROW;
        let width = transposed_width(self.plan, k, self.kernels.lanes);
        let weights = &self.packed.transposed[k];
        assert!(from.len() >= q * step.rho * step.width && to.len() >= q * step.m * next.rho * next.width);
        let row = step.columns * next.width;
        // With one row per q all q are done at once, else the rows of each q.
        let (tiles, xs, c_x) =
            if next.rho == 1 { (1, q, step.m * next.width) } else { (q, next.rho, next.width) };
        expanded.resize(xs * row + 16);
        for tile in 0..tiles {
            let from = &from[tile * step.rho * step.width..][..xs * next.n * step.width];
            let spread = Spread {
                rows: from.as_ptr(),
                stride: step.width,
                xs,
                n: next.n,
                rank: step.right,
                columns: step.columns,
                to: expanded.as_mut_ptr(),
                width: next.width,
            };
            // SAFETY: `from` holds the rows, `expanded` the lanes and some slack.
            unsafe { (self.kernels.spread)(&spread) };
            let to = &mut to[tile * step.m * next.rho * next.width..];
            let m = Lanewise {
                x: expanded.as_ptr(),
                x_row: row,
                x_c: next.width,
                y: weights.as_ptr(),
                y_row: step.columns * width,
                y_c: width,
                c: to.as_mut_ptr(),
                c_x,
                c_y: next.rho * next.width,
                cs: step.columns,
                vectors: next.width / self.kernels.lanes,
                groups: 1,
                last: self.kernels.lanes,
                add: false,
            };
            // SAFETY: the lengths were checked above.
            unsafe { lanewise(self.kernels, &m, xs, step.m, narrow) }
        }
    }

    /// `dx [rows, m_d] = dT_{d-1} G_d^T`.
    fn input_gradient(&self, rows: usize, flow: &[f32], dx: &mut [f32]) {
        let step = self.plan.last();
        let k = self.plan.steps.len() - 1;
        let width = transposed_width(self.plan, k, self.kernels.lanes);
        let weights = &self.packed.transposed[k];
        assert!(
            flow.len() >= rows * step.width
                && dx.len() >= rows * step.m
                && weights.len() >= step.columns * width
        );
        let m = Product {
            a: flow.as_ptr(),
            a_tile: 0,
            a_outer: step.width,
            a_inner: 0,
            a_p: 0,
            a_q: 1,
            b: weights.as_ptr(),
            b_p: 0,
            b_q: width,
            c: dx.as_mut_ptr(),
            c_tile: 0,
            c_outer: step.m,
            c_inner: 0,
            tiles: 1,
            ps: 1,
            qs: step.columns,
            last: 0,
            add: false,
            bias: std::ptr::null(),
            bytes: std::ptr::null(),
            ahead: std::ptr::null(),
            ahead_row: 0,
        };
        // SAFETY: the lengths were checked above.
        unsafe { product(self.kernels, &m, RowCount { outer: rows, inner: 1 }, step.m) }
    }

    /// Backward pass of some frames, of which the first are `saved`: adds to `gradient`, overwrites `dx` if wanted.
    pub(super) fn backward(
        &self,
        x: Rows,
        saved: &[f32],
        dout: &[f32],
        gradient: &mut [f32],
        mut dx: Option<&mut [f32]>,
        work: &mut Workspace,
    ) {
        let plan = self.plan;
        if let (Some(by), Some(bytes)) = (self.back_by_digits, x.bytes(plan.inputs)) {
            return self.backward_bytes((by, bytes), saved, dout, gradient, dx, work);
        }
        let first = &plan.steps[0];
        let mut flow = std::mem::take(&mut work.flow);
        if plan.steps.len() == 1 {
            let frames = dout.len() / plan.outputs;
            flow.resize(frames * first.width);
            for (to, from) in flow.chunks_exact_mut(first.width).zip(dout.chunks_exact(plan.outputs)) {
                to[..plan.outputs].copy_from_slice(from);
            }
            let x = as_one(self.kernels, x, plan.inputs, &mut work.last);
            let input = as_f32(self.kernels, x, &mut work.pixels);
            self.core_gradient(0, frames, input, &flow, gradient);
            if let Some(dx) = dx {
                self.input_gradient(frames, &flow, dx);
            }
        } else {
            flow.resize(plan.flow);
            let mut own = std::mem::take(&mut work.frame);
            own.resize(plan.saved);
            for (frame, dout) in dout.chunks_exact(plan.outputs).enumerate() {
                let x = x.row(frame, plan.inputs);
                let saved = saved.get(frame * plan.saved..(frame + 1) * plan.saved);
                let keep = saved.is_none() && plan.pair.is_none() && self.by_digits.is_none();
                let tensors = if let Some(tensors) = saved {
                    tensors
                } else {
                    self.again(x, &mut own, keep.then_some(plan.block_backward), work);
                    &own
                };
                let (before, last) = flow.split_at_mut(plan.steps[plan.steps.len() - 2].flow);
                self.first_back(tensors, dout, (before, &mut *last), gradient, &mut work.expanded);
                let dx = dx.as_mut().map(|dx| &mut dx[frame * plan.inputs..][..plan.inputs]);
                self.last_two_back(x, last, keep, gradient, dx, work);
            }
            work.frame = own;
        }
        work.flow = flow;
    }

    /// The running tensors of a frame as the forward pass had them, to the bit.
    pub(super) fn again(&self, x: Row, tensors: &mut [f32], keep: Option<usize>, work: &mut Workspace) {
        match (self.by_digits, x) {
            (Some(by), Row::U8(x)) => {
                let bytes = |bytes| ByteRows::Together(bytes, self.plan.inputs);
                let x = (bytes(x), bytes(&[]));
                self.last_two_bytes(&mut *by.unit.start(), by, x, tensors, &mut work.panels);
                self.steps_to_first(tensors);
            }
            _ => self.running(x, tensors, keep, work),
        }
    }

    /// All steps of a frame but the last two: from its output's gradient through dT_0 and the following, in `flow`, to
    /// dT_{d-2}, in `last`.
    pub(super) fn first_back(
        &self,
        tensors: &[f32],
        dout: &[f32],
        (flow, last): (&mut [f32], &mut [f32]),
        gradient: &mut [f32],
        expanded: &mut Buffer,
    ) {
        let steps = &self.plan.steps;
        let first = if steps.len() == 2 { &mut *last } else { &mut *flow };
        for (value, &place) in dout.iter().zip(&self.plan.padded_order) {
            first[place as usize] = *value;
        }
        for k in 0..steps.len() - 2 {
            let input = &tensors[steps[k + 1].saved..];
            let (from, to) = if k + 3 == steps.len() {
                (&*flow, &mut *last)
            } else {
                let (from, to) = flow.split_at_mut(steps[k + 1].flow);
                (&*from, to)
            };
            let from = &from[steps[k].flow..];
            self.core_gradient(k, steps[k].outer, input, from, gradient);
            self.flow_back(k, steps[k].outer, from, to, expanded);
        }
    }

    /// The last two steps of a frame, block by block: through the gradient of their product, or with `T_{d-1}`
    /// computed again unless it is `kept`.
    fn last_two_back(
        &self,
        x: Row,
        flow: &[f32],
        kept: bool,
        gradient: &mut [f32],
        mut dx: Option<&mut [f32]>,
        work: &mut Workspace,
    ) {
        let plan = self.plan;
        let k = plan.steps.len() - 2;
        let (step, last) = (&plan.steps[k], plan.last());
        for start in (0..step.outer).step_by(plan.block_backward) {
            let q = plan.block_backward.min(step.outer - start);
            let rows = q * step.m;
            let input = self.block(x, start, q);
            let from = &flow[start * step.rho * step.width..][..q * step.rho * step.width];
            let tensor = if kept {
                &mut work.last[self.kept(start)..][..rows * last.width]
            } else {
                work.last.resize(rows * last.width);
                &mut work.last[..]
            };
            if let Some(pair) = plan.pair {
                let ahead = Ahead::of(input, q);
                let input = as_f32(self.kernels, input, &mut work.pixels);
                self.pair_gradient(q, input, ahead, from, &mut gradient[pair.start..]);
                if dx.is_some() {
                    self.flow_back(k, q, from, tensor, &mut work.expanded);
                }
            } else {
                let input = if kept {
                    as_f32(self.kernels, input, &mut work.pixels)
                } else {
                    self.last_step(input, tensor, &mut work.pixels)
                };
                self.core_gradient(k, q, tensor, from, gradient);
                self.flow_back(k, q, from, tensor, &mut work.expanded);
                self.core_gradient(k + 1, rows, input, tensor, gradient);
            }
            if let Some(dx) = &mut dx {
                self.input_gradient(rows, tensor, &mut dx[start * step.m * last.m..][..rows * last.m]);
            }
        }
    }

    /// The input's gradient of a frame alone, block by block.
    pub(super) fn input_back(&self, flow: &[f32], dx: &mut [f32], work: &mut Workspace) {
        let (k, last) = (self.plan.steps.len() - 2, self.plan.last());
        let step = &self.plan.steps[k];
        for start in (0..step.outer).step_by(self.plan.block_backward) {
            let rows = self.plan.block_backward.min(step.outer - start) * step.m;
            let from = &flow[start * step.rho * step.width..];
            work.last.resize(rows * last.width);
            self.flow_back(k, rows / step.m, from, &mut work.last, &mut work.expanded);
            self.input_gradient(rows, &work.last, &mut dx[start * step.m * last.m..][..rows * last.m]);
        }
    }
}
