//! The CPU kernel: one frame at a time through caches, vectors chosen at run time, threads over frames.
//!
//! Pixels of a block of rows are converted, multiplied by the last core and at once by the one before, so
//! that the largest intermediate never leaves the cache; the rest of a frame follows. The backward pass
//! computes that intermediate again instead of saving it, or, where that is cheaper, does without it: it adds
//! up the gradient of the last two cores' product and separates it once, at the end.
//!
//! Rows of bytes may go another way: their product with the last two cores, multiplied out and cut into digits, in whole
//! numbers ([`Path`]).
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
mod bytes;
mod choice;
pub(crate) mod drive;
mod forward;
pub(crate) mod micro;
mod pack;
mod panels;
mod plan;

use rayon::prelude::*;

use self::forward::{Call, Workspace};
use self::micro::{Kernels, kernels};
use self::pack::Packed;
use self::panels::{ByDigits, Groups};
use self::plan::Plan;
use super::{Affine, Rows, check};
use crate::digits::Ready;
use crate::simd::{Buffer, Pool};
use crate::{Error, Result, TtShape};

pub use self::choice::Path;
pub(super) use self::panels::centred;
pub use crate::digits::Unit;
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
    /// For rows of bytes by digits; or why that cannot be, if it was asked for.
    digital: std::result::Result<Option<Digital>, String>,
    isa: Isa,
    kernels: &'static Kernels,
    packed: Pool<Packed>,
    workspaces: Pool<Workspace>,
    gradients: Pool<Buffer>,
}

/// How rows of bytes are multiplied by digits, and in which passes.
#[derive(Debug)]
struct Digital {
    plan: Plan,
    /// Of bytes that count from the centre.
    affine: Affine,
    by: ByDigits,
    forward: bool,
    backward: bool,
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
    by_digits: Option<ByDigits>,
    work: Workspace,
}

impl FixedCores {
    /// As [`Fused::forward`]. Memory is taken by the first call, and not again.
    ///
    /// # Errors
    /// [`crate::Error::Size`] if a buffer does not fit, or there is no row.
    pub fn forward(&mut self, rows: Rows, out: &mut [f32]) -> Result<()> {
        let plan = &self.layer.plan;
        check("output", out.len(), rows.count(plan.inputs)? * plan.outputs)?;
        let call = Call { by_digits: self.by_digits, ..self.layer.call(plan, &self.packed) };
        call.forward(rows, out, &mut [], &mut self.work);
        Ok(())
    }
}

impl Fused {
    /// The layer of a shape with the kernels that suit this machine and the shape best.
    pub fn new(shape: &TtShape, affine: Affine) -> Self {
        Self::on(shape, affine, Path::Automatic)
    }

    /// The layer with kernels of a given kind, on the vectors that suit this machine and the shape best. Where this
    /// machine lacks them, every call is an error; [`Path::check`] says so at once.
    pub fn on(shape: &TtShape, affine: Affine, path: Path) -> Self {
        let widest = Isa::best();
        // Half-width vectors were measured 1.2 times slower where nothing is padded.
        let pays = |half: &Isa| {
            6 * Plan::padded_macs(shape, half.lanes()) < 5 * Plan::padded_macs(shape, widest.lanes())
        };
        Self::with(shape, affine, widest.half().filter(pays).unwrap_or(widest), path)
    }

    /// The layer in f32 with a given instruction set.
    pub fn with_isa(shape: &TtShape, affine: Affine, isa: Isa) -> Self {
        Self::with(shape, affine, isa, Path::F32)
    }

