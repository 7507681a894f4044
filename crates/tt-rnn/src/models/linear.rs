//! What the linear controls share: a softmax or sigmoid classifier that reads pixels.

use super::ModelConfig;
use crate::Result;
use crate::parameters::{Parameter, glorot_uniform};
use crate::rates::Kind;
use candle_core::{D, Device, Tensor};
use tt_core::rng::stream;

/// A linear map from the numbers of a clip, less their mean, to its class scores.
///
/// The mean is taken off because pixels of one clip are light or dark together: along that one direction, which
/// tells classes hardly apart, the loss is far steeper than along all others, and Adam spends its steps on it. As an
/// input matrix the weights carry no penalty.
#[derive(Debug)]
pub(super) struct Linear {
    kernel: Parameter,
    bias: Parameter,
    scale: f64,
}

impl Linear {
    pub(super) fn new(inputs: usize, config: &ModelConfig, device: &Device, seed: u64) -> Result<Self> {
        let classes = config.classes;
        let values = glorot_uniform(inputs, classes, classes, &mut stream(seed, "init/input"));
        let kind = Kind::InputMatrix { fan_in: inputs };
        Ok(Self {
            kernel: Parameter::new("input.kernel", kind, values, &[inputs, classes], device)?,
            bias: Parameter::new("classifier.bias", Kind::Vector, vec![0.0; classes], &[classes], device)?,
            scale: f64::from(config.affine.scale),
        })
    }

    /// Class scores `[B, K]` of pixel values `[B, inputs]`.
    pub(super) fn logits(&self, clips: &Tensor) -> Result<Tensor> {
        let centred = (clips.broadcast_sub(&clips.mean_keepdim(D::Minus1)?)? * self.scale)?;
        Ok(centred.matmul(&self.kernel.var)?.broadcast_add(&self.bias.var)?)
    }

    pub(super) fn parameters(&self) -> Vec<Parameter> {
        vec![self.kernel.clone(), self.bias.clone()]
    }

    pub(super) fn weights(&self) -> usize {
        self.kernel.var.elem_count()
    }
}
