//! Control: a linear map of a few small grey frames. What it can do needs no recurrence and few pixels.

use super::grey::{Grey, Grid};
use super::linear::Linear;
use super::{FrameChoice, Mode, Model, ModelConfig, PackedFrames};
use crate::parameters::Parameter;
use crate::{Error, Result};
use candle_core::{Device, Tensor};

/// Frames of a clip, at even distances.
pub const STACKED: usize = 10;
/// What is left of each.
pub const GRID: Grid = Grid { width: 20, height: 15 };

/// Softmax regression on [`STACKED`] grey frames side by side.
#[derive(Debug)]
pub(super) struct StackedFrames {
    grey: Grey,
    linear: Linear,
}

impl StackedFrames {
    pub(super) fn new(config: &ModelConfig, device: &Device, seed: u64) -> Result<Self> {
        Ok(Self {
            grey: Grey::new(GRID, config, device)?,
            linear: Linear::new(STACKED * GRID.cells(), config, device, seed)?,
        })
    }
}

impl Model for StackedFrames {
    fn logits(&self, frames: &PackedFrames, _mode: Mode<'_>) -> Result<Tensor> {
        if frames.lengths.iter().any(|length| *length != STACKED) {
            return Err(Error::Unsupported(format!(
                "stacked-frames takes {STACKED} frames of every clip, found {:?}",
                frames.lengths
            )));
        }
        self.linear.logits(&self.grey.average(frames)?.reshape((frames.lengths.len(), ()))?) // [B, f·h·w]
    }

    fn parameters(&self) -> Vec<Parameter> {
        self.linear.parameters()
    }

    fn input_parameters(&self) -> usize {
        self.linear.weights()
    }

    fn frames(&self) -> FrameChoice {
        FrameChoice::Even(STACKED)
    }
}
