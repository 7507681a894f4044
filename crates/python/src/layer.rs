//! The TT layer.

use std::sync::Arc;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tt_core::apply::{Affine, Fused, Saved};
use tt_core::init::{self, CoreInit};
use tt_core::rng::stream;
use tt_core::simd::Pool;
use tt_core::{Error, TtShape};

use crate::buffers::{AnyRows, Numbers};

#[expect(clippy::needless_pass_by_value, reason = "what `map_err` hands over")]
fn refused(error: Error) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// `y = (scale · x + shift) W` with W as a Tensor Train. It holds sizes and workspaces; cores are given with each call.
#[pyclass(frozen, module = "ttrnn._native")]
pub(crate) struct Layer {
    shape: TtShape,
    fused: Fused,
    saved: Arc<Pool<Saved>>,
}

/// Ranks as people give them.
#[derive(FromPyObject)]
enum Ranks {
    /// One for all, less where the shape allows less.
    Largest(usize),
    /// r_0 … r_d
    All(Vec<usize>),
}

/// What a forward pass leaves for the backward pass. Its memory goes back to the layer.
#[pyclass(frozen, module = "ttrnn._native")]
pub(crate) struct Kept {
    saved: Saved,
    pool: Arc<Pool<Saved>>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.saved));
    }
}

#[pymethods]
impl Layer {
    #[new]
    #[expect(clippy::needless_pass_by_value, reason = "lists of Python become vectors")]
    fn new(
        input_modes: Vec<usize>,
        output_modes: Vec<usize>,
        rank: Ranks,
        scale: f32,
        shift: f32,
    ) -> PyResult<Self> {
        let shape = match rank {
            Ranks::Largest(rank) => TtShape::uniform(&input_modes, &output_modes, rank, 1),
            Ranks::All(ranks) => TtShape::new(&input_modes, &output_modes, &ranks, 1),
        };
        let shape = shape.map_err(refused)?;
        let fused = Fused::new(&shape, Affine { scale, shift });
        Ok(Self { shape, fused, saved: Arc::default() })
    }

    /// r_0 … r_d
    #[getter]
    fn ranks(&self) -> Vec<usize> {
        self.shape.ranks().to_vec()
    }

    /// Cores that keep the variance of the input.
    fn initial(&self, seed: u64) -> Vec<f32> {
        init::cores(&self.shape, CoreInit::VarianceMatched, &mut stream(seed, "init/cores"))
    }

    /// `out [n, N]` of `rows [n, M]`; what the backward pass needs, if it is to be kept.
    fn forward(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        cores: &Bound<'_, PyAny>,
        out: &Bound<'_, PyAny>,
        keep: bool,
    ) -> PyResult<Option<Kept>> {
        let (rows, cores, mut out) = (AnyRows::of(rows)?, Numbers::of(cores)?, Numbers::of(out)?);
        let (rows, cores, out) = (rows.rows(), cores.numbers(), out.numbers_mut()?);
        let mut kept = keep.then(|| Kept { saved: self.saved.take(), pool: self.saved.clone() });
        let saved = kept.as_mut().map(|kept| &mut kept.saved);
        py.detach(|| self.fused.forward(rows, cores, out, saved)).map_err(refused)?;
        Ok(kept)
    }

    /// Gradients from `dout [n, N]`: `dcores [L]`, and `drows [n, M]` where asked for.
    #[expect(clippy::too_many_arguments, reason = "the arguments of a backward pass")]
    fn backward(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        cores: &Bound<'_, PyAny>,
        kept: &Kept,
        dout: &Bound<'_, PyAny>,
        dcores: &Bound<'_, PyAny>,
        drows: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let (rows, cores, dout) = (AnyRows::of(rows)?, Numbers::of(cores)?, Numbers::of(dout)?);
        let mut dcores = Numbers::of(dcores)?;
        let mut drows = drows.map(Numbers::of).transpose()?;
        let (rows, cores, dout, saved) = (rows.rows(), cores.numbers(), dout.numbers(), &kept.saved);
        let dcores = dcores.numbers_mut()?;
        let drows = drows.as_mut().map(Numbers::numbers_mut).transpose()?;
        py.detach(|| self.fused.backward(rows, cores, saved, dout, dcores, drows)).map_err(refused)
    }
}
