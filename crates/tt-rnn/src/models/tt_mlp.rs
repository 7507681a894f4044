//! TT-MLP: a few frames concatenated, one TT layer, one classifier.
//!
//! # Paper
//! Yang, Krompass, Tresp 2017, the baseline without recurrence of all three datasets. Modes and ranks are
//! inferred from the published counts (`docs/departures.md`).

use super::{Classifier, FrameChoice, Mode, Model, ModelConfig, PackedFrames};
use crate::parameters::Parameter;
use crate::rates::Kind;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use tt_core::rng::stream;
use tt_core::{TtOperator, TtShape, init};

/// `tanh(TT(x_1 … x_f) + b)`, then the classifier.
#[derive(Debug)]
pub(super) struct TtMlp {
    layer: TtOperator,
    cores: Parameter,
    bias: Parameter,
    classifier: Classifier,
    frames: usize,
}

impl TtMlp {
    pub(super) fn new(config: &ModelConfig, shape: &TtShape, device: &Device, seed: u64) -> Result<Self> {
        let hidden = shape.out_features();
        let values = init::cores(shape, config.core_init, &mut stream(seed, "init/cores/mlp"));
        let length = values.len();
        Ok(Self {
            layer: TtOperator::with_precision(shape, config.affine, config.backend, config.precision),
            cores: Parameter::new("input.cores", Kind::InputCores, values, &[length], device)?,
            bias: Parameter::new("input.bias", Kind::Vector, vec![0.0; hidden], &[hidden], device)?,
            classifier: Classifier::new(hidden, config, device, seed)?,
            frames: config.mlp_frames,
        })
    }
}

impl Model for TtMlp {
    fn logits(&self, frames: &PackedFrames, _mode: Mode<'_>) -> Result<Tensor> {
        if frames.lengths.iter().any(|length| *length != self.frames) {
            return Err(Error::Unsupported(format!(
                "TT-MLP takes {} frames of every clip, found {:?}",
                self.frames, frames.lengths
            )));
        }
        let clips = frames.lengths.len();
        let rows = frames.rows.reshape((clips, ()))?; // [B, f·M]
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
