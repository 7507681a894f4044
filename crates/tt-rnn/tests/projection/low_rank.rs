//! A factorization that the crate does not have: `W = A B`, `A [M, r]` and `B [r, G·H]` one after the other.

use candle_core::{DType, Tensor};
use std::sync::Arc;
use tt_core::apply::Affine;
use tt_core::rng::stream;
use tt_rnn::layer::LayerCall;
use tt_rnn::models::ModelConfig;
use tt_rnn::parameters::glorot_uniform;
use tt_rnn::projection::{Projection, Weights};
use tt_rnn::rates::Kind;
use tt_rnn::{Error, Result};

#[derive(Debug)]
struct LowRank {
    features: usize,
    rank: usize,
    outputs: usize,
    affine: Affine,
}

/// The projection of a model.
pub(crate) fn of_model(config: &ModelConfig, gates: usize) -> Result<Arc<dyn Projection>> {
    if config.rank == 0 {
        return Err(Error::Unsupported("a product of rank 0".into()));
    }
    let (features, outputs) = (config.features, gates * config.dense_hidden);
    Ok(Arc::new(LowRank { features, rank: config.rank, outputs, affine: config.affine }))
}

impl Projection for LowRank {
    fn features(&self) -> usize {
        self.features
    }

    fn outputs(&self) -> usize {
        self.outputs
    }

    fn macs_per_row(&self) -> usize {
        self.rank * (self.features + self.outputs)
    }

    fn weights(&self) -> Weights {
        let (left, right) = (self.features * self.rank, self.rank * self.outputs);
        Weights {
            name: "input.factors",
            shape: vec![left + right],
            parts: vec![
                (left, Kind::InputMatrix { fan_in: self.features }),
                (right, Kind::InputMatrix { fan_in: self.rank }),
            ],
            sink: false,
        }
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        let mut stream = stream(seed, "init/factors");
        let mut values = glorot_uniform(self.features, self.rank, self.rank, &mut stream);
        values.extend(glorot_uniform(self.rank, self.outputs, self.outputs, &mut stream));
        values
    }

    fn forward(&self, rows: &Tensor, weights: &Tensor, _: &LayerCall) -> Result<Tensor> {
        let Affine { scale, shift } = self.affine;
        let rows = rows.to_dtype(DType::F32)?.affine(f64::from(scale), f64::from(shift))?;
        let left = self.features * self.rank;
        let a = weights.narrow(0, 0, left)?.reshape((self.features, self.rank))?;
        let b = weights.narrow(0, left, self.rank * self.outputs)?.reshape((self.rank, self.outputs))?;
        Ok(rows.matmul(&a)?.matmul(&b)?) // [n, G·H]
    }
}
