//! A full matrix `W [M, G·H]`, row-major.

use super::{Fixed, Kernel, Matrix, Memory, OuterProduct, Pieces, Projection, ProjectionGradients, Weights};
use crate::call::LayerCall;
use crate::config::ModelConfig;
use crate::dense::{self, Dense};
use crate::error::check_size;
use crate::gradient;
use crate::mask::InputMask;
use crate::parameters::glorot_uniform;
use crate::rates::Kind;
use crate::row::RowProduct;
use crate::{Error, Result};
use candle_core::Tensor;
use std::sync::Arc;
use tt_core::apply::{Affine, Path, Rows};
use tt_core::rng::stream;
use tt_core::simd::Isa;

/// A dense projection.
#[derive(Debug)]
pub struct DenseProjection {
    dense: Dense,
    gates: usize,
}

impl DenseProjection {
    /// A projection of M = `features` to G·H = `outputs`.
    pub fn new(features: usize, outputs: usize, gates: usize, affine: Affine) -> Self {
        Self { dense: Dense::new(features, outputs, affine), gates }
    }

    /// The same on the kernels of this path.
    ///
    /// # Errors
    /// A unit that this machine lacks.
    pub fn on(self, path: Path) -> Result<Self> {
        Ok(Self { dense: self.dense.on(path)?, ..self })
    }

    fn mask<'a>(&self, call: &'a LayerCall) -> Option<InputMask<'a>> {
        let dropout = call.input_dropout?;
        let (seed, probability) = (dropout.seed, dropout.probability);
        Some(InputMask { seed, probability, gates: self.gates, lengths: &call.lengths })
    }
}

/// What multiplies frames by a dense input matrix on this machine's CPU beside vectors of f32, if anything does: for records.
pub fn unit_for_frames(config: &ModelConfig) -> Option<String> {
    Dense::new(1, 1, config.affine).on(config.backend.path()?).ok()?.unit()
}

/// The dense projection of a model.
pub(super) fn of_model(config: &ModelConfig, gates: usize) -> Result<Arc<dyn Projection>> {
    let width = gates * config.dense_hidden;
    if config.features == 0 || width == 0 {
        let (features, units) = (config.features, config.dense_hidden);
        return Err(Error::Unsupported(format!("a dense matrix of {features} features and {units} units")));
    }
    let projection = DenseProjection::new(config.features, width, gates, config.affine);
    Ok(Arc::new(match config.backend.path() {
        Some(path) => projection.on(path)?,
        None => projection,
    }))
}

impl Projection for DenseProjection {
    fn features(&self) -> usize {
        self.dense.features()
    }

    fn outputs(&self) -> usize {
        self.dense.outputs()
    }

    fn macs_per_row(&self) -> usize {
        self.features() * self.outputs()
    }

    fn weights(&self) -> Weights {
        let (features, outputs) = (self.features(), self.outputs());
        Weights {
            name: "input.kernel",
            shape: vec![features, outputs],
            parts: vec![(features * outputs, Kind::InputMatrix { fan_in: features })],
            sink: true,
        }
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        let (features, outputs) = (self.features(), self.outputs());
        glorot_uniform(features, outputs, outputs, &mut stream(seed, "init/input"))
    }

    fn matrix(&self) -> Result<Option<Matrix>> {
        Ok(Some(Matrix::Dense))
    }

    fn masks_by_gate(&self) -> bool {
        true
    }

    fn forward(&self, rows: &Tensor, weights: &Tensor, call: &LayerCall) -> Result<Tensor> {
        let mask = self.mask(call);
        dense::ops::forward(rows, self.dense.affine(), weights, &call.lengths, mask.as_ref(), call.train)
    }

    fn kernel(&self) -> Option<&dyn Kernel> {
        Some(self)
    }

    fn fixed(&self, weights: Vec<f32>) -> Result<Option<Box<dyn Fixed>>> {
        check_size("dense weights", self.features() * self.outputs(), weights.len())?;
        Ok(Some(Box::new(FixedDense { dense: self.dense, weights })))
    }
}

impl Kernel for DenseProjection {
    fn forward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        out: &mut [f32],
        memory: &mut Memory,
        call: &LayerCall,
    ) -> Result<()> {
        self.dense.forward(rows, self.mask(call).as_ref(), weights, out, memory.of())
    }

    fn backward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        memory: &mut Memory,
        dout: &[f32],
        gradients: ProjectionGradients<'_>,
        call: &LayerCall,
    ) -> Result<()> {
        if let Some(drows) = gradients.rows {
            self.rows_back(weights, dout, drows, call)?;
        }
        gradient::write(&*self.weights_back(rows, dout, memory, call)?, gradients.weights)
    }

    fn outer_product(&self) -> Option<&dyn OuterProduct> {
        Some(self)
    }
}

impl OuterProduct for DenseProjection {
    fn rows_back(&self, weights: &[f32], dout: &[f32], drows: &mut [f32], call: &LayerCall) -> Result<()> {
        self.dense.input_gradient(dout, self.mask(call).as_ref(), weights, drows)
    }

    fn weights_back<'a>(
        &'a self,
        rows: Rows<'a>,
        dout: &[f32],
        memory: &'a mut Memory,
        call: &'a LayerCall,
    ) -> Result<Box<dyn Pieces + 'a>> {
        Ok(Box::new(self.dense.weight_gradient(rows, self.mask(call), dout, memory.of())?))
    }
}

/// A matrix that stays as it is.
#[derive(Debug)]
struct FixedDense {
    dense: Dense,
    weights: Vec<f32>,
}

impl Fixed for FixedDense {
    fn forward(&mut self, row: Rows<'_>, out: &mut [f32]) -> Result<()> {
        check_size("rows", 1, row.count(self.dense.features())?)?;
        let row = row.row(0, self.dense.features());
        check_size("projected rows", self.dense.outputs(), out.len())?;
        out.fill(0.0);
        Isa::best().run(RowProduct::new((row, self.dense.affine()), (&self.weights, out.len()), 0, out));
        Ok(())
    }
}
