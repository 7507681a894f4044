//! How long training takes: the one estimate, from assumed speeds before a run and from measured ones in `bench study`.

use crate::build::{Size, threads};
use crate::spec::Spec;
use tt_rnn::models::{Form, STACKED, find};

/// Seconds of one core that a multiply-accumulate of each kind takes, for estimates only: TT kernels and
/// dense products run at about half and two thirds of an AVX-512 core's peak.
const TT_SECONDS_PER_MAC: f64 = 2.4e-11;
const DENSE_SECONDS_PER_MAC: f64 = 2.2e-11;
/// Seconds of Adam per weight and step: seven passes over memory at about 12 GB/s, an upper bound where no gradient is
/// written.
const ADAM_SECONDS_PER_WEIGHT: f64 = 2.5e-9;
/// Seconds of one core to average a byte of a frame away, for models whose weights read a small picture.
const AVERAGE_SECONDS_PER_BYTE: f64 = 1e-9;
/// The same of a CNN's multiply-accumulate: half of a core's peak, of passes that are four to one of evaluation, since
/// the way back computes each frame again.
const CNN_SECONDS_PER_MAC: f64 = 3.4e-11;
const CNN_PASSES: f64 = 4.0;

/// Seconds of a model on all cores of a machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// Of a training step, whatever its frames.
    pub step_s: f64,
    /// Of a frame in training, beside that.
    pub train_frame_s: f64,
    /// Of a frame in evaluation.
    pub test_frame_s: f64,
}

/// Frames taken of every clip, for models that do not take all.
pub(crate) fn taken(spec: &Spec, model: &str) -> Option<usize> {
    match find(model).ok()?.form {
        Form::Mlp { .. } => Some(spec.model.mlp_frames),
        Form::StackedFrames => Some(STACKED),
        _ => None,
    }
}

/// Clips and frames on both sides of a fold.
#[derive(Debug, Clone, Copy)]
pub struct SplitCounts {
    /// Training clips.
    pub train_clips: usize,
    /// Test clips.
    pub test_clips: usize,
    /// Frames of the training clips.
    pub train_frames: usize,
    /// Frames of the test clips.
    pub test_frames: usize,
    /// Frames of the longest possible batch.
    pub batch_frames: usize,
}

impl SplitCounts {
    /// The same of a model that takes so many frames of every clip.
    pub(crate) fn of_taken(self, taken: Option<usize>, batch: usize) -> Self {
        let Some(taken) = taken else { return self };
        Self {
            train_frames: self.train_clips * taken,
            test_frames: self.test_clips * taken,
            batch_frames: batch * taken,
            ..self
        }
    }
}

impl Pace {
    /// What is assumed of this machine.
    pub(crate) fn assumed(size: &Size) -> Self {
        let dense = size.params_input + size.params_frozen > 1_000_000;
        let seconds_per_mac = if dense { DENSE_SECONDS_PER_MAC } else { TT_SECONDS_PER_MAC };
        let passes = if dense { 2.0 } else { 3.1 };
        let threads = threads() as f64;
        let forward = (size.macs_per_frame - size.cnn_macs_per_frame) as f64 * seconds_per_mac;
        let cnn = size.cnn_macs_per_frame as f64 * CNN_SECONDS_PER_MAC;
        let averaged = size.averaged_per_frame as f64 * AVERAGE_SECONDS_PER_BYTE;
        Self {
            step_s: size.params_total as f64 * ADAM_SECONDS_PER_WEIGHT / threads,
            train_frame_s: (passes * forward + CNN_PASSES * cnn + averaged) / threads,
            test_frame_s: (forward + cnn + averaged) / threads,
        }
    }

    /// The line through training steps of so many frames and seconds with the least squares, which does not fall below zero.
    pub(crate) fn measured(steps: &[(f64, f64)], test_frame_s: f64) -> Self {
        let sum = |f: &dyn Fn(f64, f64) -> f64| steps.iter().map(|(frames, s)| f(*frames, *s)).sum::<f64>();
        let count = steps.len() as f64;
        let (frames, seconds) = (sum(&|f, _| f) / count, sum(&|_, s| s) / count);
        let spread = sum(&|f, _| (f - frames).powi(2));
        let slope = sum(&|f, s| (f - frames) * (s - seconds)) / spread;
        let step_s = seconds - slope * frames;
        if spread > 0.0 && step_s > 0.0 {
            return Self { step_s, train_frame_s: slope, test_frame_s };
        }
        // Through the origin.
        let train_frame_s = sum(&|f, s| f * s) / sum(&|f, _| f * f);
        Self { step_s: 0.0, train_frame_s, test_frame_s }
    }

    /// Seconds of an epoch's training.
    pub fn epoch_s(&self, split: &SplitCounts, batch: usize) -> f64 {
        self.step_s * split.train_clips.div_ceil(batch) as f64
            + self.train_frame_s * split.train_frames as f64
    }

    /// Seconds of a cell: its epochs, and the evaluations among and after them.
    pub fn cell_s(&self, split: &SplitCounts, spec: &Spec, model: &str) -> f64 {
        let epochs = spec.epochs(model);
        let evaluations = epochs.div_ceil(spec.train.eval_every.max(1)) + 1;
        let evaluation_s = self.test_frame_s * split.test_frames as f64;
        epochs as f64 * self.epoch_s(split, spec.train.batch) + evaluations as f64 * evaluation_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_the_measured_steps() {
        let line = |frames: f64| (frames, 0.5 + 0.002 * frames);
        let pace = Pace::measured(&[line(100.0), line(300.0), line(1000.0)], 0.001);
        assert!((pace.step_s - 0.5).abs() < 1e-9 && (pace.train_frame_s - 0.002).abs() < 1e-12, "{pace:?}");
        let split = SplitCounts {
            train_clips: 33,
            test_clips: 8,
            train_frames: 1000,
            test_frames: 200,
            batch_frames: 600,
        };
        // Three steps of at most sixteen clips.
        assert!((pace.epoch_s(&split, 16) - (3.0 * 0.5 + 2.0)).abs() < 1e-9);
        // Noise that would make a step of no frames take less than no time, and steps of one size.
        for steps in [&[(100.0, 0.1), (200.0, 0.4)][..], &[(96.0, 0.2), (96.0, 0.2)]] {
            let pace = Pace::measured(steps, 0.0);
            assert!(pace.step_s == 0.0 && pace.train_frame_s > 0.0, "{pace:?}");
        }
    }
}
