//! Control: a dense GRU on small grey frames, with as few input weights as a train or as all of TT-GRU. What it can
//! do needs no Tensor Train.

use super::grey::{Grey, Grid};
use super::recurrent::{Matrices, Recurrent};
use super::{Mode, Model, ModelConfig, PackedFrames};
use crate::Result;
use crate::parameters::Parameter;
use crate::projection::DENSE;
use crate::recurrence::Cell;
use candle_core::{Device, Tensor};

/// A GRU whose frames are averaged over the cells of a grid.
#[derive(Debug)]
pub(super) struct PooledGru {
    grey: Grey,
    gru: Recurrent,
}

impl PooledGru {
    pub(super) fn new(config: &ModelConfig, grid: Grid, device: &Device, seed: u64) -> Result<Self> {
        let pooled = ModelConfig { features: grid.cells(), ..config.clone() };
        let matrices = Matrices::of(&pooled, Cell::Gru, DENSE)?;
        let gru = Recurrent::new(&pooled, Cell::Gru, matrices, device, seed)?;
        Ok(Self { grey: Grey::new(grid, config, device)?, gru })
    }

    fn pooled(&self, frames: &PackedFrames) -> Result<PackedFrames> {
        Ok(PackedFrames::new(self.grey.average(frames)?, frames.lengths.clone()))
    }
}

impl Model for PooledGru {
    fn logits(&self, frames: &PackedFrames, mode: Mode<'_>) -> Result<Tensor> {
        self.gru.logits(&self.pooled(frames)?, mode)
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.gru.parameters()
    }

    fn input_parameters(&self) -> usize {
        self.gru.input_parameters()
    }

    fn saturated_gates(&self, frames: &PackedFrames) -> Result<Option<f64>> {
        self.gru.saturated_gates(&self.pooled(frames)?)
    }
}
