//! A TT-GRU on sequences of your own, beside a GRU with a dense input matrix.
//!
//! `cargo run --release -p tt-rnn --example sequences [steps]`. The sequences are drawn here: a bright spot wanders over a
//! noisy line of 256 numbers, to the left or to the right, for five to twelve rows. No single row tells the class.
#![expect(clippy::print_stdout, reason = "a table for people")]

use anyhow::Result;
use candle_core::{D, Device, Tensor};
use rand::RngExt;
use tt_core::rng::{Stream, stream};
use tt_rnn::adam::AdamConfig;
use tt_rnn::models::{Mode, ModelConfig, PackedFrames, find};
use tt_rnn::parameters::Optimizer;
use tt_rnn::rates::{RateRule, Rates};

/// Numbers of a row.
const FEATURES: usize = 256;

/// Sequences one after the other, and their classes: 0 to the left, 1 to the right.
fn draw(count: usize, random: &mut Stream) -> Result<(PackedFrames, Tensor)> {
    let (mut rows, mut lengths, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..count {
        let (length, class) = (random.random_range(5..=12_usize), random.random_range(0..2_u32));
        let start = random.random_range(0..FEATURES);
        for step in 0..length {
            let moved = if class == 1 { 12 * step } else { 12 * (length - step) };
            let centre = (start + moved) % FEATURES;
            for at in 0..FEATURES {
                let apart = at.abs_diff(centre).min(FEATURES - at.abs_diff(centre)) as f32;
                rows.push((-(apart / 8.0).powi(2)).exp() + random.random_range(-0.2..0.2_f32));
            }
        }
        lengths.push(length);
        classes.push(class);
    }
    let count = lengths.iter().sum::<usize>();
    let rows = Tensor::from_vec(rows, (count, FEATURES), &Device::Cpu)?;
    Ok((PackedFrames::new(rows, lengths), Tensor::new(classes, &Device::Cpu)?))
}

fn main() -> Result<()> {
    let steps: usize = std::env::args().nth(1).map_or(Ok(150), |steps| steps.parse())?;
    // 256 = 4 · 8 · 8 numbers to 4 · 4 · 2 = 32 units, by a train of rank 4.
    let config = ModelConfig::new(&[4, 8, 8], &[4, 4, 2], 4, 2);
    println!("{:<8} {:>14} {:>10} {:>10}", "model", "input weights", "loss", "accuracy");
    for name in ["tt-gru", "gru"] {
        let model = find(name)?.build(&config, &Device::Cpu, 1)?;
        let rates = Rates { lr: 2e-3, rule: RateRule::FanIn, input_factor: 1.0 };
        let mut optimizer = Optimizer::new(AdamConfig::default(), rates, model.parameters())?;
        let (mut data, mut masks) = (stream(1, "train"), stream(1, "dropout"));
        let mut loss = f32::NAN;
        for _ in 0..steps {
            let (sequences, classes) = draw(32, &mut data)?;
            let logits = model.logits(&sequences, Mode::Train(&mut masks))?;
            let batch = candle_nn::loss::cross_entropy(&logits, &classes)?;
            optimizer.step(&batch.backward()?)?;
            loss = batch.to_scalar()?;
        }
        let (sequences, classes) = draw(200, &mut stream(2, "test"))?;
        let found = model.logits(&sequences, Mode::Evaluate)?.argmax(D::Minus1)?;
        let right: f32 = found.eq(&classes)?.to_dtype(candle_core::DType::F32)?.mean_all()?.to_scalar()?;
        println!("{name:<8} {:>14} {loss:>10.4} {:>9.1}%", model.input_parameters(), 100.0 * right);
    }
    Ok(())
}
