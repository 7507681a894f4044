//! The operators of the CPU: the recurrence alone, and with a projection before it, of a tensor or of stored rows.

use super::{StepKernels, Workspace};
use crate::call::LayerCall;
use crate::frames::{FrameRows, StoredRows};
use crate::projection::{Kernel, Pieces, Projection, ProjectionGradients};
use crate::recurrence::{Batch, Gradients};
use crate::sink::{Deferred, GradientSink};
use crate::storage::{floats, on_cpu, rows_of};
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, DType, Layout, Shape, Tensor};
use std::sync::{Arc, Mutex, PoisonError};
use tt_core::apply::Rows;
use tt_core::simd::Pool;

/// The recurrence: pre-activations `[n, G·H]` and `[U | b]` to states.
pub(super) struct StepsOp {
    kernels: Arc<StepKernels>,
    call: LayerCall,
    saved: Mutex<Option<Workspace>>,
}

/// Projection and recurrence: rows `[n, M]`, input weights and `[U | b]` to states.
pub(super) struct LayerOp {
    projection: Arc<dyn Projection>,
    steps: StepsOp,
}

/// The same with rows that are no tensor: input weights and `[U | b]` to states.
pub(super) struct StoredOp {
    pub(super) op: LayerOp,
    pub(super) rows: StoredRows,
}

fn boxed(error: Error) -> candle_core::Error {
    candle_core::Error::wrap(error)
}

fn missing() -> Error {
    Error::NoGradient("the layer's parameters".into())
}

fn like(values: Option<Vec<f32>>, tensor: &Tensor) -> candle_core::Result<Option<Tensor>> {
    values.map(|values| Tensor::from_vec(values, tensor.shape(), tensor.device())).transpose()
}

impl StepsOp {
    pub(super) fn new(kernels: Arc<StepKernels>, call: LayerCall) -> Self {
        Self { kernels, call, saved: Mutex::new(None) }
    }

    pub(super) fn call(&self) -> &LayerCall {
        &self.call
    }

    fn batch(&self) -> Batch<'_> {
        Batch::of(&self.call)
    }

    /// The gates of the forward pass.
    pub(super) fn into_activations(self) -> Result<Vec<f32>> {
        Ok(self.take_saved()?.gates)
    }

    fn take_saved(&self) -> Result<Workspace> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(missing)
    }

    /// A workspace with room for the gates of all rows.
    fn workspace(&self) -> Workspace {
        let recurrence = &self.kernels.recurrence;
        let rows: usize = self.call.lengths.iter().sum();
        let mut work = self.kernels.workspaces.take();
        work.gates.resize(rows * recurrence.cell().gates() * recurrence.hidden(), 0.0);
        work
    }

    /// States from the pre-activations in the workspace, which is kept where a backward pass will follow.
    fn states(&self, mut work: Workspace, recurrent: &[f32]) -> Result<Vec<f32>> {
        let StepKernels { recurrence, workspaces, .. } = &*self.kernels;
        let mut states = vec![0.0; self.batch().states() * recurrence.hidden()];
        let keep = self.call.train.then_some(&mut work.recurrence);
        recurrence.forward(&mut work.gates, &self.batch(), recurrent, &mut states, keep)?;
        if self.call.train {
            *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
        } else {
            workspaces.give(work);
        }
        Ok(states)
    }

    pub(super) fn run_forward(&self, x: &[f32], recurrent: &[f32]) -> Result<Vec<f32>> {
        let mut work = self.workspace();
        crate::error::check_size("pre-activations", work.gates.len(), x.len())?;
        work.gates.copy_from_slice(x);
        self.states(work, recurrent)
    }

    /// Turns the activations in the workspace into the gradient of the pre-activations; that of the weights, where
    /// it has no sink.
    fn states_back(
        &self,
        work: &mut Workspace,
        recurrent: &[f32],
        dstates: &[f32],
    ) -> Result<Option<Vec<f32>>> {
        let StepKernels { recurrence, sinks, .. } = &*self.kernels;
        let Workspace { gates, recurrence: saved, .. } = work;
        GradientSink::fill(sinks.recurrent.as_ref(), recurrent.len(), |weights| {
            let gradients = Gradients { weights, warm_x: None };
            recurrence.backward(gates, &self.batch(), recurrent, saved, dstates, gradients)
        })
    }

    fn shape(&self) -> Shape {
        (self.batch().states(), self.kernels.recurrence.hidden()).into()
    }
}

