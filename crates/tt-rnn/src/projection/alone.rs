//! A projection with no recurrence behind it, as a node of candle's graph.

use super::{Memory, Projection, ProjectionGradients};
use crate::Result;
use crate::call::LayerCall;
use crate::error::check_size;
use crate::storage::{floats, on_cpu, rows_of};
use candle_core::Tensor;
use std::sync::{Arc, Mutex, PoisonError};
use tt_core::graft::graft2;
use tt_core::simd::Pool;

/// A projection by itself: by its kernels on the CPU, if it has some, else by candle's operators.
#[derive(Debug)]
pub(crate) struct Alone {
    projection: Arc<dyn Projection>,
    memories: Arc<Pool<Memory>>,
}

/// What a forward pass left for its backward pass; another may use the memory again.
struct Borrowed {
    memory: Mutex<Memory>,
    memories: Arc<Pool<Memory>>,
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        let memory = std::mem::take(self.memory.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.memories.give(memory);
    }
}

impl Alone {
    pub(crate) fn new(projection: Arc<dyn Projection>) -> Self {
        Self { projection, memories: Arc::default() }
    }

    /// `[n, H]` of rows `[n, M]`, without bias; differentiable with respect to the weights, and to rows that are tracked.
    ///
    /// # Errors
    /// Tensors that do not fit.
    pub(crate) fn forward(&self, rows: &Tensor, weights: &Tensor) -> Result<Tensor> {
        let projection = &self.projection;
        let (n, features) = rows.dims2()?;
        check_size("features of a row", projection.features(), features)?;
        let call = LayerCall { train: weights.track_op() || rows.track_op(), ..LayerCall::default() };
        let Some(kernel) = projection.kernel().filter(|_| rows.device().is_cpu()) else {
            return projection.forward(rows, weights, &call);
        };
        let rows = rows.contiguous()?;
        let mut memory = self.memories.take();
        let mut out = vec![0.0; n * projection.outputs()];
        {
            let (rows, rows_layout) = rows.storage_and_layout();
            let (weights, layout) = weights.storage_and_layout();
            let weights = floats(on_cpu(&weights)?, layout, "input weights")?;
            kernel.forward(rows_of(on_cpu(&rows)?, rows_layout)?, weights, &mut out, &mut memory, &call)?;
        }
        let value = Tensor::from_vec(out, (n, projection.outputs()), rows.device())?;
        let memory = Borrowed { memory: Mutex::new(memory), memories: Arc::clone(&self.memories) };
        if !call.train {
            return Ok(value);
        }
        let projection = Arc::clone(projection);
        let (read, held) = (rows.clone(), weights.detach());
        Ok(graft2("projection", value, [&rows, weights], move |dout| {
            backward(&*projection, (&read, &held), dout, &memory.memory, &call)
                .map_err(candle_core::Error::wrap)
        })?)
    }
}

/// Gradients of rows and weights.
fn backward(
    projection: &dyn Projection,
    (rows, weights): (&Tensor, &Tensor),
    dout: &Tensor,
    memory: &Mutex<Memory>,
    call: &LayerCall,
) -> Result<[Option<Tensor>; 2]> {
    let Some(kernel) = projection.kernel() else { return Ok([None, None]) };
    let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
    let mut dweights = vec![0.0; weights.elem_count()];
    let mut drows = rows.track_op().then(|| vec![0.0; rows.elem_count()]);
    {
        let (values, rows_layout) = rows.storage_and_layout();
        let (cores, cores_layout) = weights.storage_and_layout();
        let (dout, dout_layout) = dout.storage_and_layout();
        let gradients = ProjectionGradients { weights: &mut dweights, rows: drows.as_deref_mut() };
        kernel.backward(
            rows_of(on_cpu(&values)?, rows_layout)?,
            floats(on_cpu(&cores)?, cores_layout, "input weights")?,
            &mut memory,
            floats(on_cpu(&dout)?, dout_layout, "gradient")?,
            gradients,
            call,
        )?;
    }
    let drows = drows.map(|drows| Tensor::from_vec(drows, rows.shape(), rows.device())).transpose()?;
    Ok([drows, Some(Tensor::from_vec(dweights, weights.shape(), weights.device())?)])
}
