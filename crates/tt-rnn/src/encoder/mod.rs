//! A small residual network that makes a few features of each frame, or a small map of them: what stands in the place of an
//! input matrix where a recurrent network reads what a CNN sees.
//!
//! # Cost
//! On the CPU one operator of candle's graph. It keeps nothing between the passes: the backward pass computes a group of
//! two frames again before it goes through it. Beside frames and features a pass holds, for each thread, what
//! such a group leaves behind, and for the gradient up to sixteen copies of the weights, however long the clips are.
//!
//! # Paper
//! He, Zhang, Ren and Sun 2016, "Deep Residual Learning for Image Recognition": two 3×3 convolutions beside a shortcut, 1×1
//! at stride 2 where the size changes (option B). The CNN-RNNs of Donahue et al. 2015 and Ng et al. 2015 put a recurrent
//! layer on such features, of larger networks.
//!
//! # Departs
//! From He et al.: one block a stage, group normalisation, a stem of 3×3 at stride 2 without pooling.

mod factors;
mod kernels;
mod norm;
mod ops;
mod plan;

use crate::Result;
use crate::config::ModelConfig;
use crate::frames::FrameRows;
use crate::parameters::Parameter;
use crate::rates::Kind;
use crate::storage::{floats, on_cpu};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Tensor};
pub use factors::factors;
use kernels::{Group, Pack, Packed, Task, Work};
pub use plan::Plan;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::sync::Arc;
use tt_core::apply::{Affine, Backend, Rows};
use tt_core::rng::stream;
use tt_core::simd::{Isa, Pool, convolution};

/// Frames that go through the encoder together.
const GROUP_FRAMES: usize = 2;
/// Parts of a batch whose gradients are summed apart, then in order: at most so many threads work at once, and the sum does
/// not depend on how many do.
const SHARES: usize = 16;

/// What is left of a frame's last activation, `[P, F]` of places and channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The mean of each channel.
    Means,
    /// All of it.
    Map,
}

/// An encoder with its weights.
#[derive(Debug)]
pub(crate) struct Encoder {
    network: Arc<Network>,
    /// Kernel or its factors, scale and shift of every convolution, in the plan's order.
    parameters: Vec<Parameter>,
    by_operators: bool,
}

/// An encoder without.
#[derive(Debug)]
struct Network {
    plan: Plan,
    seen: Seen,
    affine: Affine,
    isa: Isa,
    works: Pool<Work>,
}

impl Network {
    fn new(plan: Plan, seen: Seen, affine: Affine) -> Self {
        Self { plan, seen, affine, isa: convolution::isa(), works: Pool::default() }
    }

    /// Numbers that are left of a frame.
    fn features(&self) -> usize {
        match self.seen {
            Seen::Means => self.plan.features(),
            Seen::Map => self.plan.places() * self.plan.features(),
        }
    }
}

/// The plan of a configuration's encoder.
///
/// # Errors
/// Rows that are no pictures; frames too small.
pub fn plan(config: &ModelConfig) -> Result<Plan> {
    Plan::new(config.cnn, config.picture_height()?, config.width)?.with_kernels(config.cnn_kernels)
}

impl Encoder {
    /// Initial values: kernels normal with variance `2 / fan-in` (He et al. 2015), factors uniform such that entries of their
    /// kernel have it too; scales one, shifts zero.
    pub(crate) fn new(config: &ModelConfig, seen: Seen, device: &Device, seed: u64) -> Result<Self> {
        let by_operators = !device.is_cpu() || config.backend == Backend::Ops;
        Self::of(Network::new(plan(config)?, seen, config.affine), by_operators, device, seed)
    }

    fn of(network: Network, by_operators: bool, device: &Device, seed: u64) -> Result<Self> {
        let plan = &network.plan;
        let mut parameters = Vec::new();
        for ((name, unit), factors) in plan.units().zip(&plan.factors) {
            let conv = unit.conv;
            let (fan_in, outputs) = (conv.depth(), conv.outputs);
            let mut draws = stream(seed, &format!("init/encoder/{name}"));
            let variance = 2.0 / fan_in as f32;
            let named = |part: &str| format!("encoder.{name}.{part}");
            parameters.push(if let Some(shape) = factors {
                let values = shape.network().with_variance(f64::from(variance), &mut draws);
                let count = values.len();
                Parameter::new(&named("cores"), Kind::InputCores, values, &[count], device)?
            } else {
                let draw = |_| -> f32 {
                    let draw: f32 = StandardNormal.sample(&mut draws);
                    variance.sqrt() * draw
                };
                let values = (0..conv.weights()).map(draw).collect();
                let shape = [conv.side, conv.side, conv.channels, outputs];
                Parameter::new(&named("kernel"), Kind::InputMatrix { fan_in }, values, &shape, device)?
            });
            for (part, value) in [("scale", 1.0), ("shift", 0.0)] {
                let values = vec![value; outputs];
                parameters.push(Parameter::new(&named(part), Kind::Vector, values, &[outputs], device)?);
            }
        }
        Ok(Self { network: Arc::new(network), parameters, by_operators })
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.network.plan
    }

