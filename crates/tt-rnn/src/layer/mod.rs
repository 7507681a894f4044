//! A whole recurrent layer: projection and recurrence.
//!
//! On the CPU the recurrence is one operator of candle's graph, and with a projection that has kernels both are: no
//! graph node per step, a backward pass written by hand, saved activations for memory, and no glue between
//! projection and recurrence. Elsewhere both run by candle's operators.

mod joined;

use crate::call::InputDropout;
pub use crate::call::{LayerCall, Output, RecurrentMasks};
use crate::error::{Error, Result, check_size};
use crate::frames::FrameRows;
pub use crate::gradient::Gradient;
use crate::projection::{Memory, Projection};
use crate::recurrence::ops::Ops;
use crate::recurrence::{Batch, Cell, Recurrence, Saved};
pub use crate::sink::{GradientSink, Sinks};
use crate::storage::{floats, on_cpu};
use candle_core::Tensor;
use joined::{LayerOp, StepsOp, StoredOp};
use std::sync::Arc;
use tt_core::simd::Pool;

/// Projection and recurrence: rows `[sum T_b, M]` (u8 or f32) to last hidden states `[B, H]`, or to all of them,
/// `[sum T_b, H]`, which another layer can read.
#[derive(Debug, Clone)]
pub struct RecurrentLayer(Arc<Core>);

#[derive(Debug)]
struct Core {
    projection: Arc<dyn Projection>,
    steps: Steps,
}

/// How pre-activations turn into states.
#[derive(Debug)]
enum Steps {
    /// The CPU's kernels.
    Kernels(Arc<StepKernels>),
    /// candle's operators, or another device's own kernels.
    Operators(Ops),
}

/// The recurrence on the CPU, and what its calls share.
#[derive(Debug)]
struct StepKernels {
    recurrence: Recurrence,
    sinks: Sinks,
    workspaces: Arc<Pool<Workspace>>,
}

#[derive(Debug, Default)]
struct Workspace {
    /// Pre-activations, then activations, then their gradients: `[n, G·H]`.
    gates: Vec<f32>,
    projection: Memory,
    recurrence: Saved,
}

impl RecurrentLayer {
    /// Joins a projection and a recurrence on the CPU.
    pub fn new(projection: Arc<dyn Projection>, recurrence: Recurrence, sinks: Sinks) -> Self {
        let kernels = StepKernels { recurrence, sinks, workspaces: Arc::default() };
        Self(Arc::new(Core { projection, steps: Steps::Kernels(Arc::new(kernels)) }))
    }

    /// The same by candle's operators, on any device.
    pub fn by_operators(projection: Arc<dyn Projection>, recurrence: Ops) -> Self {
        Self(Arc::new(Core { projection, steps: Steps::Operators(recurrence) }))
    }

    /// Hidden states of the packed clips: the last `[B, H]`, or all `[sum T_b, H]` ([`LayerCall::output`]).
    ///
    /// # Shapes
    /// `rows [sum T_b, M]`, a tensor or stored bytes; `input_weights` as the projection wants them; `recurrent_weights` is
    /// `[U (H × G·H) | b (G·H)]` flat.
    ///
    /// # Errors
    /// A size that does not fit, an empty batch, or a device that the layer was not made for.
    pub fn forward(
        &self,
        rows: impl Into<FrameRows>,
        input_weights: &Tensor,
        recurrent_weights: &Tensor,
        call: LayerCall,
    ) -> Result<Tensor> {
        let Core { projection, steps } = &*self.0;
        let rows = rows.into();
        self.check(&rows, input_weights, &call)?;
        let kernels = match steps {
            Steps::Operators(ops) => {
                let x = projection.forward(&rows.tensor()?, input_weights, &call)?;
                return ops.forward(&x, recurrent_weights, &call);
            }
            Steps::Kernels(kernels) => kernels,
        };
        if call.train {
            kernels.sinks.input.iter().chain(&kernels.sinks.recurrent).for_each(GradientSink::clear);
        }
        if projection.kernel().is_some() {
            let op = LayerOp::new(Arc::clone(projection), StepsOp::new(Arc::clone(kernels), call));
            return Ok(match rows {
                FrameRows::Tensor(rows) => rows.apply_op3(input_weights, recurrent_weights, op)?,
                FrameRows::Stored(rows) => {
                    input_weights.apply_op2(recurrent_weights, StoredOp { op, rows })?
                }
            });
        }
        let x = projection.forward(&rows.tensor()?, input_weights, &call)?;
        Ok(x.apply_op2(recurrent_weights, StepsOp::new(Arc::clone(kernels), call))?)
    }

