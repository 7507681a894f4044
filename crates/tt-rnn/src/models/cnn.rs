//! A recurrent network on what a CNN sees of each frame, trained end to end: what the paper argues with.
//!
//! # Paper
//! Yang, Krompass and Tresp 2017, sections 1 and 2, on Donahue et al. 2015, Srivastava et al. 2015 and Ng et al. 2015: "CNN-RNN
//! models" have had to be trained on short sequences, or on features that a CNN has learned before.
//!
//! # Departs
//! From those: the CNN is small, reads every frame of the clip, and begins at random ([`crate::encoder`]).

use super::recurrent::{Matrices, Recurrent};
use super::{Mode, Model, ModelConfig, PackedFrames};
use crate::Result;
use crate::encoder::{Encoder, Seen};
use crate::parameters::Parameter;
use crate::projection::DENSE;
use crate::recurrence::Cell;
use candle_core::{Device, Tensor};
use tt_core::apply::Affine;

/// An encoder, and recurrent layers on its features.
#[derive(Debug)]
pub(super) struct Cnn {
    encoder: Encoder,
    recurrent: Recurrent,
}

impl Cnn {
    pub(super) fn new(config: &ModelConfig, cell: Cell, device: &Device, seed: u64) -> Result<Self> {
        let encoder = Encoder::new(config, Seen::Means, device, seed)?;
        let (features, affine) = (encoder.plan().features(), Affine::IDENTITY);
        let config = ModelConfig { features, affine, ..config.clone() };
        let matrices = Matrices::of(&config, cell, DENSE)?;
        Ok(Self { encoder, recurrent: Recurrent::new(&config, cell, matrices, device, seed)? })
    }

    fn seen(&self, frames: &PackedFrames) -> Result<PackedFrames> {
        Ok(PackedFrames::new(self.encoder.features(&frames.rows)?, frames.lengths.clone()))
    }
}

impl Model for Cnn {
    fn logits(&self, frames: &PackedFrames, mode: Mode<'_>) -> Result<Tensor> {
        self.recurrent.logits(&self.seen(frames)?, mode)
    }

    fn parameters(&self) -> Vec<Parameter> {
        [self.encoder.parameters().to_vec(), self.recurrent.parameters()].concat()
    }

    /// All between a frame and the gates.
    fn input_parameters(&self) -> usize {
        self.encoder.plan().kernels() + self.recurrent.input_parameters()
    }

    fn reads_stored(&self) -> bool {
        self.encoder.reads_stored()
    }

    fn saturated_gates(&self, frames: &PackedFrames) -> Result<Option<f64>> {
        self.recurrent.saturated_gates(&self.seen(frames)?)
    }
}
