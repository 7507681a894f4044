//! A whole recurrent layer (projection and recurrence) as one candle operator.
//!
//! One operator has no graph node per step: its backward pass is written by hand, its memory is the saved
//! activations, and the glue between projection and recurrence disappears.

use crate::projection::{InputDropout, Pool, Projection, ProjectionCall, ProjectionGrads, ProjectionSaved};
use crate::recurrence::{Batch, Cell, Gradients, Masks, Recurrence, Saved};
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Storage, Tensor};
use std::sync::{Arc, Mutex, PoisonError};
use tt_core::apply::Rows;

/// Recurrent dropout masks, already scaled by `1 / (1 - p)` and constant over time.
#[derive(Debug, Clone, Default)]
pub enum RecurrentMasks {
    /// No dropout.
    #[default]
    None,
    /// `[B, H]`, the same for all gates.
    Shared(Vec<f32>),
    /// `[G, B, H]`.
    PerGate(Vec<f32>),
}

impl RecurrentMasks {
    /// The factors, borrowed.
    pub fn view(&self) -> Masks<'_> {
        match self {
            Self::None => Masks::None,
            Self::Shared(mask) => Masks::Shared(mask),
            Self::PerGate(mask) => Masks::PerGate(mask),
        }
    }
}

/// What one call of the layer depends on beside its tensors.
#[derive(Debug, Clone, Default)]
pub struct LayerCall {
    /// Frames per clip `[B]`; the rows are packed in this order.
    pub lengths: Vec<usize>,
    /// Recurrent dropout.
    pub masks: RecurrentMasks,
    /// Dropout of the input features (dense projections of recipe `paper-code`).
    pub input_dropout: Option<InputDropout>,
    /// Bias-only steps before each clip `[B]`; empty for none.
    pub warm_up: Vec<usize>,
    /// Whether a backward pass will follow; without it nothing is saved.
    pub train: bool,
}

/// Where a gradient too large to pass through candle's gradient store is left.
///
/// The store adds each gradient to a tensor of zeros: three passes over fresh memory, for the 177 MB of a
/// dense GRU's input matrix a quarter of a training step. The addition also runs on threads of candle's own,
/// which spin while they wait. This buffer is written once and reused.
#[derive(Debug, Clone, Default)]
pub struct GradientSink(Arc<Mutex<(Vec<f32>, bool)>>);

impl GradientSink {
    /// Lets `use_gradient` read the gradient of the last backward pass, and marks it as used.
    pub fn take<T>(&self, use_gradient: impl FnOnce(&[f32]) -> T) -> Option<T> {
        let mut slot = self.0.lock().ok()?;
        if !std::mem::take(&mut slot.1) {
            return None;
        }
        Some(use_gradient(&slot.0))
    }

    /// Lets `write` fill the buffer of the sink, or a new one to be returned where there is none.
    fn fill(
        sink: Option<&Self>,
        len: usize,
        write: impl FnOnce(&mut [f32]) -> Result<()>,
    ) -> Result<Option<Vec<f32>>> {
        if let Some(sink) = sink {
            sink.put(len, write)?;
            return Ok(None);
        }
        let mut values = vec![0.0; len];
        write(&mut values)?;
        Ok(Some(values))
    }

    /// Marks the gradient as not used yet, after a look at it.
    pub(crate) fn put_back(&self) {
        if let Ok(mut slot) = self.0.lock() {
            slot.1 = true;
        }
    }

    /// Lets `write` overwrite the buffer of `len` numbers.
    fn put(&self, len: usize, write: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slot.0.resize(len, 0.0);
        write(&mut slot.0)?;
        slot.1 = true;
        Ok(())
    }
}

/// Where the gradients of a layer's two weight tensors go: a sink, or candle's store.
#[derive(Debug, Clone, Default)]
pub struct Sinks {
    /// Of the input weights.
    pub input: Option<GradientSink>,
    /// Of `[U | b]`.
    pub recurrent: Option<GradientSink>,
}

#[derive(Debug)]
struct LayerCore {
    projection: Projection,
    recurrence: Recurrence,
    sinks: Sinks,
    workspaces: Pool<Workspace>,
}

#[derive(Debug, Default)]
struct Workspace {
    /// Pre-activations, then activations, then their gradients: `[n, G·H]`.
    gates: Vec<f32>,
    projection: ProjectionSaved,
    recurrence: Saved,
}

