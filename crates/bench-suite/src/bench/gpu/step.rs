//! Training steps of the models, beside PyTorch's versions in turns.

use super::torch::Torch;
use super::{Bench, Case, config, train_step};
use crate::device::Precision;
use anyhow::Result;
use candle_core::Tensor;
use std::cell::RefCell;
use std::rc::Rc;
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
    pub(super) fn step(&mut self) -> Result<Tensor> {
        let mut masks = stream(self.steps, "bench-gpu/masks");
        self.steps += 1;
        let batch = (&self.frames, &self.labels);
        train_step(self.model.as_ref(), &mut self.optimizer, batch, &mut masks)
    }
}

impl<'a> Bench<'a> {
    fn trainee(&self, name: &str, precision: Precision, lengths: &[usize]) -> Result<Trainee> {
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
    pub(super) fn step(&mut self) -> Result<Vec<Case<'a>>> {
        let (batch, frames) = (16, self.size(484, 3));
        let torch = Rc::new(RefCell::new(Torch::start(self.options, batch, frames)?));
        let runs = [
            ("tt-gru", Precision::F32),
            ("tt-gru", Precision::Bf16),
            ("tt-lstm", Precision::F32),
            ("gru", Precision::F32),
            ("gru", Precision::Tf32),
            ("lstm", Precision::F32),
        ];
        let offered = runs.into_iter().filter(|(_, precision)| self.precisions.contains(precision));
        Ok(offered
            .map(|(name, precision)| {
                let torch = Rc::clone(&torch);
                Case::new(format!("{name}, {precision}"), move |bench| {
                    bench.step_of(name, precision, &vec![frames; batch], &mut torch.borrow_mut())
                })
            })
            .collect())
    }

    fn step_of(
        &mut self,
        name: &str,
        precision: Precision,
        lengths: &[usize],
        torch: &mut Option<Torch>,
    ) -> Result<()> {
        self.device.set_precision(precision);
        let mut ours = self.trainee(name, precision, lengths)?;
        let beside = torch.as_mut().filter(|_| precision == Precision::F32);
        let names = beside.map_or(Ok(Vec::new()), |worker| worker.prepare(name));
        let peers = without_torch(names, torch);
        let mut times = vec![Vec::new(); peers.len() + 1];
        ours.step()?;
        self.device.synchronize()?;
        for _ in 0..self.options.rounds.max(1) {
            times[0].push(self.once(&mut || ours.step())?);
            for (peer, times) in peers.iter().zip(&mut times[1..]) {
                let ms = torch.as_mut().map(|worker| worker.run(name, peer)).transpose();
                times.extend(without_torch(ms, torch));
            }
        }
        let total = lengths.iter().sum();
        let case = format!("{name} B={} T={}", lengths.len(), lengths[0]);
        self.push(("step", &case, "ours", precision.name()), total, &times[0], None)?;
        for (peer, times) in peers.iter().zip(&times[1..]).filter(|(_, times)| !times.is_empty()) {
            self.push(("step", &case, peer, "f32"), total, times, None)?;
        }
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