    pub(crate) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Whether it reads stored rows as they are.
    pub(crate) fn reads_stored(&self) -> bool {
        !self.by_operators
    }

    /// Features of frames `[n, M]`: `[n, F]` means, or maps `[n, P·F]`.
    pub(crate) fn features(&self, rows: &FrameRows) -> Result<Tensor> {
        let mut parts = Vec::with_capacity(self.parameters.len());
        for (of_unit, factors) in self.parameters.chunks_exact(3).zip(&self.network.plan.factors) {
            parts.push(factors::whole(&of_unit[0], factors.as_ref())?);
            parts.extend(of_unit[1..].iter().map(|norm| norm.var.as_tensor().clone()));
        }
        let weights = Tensor::cat(&parts, 0)?;
        if self.by_operators {
            return ops::features(&self.network, &rows.tensor()?, &weights);
        }
        Ok(weights.apply_op1(EncoderOp { network: Arc::clone(&self.network), rows: rows.clone() })?)
    }
}

/// Weights to features of these frames.
struct EncoderOp {
    network: Arc<Network>,
    rows: FrameRows,
}

impl EncoderOp {
    fn pack(&self, weights: &[f32], backward: bool) -> Packed {
        let Network { plan, isa, .. } = &*self.network;
        let mut packed = Packed::default();
        isa.run(Pack { plan, weights, backward, packed: &mut packed });
        packed
    }

    /// Lets `run` read rows and weights.
    fn with<T>(&self, weights: &[f32], run: impl FnOnce(Rows<'_>, usize) -> T) -> Result<T> {
        let plan = &self.network.plan;
        crate::error::check_size("weights of the encoder", plan.weights(), weights.len())?;
        self.rows.read(|rows| Ok(run(rows, rows.count(plan.frame())?)))
    }

    fn features(&self, rows: Rows<'_>, n: usize, weights: &[f32]) -> Vec<f32> {
        let Network { plan, seen, affine, isa, works } = &*self.network;
        let (packed, of_frame) = (self.pack(weights, false), self.network.features());
        let mut features = vec![0.0; n * of_frame];
        let groups = features.par_chunks_mut(GROUP_FRAMES * of_frame).enumerate();
        groups.for_each(|(at, features)| {
            let rows = rows.rows(at * GROUP_FRAMES, features.len() / of_frame, plan.frame());
            works.with(|work| {
                let (packed, task) = (&packed, Task::Features(features));
                isa.run(Group { plan, seen: *seen, affine: *affine, weights, packed, rows, work, task });
            });
        });
        features
    }

    fn gradient(&self, rows: Rows<'_>, n: usize, weights: &[f32], features: &[f32]) -> Vec<f32> {
        let Network { plan, seen, affine, isa, works } = &*self.network;
        let (packed, of_frame) = (self.pack(weights, true), self.network.features());
        let shares = SHARES.min(n);
        let sum_of = |share: usize| {
            let (mut sum, end) = (vec![0.0; plan.weights()], (share + 1) * n / shares);
            for first in (share * n / shares..end).step_by(GROUP_FRAMES) {
                let frames = GROUP_FRAMES.min(end - first);
                let rows = rows.rows(first, frames, plan.frame());
                let features = &features[first * of_frame..(first + frames) * of_frame];
                works.with(|work| {
                    let (packed, task) = (&packed, Task::Gradient { features, weights: &mut sum });
                    isa.run(Group { plan, seen: *seen, affine: *affine, weights, packed, rows, work, task });
                });
            }
            sum
        };
        let sums: Vec<Vec<f32>> = (0..shares).into_par_iter().map(sum_of).collect();
        let mut sums = sums.into_iter();
        let mut total = sums.next().unwrap_or_default();
        for sum in sums {
            total.iter_mut().zip(sum).for_each(|(total, more)| *total += more);
        }
        total
    }
}

impl CustomOp1 for EncoderOp {
    fn name(&self) -> &'static str {
        "encoder"
    }

    fn cpu_fwd(&self, weights: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        let run = || {
            let weights = floats(weights, layout, "weights of the encoder")?;
            self.with(weights, |rows, n| (self.features(rows, n, weights), n))
        };
        let (features, n) = run().map_err(candle_core::Error::wrap)?;
        Ok((CpuStorage::F32(features), (n, self.network.features()).into()))
    }

    fn bwd(&self, weights: &Tensor, _: &Tensor, features: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let features = features.contiguous()?;
        let run = || {
            let (storage, layout) = weights.storage_and_layout();
            let (features, features_layout) = features.storage_and_layout();
            let weights = floats(on_cpu(&storage)?, layout, "weights of the encoder")?;
            let features = floats(on_cpu(&features)?, features_layout, "gradient of the features")?;
            self.with(weights, |rows, n| self.gradient(rows, n, weights, features))
        };
        let gradient = run().map_err(candle_core::Error::wrap)?;
        Ok(Some(Tensor::from_vec(gradient, weights.shape(), weights.device())?))
    }
}

#[cfg(test)]
mod tests;
