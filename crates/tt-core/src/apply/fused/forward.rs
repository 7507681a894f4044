//! The forward pass of a work item, and the steps that both passes share.
#![expect(unsafe_code, reason = "hands pointers into checked buffers to the micro-kernels")]

use super::drive::{RowCount, product};
use super::micro::{Kernels, Product};
use super::pack::Packed;
use super::panels::{ByDigits, Panels};
use super::plan::Plan;
use crate::apply::{Row, Rows};
use crate::simd::Buffer;

/// Scratch of one worker.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// Pixels of a block as f32.
    pub(super) pixels: Buffer,
    /// `T_{d-1}` of a block, or of all blocks of a frame where it is kept, then its gradient.
    pub(super) last: Buffer,
    /// `T_1 … T_{d-2}` of a frame where nobody saves them.
    pub(super) frame: Buffer,
    /// `T_0` of a frame.
    pub(super) out: Buffer,
    /// Gradients dT_0 … dT_{d-2} of a frame.
    pub(super) flow: Buffer,
    /// Expanded rows of the lanewise product.
    pub(super) expanded: Buffer,
    /// Of products by digits.
    pub(super) panels: Panels,
}

/// What is common to all items of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) plan: &'a Plan,
    pub(super) kernels: &'static Kernels,
    pub(super) packed: &'a Packed,
    pub(super) shifted: bool,
    /// How bytes are multiplied forwards, if not as f32.
    pub(super) by_digits: Option<ByDigits>,
    /// The same backwards.
    pub(super) back_by_digits: Option<ByDigits>,
}

/// Input of a block as f32: a slice of the caller's rows, or converted pixels.
pub(super) fn as_f32<'a>(kernels: &Kernels, row: Row<'a>, pixels: &'a mut Buffer) -> &'a [f32] {
    match row {
        Row::F32(values) => values,
        Row::U8(values) => {
            pixels.resize(values.len());
            convert(kernels, values, pixels);
            pixels
        }
    }
}

fn convert(kernels: &Kernels, bytes: &[u8], to: &mut [f32]) {
    assert!(to.len() >= bytes.len());
    // SAFETY: both hold as many numbers as there are bytes.
    unsafe { (kernels.bytes)(bytes.as_ptr(), to.as_mut_ptr(), bytes.len()) };
}

/// All rows, of `width` numbers, as if they were one: those that lie apart are converted into `pixels`.
pub(super) fn as_one<'a>(kernels: &Kernels, rows: Rows<'a>, width: usize, pixels: &'a mut Buffer) -> Row<'a> {
    match rows {
        Rows::U8(values) => Row::U8(values),
        Rows::F32(values) => Row::F32(values),
        Rows::Apart(apart) => {
            pixels.resize(rows.len());
            for (at, to) in pixels.chunks_exact_mut(width).enumerate() {
                convert(kernels, apart.row(at), to);
            }
            Row::F32(pixels)
        }
    }
}

/// What to ask for while a product runs: `row` bytes with each of its rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    pub(super) from: *const u8,
    pub(super) row: usize,
}

impl Ahead {
    const NOTHING: Self = Self { from: std::ptr::null(), row: 0 };

    /// The input that comes after `x`, `each` numbers with every row; it need not exist.
    pub(super) fn of(x: Row, each: usize) -> Self {
        match x {
            Row::U8(values) => Self { from: values.as_ptr_range().end, row: each },
            Row::F32(values) => Self { from: values.as_ptr_range().end.cast(), row: 4 * each },
        }
    }
}

