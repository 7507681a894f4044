//! The CPU kernel: one frame at a time through caches, vectors chosen at run time, threads over frames.
//!
//! Pixels of a block of rows are converted, multiplied by the last core and at once by the one before, so
//! that the largest intermediate never leaves the cache; the rest of a frame follows. The backward pass
//! computes that intermediate again instead of saving it, or, where that is cheaper, does without it: it adds
//! up the gradient of the last two cores' product and separates it once, at the end.
//!
//! Frames are cut into work items by their number alone, and the gradients of the items are added in
//! order: results do not depend on the number of threads, bit for bit.
//!
//! # Cost
//! Forward [`TtShape::macs_per_row`] multiply-accumulates a row; backward twice that, without the last
//! core's second product (`dx`) if no input gradient is asked for, plus the last core once more; through the
//! product of the last two cores `m_{d-1} m_d r_{d-2} n_{d-1} n_d` a row of theirs instead.
#![expect(clippy::needless_range_loop, reason = "indices of register blocks, unrolled by the compiler")]

mod backward;
pub(crate) mod drive;
mod forward;
pub(crate) mod micro;
mod pack;
mod plan;

use rayon::prelude::*;

use self::forward::{Call, Workspace};
use self::micro::{Kernels, kernels};
use self::pack::Packed;
use self::plan::Plan;
use super::{Affine, Rows, check, row_count};
use crate::simd::{Buffer, Pool};
use crate::{Result, TtShape};

pub use crate::simd::Isa;

/// What the forward pass keeps for the backward pass: the running tensor after each core but the first and
/// the last, of as many rows as there is room for; the backward pass computes those of the other rows again. Reusable;
/// grows to the largest batch seen.
#[derive(Debug)]
pub struct Saved {
    tensors: Buffer,
    rows: usize,
    room: usize,
}

impl Default for Saved {
    /// With room for 192 MiB: 4,096 frames of the paper's layers, more than a batch of common clips has.
    fn default() -> Self {
        Self::with_room(192 << 20)
    }
}

impl Saved {
    /// With room for so many bytes. What does not fit is computed again, to the same bits.
    pub fn with_room(bytes: usize) -> Self {
        Self { tensors: Buffer::default(), rows: 0, room: bytes / size_of::<f32>() }
    }

    /// Makes room for `rows` rows of `each` numbers, or as many as fit.
    fn grow(&mut self, rows: usize, each: usize) -> &mut [f32] {
        self.rows = rows;
        self.tensors.resize(rows.min(self.room / each.max(1)) * each);
        &mut self.tensors
    }

    /// What is kept of `count` rows from `start` on, of `each` numbers.
    fn of(&self, start: usize, count: usize, each: usize) -> &[f32] {
        let place = |row: usize| (row * each).min(self.tensors.len());
        &self.tensors[place(start)..place(start + count)]
    }

    /// Bytes held for the rows of the last forward pass.
    pub fn bytes(&self) -> usize {
        self.tensors.len() * size_of::<f32>()
    }
}

/// The fused TT layer of one shape, with its workspaces.
#[derive(Debug)]
pub struct Fused {
    plan: Plan,
    affine: Affine,
    isa: Isa,
    kernels: &'static Kernels,
    packed: Pool<Packed>,
    workspaces: Pool<Workspace>,
    gradients: Pool<Buffer>,
}

/// Frames of a work item: few enough to share, many enough to be worth a gradient buffer; at most 128 items.
pub(crate) fn item_rows(rows: usize) -> usize {
    rows.div_ceil(128).max(4)
}

/// A layer whose cores are packed once, on the thread that asks: for one row at a time, where handing work to threads and
/// packing would take as long as the product.
#[derive(Debug)]
pub struct FixedCores {
    layer: Fused,
    packed: Packed,
    work: Workspace,
}

impl FixedCores {
    /// As [`Fused::forward`]. Memory is taken by the first call, and not again.
    ///
    /// # Errors
    /// [`crate::Error::Size`] if a buffer does not fit, or there is no row.
    pub fn forward(&mut self, rows: Rows, out: &mut [f32]) -> Result<()> {
        let plan = &self.layer.plan;
        check("output", out.len(), row_count(rows.len(), plan.inputs)? * plan.outputs)?;
        self.layer.call(&self.packed).forward(rows, out, &mut [], &mut self.work);
        Ok(())
    }
}

impl Fused {
    /// The layer of a shape with the vectors that suit this machine and the shape best.
    pub fn new(shape: &TtShape, affine: Affine) -> Self {
        let widest = Isa::best();
        // Half-width vectors were measured 1.2 times slower where nothing is padded.
        let pays = |half: &Isa| {
            6 * Plan::padded_macs(shape, half.lanes()) < 5 * Plan::padded_macs(shape, widest.lanes())
        };
        Self::with_isa(shape, affine, widest.half().filter(pays).unwrap_or(widest))
    }