    fn with(shape: &TtShape, affine: Affine, isa: Isa, path: Path) -> Self {
        let kernels = kernels(isa);
        let plan = Plan::new(shape, kernels.lanes);
        let digital = path.unit().map_err(|error| match error {
            Error::Unavailable(text) => text,
            other => other.to_string(),
        });
        Self {
            digital: digital.map(|unit| Digital::new(shape, affine, isa, &plan, unit?)),
            plan,
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

    /// What multiplies rows of bytes: the name of an instruction set, or of a unit and the passes that it is for.
    pub fn kernels_for_bytes(&self) -> String {
        let isa = self.isa.name();
        match &self.digital {
            Ok(Some(Digital { by, forward: true, backward: true, .. })) => by.unit.unit().name().to_owned(),
            Ok(Some(Digital { by, forward: true, .. })) => {
                format!("{} forward, {isa} backward", by.unit.unit().name())
            }
            Ok(Some(Digital { by, backward: true, .. })) => {
                format!("{isa} forward, {} backward", by.unit.unit().name())
            }
            _ => isa.to_owned(),
        }
    }

    /// Bytes that [`Saved`] holds per row it keeps.
    pub fn saved_bytes_per_row(&self) -> usize {
        self.plan.saved * size_of::<f32>()
    }

    /// A call in f32.
    fn call<'a>(&'a self, plan: &'a Plan, packed: &'a Packed) -> Call<'a> {
        let shifted = self.affine.shift != 0.0;
        Call { plan, kernels: self.kernels, packed, shifted, by_digits: None, back_by_digits: None }
    }

    /// How a pass over these rows with these cores is done by digits, if it is. Cores that are not all numbers go through
    /// f32, where they come out as what they are.
    fn digital(
        &self,
        rows: Rows,
        cores: &[f32],
        pass: impl Fn(&Digital) -> bool,
    ) -> Result<Option<&Digital>> {
        let digital = self.digital.as_ref().map_err(|text| Error::Unavailable(text.clone()))?;
        let digital = digital.as_ref().filter(|digital| !matches!(rows, Rows::F32(_)) && pass(digital));
        Ok(digital.filter(|_| cores.iter().all(|value| value.is_finite())))
    }

    /// Packs the cores for the forward pass over some rows, and says whether it is done by digits.
    fn pack(&self, rows: Rows, cores: &[f32], packed: &mut Packed) -> Result<Option<ByDigits>> {
        packed.forward(&self.plan, self.affine, cores);
        let Some(digital) = self.digital(rows, cores, |digital| digital.forward)? else { return Ok(None) };
        packed.centre(&self.plan, digital.affine, cores);
        Ok(packed.product(&self.plan, digital.by).then_some(digital.by))
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
        let n = rows.count(plan.inputs)?;
        check("cores", cores.len(), plan.params)?;
        check("output", out.len(), n * plan.outputs)?;
        let item = item_rows(n);
        self.packed.with(|packed| {
            let by_digits = self.pack(rows, cores, packed)?;
            let call = Call { by_digits, ..self.call(plan, packed) };
            let input =
                |index: usize, outputs: usize| rows.rows(index * item, outputs / plan.outputs, plan.inputs);
            let kept =
                if self.digital(rows, cores, |digital| digital.again(n))?.is_some() { 0 } else { plan.saved };
            let saved = saved.map_or(&mut [][..], |saved| saved.grow(n, kept));
            let kept = saved.par_chunks_mut((item * plan.saved).max(1));
            let others = (kept.len()..n.div_ceil(item)).into_par_iter().map(|_| <&mut [f32]>::default());
            out.par_chunks_mut(item * plan.outputs).zip(kept.chain(others)).enumerate().for_each(
                |(index, (out, saved))| {
                    self.workspaces.with(|work| call.forward(input(index, out.len()), out, saved, work));
                },
            );
            Ok(())
        })
    }

