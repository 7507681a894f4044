//! Model folders.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use tt_rnn::{Error, folder};

use crate::ModelError;
use crate::buffers::Numbers;

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn refused(error: Error) -> PyErr {
    ModelError::new_err(error.to_string())
}

/// A model with its weights.
#[pyclass(frozen, module = "ttrnn._native")]
pub(crate) struct Trained(folder::Trained);

#[pymethods]
impl Trained {
    #[new]
    fn new(py: Python<'_>, dir: PathBuf) -> PyResult<Self> {
        py.detach(|| tt_rnn::load(dir)).map(Self).map_err(refused)
    }

    /// Which of so many frames of a clip the model is to see.
    fn kept(&self, total: usize) -> Vec<usize> {
        self.0.config.frames.kept(total)
    }

    /// Probabilities `[K]` of the frames `[T, height, width, 3]` of a clip.
    fn predict(&self, py: Python<'_>, frames: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
        let frames = Numbers::of(frames)?;
        let frames = frames.numbers();
        py.detach(|| self.0.predict(frames)).map_err(refused)
    }

    fn stream(&self) -> PyResult<Stream> {
        Ok(Stream(Mutex::new(self.0.stream().map_err(refused)?)))
    }
}

/// A model that is given one frame after the other.
#[pyclass(frozen, module = "ttrnn._native")]
pub(crate) struct Stream(Mutex<folder::Stream>);

#[pymethods]
impl Stream {
    /// Probabilities `[K]` after the next frame.
    fn push(&self, py: Python<'_>, frame: &Bound<'_, PyAny>) -> PyResult<Vec<f64>> {
        let frame = Numbers::of(frame)?;
        let frame = frame.numbers();
        let push = || {
            let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            stream.push(frame).map(<[f64]>::to_vec)
        };
        py.detach(push).map_err(refused)
    }

    /// The next frame is the first of another clip.
    fn restart(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).restart();
    }
}