/// Projection and recurrence: rows `[sum T_b, M]` (u8 or f32) to last hidden states `[B, H]`.
#[derive(Debug, Clone)]
pub struct RecurrentLayer(Arc<LayerCore>);

impl RecurrentLayer {
    /// Joins a projection and a recurrence.
    pub fn new(projection: Projection, recurrence: Recurrence, sinks: Sinks) -> Self {
        Self(Arc::new(LayerCore { projection, recurrence, sinks, workspaces: Pool::new() }))
    }

    /// Last hidden states `[B, H]` of the packed clips.
    ///
    /// # Shapes
    /// `rows [sum T_b, M]`; `input_weights` as the projection wants them; `recurrent_weights` is
    /// `[U (H × G·H) | b (G·H)]` flat.
    ///
    /// # Errors
    /// A size that does not fit, an empty batch, or a device other than the CPU.
    pub fn forward(
        &self,
        rows: &Tensor,
        input_weights: &Tensor,
        recurrent_weights: &Tensor,
        call: LayerCall,
    ) -> Result<Tensor> {
        let op = self.op(rows, call)?;
        Ok(rows.apply_op3(input_weights, recurrent_weights, op)?)
    }

    /// Activations of all gate blocks at every step, `[sum T_b, G·H]`.
    ///
    /// # Errors
    /// As [`RecurrentLayer::forward`].
    pub fn activations(
        &self,
        rows: &Tensor,
        input_weights: &Tensor,
        recurrent_weights: &Tensor,
        call: LayerCall,
    ) -> Result<Vec<f32>> {
        let op = self.op(rows, LayerCall { train: true, ..call })?;
        let (rows, rows_layout) = rows.storage_and_layout();
        let (input, input_layout) = input_weights.storage_and_layout();
        let (recurrent, recurrent_layout) = recurrent_weights.storage_and_layout();
        op.run_forward(
            rows_of(on_cpu(&rows)?, rows_layout)?,
            floats(on_cpu(&input)?, input_layout, "input weights")?,
            floats(on_cpu(&recurrent)?, recurrent_layout, "recurrent weights")?,
        )?;
        Ok(op.take_saved().map(|work| work.gates).unwrap_or_default())
    }

    /// The cell of the recurrence.
    pub fn cell(&self) -> Cell {
        self.0.recurrence.cell()
    }

    fn op(&self, rows: &Tensor, call: LayerCall) -> Result<LayerOp> {
        let frames: usize = call.lengths.iter().sum();
        if call.lengths.is_empty() || frames != rows.dim(0)? {
            return Err(Error::Unsupported(format!(
                "{} rows for {} clips of {frames} frames in all",
                rows.dim(0)?,
                call.lengths.len()
            )));
        }
        Ok(LayerOp { layer: Arc::clone(&self.0), call, saved: Mutex::new(None) })
    }
}

struct LayerOp {
    layer: Arc<LayerCore>,
    call: LayerCall,
    saved: Mutex<Option<Workspace>>,
}

fn boxed(error: Error) -> candle_core::Error {
    candle_core::Error::wrap(error)
}

fn contiguous<'a, T>(values: &'a [T], layout: &Layout, what: &'static str) -> candle_core::Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => Err(boxed(Error::Unsupported(format!("{what}: a strided tensor")))),
    }
}

fn floats<'a>(
    storage: &'a CpuStorage,
    layout: &Layout,
    what: &'static str,
) -> candle_core::Result<&'a [f32]> {
    contiguous(storage.as_slice::<f32>()?, layout, what)
}

fn rows_of<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<Rows<'a>> {
    match storage {
        CpuStorage::U8(values) => Ok(Rows::U8(contiguous(values, layout, "frames")?)),
        CpuStorage::F32(values) => Ok(Rows::F32(contiguous(values, layout, "frames")?)),
        _ => Err(boxed(Error::Unsupported("frames are u8 or f32".into()))),
    }
}

fn on_cpu(storage: &Storage) -> candle_core::Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => Err(boxed(Error::Unsupported("the fused recurrent layer runs on the CPU".into()))),
    }
}

/// Gradients of the input weights and of the recurrent weights, where they have no sink.
type WeightGradients = (Option<Vec<f32>>, Option<Vec<f32>>);