    /// The layer with cores that stay as they are, for few rows at a time.
    ///
    /// # Errors
    /// [`crate::Error::Size`] if the cores do not fit.
    pub fn fixed(self, cores: &[f32]) -> Result<FixedCores> {
        check("cores", cores.len(), self.plan.params)?;
        let mut packed = Packed::default();
        let by_digits = self.pack(Rows::U8(&[]), cores, &mut packed)?;
        Ok(FixedCores { layer: self, packed, by_digits, work: Workspace::default() })
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
        let digital = self.digital(rows, cores, |digital| digital.backward)?;
        let (plan, affine) =
            digital.map_or((&self.plan, self.affine), |digital| (&digital.plan, digital.affine));
        let n = rows.count(plan.inputs)?;
        check("cores", cores.len(), plan.params)?;
        check("output gradient", dout.len(), n * plan.outputs)?;
        check("core gradient", dcores.len(), plan.params)?;
        check("rows of the saved forward pass", saved.rows, n)?;
        let kept =
            if digital.is_some_and(|digital| digital.again(n)) { 0 } else { saved.room / plan.saved.max(1) };
        check("saved tensors", saved.tensors.len(), n.min(kept) * plan.saved)?;
        if let Some(dx) = &dx {
            check("input gradient", dx.len(), rows.len())?;
        }
        self.packed.with(|packed| {
            // What was not kept is computed again, as it was computed.
            let by_digits = if saved.tensors.len() < n * plan.saved {
                self.pack(rows, cores, packed)?
            } else {
                packed.forward(plan, self.affine, cores);
                None
            };
            packed.centre(plan, affine, cores);
            packed.backward(plan, self.kernels.lanes, dx.is_some());
            let back_by_digits = digital.map(|digital| digital.by);
            let call = Call { by_digits, back_by_digits, ..self.call(plan, packed) };
            self.gradients.with(|gradients| {
                self.items_back(&call, rows, saved, dout, gradients, dx);
                let sums = pack::flow_sums(plan, packed, affine, dout);
                if let Some(pair) = plan.pair {
                    pack::separate(plan, (packed, &packed.centred_bias), pair, &sums.before, gradients);
                }
                let shift = sums.last;
                pack::unpack(plan, affine, &gradients[..plan.gradient], &shift, dcores);
            });
            Ok(())
        })
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
        let plan = call.plan;
        let n = dout.len() / plan.outputs;
        let item = plan.item_rows_back(n);
        let stride = plan.gradient.next_multiple_of(16);
        gradients.resize(n.div_ceil(item) * stride);
        let one = |index: usize, gradient: &mut [f32], dx: Option<&mut [f32]>| {
            let (start, count) = (index * item, item.min(n - index * item));
            gradient.fill(0.0);
            self.workspaces.with(|work| {
                call.backward(
                    rows.rows(start, count, plan.inputs),
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

/// Bytes of running tensors that are still in a cache, the one of all cores, when the backward pass reads them.
const CACHED: usize = 16 << 20;

impl Digital {
    /// Whether the backward pass of so many rows computes their running tensors again: on tile registers that takes less
    /// time than to write them to memory and read them.
    fn again(&self, rows: usize) -> bool {
        let bytes = rows * self.plan.saved * size_of::<f32>();
        self.by.unit.unit() == Unit::Amx && self.forward && self.backward && bytes > CACHED
    }

    /// None where a shape has no such kernels, or they do not pay in any pass and were not `named`.
    fn new(
        shape: &TtShape,
        affine: Affine,
        isa: Isa,
        f32: &Plan,
        (unit, named): (Ready, bool),
    ) -> Option<Self> {
        if shape.order() < 2 {
            return None;
        }
        let plan = Plan::by_digits(shape, isa.lanes());
        let groups = Groups::of(&plan)?;
        let (ours, theirs) = (choice::cost_digits(&plan, groups, unit.unit()), choice::cost_f32(f32));
        let [forward, backward] = [0, 1].map(|pass| named || ours[pass] < theirs[pass]);
        let (centre, affine) = centred(affine);
        let by = ByDigits { unit, isa, centre, groups };
        (forward || backward).then_some(Self { plan, affine, by, forward, backward })
    }
}
