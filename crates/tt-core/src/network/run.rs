//! A planned network on the CPU, forward and backward.
//!
//! Cores that the plan merges are contracted once a call. Then every row is taken through all steps by itself, its bytes
//! converted on the way, and through the first steps in slices of its first mode, as far as that is not summed over: what
//! lies between the steps, the largest tensors of all, stays in cache. Threads work on runs of rows. Runs are cut by the number of rows alone and their
//! gradients added in order: results do not depend on the number of threads, bit for bit.
//!
//! The backward pass computes the first, largest tensors of a row again; it keeps of the last ones as many bytes as the
//! row of bytes itself has.

use super::axes::{SLACK, Vectors};
use super::build::{Builder, order};
use super::plan::{Indices, Objective, Plan};
use super::step::Contraction;
use super::{Core, Network};
use crate::Result;
use crate::apply::fused::item_rows;
use crate::apply::{Affine, Row, Rows, check};
use crate::simd::{Buffer, Isa, Kernel, Pool, Simd};
use rayon::prelude::*;
use std::ops::Range;

/// What the forward pass keeps of each row for the backward pass.
#[derive(Debug, Default)]
pub struct SavedRows {
    tensors: Buffer,
    rows: usize,
}

impl SavedRows {
    /// Bytes held for the rows of the last forward pass.
    pub fn bytes(&self) -> usize {
        self.tensors.len() * size_of::<f32>()
    }
}

/// The product `y = (scale · x + shift) W` of a network, with its workspaces.
#[derive(Debug)]
pub struct Contracted {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) params: usize,
    plan: Plan,
    pub(super) affine: Affine,
    isa: Isa,
    /// Where the cores lie in the weights: tensors 0 to the number of cores.
    pub(super) cores: Vec<Range<usize>>,
    /// The tensors behind them, in order.
    pub(super) merges: Vec<Contraction>,
    pub(super) steps: Vec<Contraction>,
    /// Slices of a row, and the first steps that are done slice by slice.
    pub(super) slices: usize,
    pub(super) sliced: usize,
    /// For each output in natural order its place in the last tensor.
    pub(super) order: Vec<u32>,
    /// The first step whose result is kept, and numbers kept a row.
    pub(super) kept: (usize, usize),
    prepared: Pool<Prepared>,
    workspaces: Pool<Workspace>,
    gradients: Pool<Buffer>,
}

/// The cores of one call.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) merged: Vec<Buffer>,
    /// For each merge, then each step: its right, for the forward pass and for the backward pass.
    pub(super) forward: Vec<Buffer>,
    pub(super) backward: Vec<Buffer>,
}

/// Scratch of one worker.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    pub(super) running: Running,
    pub(super) flow: [Buffer; 2],
    pub(super) slice_flow: [Buffer; 2],
    pub(super) room: Buffer,
}

/// A row as numbers and the results of its steps: the first ones of a slice, the others of the row.
#[derive(Debug, Default)]
pub(super) struct Running {
    pub(super) row: Buffer,
    pub(super) tensors: Vec<Buffer>,
    /// The first step whose result is of all slices, one after the other.
    pub(super) whole: usize,
}

/// A row as numbers.
struct Convert<'a> {
    row: Row<'a>,
    affine: Affine,
    to: &'a mut [f32],
}

impl Kernel for Convert<'_> {
    #[inline(always)]
    #[expect(unsafe_code, reason = "vectors of an instruction set chosen at run time")]
    unsafe fn run<S: Simd>(self) {
        let Affine { scale, shift } = self.affine;
        let whole = self.row.len() / S::LANES * S::LANES;
        assert!(self.to.len() >= self.row.len());
        // SAFETY: whole vectors inside the row and `to`; the caller vouches for the instruction set.
        unsafe {
            let (factor, term) = (S::splat(scale), S::splat(shift));
            for k in (0..whole).step_by(S::LANES) {
                let values = match self.row {
                    Row::U8(bytes) => S::load_u8(bytes.as_ptr().add(k)),
                    Row::F32(values) => S::load(values.as_ptr().add(k)),
                };
                S::store(self.to.as_mut_ptr().add(k), S::fma(values, factor, term));
            }
        }
        for k in whole..self.row.len() {
            self.to[k] = match self.row {
                Row::U8(bytes) => f32::from(bytes[k]),
                Row::F32(values) => values[k],
            }
            .mul_add(scale, shift);
        }
    }
}

