//! Training steps of the models, beside PyTorch's versions in turns.

use super::torch::Torch;
use super::{Bench, config, train_step};
use crate::device::Precision;
use anyhow::Result;
use candle_core::Tensor;
use tt_core::rng::stream;
use tt_rnn::adam::AdamConfig;
use tt_rnn::models::{Model, PackedFrames, find};
use tt_rnn::parameters::Optimizer;
use tt_rnn::rates::Rates;

/// A model that trains on one batch again and again.
pub(super) struct Trainee {
    model: Box<dyn Model>,
    optimizer: Optimizer,
    frames: PackedFrames,
    labels: Tensor,
    steps: u64,
}

impl Trainee {
    /// One step more.
    pub(super) fn step(&mut self) -> Result<f32> {
        let mut masks = stream(self.steps, "bench-gpu/masks");
        self.steps += 1;
        let batch = (&self.frames, &self.labels);
        train_step(self.model.as_ref(), &mut self.optimizer, batch, &mut masks)
    }
}

impl Bench<'_> {
    pub(super) fn trainee(&self, name: &str, precision: Precision, lengths: &[usize]) -> Result<Trainee> {
        let config = config(precision, self.options.quick);
        let device = &self.device.device;
        let model = find(name)?.build(&config, device, 0)?;
        let optimizer = Optimizer::new(AdamConfig::default(), Rates::single(1e-4), model.parameters())?;
        let frames = self.frames(lengths, config.features)?;
        let labels: Vec<u32> = (0..lengths.len() as u32).map(|clip| clip % config.classes as u32).collect();
        let labels = Tensor::from_vec(labels, lengths.len(), device)?;
        Ok(Trainee { model, optimizer, frames, labels, steps: 0 })
    }

    /// Batches of 16 clips of 484 frames, UCF11's mean: ours and PyTorch's, one run of each a round.
    pub(super) fn step(&mut self) -> Result<()> {
        let (batch, frames) = (16, self.size(484, 3));
        let lengths = vec![frames; batch];
        let mut torch = Torch::start(self.options, batch, frames)?;
        for (name, precision) in [
            ("tt-gru", Precision::F32),
            ("tt-gru", Precision::Bf16),
            ("tt-lstm", Precision::F32),
            ("gru", Precision::F32),
            ("gru", Precision::Tf32),
            ("lstm", Precision::F32),
        ] {
            if !self.precisions.contains(&precision) {
                continue;
            }
            self.device.set_precision(precision);
            let mut ours = self.trainee(name, precision, &lengths)?;
            let beside = torch.as_mut().filter(|_| precision == Precision::F32);
            let names = beside.map_or(Ok(Vec::new()), |worker| worker.prepare(name));
            let peers = without_torch(names, &mut torch);
            let mut times = vec![Vec::new(); peers.len() + 1];
            ours.step()?;
            self.device.synchronize()?;
            for _ in 0..self.options.rounds.max(1) {
                times[0].push(self.once(&mut || ours.step())?);
                for (peer, times) in peers.iter().zip(&mut times[1..]) {
                    let ms = torch.as_mut().map(|worker| worker.run(name, peer)).transpose();
                    times.extend(without_torch(ms, &mut torch));
                }
            }
            let case = format!("{name} B=16 T={frames}");
            self.push(("step", &case, "ours", precision.name()), batch * frames, &times[0], None);
            for (peer, times) in peers.iter().zip(&times[1..]).filter(|(_, times)| !times.is_empty()) {
                self.push(("step", &case, peer, "f32"), batch * frames, times, None);
            }
            self.save()?;
        }
        self.device.set_precision(Precision::F32);
        Ok(())
    }
}

/// A worker's answer; one that fails is not asked again, and our own measurement continues.
fn without_torch<T: Default>(answer: Result<T>, torch: &mut Option<Torch>) -> T {
    answer.unwrap_or_else(|error| {
        tracing::warn!("PyTorch: left out from here on: {error:#}");
        *torch = None;
        T::default()
    })
}
