//! A planned network on the CPU, forward and backward.
//!
//! Cores that the plan merges are contracted once a call. Then every row is taken through all steps by itself, in cache,
//! its bytes converted on the way; threads work on runs of rows. Runs are cut by the number of rows alone and their
//! gradients added in order: results do not depend on the number of threads, bit for bit.
//!
//! The backward pass computes the first, largest tensors of a row again; it keeps of the last ones as many bytes as the
//! row of bytes itself has.

use super::plan::{Indices, Merge, Objective, Plan, Set};
use super::step::{SLACK, Step};
use super::{Core, Network};
use crate::Result;
use crate::apply::fused::item_rows;
use crate::apply::fused::micro::{Kernels, kernels};
use crate::apply::{Affine, Rows, check, row_count};
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

/// A contraction of a tensor so far (`left`: a merged one, or the row) with `right`, a core or a merged one.
#[derive(Debug)]
struct Contraction {
    left: usize,
    right: usize,
    step: Step,
}

/// The product `y = (scale · x + shift) W` of a network, with its workspaces.
#[derive(Debug)]
pub struct Contracted {
    inputs: usize,
    outputs: usize,
    params: usize,
    plan: Plan,
    affine: Affine,
    isa: Isa,
    kernels: &'static Kernels,
    /// Where the cores lie in the weights: tensors 0 to the number of cores.
    cores: Vec<Range<usize>>,
    /// The tensors behind them, in order.
    merges: Vec<Contraction>,
    steps: Vec<Contraction>,
    /// For each output in natural order its place in the last tensor.
    order: Vec<u32>,
    /// The first step whose result is kept, and numbers kept a row.
    kept: (usize, usize),
    prepared: Pool<Prepared>,
    workspaces: Pool<Workspace>,
    gradients: Pool<Buffer>,
}

/// The cores of one call.
#[derive(Debug, Default)]
struct Prepared {
    merged: Vec<Buffer>,
    /// For each merge, then each step: its right, for the forward pass and for the backward pass.
    forward: Vec<Buffer>,
    backward: Vec<Buffer>,
}

/// Scratch of one worker.
#[derive(Debug, Default)]
struct Workspace {
    row: Buffer,
    tensors: Vec<Buffer>,
    flow: [Buffer; 2],
    room: Buffer,
}

/// A row as numbers.
struct Convert<'a> {
    row: Rows<'a>,
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
                    Rows::U8(bytes) => S::load_u8(bytes.as_ptr().add(k)),
                    Rows::F32(values) => S::load(values.as_ptr().add(k)),
                };
                S::store(self.to.as_mut_ptr().add(k), S::fma(values, factor, term));
            }
        }
        for k in whole..self.row.len() {
            self.to[k] = match self.row {
                Rows::U8(bytes) => f32::from(bytes[k]),
                Rows::F32(values) => values[k],
            }
            .mul_add(scale, shift);
        }
    }
}

/// The labels and contractions of a plan's merged tensors.
struct Builder<'a> {
    network: &'a Network,
    indices: Indices,
    lanes: usize,
    /// Labels and cores of every tensor.
    tensors: Vec<(Vec<usize>, Set)>,
    merges: Vec<Contraction>,
}

impl Builder<'_> {
    fn size(&self) -> impl Fn(usize) -> usize + '_ {
        |label| self.network.labels()[label].size
    }

    /// The number of a merged tensor.
    fn tensor(&mut self, merge: &Merge) -> usize {
        let (left, right) = match merge {
            Merge::Core(core) => return *core,
            Merge::Pair(left, right) => (self.tensor(left), self.tensor(right)),
        };
        // The longer run of columns to the right.
        let alone = |a: usize, b: usize| -> usize {
            let other = &self.tensors[b].0;
            self.tensors[a].0.iter().filter(|label| !other.contains(label)).map(|l| self.size()(*l)).product()
        };
        let (left, right) =
            if alone(left, right) > alone(right, left) { (right, left) } else { (left, right) };
        let cores = self.tensors[left].1 | self.tensors[right].1;
        let out = self.indices.of_cores(cores);
        let (from, to) = (&self.tensors[left].0, &self.tensors[right].0);
        let step = Step::new(from, to, out, 0, &self.size(), self.lanes);
        self.tensors.push((step.labels.clone(), cores));
        self.merges.push(Contraction { left, right, step });
        self.tensors.len() - 1
    }

    /// The steps of a row, and the labels of the last tensor.
    fn steps(&mut self, plan: &Plan) -> (Vec<Contraction>, Vec<usize>) {
        let rights: Vec<usize> = plan.steps.iter().map(|merge| self.tensor(merge)).collect();
        let shown = |label: &usize| self.network.labels()[*label].size > 1;
        let mut labels: Vec<usize> = self.network.inputs().iter().copied().filter(shown).collect();
        let (mut cores, mut steps) = (0, Vec::new());
        for (k, &right) in rights.iter().enumerate() {
            cores |= self.tensors[right].1;
            let out = self.indices.of_row(cores);
            // What the next step sums over is fastest in this one's result.
            let next =
                rights.get(k + 1).map_or(0, |next| out & !self.indices.of_row(cores | self.tensors[*next].1));
            let step = Step::new(&labels, &self.tensors[right].0, out, next, &self.size(), self.lanes);
            labels.clone_from(&step.labels);
            steps.push(Contraction { left: k, right, step });
        }
        (steps, labels)
    }
}

