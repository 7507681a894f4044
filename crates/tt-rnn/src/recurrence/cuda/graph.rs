//! The persistent kernels as one node of candle's graph.

use super::Persistent;
use crate::call::LayerCall;
use crate::error::Result;
use candle_core::{DType, Tensor};
use tt_core::graft::graft2;

impl Persistent {
    /// Last states `[B, H]`, differentiable with respect to `x` and `weights`, with warm-up steps as rows of zeros
    /// before each clip; `None` where the kernels do not fit.
    ///
    /// # Errors
    /// As [`Persistent::forward`].
    pub(crate) fn last_states(
        &self,
        x: &Tensor,
        weights: &Tensor,
        call: &LayerCall,
    ) -> Result<Option<Tensor>> {
        let padding = Padding::new(call, x)?;
        let rows = match &padding {
            Some(padding) => padding.pad(&x.detach())?,
            None => x.detach(),
        };
        let steps = padding.as_ref().map_or(&call.lengths, |padding| &padding.steps);
        let masks = call.masks.view();
        let Some((last, record)) = self.forward(&rows, &weights.detach(), steps, masks, call.train)? else {
            return Ok(None);
        };
        let Some(record) = record else { return Ok(Some(last)) };
        let (this, fixed, shape) = (*self, weights.detach(), x.shape().clone());
        let last = graft2("recurrence", last, [x, weights], move |dlast| {
            let gradients = || -> Result<_> {
                let dx = this.backward(&record, &fixed, dlast)?;
                let dweights = record.weight_gradient(this.cell, &dx)?.reshape(fixed.shape())?;
                let dx = match &padding {
                    Some(padding) => padding.strip(&dx)?,
                    None => dx,
                };
                Ok([Some(dx.reshape(&shape)?), Some(dweights)])
            };
            gradients().map_err(candle_core::Error::wrap)
        })?;
        Ok(Some(last))
    }
}

/// Rows of zeros before clips.
struct Padding {
    /// Steps of each clip, those before it included.
    steps: Vec<usize>,
    /// The row of every step; one past the last for zeros.
    from: Tensor,
    /// The step of every row.
    to: Tensor,
}

impl Padding {
    /// None where no clip has a step before it.
    fn new(call: &LayerCall, x: &Tensor) -> Result<Option<Self>> {
        if call.warm_up.iter().all(|steps| *steps == 0) {
            return Ok(None);
        }
        let zero = call.lengths.iter().sum::<usize>() as u32;
        let (mut from, mut to, mut row) = (Vec::new(), Vec::new(), 0);
        for (length, warm_up) in call.lengths.iter().zip(&call.warm_up) {
            from.resize(from.len() + warm_up, zero);
            for _ in 0..*length {
                to.push(from.len() as u32);
                from.push(row);
                row += 1;
            }
        }
        let steps =
            call.lengths.iter().zip(&call.warm_up).map(|(length, warm_up)| length + warm_up).collect();
        let tensor = |list: Vec<u32>| Tensor::new(list, x.device());
        Ok(Some(Self { steps, from: tensor(from)?, to: tensor(to)? }))
    }

    fn pad(&self, x: &Tensor) -> Result<Tensor> {
        let zero = Tensor::zeros((1, x.dim(1)?), DType::F32, x.device())?;
        Ok(Tensor::cat(&[x, &zero], 0)?.index_select(&self.from, 0)?)
    }

    fn strip(&self, dx: &Tensor) -> Result<Tensor> {
        Ok(dx.index_select(&self.to, 0)?)
    }
}