impl LayerOp {
    fn projection_call(&self) -> ProjectionCall<'_> {
        ProjectionCall {
            lengths: &self.call.lengths,
            dropout: self.call.input_dropout,
            keep: self.call.train,
        }
    }

    fn batch(&self) -> Batch<'_> {
        let LayerCall { lengths, masks, warm_up, .. } = &self.call;
        Batch { lengths, masks: masks.view(), warm_up, warm_x: None }
    }

    fn take_saved(&self) -> Option<Workspace> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn run_forward(&self, rows: Rows<'_>, input: &[f32], recurrent: &[f32]) -> Result<(Vec<f32>, usize)> {
        let LayerCore { projection, recurrence, workspaces, .. } = &*self.layer;
        let n: usize = self.call.lengths.iter().sum();
        let mut work = workspaces.take();
        work.gates.resize(n * recurrence.cell().gates() * recurrence.hidden(), 0.0);
        projection.forward(rows, input, &mut work.gates, &mut work.projection, &self.projection_call())?;
        let mut last = vec![0.0; self.call.lengths.len() * recurrence.hidden()];
        let keep = self.call.train.then_some(&mut work.recurrence);
        recurrence.forward(&mut work.gates, &self.batch(), recurrent, &mut last, keep)?;
        if self.call.train {
            *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
        } else {
            workspaces.give(work);
        }
        Ok((last, recurrence.hidden()))
    }

    fn run_backward(
        &self,
        rows: Rows<'_>,
        input: &[f32],
        recurrent: &[f32],
        dlast: &[f32],
        drows: Option<&mut [f32]>,
        with_input: bool,
    ) -> Result<WeightGradients> {
        let LayerCore { projection, recurrence, workspaces, sinks } = &*self.layer;
        let mut work = self.take_saved().ok_or_else(|| Error::NoGradient("the layer's parameters".into()))?;
        let Workspace { gates, projection: saved, recurrence: states } = &mut work;
        let drecurrent = GradientSink::fill(sinks.recurrent.as_ref(), recurrent.len(), |weights| {
            let gradients = Gradients { weights, warm_x: None };
            recurrence.backward(gates, &self.batch(), recurrent, states, dlast, gradients)
        })?;
        let dinput = if with_input || drows.is_some() {
            GradientSink::fill(sinks.input.as_ref(), input.len(), |weights| {
                let grads = ProjectionGrads { weights, rows: drows };
                projection.backward(rows, input, saved, gates, grads, &self.projection_call())
            })?
        } else {
            None
        };
        workspaces.give(work);
        Ok((dinput, drecurrent))
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
        let rows = rows_of(rows, rows_layout)?;
        let input = floats(input, input_layout, "input weights")?;
        let recurrent = floats(recurrent, recurrent_layout, "recurrent weights")?;
        let (last, hidden) = self.run_forward(rows, input, recurrent).map_err(boxed)?;
        Ok((CpuStorage::F32(last), (self.call.lengths.len(), hidden).into()))
    }

    fn bwd(
        &self,
        rows: &Tensor,
        input: &Tensor,
        recurrent: &Tensor,
        _last: &Tensor,
        dlast: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dlast = dlast.contiguous()?;
        let (rows_storage, rows_layout) = rows.storage_and_layout();
        let (input_storage, input_layout) = input.storage_and_layout();
        let (recurrent_storage, recurrent_layout) = recurrent.storage_and_layout();
        let (dlast_storage, dlast_layout) = dlast.storage_and_layout();
        let mut drows = (rows.dtype() == candle_core::DType::F32 && rows.track_op())
            .then(|| vec![0.0_f32; rows.elem_count()]);
        let (dinput, drecurrent) = self
            .run_backward(
                rows_of(on_cpu(&rows_storage)?, rows_layout)?,
                floats(on_cpu(&input_storage)?, input_layout, "input weights")?,
                floats(on_cpu(&recurrent_storage)?, recurrent_layout, "recurrent weights")?,
                floats(on_cpu(&dlast_storage)?, dlast_layout, "gradient of the last states")?,
                drows.as_deref_mut(),
                input.track_op(),
            )
            .map_err(boxed)?;
        let device = rows.device();
        let tensor = |values: Vec<f32>, like: &Tensor| Tensor::from_vec(values, like.shape(), device);
        Ok((
            drows.map(|values| tensor(values, rows)).transpose()?,
            dinput.map(|values| tensor(values, input)).transpose()?,
            drecurrent.map(|values| tensor(values, recurrent)).transpose()?,
        ))
    }
}
