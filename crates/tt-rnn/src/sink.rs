//! Gradients that bypass candle's gradient store.

use crate::Result;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a gradient too large to pass through candle's gradient store is left.
///
/// The store adds each gradient to a tensor of zeros: three passes over fresh memory, for the 177 MB of a
/// dense GRU's input matrix a quarter of a training step. The addition also runs on threads of candle's own,
/// which spin while they wait. This buffer is written once and reused.
///
/// A layer that is used several times in one graph adds up here, as it would in the store. What nobody has taken
/// is dropped when the layer's next training pass begins.
#[derive(Debug, Clone, Default)]
pub struct GradientSink(Arc<Mutex<Slot>>);

#[derive(Debug, Default)]
struct Slot {
    values: Vec<f32>,
    /// Whether the values wait to be taken.
    waiting: bool,
}

impl GradientSink {
    /// Lets `use_gradient` read the gradient of the last backward pass, and marks it as used.
    pub fn take<T>(&self, use_gradient: impl FnOnce(&[f32]) -> T) -> Option<T> {
        let mut slot = self.0.lock().ok()?;
        if !std::mem::take(&mut slot.waiting) {
            return None;
        }
        Some(use_gradient(&slot.values))
    }

    /// Lets `write` fill the buffer of the sink, or a new one to be returned where there is none.
    pub(crate) fn fill(
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
            slot.waiting = true;
        }
    }

    /// Forgets a gradient that nobody has taken.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting = false;
    }

    /// Lets `write` overwrite a buffer of `len` numbers, and adds it to a gradient that still waits.
    fn put(&self, len: usize, write: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.waiting && slot.values.len() == len {
            let mut more = vec![0.0; len];
            write(&mut more)?;
            slot.values.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            return Ok(());
        }
        slot.values.resize(len, 0.0);
        write(&mut slot.values)?;
        slot.waiting = true;
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