impl CustomOp2 for StepsOp {
    fn name(&self) -> &'static str {
        "recurrence"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        recurrent: &CpuStorage,
        recurrent_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let run = || {
            let x = floats(x, x_layout, "pre-activations")?;
            self.run_forward(x, floats(recurrent, recurrent_layout, "recurrent weights")?)
        };
        Ok((CpuStorage::F32(run().map_err(boxed)?), self.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        recurrent: &Tensor,
        _: &Tensor,
        dstates: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let dstates = dstates.contiguous()?;
        let run = || {
            let (storage, layout) = recurrent.storage_and_layout();
            let (dstates, dstates_layout) = dstates.storage_and_layout();
            let dstates = floats(on_cpu(&dstates)?, dstates_layout, "gradient of the states")?;
            let mut work = self.take_saved()?;
            let recurrent = floats(on_cpu(&storage)?, layout, "recurrent weights")?;
            let drecurrent = self.states_back(&mut work, recurrent, dstates)?;
            let dx = x.track_op().then(|| work.gates.clone());
            self.kernels.workspaces.give(work);
            Ok((dx, drecurrent))
        };
        let (dx, drecurrent) = run().map_err(boxed)?;
        Ok((like(dx, x)?, like(drecurrent, recurrent)?))
    }
}

/// Gradients of the rows, the input weights and the recurrent weights, where they are wanted and have no sink.
type LayerGradients = [Option<Vec<f32>>; 3];

impl LayerOp {
    pub(super) fn new(projection: Arc<dyn Projection>, steps: StepsOp) -> Self {
        Self { projection, steps }
    }

    pub(super) fn into_activations(self) -> Result<Vec<f32>> {
        self.steps.into_activations()
    }

    fn kernel(&self) -> Result<&dyn Kernel> {
        self.projection.kernel().ok_or_else(|| Error::Unsupported("the projection has no kernel".into()))
    }

    pub(super) fn run_forward(&self, rows: Rows<'_>, input: &[f32], recurrent: &[f32]) -> Result<Vec<f32>> {
        let mut work = self.steps.workspace();
        let Workspace { gates, projection, .. } = &mut work;
        self.kernel()?.forward(rows, input, gates, projection, &self.steps.call)?;
        self.steps.states(work, recurrent)
    }

