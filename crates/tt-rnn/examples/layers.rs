//! Layers put together: one TT-GRU reads forwards and one backwards, a dense GRU reads the states of both, and the mean
//! over time gives the scores.
//!
//! `cargo run --release -p tt-rnn --example layers [steps]`. The task needs both directions: after every row, was there a
//! bright row before or will there be one after? A third of the sequences have one at their first row, a third at their
//! last, a third none.
#![expect(clippy::print_stdout, reason = "a table for people")]

use anyhow::Result;
use candle_core::{D, DType, Device, Tensor};
use rand::RngExt;
use std::sync::Arc;
use tt_core::TtShape;
use tt_core::apply::Affine;
use tt_core::rng::{Stream, stream};
use tt_rnn::adam::AdamConfig;
use tt_rnn::layer::{LayerCall, Output, RecurrentLayer, Sinks};
use tt_rnn::packed;
use tt_rnn::parameters::{Optimizer, Parameter, orthogonal};
use tt_rnn::projection::{DenseProjection, GateLayout, Projection, TtProjection};
use tt_rnn::rates::{Kind, Rates};
use tt_rnn::recurrence::{Cell, GateActivation, Recurrence};

const FEATURES: usize = 64;
const HIDDEN: usize = 16;

/// A GRU layer with weights of its own.
struct Gru {
    layer: RecurrentLayer,
    input: Parameter,
    recurrent: Parameter,
}

impl Gru {
    fn new(name: &str, projection: Arc<dyn Projection>) -> Result<Self> {
        let (cell, weights) = (Cell::Gru, projection.weights());
        let initial = projection.initial(1);
        let device = Device::Cpu;
        let input = format!("{name}.input");
        let input = Parameter::of_parts(&input, weights.parts, initial, &weights.shape, &device)?;
        let width = cell.gates() * HIDDEN;
        let values = [orthogonal(HIDDEN, width, &mut stream(2, name)), vec![0.0; width]].concat();
        let (count, kinds) = (values.len(), [Kind::Matrix { fan_in: HIDDEN }, Kind::Vector]);
        let parts = vec![(count - width, kinds[0]), (width, kinds[1])];
        let recurrent = Parameter::of_parts(&format!("{name}.recurrent"), parts, values, &[count], &device)?;
        let recurrence = Recurrence::new(cell, GateActivation::Sigmoid, HIDDEN);
        Ok(Self { layer: RecurrentLayer::new(projection, recurrence, Sinks::default()), input, recurrent })
    }

    /// The state after every row, `[sum T_b, H]`.
    fn states(&self, rows: &Tensor, lengths: &[usize]) -> Result<Tensor> {
        let (lengths, output) = (lengths.to_vec(), Output::Sequence);
        let call = LayerCall { lengths, output, train: true, ..LayerCall::default() };
        Ok(self.layer.forward(rows, &self.input.var, &self.recurrent.var, call)?)
    }
}

/// Rows of all sequences, their lengths, and their classes.
fn draw(count: usize, random: &mut Stream) -> Result<(Tensor, Vec<usize>, Tensor)> {
    let (mut rows, mut lengths, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let (length, class) = (random.random_range(4..=8_usize), random.random_range(0..3_u32));
        for step in 0..length {
            let bright = (class == 0 && step == 0) || (class == 1 && step + 1 == length);
            let light = if bright { 1.0 } else { 0.0 };
            rows.extend((0..FEATURES).map(|_| light + random.random_range(-0.5..0.5_f32)));
        }
        lengths.push(length);
        classes.push(class);
    }
    let rows = Tensor::from_vec(rows, (lengths.iter().sum::<usize>(), FEATURES), &Device::Cpu)?;
    Ok((rows, lengths, Tensor::new(classes, &Device::Cpu)?))
}

fn main() -> Result<()> {
    let steps: usize = std::env::args().nth(1).map_or(Ok(100), |steps| steps.parse())?;
    let train = || -> Result<Arc<dyn Projection>> {
        let shape = TtShape::uniform(&[8, 8], &[4, 4], 3, Cell::Gru.gates())?;
        Ok(Arc::new(TtProjection::new(&shape, GateLayout::Concatenated, Affine::IDENTITY)?))
    };
    let (forwards, backwards) = (Gru::new("forwards", train()?)?, Gru::new("backwards", train()?)?);
    let gates = Cell::Gru.gates();
    let dense = DenseProjection::new(2 * HIDDEN, gates * HIDDEN, gates, Affine::IDENTITY);
    let above = Gru::new("above", Arc::new(dense))?;
    let scores = |rows: &Tensor, lengths: &[usize]| -> Result<Tensor> {
        let ahead = forwards.states(rows, lengths)?;
        let back = backwards.states(&packed::reverse(rows, lengths)?, lengths)?;
        let both = Tensor::cat(&[&ahead, &packed::reverse(&back, lengths)?], 1)?; // [sum T_b, 2H]
        let mean = packed::mean(&above.states(&both, lengths)?, lengths)?; // [B, H]
        // The first three units are the scores.
        Ok((mean.narrow(1, 0, 3)? * 8.0)?)
    };

    let parameters = [&forwards, &backwards, &above].map(|gru| [gru.input.clone(), gru.recurrent.clone()]);
    let mut optimizer = Optimizer::new(AdamConfig::default(), Rates::single(0.01), parameters.concat())?;
    let mut random = stream(3, "train");
    for step in 0..=steps {
        let (rows, lengths, classes) = draw(32, &mut random)?;
        let logits = scores(&rows, &lengths)?;
        let loss = candle_nn::loss::cross_entropy(&logits, &classes)?;
        if step % 20 == 0 {
            let right = logits.argmax(D::Minus1)?.eq(&classes)?.to_dtype(DType::F32)?.mean_all()?;
            let (loss, right) = (loss.to_scalar::<f32>()?, 100.0 * right.to_scalar::<f32>()?);
            println!("step {step:>4}: loss {loss:.4}, {right:.0} % of the batch right");
        }
        optimizer.step(&loss.backward()?)?;
    }
    Ok(())
}