/// For each output in natural order its place in a tensor of these labels.
fn order(network: &Network, labels: &[usize]) -> Vec<u32> {
    let size = |label: usize| network.labels()[label].size;
    let mut places = vec![0];
    for &output in network.outputs() {
        let after = labels
            .iter()
            .position(|label| *label == output)
            .map_or(0, |at| labels[at + 1..].iter().map(|label| size(*label)).product::<usize>());
        places = places.iter().flat_map(|p| (0..size(output)).map(move |j| p + (j * after) as u32)).collect();
    }
    places
}

impl Contracted {
    /// The network on vectors that suit this machine and its columns best.
    pub fn new(network: &Network, affine: Affine) -> Self {
        let of = |isa: Isa| (isa, Plan::new(network, Objective::Time { lanes: isa.lanes() }));
        let widest = of(Isa::best());
        // Half-width vectors were measured 1.2 times slower where nothing is padded.
        let half = widest.0.half().map(of).filter(|half| 6.0 * half.1.cost < 5.0 * widest.1.cost);
        let (isa, plan) = half.unwrap_or(widest);
        Self::with_plan(network, affine, plan, isa)
    }

    /// The network in a given order.
    pub fn with_plan(network: &Network, affine: Affine, plan: Plan, isa: Isa) -> Self {
        let kernels = kernels(isa);
        let shown = |core: &Core| -> Vec<usize> {
            core.labels.iter().copied().filter(|label| network.labels()[*label].size > 1).collect()
        };
        let cores = network.cores();
        let tensors = cores.iter().enumerate().map(|(k, core)| (shown(core), 1 << k)).collect();
        let (indices, merges) = (Indices::new(network), Vec::new());
        let mut builder = Builder { network, indices, lanes: kernels.lanes, tensors, merges };
        let (steps, last) = builder.steps(&plan);
        // The results of the last steps, but for the output.
        let most = network.in_features().div_ceil(4);
        let mut kept = (steps.len() - 1, 0);
        while kept.0 > 0 && kept.1 + steps[kept.0 - 1].step.out_len <= most {
            kept = (kept.0 - 1, kept.1 + steps[kept.0 - 1].step.out_len);
        }
        Self {
            inputs: network.in_features(),
            outputs: network.out_features(),
            params: network.params(),
            affine,
            isa,
            kernels,
            cores: (0..cores.len()).map(|k| network.range(k)).collect(),
            merges: builder.merges,
            order: order(network, &last),
            steps,
            kept,
            plan,
            prepared: Pool::default(),
            workspaces: Pool::default(),
            gradients: Pool::default(),
        }
    }

    /// The order of contractions.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes that [`SavedRows`] holds per row.
    pub fn saved_bytes_per_row(&self) -> usize {
        self.kept.1 * size_of::<f32>()
    }

    /// A tensor that is no row: a core or a merged one.
    fn tensor<'a>(&self, cores: &'a [f32], merged: &'a [Buffer], tensor: usize) -> &'a [f32] {
        match self.cores.get(tensor) {
            Some(range) => &cores[range.clone()],
            None => &merged[tensor - self.cores.len()],
        }
    }

    fn contractions(&self) -> impl Iterator<Item = &Contraction> {
        self.merges.iter().chain(&self.steps)
    }

    /// Merges and packs the cores.
    fn prepare(&self, cores: &[f32], backward: bool, prepared: &mut Prepared) {
        let Prepared { merged, forward, backward: back } = prepared;
        merged.resize_with(self.merges.len(), Buffer::default);
        forward.resize_with(self.merges.len() + self.steps.len(), Buffer::default);
        for (k, contraction) in self.contractions().enumerate() {
            let (before, after) = merged.split_at_mut(k.min(self.merges.len()));
            contraction.step.pack(self.tensor(cores, before, contraction.right), &mut forward[k]);
            if let Some(out) = after.first_mut() {
                let left = self.tensor(cores, before, contraction.left);
                out.resize(contraction.step.out_len + SLACK);
                contraction.step.forward(self.kernels, left, &forward[k], out);
            }
        }
        if backward {
            back.resize_with(forward.len(), Buffer::default);
            for ((contraction, forward), back) in self.contractions().zip(forward).zip(back) {
                contraction.step.pack_back(&forward[..contraction.step.packed_len()], back);
            }
        }
    }