impl Contracted {
    /// The network in the order that is fastest on this machine.
    pub fn new(network: &Network, affine: Affine) -> Self {
        let isa = Isa::best();
        Self::with_plan(network, affine, Plan::new(network, Objective::Time { isa }), isa)
    }

    /// The network in a given order, on vectors of this instruction set.
    ///
    /// # Panics
    /// For the order of another network.
    pub fn with_plan(network: &Network, affine: Affine, plan: Plan, isa: Isa) -> Self {
        let shown = |core: &Core| -> Vec<usize> {
            core.labels.iter().copied().filter(|label| network.labels()[*label].size > 1).collect()
        };
        let cores = network.cores();
        let tensors = cores.iter().enumerate().map(|(k, core)| (shown(core), 1 << k)).collect();
        let (indices, merges) = (Indices::new(network), Vec::new());
        let mut builder = Builder { network, indices, vectors: Vectors::of(isa), tensors, merges };
        let (steps, (sliced, slices), last) = builder.steps(&plan);
        let mut all = Self {
            inputs: network.in_features(),
            outputs: network.out_features(),
            params: network.params(),
            affine,
            isa,
            cores: (0..cores.len()).map(|k| network.range(k)).collect(),
            merges: builder.merges,
            order: order(network, &last),
            kept: (steps.len() - 1, 0),
            steps,
            slices,
            sliced,
            plan,
            prepared: Pool::default(),
            workspaces: Pool::default(),
            gradients: Pool::default(),
        };
        // The results of the last steps, but for the output.
        let most = network.in_features().div_ceil(4);
        while all.kept.0 > 0 {
            let more = all.kept.1 + all.result_len(all.kept.0 - 1);
            if more > most {
                break;
            }
            all.kept = (all.kept.0 - 1, more);
        }
        all
    }

    /// Numbers of the result of step `k` of a row.
    pub(super) fn result_len(&self, k: usize) -> usize {
        self.steps[k].step.out_len * if k < self.sliced { self.slices } else { 1 }
    }

    /// The order of contractions.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The instruction set in use; some steps may take half of its width.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes that [`SavedRows`] holds per row.
    pub fn saved_bytes_per_row(&self) -> usize {
        self.kept.1 * size_of::<f32>()
    }

    /// A tensor that is no row: a core or a merged one.
    pub(super) fn tensor<'a>(&self, cores: &'a [f32], merged: &'a [Buffer], tensor: usize) -> &'a [f32] {
        match self.cores.get(tensor) {
            Some(range) => &cores[range.clone()],
            None => &merged[tensor - self.cores.len()],
        }
    }

    fn contractions(&self) -> impl Iterator<Item = &Contraction> {
        self.merges.iter().chain(&self.steps)
    }

    /// Merges and packs the cores.
    pub(super) fn prepare(&self, cores: &[f32], backward: bool, prepared: &mut Prepared) {
        let Prepared { merged, forward, backward: back } = prepared;
        merged.resize_with(self.merges.len(), Buffer::default);
        forward.resize_with(self.merges.len() + self.steps.len(), Buffer::default);
        for (k, contraction) in self.contractions().enumerate() {
            let (before, after) = merged.split_at_mut(k.min(self.merges.len()));
            contraction.step.pack(self.tensor(cores, before, contraction.right), &mut forward[k]);
            if let Some(out) = after.first_mut() {
                let left = self.tensor(cores, before, contraction.left);
                out.resize(contraction.step.out_len + SLACK);
                contraction.step.forward(left, &forward[k], out);
            }
        }
        if backward {
            back.resize_with(forward.len(), Buffer::default);
            for ((contraction, forward), back) in self.contractions().zip(forward).zip(back) {
                contraction.step.pack_back(&forward[..contraction.step.packed_len()], back);
            }
        }
    }

