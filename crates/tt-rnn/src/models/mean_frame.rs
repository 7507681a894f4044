//! Control: a linear map of the mean frame. What it can do needs neither time nor a hidden layer.

use super::linear::Linear;
use super::{Mode, Model, ModelConfig, PackedFrames};
use crate::Result;
use crate::error::check_size;
use crate::parameters::Parameter;
use candle_core::{DType, Device, Tensor};

/// Softmax regression on the mean over a clip's frames.
#[derive(Debug)]
pub(super) struct MeanFrame(Linear);

impl MeanFrame {
    pub(super) fn new(config: &ModelConfig, device: &Device, seed: u64) -> Result<Self> {
        Ok(Self(Linear::new(config.features, config, device, seed)?))
    }
}

impl Model for MeanFrame {
    fn logits(&self, frames: &PackedFrames, _mode: Mode<'_>) -> Result<Tensor> {
        let mut means = Vec::with_capacity(frames.lengths.len());
        let (rows, mut start) = (frames.rows.tensor()?, 0);
        check_size("frames of all clips", frames.lengths.iter().sum(), rows.dim(0)?)?;
        for length in &frames.lengths {
            let clip = rows.narrow(0, start, *length)?.to_dtype(DType::F32)?;
            // Sums of bytes are exact in f32, in whatever order, up to 65,793 frames.
            let ones = Tensor::ones((1, *length), DType::F32, clip.device())?;
            means.push((ones.matmul(&clip)? / *length as f64)?); // [1, M]
            start += length;
        }
        self.0.logits(&Tensor::cat(&means, 0)?)
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.0.parameters()
    }

    fn input_parameters(&self) -> usize {
        self.0.weights()
    }
}