    /// Activations of all gate blocks at every step, `[sum T_b, G·H]`.
    ///
    /// # Errors
    /// As [`RecurrentLayer::forward`].
    pub fn activations(
        &self,
        rows: impl Into<FrameRows>,
        input_weights: &Tensor,
        recurrent_weights: &Tensor,
        call: LayerCall,
    ) -> Result<Vec<f32>> {
        let Core { projection, steps } = &*self.0;
        let rows = rows.into();
        self.check(&rows, input_weights, &call)?;
        let kernels = match steps {
            Steps::Operators(ops) => {
                let x = projection.forward(&rows.tensor()?, input_weights, &call)?;
                let activations = ops.activations(&x, recurrent_weights, &call)?;
                return Ok(activations.flatten_all()?.to_vec1()?);
            }
            Steps::Kernels(kernels) => Arc::clone(kernels),
        };
        let steps = StepsOp::new(kernels, LayerCall { train: true, ..call });
        let (recurrent, recurrent_layout) = recurrent_weights.storage_and_layout();
        let recurrent = floats(on_cpu(&recurrent)?, recurrent_layout, "recurrent weights")?;
        if projection.kernel().is_some() {
            let (input, input_layout) = input_weights.storage_and_layout();
            let op = LayerOp::new(Arc::clone(projection), steps);
            let input = floats(on_cpu(&input)?, input_layout, "input weights")?;
            rows.read(|rows| op.run_forward(rows, input, recurrent))?;
            return op.into_activations();
        }
        let x = projection.forward(&rows.tensor()?, input_weights, steps.call())?;
        let (x, x_layout) = x.storage_and_layout();
        steps.run_forward(floats(on_cpu(&x)?, x_layout, "pre-activations")?, recurrent)?;
        steps.into_activations()
    }

    /// The cell of the recurrence.
    pub fn cell(&self) -> Cell {
        match &self.0.steps {
            Steps::Kernels(kernels) => kernels.recurrence.cell(),
            Steps::Operators(ops) => ops.cell,
        }
    }

    /// Whether kernels read its rows, so that stored ones need no copy.
    pub(crate) fn reads_stored(&self) -> bool {
        let Core { projection, steps } = &*self.0;
        projection.kernel().is_some() && matches!(steps, Steps::Kernels(_))
    }

    /// H
    pub fn hidden(&self) -> usize {
        match &self.0.steps {
            Steps::Kernels(kernels) => kernels.recurrence.hidden(),
            Steps::Operators(ops) => ops.hidden,
        }
    }

    fn check(&self, rows: &FrameRows, input_weights: &Tensor, call: &LayerCall) -> Result<()> {
        Batch::of(call).check(self.hidden(), self.cell().gates())?;
        let (projection, (count, features)) = (&self.0.projection, rows.dims()?);
        check_size("features of a row", projection.features(), features)?;
        check_size("rows of the clips", call.lengths.iter().sum(), count)?;
        check_size("input weights", projection.weights().count(), input_weights.elem_count())?;
        match call.input_dropout {
            Some(InputDropout { probability, .. }) if !(0.0..1.0).contains(&probability) => {
                Err(Error::Unsupported(format!("input dropout of {probability}: from 0, and below 1")))
            }
            _ => Ok(()),
        }
    }
}