    /// A row through the first `steps` steps; fewer than are sliced leave it as numbers.
    pub(super) fn through(&self, row: Row, steps: usize, prepared: &Prepared, running: &mut Running) {
        running.row.resize(self.inputs + SLACK);
        self.isa.run(Convert { row, affine: self.affine, to: &mut running.row });
        running.tensors.resize_with(self.steps.len(), Buffer::default);
        if steps >= self.sliced {
            for slice in 0..if self.sliced > 0 { self.slices } else { 0 } {
                self.steps(slice, 0..self.sliced, prepared, running);
            }
            self.steps(0, self.sliced..steps, prepared, running);
        }
    }

    /// Where the result of step `k` for a slice begins in its tensor.
    pub(super) fn start(&self, slice: usize, k: usize, whole: usize) -> usize {
        if (whole..self.sliced).contains(&k) { slice * self.steps[k].step.out_len } else { 0 }
    }

    /// The outputs of a row that has gone through all steps, in their natural order.
    pub(super) fn gather(&self, running: &Running, out: &mut [f32]) {
        let last = &running.tensors[self.steps.len() - 1];
        out.iter_mut().zip(&self.order).for_each(|(out, place)| *out = last[*place as usize]);
    }

    /// Some steps, of a slice where they are sliced.
    pub(super) fn steps(
        &self,
        slice: usize,
        steps: Range<usize>,
        prepared: &Prepared,
        running: &mut Running,
    ) {
        for k in steps {
            let step = &self.steps[k].step;
            let whole = running.whole;
            let (before, after) = running.tensors.split_at_mut(k);
            let left = match before.last() {
                Some(tensor) => &tensor[self.start(slice, k - 1, whole)..],
                None => &running.row[slice * step.left_len..],
            };
            let start = self.start(slice, k, whole);
            after[0].resize(if k < whole { step.out_len } else { self.result_len(k) } + SLACK);
            step.forward(left, &prepared.forward[self.merges.len() + k], &mut after[0][start..]);
        }
    }

    /// `out = (scale · rows + shift) W`.
    ///
    /// # Shapes
    /// `rows [n, M]`, `cores [L]`, `out [n, G·N]` (overwritten), the gate slowest within a row.
    ///
    /// # Errors
    /// [`crate::Error::Size`] if a buffer does not fit, or there is no row.
    pub fn forward(
        &self,
        rows: Rows,
        cores: &[f32],
        out: &mut [f32],
        saved: Option<&mut SavedRows>,
    ) -> Result<()> {
        let n = rows.count(self.inputs)?;
        check("cores", cores.len(), self.params)?;
        check("output", out.len(), n * self.outputs)?;
        let (item, (first, kept)) = (item_rows(n), self.kept);
        let one = |prepared: &Prepared, index: usize, out: &mut [f32], mut saved: Option<&mut [f32]>| {
            self.workspaces.with(|work| {
                for (k, out) in out.chunks_exact_mut(self.outputs).enumerate() {
                    let row = rows.row(index * item + k, self.inputs);
                    let Workspace { running, .. } = &mut *work;
                    running.whole = first.min(self.sliced.saturating_sub(1));
                    self.through(row, self.steps.len(), prepared, running);
                    self.gather(running, out);
                    if let Some(saved) = &mut saved {
                        let mut rest = &mut saved[k * kept..][..kept];
                        for k in first..self.steps.len() - 1 {
                            let (to, after) = rest.split_at_mut(self.result_len(k));
                            to.copy_from_slice(&running.tensors[k][..to.len()]);
                            rest = after;
                        }
                    }
                }
            });
        };
        self.prepared.with(|prepared| {
            self.prepare(cores, false, prepared);
            let outs = out.par_chunks_mut(item * self.outputs).enumerate();
            match saved {
                Some(saved) => {
                    saved.rows = n;
                    saved.tensors.resize(n * kept);
                    if kept == 0 {
                        outs.for_each(|(index, out)| one(prepared, index, out, None));
                    } else {
                        outs.zip(saved.tensors.par_chunks_mut(item * kept))
                            .for_each(|((index, out), saved)| one(prepared, index, out, Some(saved)));
                    }
                }
                None => outs.for_each(|(index, out)| one(prepared, index, out, None)),
            }
        });
        Ok(())
    }