    fn run_backward(
        &self,
        (kept, rows): (&FrameRows, Rows<'_>),
        input: &[f32],
        recurrent: &[f32],
        dstates: &[f32],
        wanted: (bool, bool),
    ) -> Result<LayerGradients> {
        let (kernels, call) = (&self.steps.kernels, &self.steps.call);
        let mut work = self.steps.take_saved()?;
        let drecurrent = self.steps.states_back(&mut work, recurrent, dstates)?;
        let mut gradients = [wanted.0.then(|| vec![0.0; rows.len()]), None, drecurrent];
        if !(wanted.0 || wanted.1) {
            kernels.workspaces.give(work);
            return Ok(gradients);
        }
        let [drows, dinput, _] = &mut gradients;
        let sink = kernels.sinks.input.as_ref();
        if let (Some(sink), Some(product)) = (sink.filter(|_| wanted.1), self.kernel()?.outer_product()) {
            if let Some(drows) = drows {
                product.rows_back(input, &work.gates, drows, call)?;
            }
            let (projection, workspaces) = (Arc::clone(&self.projection), Arc::clone(&kernels.workspaces));
            let (rows, call) = (kept.clone(), call.clone());
            sink.defer(Box::new(InputGradient { projection, call, rows, work, workspaces }))?;
            return Ok(gradients);
        }
        let Workspace { gates, projection: memory, .. } = &mut work;
        *dinput = GradientSink::fill(sink, input.len(), |weights| {
            let gradients = ProjectionGradients { weights, rows: drows.as_deref_mut() };
            self.kernel()?.backward(rows, input, memory, gates, gradients, call)
        })?;
        kernels.workspaces.give(work);
        Ok(gradients)
    }
}

/// The gradient of the input weights as two factors: the rows, and the gradient of the pre-activations in the workspace.
#[derive(Debug)]
struct InputGradient {
    projection: Arc<dyn Projection>,
    call: LayerCall,
    rows: FrameRows,
    work: Workspace,
    /// Where the workspace goes back to.
    workspaces: Arc<Pool<Workspace>>,
}

impl Deferred for InputGradient {
    fn pieces(&mut self, read: &mut dyn FnMut(&dyn Pieces) -> Result<()>) -> Result<()> {
        let Some(product) = self.projection.kernel().and_then(Kernel::outer_product) else {
            return Err(missing());
        };
        let Workspace { gates, projection: memory, .. } = &mut self.work;
        self.rows.read(|rows| read(&*product.weights_back(rows, gates, memory, &self.call)?))
    }
}

impl Drop for InputGradient {
    fn drop(&mut self) {
        self.workspaces.give(std::mem::take(&mut self.work));
    }
}

impl LayerOp {
    /// The gradients, from tensors; `rows` without candle's graph.
    fn gradients(
        &self,
        rows: &FrameRows,
        [input, recurrent]: [&Tensor; 2],
        dstates: &Tensor,
        wanted: (bool, bool),
    ) -> Result<LayerGradients> {
        let dstates = dstates.contiguous()?;
        let (input_storage, input_layout) = input.storage_and_layout();
        let (recurrent_storage, recurrent_layout) = recurrent.storage_and_layout();
        let (dstates, dstates_layout) = dstates.storage_and_layout();
        let input = floats(on_cpu(&input_storage)?, input_layout, "input weights")?;
        let recurrent = floats(on_cpu(&recurrent_storage)?, recurrent_layout, "recurrent weights")?;
        let dstates = floats(on_cpu(&dstates)?, dstates_layout, "gradient of the states")?;
        rows.read(|values| self.run_backward((rows, values), input, recurrent, dstates, wanted))
    }
}

impl CustomOp3 for LayerOp {
    fn name(&self) -> &'static str {
        "recurrent-layer"
    }

    fn cpu_fwd(
        &self,
        rows: &CpuStorage,
        rows_layout: &Layout,
        input: &CpuStorage,
        input_layout: &Layout,
        recurrent: &CpuStorage,
        recurrent_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let run = || {
            let rows = rows_of(rows, rows_layout)?;
            let input = floats(input, input_layout, "input weights")?;
            self.run_forward(rows, input, floats(recurrent, recurrent_layout, "recurrent weights")?)
        };
        Ok((CpuStorage::F32(run().map_err(boxed)?), self.steps.shape()))
    }

    fn bwd(
        &self,
        rows: &Tensor,
        input: &Tensor,
        recurrent: &Tensor,
        _: &Tensor,
        dstates: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let run = || {
            let wanted = (rows.dtype() == DType::F32 && rows.track_op(), input.track_op());
            let rows = FrameRows::Tensor(rows.detach());
            self.gradients(&rows, [input, recurrent], dstates, wanted)
        };
        let [drows, dinput, drecurrent] = run().map_err(boxed)?;
        Ok((like(drows, rows)?, like(dinput, input)?, like(drecurrent, recurrent)?))
    }
}

impl CustomOp2 for StoredOp {
    fn name(&self) -> &'static str {
        "recurrent-layer-of-stored-rows"
    }

    fn cpu_fwd(
        &self,
        input: &CpuStorage,
        input_layout: &Layout,
        recurrent: &CpuStorage,
        recurrent_layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let run = || {
            let input = floats(input, input_layout, "input weights")?;
            let recurrent = floats(recurrent, recurrent_layout, "recurrent weights")?;
            self.op.run_forward(self.rows.rows()?, input, recurrent)
        };
        Ok((CpuStorage::F32(run().map_err(boxed)?), self.op.steps.shape()))
    }

    fn bwd(
        &self,
        input: &Tensor,
        recurrent: &Tensor,
        _: &Tensor,
        dstates: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let run = || {
            let rows = FrameRows::Stored(self.rows.clone());
            self.op.gradients(&rows, [input, recurrent], dstates, (false, input.track_op()))
        };
        let [_, dinput, drecurrent] = run().map_err(boxed)?;
        Ok((like(dinput, input)?, like(drecurrent, recurrent)?))
    }
}
