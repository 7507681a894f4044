//! An epoch of UCF11's size: 1,280 clips of the official lengths' range, all frames on the card.

use super::{Bench, Case, config, train_step};
use crate::device::{Precision, gathered};
use anyhow::Result;
use candle_core::Tensor;
use rand::RngExt;
use rand::seq::SliceRandom;
use std::rc::Rc;
use tt_core::rng::stream;
use tt_rnn::adam::AdamConfig;
use tt_rnn::models::{PackedFrames, find};
use tt_rnn::parameters::Optimizer;
use tt_rnn::rates::Rates;

/// Training clips of a fold of UCF11.
const CLIPS: usize = 1_280;
/// Their frames together: 1,600 clips of 483.7 frames on average, four fifths of them.
const FRAMES: f64 = 619_000.0;
/// The shortest and the longest clip.
const RANGE: (f64, f64) = (204.0, 1_492.0);
const BATCH: usize = 16;

/// Lengths of the clips: an exponential tail above the shortest, which gives the mean.
fn lengths(clips: usize) -> Vec<usize> {
    let mut rng = stream(0, "bench-gpu/lengths");
    let tail = FRAMES / CLIPS as f64 - RANGE.0;
    let draw = |u: f64| (RANGE.0 - tail * (1.0 - u).ln()).min(RANGE.1) as usize;
    (0..clips).map(|_| draw(rng.random::<f64>())).collect()
}

impl<'a> Bench<'a> {
    /// An epoch of each model, where the device has room for the frames.
    pub(super) fn epoch(&mut self) -> Result<Vec<Case<'a>>> {
        let lengths = if self.options.quick { vec![3; 2 * BATCH] } else { lengths(CLIPS) };
        let total: usize = lengths.iter().sum();
        let features = config(Precision::F32, self.options.quick).features;
        let bytes = (total * features) as u64;
        if !self.options.quick && bytes > self.device.room_for_frames() {
            tracing::warn!("epoch: skipped: {bytes} bytes of frames do not fit this device");
            return Ok(Vec::new());
        }
        let clips = Rc::new((self.clips(&lengths, features)?, lengths));
        let runs = [
            ("tt-gru", Precision::F32),
            ("tt-lstm", Precision::F32),
            ("gru", Precision::F32),
            ("gru", Precision::Tf32),
        ];
        let offered = runs.into_iter().filter(|(_, precision)| self.precisions.contains(precision));
        Ok(offered
            .map(|(name, precision)| {
                let clips = Rc::clone(&clips);
                Case::new(format!("{name}, {precision}"), move |bench| {
                    bench.epoch_of(name, precision, &clips.0, &clips.1)
                })
            })
            .collect())
    }

    /// Seconds of an epoch, the loss of every step read, in batches of 16 clips in random order.
    fn epoch_of(
        &mut self,
        name: &str,
        precision: Precision,
        clips: &[Tensor],
        lengths: &[usize],
    ) -> Result<()> {
        self.device.set_precision(precision);
        let model = find(name)?.build(&config(precision, self.options.quick), &self.device.device, 0)?;
        let mut optimizer = Optimizer::new(AdamConfig::default(), Rates::single(1e-4), model.parameters())?;
        let mut order: Vec<usize> = (0..clips.len()).collect();
        let all: Vec<u32> = (0..lengths.iter().max().map_or(0, |longest| *longest as u32)).collect();
        let mut epoch = 0_u64;
        let mut run = || -> Result<()> {
            epoch += 1;
            let mut rng = stream(epoch, "bench-gpu/order");
            order.shuffle(&mut rng);
            let mut before: Option<Tensor> = None;
            for batch in order.chunks(BATCH) {
                let parts: Vec<_> =
                    batch.iter().map(|clip| (&clips[*clip], &all[..lengths[*clip]])).collect();
                let rows = gathered(&parts)?;
                let lengths: Vec<usize> = batch.iter().map(|clip| lengths[*clip]).collect();
                let frames = PackedFrames::new(rows, lengths);
                let labels: Vec<u32> = batch.iter().map(|clip| (*clip % 11) as u32).collect();
                let labels = Tensor::from_vec(labels, batch.len(), &self.device.device)?;
                let loss = train_step(model.as_ref(), &mut optimizer, (&frames, &labels), &mut rng)?;
                // As in training, the loss is read one step later.
                if let Some(before) = before.replace(loss.detach()) {
                    before.to_scalar::<f32>()?;
                }
            }
            Ok(())
        };
        // The first epoch compiles and warms up; a dense one is too long for more than two.
        let rounds = if name.starts_with("tt-") { 3 } else { 1 };
        self.once(&mut run)?;
        let times = (0..rounds).map(|_| self.once(&mut run)).collect::<Result<Vec<_>>>()?;
        let case = format!("{name}, {} clips", clips.len());
        self.push(("epoch", &case, "ours", precision.name()), lengths.iter().sum(), &times, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lengths_are_those_of_ucf11() {
        let lengths = lengths(CLIPS);
        let total: usize = lengths.iter().sum();
        assert!((0.97..1.03).contains(&(total as f64 / FRAMES)), "{total} frames");
        assert!(lengths.iter().all(|length| (204..=1_492).contains(length)));
    }
}
