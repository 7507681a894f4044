//! Gradients that bypass candle's gradient store.

use crate::error::{Result, check_size};
use crate::gradient::{self, Gradient, Pieces};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a gradient too large to pass through candle's gradient store is left.
///
/// The store adds each gradient to a tensor of zeros: three passes over fresh memory, for the 177 MB of a
/// dense GRU's input matrix a quarter of a training step. The addition also runs on threads of candle's own,
/// which spin while they wait. What is left here is a buffer that is reused, or, of a matrix that reads frames, the two
/// factors of the gradient, which [`GradientSink::take_pieces`] multiplies as it goes.
///
/// A layer that is used several times in one graph adds up here, as it would in the store. What nobody has taken
/// is dropped when the layer's next training pass begins.
#[derive(Debug, Clone, Default)]
pub struct GradientSink(Arc<Mutex<Slot>>);

/// A gradient that a backward pass left to be computed, with all that this needs.
pub(crate) trait Deferred: Debug + Send {
    /// Lets `read` have its pieces.
    fn pieces(&mut self, read: &mut dyn FnMut(&dyn Pieces) -> Result<()>) -> Result<()>;
}

#[derive(Debug, Default)]
struct Slot {
    values: Vec<f32>,
    waiting: Waiting,
}

/// What waits to be taken.
#[derive(Debug, Default)]
enum Waiting {
    #[default]
    Nothing,
    /// The slot's values.
    Values,
    Deferred(Box<dyn Deferred>),
}

impl Slot {
    /// Computes what waits to be computed; whether there is a gradient.
    fn settle(&mut self) -> Result<bool> {
        match std::mem::take(&mut self.waiting) {
            Waiting::Nothing => return Ok(false),
            Waiting::Values => {}
            Waiting::Deferred(mut deferred) => {
                let values = &mut self.values;
                deferred.pieces(&mut |pieces| {
                    values.resize(pieces.values(), 0.0);
                    gradient::write(pieces, values)
                })?;
            }
        }
        self.waiting = Waiting::Values;
        Ok(true)
    }
}

impl GradientSink {
    /// Lets `use_gradient` read the gradient of the last backward pass as a whole, and marks it as used.
    ///
    /// # Errors
    /// A gradient that cannot be computed.
    pub fn take<T>(&self, use_gradient: impl FnOnce(&[f32]) -> T) -> Result<Option<T>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !slot.settle()? {
            return Ok(None);
        }
        slot.waiting = Waiting::Nothing;
        Ok(Some(use_gradient(&slot.values)))
    }

    /// Whether a backward pass left a gradient that nobody has taken.
    pub(crate) fn is_waiting(&self) -> bool {
        let slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !matches!(slot.waiting, Waiting::Nothing)
    }

    /// The same without the whole where a backward pass left its factors only.
    ///
    /// # Errors
    /// As [`GradientSink::take`].
    pub fn take_pieces<T>(&self, use_gradient: impl FnOnce(Gradient<'_>) -> T) -> Result<Option<T>> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::take(&mut slot.waiting) {
            Waiting::Nothing => Ok(None),
            Waiting::Values => Ok(Some(use_gradient(Gradient::Values(&slot.values)))),
            Waiting::Deferred(mut deferred) => {
                let (mut use_gradient, mut result) = (Some(use_gradient), None);
                deferred.pieces(&mut |pieces| {
                    result = use_gradient.take().map(|use_gradient| use_gradient(Gradient::Pieces(pieces)));
                    Ok(())
                })?;
                Ok(result)
            }
        }
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

    /// Marks the gradient as not used yet, after a look at it as a whole.
    pub(crate) fn put_back(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting = Waiting::Values;
    }

    /// Forgets a gradient that nobody has taken.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).waiting = Waiting::Nothing;
    }

    /// Leaves a gradient to be computed; at once where it must be added to another that still waits.
    pub(crate) fn defer(&self, mut more: Box<dyn Deferred>) -> Result<()> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !slot.settle()? {
            slot.waiting = Waiting::Deferred(more);
            return Ok(());
        }
        more.pieces(&mut |pieces| gradient::add(pieces, &mut slot.values))
    }

    /// Lets `write` overwrite a buffer of `len` numbers, and adds it to a gradient that still waits.
    fn put(&self, len: usize, write: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.settle()? {
            check_size("gradient", slot.values.len(), len)?;
            let mut more = vec![0.0; len];
            write(&mut more)?;
            slot.values.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
            return Ok(());
        }
        slot.values.resize(len, 0.0);
        write(&mut slot.values)?;
        slot.waiting = Waiting::Values;
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