impl Call<'_> {
    /// The last step, `rows` of the input to `T_{d-1} [rows, c]`: pixels are converted on the way. Returns
    /// the input as f32.
    pub(super) fn last_step<'a>(&self, x: Row<'a>, to: &mut [f32], pixels: &'a mut Buffer) -> &'a [f32] {
        let (k, rows) = (self.plan.steps.len() - 1, x.len() / self.plan.last().m);
        let ahead = Ahead::of(x, self.plan.last().m);
        match x {
            Row::F32(values) => {
                // SAFETY: `values` holds the rows and is only read, as there are no bytes.
                unsafe { self.product_step(k, rows, values.as_ptr(), std::ptr::null(), ahead, to) };
                values
            }
            Row::U8(values) => {
                pixels.resize(values.len());
                // SAFETY: `pixels` and `values` hold the rows; nobody else looks at `pixels` meanwhile.
                unsafe { self.product_step(k, rows, pixels.as_mut_ptr(), values.as_ptr(), ahead, to) };
                pixels
            }
        }
    }

    /// Step k: `T_{k+1} [q, i, rho, a] -> T_k [q, rho, c]` for `q` values of q.
    pub(super) fn step(&self, k: usize, q: usize, from: &[f32], to: &mut [f32]) {
        let step = &self.plan.steps[k];
        assert!(from.len() >= q * step.m * step.right * step.rho);
        // SAFETY: `from` was checked and is only read, as there are no bytes.
        unsafe { self.product_step(k, q, from.as_ptr(), std::ptr::null(), Ahead::NOTHING, to) }
    }

    /// [`Call::step`] on `from`, first filled from `bytes` where that is not null.
    ///
    /// # Safety
    /// `from` and `bytes` must be valid for the rows, `from` for writing where there are bytes.
    unsafe fn product_step(
        &self,
        k: usize,
        q: usize,
        from: *const f32,
        bytes: *const u8,
        ahead: Ahead,
        to: &mut [f32],
    ) {
        let step = &self.plan.steps[k];
        let weights = &self.packed.forward[k];
        let (depth, row) = (step.m * step.right, step.rho * step.columns);
        assert!(to.len() >= q * row && weights.len() >= depth * step.width);
        let per_q = depth * step.rho;
        let mut m = Product {
            a: from,
            a_tile: 0,
            a_outer: per_q,
            a_inner: step.right,
            a_p: step.rho * step.right,
            a_q: 1,
            b: weights.as_ptr(),
            b_p: step.right * step.width,
            b_q: step.width,
            c: to.as_mut_ptr(),
            c_tile: 0,
            c_outer: row,
            c_inner: step.columns,
            tiles: 1,
            ps: step.m,
            qs: step.right,
            last: 0,
            add: false,
            bias: std::ptr::null(),
            bytes,
            ahead: ahead.from,
            ahead_row: ahead.row,
        };
        if self.shifted && k + 1 == self.plan.steps.len() {
            m.bias = self.packed.bias.as_ptr();
        }
        if step.rho == 1 || step.right == 1 {
            // i and a together are one evenly spaced index.
            (m.ps, m.qs, m.a_q) = (1, depth, step.rho);
        }
        let rows = if step.rho <= 4 {
            RowCount { outer: q, inner: step.rho }
        } else {
            (m.tiles, m.a_tile, m.c_tile) = (q, per_q, row);
            (m.a_outer, m.c_outer) = (step.right, step.columns);
            RowCount { outer: step.rho, inner: 1 }
        };
        // SAFETY: the caller vouches for the input; the other lengths were checked above.
        unsafe { product(self.kernels, &m, rows, step.columns) }
    }

    /// Forward pass of some frames: `out [frames, N]`; `saved [at most frames, plan.saved]` of the first of them.
    pub(super) fn forward(&self, x: Rows, out: &mut [f32], saved: &mut [f32], work: &mut Workspace) {
        let plan = self.plan;
        if let (Some(by), Some(bytes)) = (self.by_digits, x.bytes(plan.inputs)) {
            return self.forward_bytes(by, bytes, out, saved, work);
        }
        if plan.steps.len() == 1 {
            let frames = out.len() / plan.outputs;
            debug_assert_eq!(frames * plan.inputs, x.len());
            let x = as_one(self.kernels, x, plan.inputs, &mut work.last);
            self.last_step(x, out, &mut work.pixels);
            return;
        }
        let mut own = std::mem::take(&mut work.frame);
        own.resize(plan.saved);
        work.out.resize(plan.outputs);
        for (frame, out) in out.chunks_exact_mut(plan.outputs).enumerate() {
            let x = x.row(frame, plan.inputs);
            let tensors = saved.get_mut(frame * plan.saved..(frame + 1) * plan.saved).unwrap_or(&mut own);
            self.running(x, tensors, None, work);
            if plan.steps.len() > 2 {
                self.step(0, 1, &tensors[plan.steps[1].saved..], &mut work.out);
            }
            self.natural(&work.out, out);
        }
        work.frame = own;
    }

    /// Outputs in natural order from `T_0`.
    pub(super) fn natural(&self, from: &[f32], out: &mut [f32]) {
        for (value, &place) in out.iter_mut().zip(&self.plan.order) {
            *value = from[place as usize];
        }
    }

    /// `T_{d-2} … T_1` of a frame; with two cores that is `T_0`, in `work.out`. With `keep`, the size of a block,
    /// `T_{d-1}` of every block stays in `work.last`, where [`Call::kept`] says.
    pub(super) fn running(&self, x: Row, tensors: &mut [f32], keep: Option<usize>, work: &mut Workspace) {
        self.last_two(x, tensors, keep, work);
        self.steps_to_first(tensors);
    }

    /// `T_{d-3} … T_1` of a frame from `T_{d-2}`.
    pub(super) fn steps_to_first(&self, tensors: &mut [f32]) {
        let steps = &self.plan.steps;
        for k in (1..steps.len() - 2).rev() {
            let (before, after) = tensors.split_at_mut(steps[k + 1].saved);
            self.step(k, steps[k].outer, after, &mut before[steps[k].saved..]);
        }
    }

    /// Where `T_{d-1}` of the block from `start` on is kept: room for its gradient too.
    pub(super) fn kept(&self, start: usize) -> usize {
        start * self.plan.steps[self.plan.steps.len() - 2].m * self.plan.last().width
    }

    /// The input of `q` values of q from `start` on, of a frame.
    pub(super) fn block<'a>(&self, x: Row<'a>, start: usize, q: usize) -> Row<'a> {
        let each = self.plan.steps[self.plan.steps.len() - 2].m * self.plan.last().m;
        x.range(start * each, q * each)
    }

    /// The last two steps of a frame, block by block: `x -> T_{d-1} -> T_{d-2}`.
    fn last_two(&self, x: Row, tensors: &mut [f32], keep: Option<usize>, work: &mut Workspace) {
        let plan = self.plan;
        let k = plan.steps.len() - 2;
        let step = &plan.steps[k];
        let to = if k == 0 { &mut work.out[..] } else { &mut tensors[step.saved..] };
        let per_q = step.rho * step.columns;
        if keep.is_some() {
            work.last.resize(self.kept(step.outer));
        }
        let block = keep.unwrap_or(plan.block_forward);
        for start in (0..step.outer).step_by(block) {
            let q = block.min(step.outer - start);
            let input = self.block(x, start, q);
            if keep.is_none() {
                work.last.resize(q * step.m * plan.last().columns);
            }
            let last = &mut work.last[keep.map_or(0, |_| self.kept(start))..];
            self.last_step(input, last, &mut work.pixels);
            self.step(k, q, last, &mut to[start * per_q..]);
        }
    }
}
