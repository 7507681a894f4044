//! The MLP: a few frames concatenated, one layer whose matrix has a format, one classifier.
//!
//! # Paper
//! Yang, Krompass, Tresp 2017, TT-MLP, the baseline without recurrence of all three datasets. Modes and ranks are
//! inferred from the published counts (`docs/departures.md`).

use super::{Classifier, FrameChoice, Mode, Model, ModelConfig, PackedFrames};
use crate::parameters::Parameter;
use crate::projection::{self, Alone, Factorization, Projection, TRAIN};
use crate::rates::Kind;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::sync::Arc;
use tt_core::init;
use tt_core::rng::stream;

/// `tanh([x_1 … x_f] W + b)`, then the classifier.
#[derive(Debug)]
pub(super) struct Mlp {
    name: &'static str,
    layer: Alone,
    cores: Parameter,
    bias: Parameter,
    classifier: Classifier,
    frames: usize,
}

impl Mlp {
    pub(super) fn new(
        name: &'static str,
        input: Factorization,
        config: &ModelConfig,
        device: &Device,
        seed: u64,
    ) -> Result<Self> {
        let of_mlp = config.of_mlp();
        let projection = (input.new)(&of_mlp, 1)?;
        // TT-MLP's stream has had a name of its own since its first records.
        let values = if input == TRAIN {
            init::cores(
                &projection::shape_of_train(&of_mlp, 1)?,
                config.core_init,
                &mut stream(seed, "init/cores/mlp"),
            )
        } else {
            projection.initial(seed)
        };
        Self::with(name, projection, values, config, device, seed)
    }

    /// With a matrix, whatever modes, rank and form the configuration has.
    pub(super) fn with(
        name: &'static str,
        projection: Arc<dyn Projection>,
        values: Vec<f32>,
        config: &ModelConfig,
        device: &Device,
        seed: u64,
    ) -> Result<Self> {
        let (hidden, length) = (projection.outputs(), values.len());
        Ok(Self {
            name,
            layer: Alone::new(projection),
            cores: Parameter::new("input.cores", Kind::InputCores, values, &[length], device)?,
            bias: Parameter::new("input.bias", Kind::Vector, vec![0.0; hidden], &[hidden], device)?,
            classifier: Classifier::new(hidden, config, device, seed)?,
            frames: config.mlp_frames,
        })
    }
}

impl Model for Mlp {
    fn logits(&self, frames: &PackedFrames, _mode: Mode<'_>) -> Result<Tensor> {
        if frames.lengths.iter().any(|length| *length != self.frames) {
            return Err(Error::Unsupported(format!(
                "{} takes {} frames of every clip, found {:?}",
                self.name.to_uppercase(),
                self.frames,
                frames.lengths
            )));
        }
        let clips = frames.lengths.len();
        let rows = frames.rows.tensor()?.reshape((clips, ()))?; // [B, f·M]
        let hidden = self.layer.forward(&rows, &self.cores.var)?.broadcast_add(&self.bias.var)?.tanh()?;
        self.classifier.logits(&hidden)
    }

    fn parameters(&self) -> Vec<Parameter> {
        let [kernel, bias] = self.classifier.parameters();
        vec![self.cores.clone(), self.bias.clone(), kernel, bias]
    }

    fn input_parameters(&self) -> usize {
        self.cores.var.elem_count()
    }

    fn frames(&self) -> FrameChoice {
        FrameChoice::Drawn(self.frames)
    }
}