    /// A row through the first `steps` steps, from as many numbers of `work.row`.
    fn through(&self, row: Rows, steps: usize, prepared: &Prepared, work: &mut Workspace) {
        work.row.resize(self.inputs);
        self.isa.run(Convert { row, affine: self.affine, to: &mut work.row });
        work.tensors.resize_with(self.steps.len(), Buffer::default);
        for (k, Contraction { step, .. }) in self.steps[..steps].iter().enumerate() {
            let (before, after) = work.tensors.split_at_mut(k);
            let left = before.last().unwrap_or(&work.row);
            after[0].resize(step.out_len + SLACK);
            step.forward(self.kernels, left, &prepared.forward[self.merges.len() + k], &mut after[0]);
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
        let n = row_count(rows.len(), self.inputs)?;
        check("cores", cores.len(), self.params)?;
        check("output", out.len(), n * self.outputs)?;
        let (item, (first, kept)) = (item_rows(n), self.kept);
        let one = |prepared: &Prepared, index: usize, out: &mut [f32], mut saved: Option<&mut [f32]>| {
            self.workspaces.with(|work| {
                for (k, out) in out.chunks_exact_mut(self.outputs).enumerate() {
                    let row = rows.range((index * item + k) * self.inputs, self.inputs);
                    self.through(row, self.steps.len(), prepared, work);
                    let last = &work.tensors[self.steps.len() - 1];
                    out.iter_mut().zip(&self.order).for_each(|(out, place)| *out = last[*place as usize]);
                    if let Some(saved) = &mut saved {
                        let mut rest = &mut saved[k * kept..][..kept];
                        for (tensor, Contraction { step, .. }) in
                            work.tensors[first..].iter().zip(&self.steps[first..self.steps.len() - 1])
                        {
                            let (to, after) = rest.split_at_mut(step.out_len);
                            to.copy_from_slice(&tensor[..step.out_len]);
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
                    (saved.rows, _) = (n, saved.tensors.resize(n * kept));
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
        let n = row_count(rows.len(), self.inputs)?;
        check("cores", cores.len(), self.params)?;
        check("output gradient", dout.len(), n * self.outputs)?;
        check("core gradient", dcores.len(), self.params)?;
        check("rows of the saved forward pass", saved.rows, n)?;
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
                            let row = rows.range(k * self.inputs, self.inputs);
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

    /// The backward pass of a row: adds to the gradients of what it met.
    fn row_back(
        &self,
        row: Rows,
        prepared: &Prepared,
        (saved, dout): (&[f32], &[f32]),
        (gradient, places): (&mut [f32], &[usize]),
        mut dx: Option<&mut [f32]>,
        work: &mut Workspace,
    ) {
        self.through(row, self.kept.0, prepared, work);
        let Workspace { row, tensors, flow: [flow, other], room } = work;
        let last = self.steps.len() - 1;
        flow.resize(self.steps[last].step.out_len + SLACK);
        for (value, place) in dout.iter().zip(&self.order) {
            flow[*place as usize] = *value;
        }
        let mut end = saved.len();
        for (k, Contraction { step, .. }) in self.steps.iter().enumerate().rev() {
            let left = match k {
                0 => &row[..],
                _ if k > self.kept.0 => {
                    end -= step.left_len;
                    &saved[end..][..step.left_len]
                }
                _ => &tensors[k - 1][..],
            };
            let gradient = &mut gradient[places[k]..][..step.packed_len() + SLACK];
            step.right_gradient(self.kernels, left, flow, gradient);
            if k > 0 || dx.is_some() {
                other.resize(step.left_len + SLACK);
                step.left_gradient(
                    self.kernels,
                    flow,
                    &prepared.backward[self.merges.len() + k],
                    other,
                    room,
                );
                std::mem::swap(flow, other);
            }
        }
        if let Some(dx) = &mut dx {
            dx.iter_mut().zip(flow.iter()).for_each(|(dx, value)| *dx = self.affine.scale * value);
        }
    }

    /// From the gradients of what rows met to those of the cores.
    fn cores_back(
        &self,
        cores: &[f32],
        prepared: &Prepared,
        (sum, places): (&[f32], &[usize]),
        dcores: &mut [f32],
    ) {
        let mut gradients: Vec<Buffer> = Vec::new();
        gradients.resize_with(self.cores.len() + self.merges.len(), Buffer::default);
        for (tensor, gradient) in gradients.iter_mut().enumerate() {
            gradient.resize(self.tensor(cores, &prepared.merged, tensor).len() + SLACK);
        }
        for (Contraction { right, step, .. }, place) in self.steps.iter().zip(places) {
            step.unpack(&sum[*place..][..step.packed_len()], &mut gradients[*right]);
        }
        let (mut packed, mut room) = (Buffer::default(), Buffer::default());
        for (k, Contraction { left, right, step }) in self.merges.iter().enumerate().rev() {
            let dout = std::mem::take(&mut gradients[self.cores.len() + k]);
            packed.resize(step.packed_len() + SLACK);
            packed.fill(0.0);
            let left_values = self.tensor(cores, &prepared.merged, *left);
            step.right_gradient(self.kernels, left_values, &dout, &mut packed);
            step.unpack(&packed[..step.packed_len()], &mut gradients[*right]);
            step.left_gradient(self.kernels, &dout, &prepared.backward[k], &mut gradients[*left], &mut room);
        }
        for (range, gradient) in self.cores.iter().zip(&gradients) {
            dcores[range.clone()].copy_from_slice(&gradient[..range.len()]);
        }
    }
}