    /// The layer with a given instruction set.
    pub fn with_isa(shape: &TtShape, affine: Affine, isa: Isa) -> Self {
        let kernels = kernels(isa);
        Self {
            plan: Plan::new(shape, kernels.lanes),
            affine,
            isa,
            kernels,
            packed: Pool::default(),
            workspaces: Pool::default(),
            gradients: Pool::default(),
        }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes that [`Saved`] holds per row it keeps.
    pub fn saved_bytes_per_row(&self) -> usize {
        self.plan.saved * size_of::<f32>()
    }

    fn call<'a>(&'a self, packed: &'a Packed) -> Call<'a> {
        Call { plan: &self.plan, kernels: self.kernels, packed, shifted: self.affine.shift != 0.0 }
    }

    /// `out = (scale * rows + shift) W`.
    ///
    /// # Shapes
    /// `rows [n, M]`, `cores [L]`, `out [n, N]` (overwritten), the gate slowest within a row.
    ///
    /// # Errors
    /// [`crate::Error::Size`] if a buffer does not fit, or there is no row.
    pub fn forward(
        &self,
        rows: Rows,
        cores: &[f32],
        out: &mut [f32],
        saved: Option<&mut Saved>,
    ) -> Result<()> {
        let plan = &self.plan;
        let n = row_count(rows.len(), plan.inputs)?;
        check("cores", cores.len(), plan.params)?;
        check("output", out.len(), n * plan.outputs)?;
        let item = item_rows(n);
        self.packed.with(|packed| {
            packed.forward(plan, self.affine, cores);
            let call = self.call(packed);
            let input = |index: usize, outputs: usize| {
                rows.range(index * item * plan.inputs, outputs / plan.outputs * plan.inputs)
            };
            let saved = saved.map_or(&mut [][..], |saved| saved.grow(n, plan.saved));
            let kept = saved.par_chunks_mut((item * plan.saved).max(1));
            let others = (kept.len()..n.div_ceil(item)).into_par_iter().map(|_| <&mut [f32]>::default());
            out.par_chunks_mut(item * plan.outputs).zip(kept.chain(others)).enumerate().for_each(
                |(index, (out, saved))| {
                    self.workspaces.with(|work| call.forward(input(index, out.len()), out, saved, work));
                },
            );
        });
        Ok(())
    }

    /// The layer with cores that stay as they are, for few rows at a time.
    ///
    /// # Errors
    /// [`crate::Error::Size`] if the cores do not fit.
    pub fn fixed(self, cores: &[f32]) -> Result<FixedCores> {
        check("cores", cores.len(), self.plan.params)?;
        let mut packed = Packed::default();
        packed.forward(&self.plan, self.affine, cores);
        Ok(FixedCores { layer: self, packed, work: Workspace::default() })
    }

    /// Gradients of a loss whose gradient with respect to the output is `dout`.
    ///
    /// # Shapes
    /// `rows [n, M]` and `cores [L]` as in the forward pass that filled `saved`, `dout [n, N]`,
    /// `dcores [L]` and `dx [n, M]` (both overwritten; `dx` costs nothing unless asked for, and is with
    /// respect to the stored numbers).
    ///
    /// # Errors
    /// [`crate::Error::Size`] if a buffer does not fit, or there is no row.
    pub fn backward(
        &self,
        rows: Rows,
        cores: &[f32],
        saved: &Saved,
        dout: &[f32],
        dcores: &mut [f32],
        dx: Option<&mut [f32]>,
    ) -> Result<()> {
        let plan = &self.plan;
        let n = row_count(rows.len(), plan.inputs)?;
        check("cores", cores.len(), plan.params)?;
        check("output gradient", dout.len(), n * plan.outputs)?;
        check("core gradient", dcores.len(), plan.params)?;
        check("rows of the saved forward pass", saved.rows, n)?;
        check("saved tensors", saved.tensors.len(), n.min(saved.room / plan.saved.max(1)) * plan.saved)?;
        if let Some(dx) = &dx {
            check("input gradient", dx.len(), rows.len())?;
        }
        self.packed.with(|packed| {
            packed.forward(plan, self.affine, cores);
            packed.backward(plan, self.kernels.lanes, dx.is_some());
            self.gradients.with(|gradients| {
                self.items_back(&self.call(packed), rows, saved, dout, gradients, dx);
                let sums = pack::flow_sums(plan, packed, self.affine, dout);
                if let Some(pair) = plan.pair {
                    pack::separate(plan, packed, pair, &sums.before, gradients);
                }
                let shift = sums.last;
                pack::unpack(plan, self.affine, &gradients[..plan.gradient], &shift, dcores);
            });
        });
        Ok(())
    }

    /// Runs all items; the sum of their gradients ends in the first item's place.
    fn items_back(
        &self,
        call: &Call,
        rows: Rows,
        saved: &Saved,
        dout: &[f32],
        gradients: &mut Buffer,
        dx: Option<&mut [f32]>,
    ) {
        let plan = &self.plan;
        let n = dout.len() / plan.outputs;
        let item = plan.item_rows_back(n);
        let stride = plan.gradient.next_multiple_of(16);
        gradients.resize(n.div_ceil(item) * stride);
        let one = |index: usize, gradient: &mut [f32], dx: Option<&mut [f32]>| {
            let (start, count) = (index * item, item.min(n - index * item));
            gradient.fill(0.0);
            self.workspaces.with(|work| {
                call.backward(
                    rows.range(start * plan.inputs, count * plan.inputs),
                    saved.of(start, count, plan.saved),
                    &dout[start * plan.outputs..][..count * plan.outputs],
                    gradient,
                    dx,
                    work,
                );
            });
        };
        let items = gradients.par_chunks_mut(stride).enumerate();
        match dx {
            Some(dx) => items
                .zip(dx.par_chunks_mut(item * plan.inputs))
                .for_each(|((index, gradient), dx)| one(index, gradient, Some(dx))),
            None => items.for_each(|(index, gradient)| one(index, gradient, None)),
        }
        let (sum, others) = gradients.split_at_mut(stride);
        for other in others.chunks_exact(stride) {
            for (sum, value) in sum.iter_mut().zip(other) {
                *sum += value;
            }
        }
    }
}
