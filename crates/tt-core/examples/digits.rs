//! A Tensor-Train layer inside a candle model: digits of 16 × 16 pixels, beside the same model with a dense layer.
//!
//! `cargo run --release -p tt-core --example digits [steps]`. The digits are drawn here, shifted and noisy, so that
//! nothing is fetched.
#![expect(clippy::print_stdout, reason = "a table for people")]

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use candle_nn::{AdamW, Linear, Module, Optimizer, ParamsAdamW, VarBuilder, VarMap, linear, loss};
use rand::RngExt;
use tt_core::rng::{Stream, stream};
use tt_core::{TtLinear, TtShape, tt_linear};

/// Digits 0 to 9 in five rows of three pixels, the first row in the highest bits.
const GLYPHS: [u16; 10] = [
    0b111_101_101_101_111,
    0b010_110_010_010_111,
    0b111_001_111_100_111,
    0b111_001_111_001_111,
    0b101_101_111_001_001,
    0b111_100_111_001_111,
    0b111_100_111_101_111,
    0b111_001_001_010_010,
    0b111_101_111_101_111,
    0b111_101_111_001_111,
];
const SIDE: usize = 16;

/// Images `[count, 256]` and their digits.
fn draw(count: usize, random: &mut Stream) -> Result<(Tensor, Tensor)> {
    let (mut pixels, mut digits) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let digit = random.random_range(0..10_u32);
        let (down, right) = (random.random_range(0..7_usize), random.random_range(0..8_usize));
        for at in 0..SIDE * SIDE {
            // Two by three pixels for each of the glyph's.
            let (row, column) = ((at / SIDE).wrapping_sub(down) / 2, (at % SIDE).wrapping_sub(right) / 3);
            let inked = row < 5 && column < 3 && GLYPHS[digit as usize] >> (14 - 3 * row - column) & 1 == 1;
            pixels.push(f32::from(u8::from(inked)) + random.random_range(-0.7..0.7_f32));
        }
        digits.push(digit);
    }
    Ok((
        Tensor::from_vec(pixels, (count, SIDE * SIDE), &Device::Cpu)?,
        Tensor::from_vec(digits, count, &Device::Cpu)?,
    ))
}

/// A hidden layer of either kind, then ten logits.
struct Reader<L> {
    hidden: L,
    logits: Linear,
}

impl<L: Module> Module for Reader<L> {
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.logits.forward(&self.hidden.forward(x)?.relu()?)
    }
}

fn main() -> Result<()> {
    let steps = std::env::args().nth(1).map_or(Ok(600), |text| text.parse())?;
    let shape = TtShape::uniform(&[4, 8, 8], &[4, 8, 8], 6, 1)?;
    println!("hidden layer {shape}");
    let tt: fn(&TtShape, VarBuilder) -> candle_core::Result<TtLinear> = tt_linear;
    train("tensor train", steps, |vb| tt(&shape, vb))?;
    train("dense", steps, |vb| linear(shape.in_features(), shape.out_features(), vb))
}

fn train<L: Module>(
    name: &str,
    steps: usize,
    hidden: impl FnOnce(VarBuilder) -> candle_core::Result<L>,
) -> Result<()> {
    let variables = VarMap::new();
    let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
    let model = Reader { hidden: hidden(vb.pp("hidden"))?, logits: linear(256, 10, vb.pp("logits"))? };
    let mut parameters: Vec<_> = {
        let named = variables.data().lock().map_err(|_| anyhow::anyhow!("a thread died"))?;
        named.iter().map(|(name, variable)| (name.clone(), variable.clone())).collect()
    };
    parameters.sort_by(|a, b| a.0.cmp(&b.0));
    let weights: usize = parameters.iter().map(|(_, variable)| variable.elem_count()).sum();
    let parameters = parameters.into_iter().map(|(_, variable)| variable).collect();
    let mut optimizer = AdamW::new(parameters, ParamsAdamW { lr: 3e-3, ..ParamsAdamW::default() })?;
    let mut random = stream(1, "example/digits");
    for _ in 0..steps {
        let (images, digits) = draw(64, &mut random)?;
        optimizer.backward_step(&loss::cross_entropy(&model.forward(&images)?, &digits)?)?;
    }
    let (images, digits) = draw(2000, &mut stream(2, "example/digits"))?;
    let right = model.forward(&images)?.argmax(1)?.eq(&digits)?.to_dtype(DType::F32)?.mean_all()?;
    println!("{name}: {weights} weights, {:.3} of 2,000 digits right", right.to_scalar::<f32>()?);
    Ok(())
}