    /// Where the gradient of each step's right begins in an item's, and its length.
    fn gradient_places(&self) -> (Vec<usize>, usize) {
        let mut places = Vec::with_capacity(self.steps.len());
        let mut end = 0_usize;
        for Contraction { step, .. } in &self.steps {
            places.push(end);
            end += (step.packed_len() + SLACK).next_multiple_of(16);
        }
        (places, end)
    }

    /// Gradients of a loss whose gradient with respect to the output is `dout`.
    ///
    /// # Shapes
    /// `rows [n, M]` and `cores [L]` as in the forward pass that filled `saved`, `dout [n, G·N]`, `dcores [L]` and
    /// `dx [n, M]` (both overwritten; `dx` is with respect to the stored numbers).
    ///
    /// # Errors
    /// [`crate::Error::Size`] if a buffer does not fit, or there is no row.
    pub fn backward(
        &self,
        rows: Rows,
        cores: &[f32],
        saved: &SavedRows,
        dout: &[f32],
        dcores: &mut [f32],
        dx: Option<&mut [f32]>,
    ) -> Result<()> {
        let n = rows.count(self.inputs)?;
        check("cores", cores.len(), self.params)?;
        check("output gradient", dout.len(), n * self.outputs)?;
        check("core gradient", dcores.len(), self.params)?;
        check("rows of the saved forward pass", saved.rows, n)?;
        check("saved tensors", saved.tensors.len(), n * self.kept.1)?;
        if let Some(dx) = &dx {
            check("input gradient", dx.len(), rows.len())?;
        }
        let (places, length) = self.gradient_places();
        // At most 64 gradients, and not more than the rows are worth.
        let item = n.div_ceil(64).max(8);
        self.prepared.with(|prepared| {
            self.prepare(cores, true, prepared);
            self.gradients.with(|gradients| {
                gradients.resize(n.div_ceil(item) * length);
                let one = |index: usize, gradient: &mut [f32], mut dx: Option<&mut [f32]>| {
                    gradient.fill(0.0);
                    self.workspaces.with(|work| {
                        for k in index * item..n.min((index + 1) * item) {
                            let row = rows.row(k, self.inputs);
                            let saved = &saved.tensors[k * self.kept.1..][..self.kept.1];
                            let dout = &dout[k * self.outputs..][..self.outputs];
                            let first = index * item;
                            let dx =
                                dx.as_mut().map(|dx| &mut dx[(k - first) * self.inputs..][..self.inputs]);
                            self.row_back(row, prepared, (saved, dout), (gradient, &places), dx, work);
                        }
                    });
                };
                let items = gradients.par_chunks_mut(length).enumerate();
                match dx {
                    Some(dx) => items
                        .zip(dx.par_chunks_mut(item * self.inputs))
                        .for_each(|((index, gradient), dx)| one(index, gradient, Some(dx))),
                    None => items.for_each(|(index, gradient)| one(index, gradient, None)),
                }
                let (sum, others) = gradients.split_at_mut(length);
                for other in others.chunks_exact(length) {
                    sum.iter_mut().zip(other).for_each(|(sum, value)| *sum += value);
                }
                self.cores_back(cores, prepared, (sum, &places), dcores);
            });
        });
        Ok(())
    }
}
