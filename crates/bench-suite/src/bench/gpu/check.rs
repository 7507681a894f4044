//! Every kernel of the device against the specification, over the edges of shapes, and training against the CPU's.

use super::tables::CheckRow;
use super::{Bench, Case, config, train_step};
use crate::device::Precision;
use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use rand::RngExt;
use std::cell::OnceCell;
use std::rc::Rc;
use tt_core::apply::{Affine, Backend};
use tt_core::init::{self, CoreInit};
use tt_core::rng::stream;
use tt_core::{TtOperator, TtShape};
use tt_rnn::adam::AdamConfig;
use tt_rnn::layer::{LayerCall, RecurrentMasks};
use tt_rnn::models::{ModelConfig, PackedFrames, find};
use tt_rnn::parameters::Optimizer;
use tt_rnn::rates::Rates;
use tt_rnn::recurrence::ops::Ops;
use tt_rnn::recurrence::reference::Reference;
use tt_rnn::recurrence::{Batch, Cell, GateActivation};

/// Largest relative error allowed for a precision.
fn bar(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1e-5,
        // Eleven bits of each factor, and a chain of two products.
        Precision::Tf32 | Precision::Bf16 => 1e-3,
    }
}

/// Training amplifies rounding through Adam's division: what twenty steps may differ by.
const TRAINING_BAR: f64 = 1e-3;

impl<'a> Bench<'a> {
    /// A row; one that does not pass is remembered.
    fn checked(&mut self, row: &CheckRow) -> Result<()> {
        if !row.passed {
            let CheckRow { kernel, case, what, precision, error, .. } = row;
            self.failed.push(format!("{kernel} {case} {what} {precision}: {error:.2e}"));
        }
        self.tables.add("checks.csv", row)
    }

    /// Value and gradient of the TT layer, shape by shape and precision by precision.
    pub(super) fn layer_checks(&mut self) -> Result<Vec<Case<'a>>> {
        let mut cases = Vec::new();
        for (name, input, output, rank, gates, frames) in shapes(self.options.quick) {
            let layer = Rc::new(Layer::new(name, TtShape::uniform(input, output, rank, gates)?, frames));
            for precision in self.precisions.clone() {
                let layer = Rc::clone(&layer);
                cases.push(Case::new(format!("{name}, {frames} frames, {precision}"), move |bench| {
                    let found = layer.run(&bench.device.device, DType::F32, Backend::Fused, precision)?;
                    for ((what, found), expected) in
                        ["value", "cores"].into_iter().zip(&found).zip(layer.expected()?)
                    {
                        let of = ("tt-layer", format!("{name}, {frames} frames"), what, precision);
                        bench.checked(&compared(of, found, expected, bar(precision)))?;
                    }
                    Ok(())
                }));
            }
        }
        Ok(cases)
    }

    /// Last states and both gradients of the recurrence.
    pub(super) fn recurrence_checks(&mut self) -> Vec<Case<'a>> {
        let longest = self.size(64, 9);
        let wide = self.size(256, 24);
        let mut cases = Vec::new();
        for cell in [Cell::Rnn, Cell::Gru, Cell::Lstm] {
            for (hidden, clips, dropout) in [(1, 1, 0), (7, 5, 1), (wide, 16, 1), (wide, 3, 2), (33, 17, 0)] {
                let gate = if dropout == 1 { GateActivation::HardSigmoid } else { GateActivation::Sigmoid };
                let name = format!("{} H={hidden} B={clips} masks={dropout}", cell.name());
                let lengths: Vec<usize> =
                    (0..clips).map(|clip| 1 + (clip * 37 + longest - 1) % longest).collect();
                cases.push(Case::new(name.clone(), move |bench| {
                    let problem = Problem::new(cell, gate, hidden, lengths.clone(), dropout);
                    let (found, expected) = (problem.found(&bench.device.device)?, problem.expected());
                    let names = ["value", "pre-activations", "weights"];
                    for ((what, found), expected) in names.into_iter().zip(&found).zip(&expected) {
                        let of = ("recurrence", name.clone(), what, Precision::F32);
                        bench.checked(&compared(of, found, expected, bar(Precision::F32)))?;
                    }
                    Ok(())
                }));
            }
        }
        cases
    }
}

/// Twenty steps of every model, the losses beside those on the CPU.
pub(super) fn training_checks<'a>() -> Vec<Case<'a>> {
    let case = |name: &'static str| {
        Case::new(name.to_owned(), move |bench: &mut Bench<'a>| {
            // Dense matrices of full size take long on the CPU and show nothing more.
            let config = config(Precision::F32, bench.options.quick || !name.starts_with("tt-"));
            let found = losses(name, &config, &bench.device.device)?;
            let expected = losses(name, &config, &Device::Cpu)?;
            let of = ("training", format!("{name}, 20 steps"), "loss", Precision::F32);
            bench.checked(&compared(of, &found, &expected, TRAINING_BAR))
        })
    };
    ["tt-mlp", "gru", "lstm", "tt-gru", "tt-lstm"].map(case).into()
}

/// Losses of twenty steps on a batch of generated frames.
fn losses(name: &str, config: &ModelConfig, device: &Device) -> Result<Vec<f64>> {
    let lengths: Vec<usize> = if name == "tt-mlp" { vec![6; 8] } else { (1..9).collect() };
    let model = find(name)?.build(config, device, 3)?;
    let mut optimizer = Optimizer::new(AdamConfig::default(), Rates::single(1e-4), model.parameters())?;
    let mut rng = stream(4, "bench-gpu/training");
    let count = lengths.iter().sum::<usize>();
    let pixels: Vec<u8> = (0..count * config.features).map(|_| rng.random()).collect();
    let rows = Tensor::from_vec(pixels, (count, config.features), device)?;
    let labels: Vec<u32> = (0..lengths.len() as u32).collect();
    let labels = Tensor::from_vec(labels, lengths.len(), device)?;
    let frames = PackedFrames::new(rows, lengths);
    (0..20)
        .map(|step| {
            let mut masks = stream(step, "bench-gpu/masks");
            let loss = train_step(model.as_ref(), &mut optimizer, (&frames, &labels), &mut masks)?;
            Ok(f64::from(loss.to_scalar::<f32>()?))
        })
        .collect()
}

/// A TT layer with frames, cores and weights of its outputs in a loss.
struct Layer {
    shape: TtShape,
    frames: usize,
    pixels: Vec<u8>,
    cores: Vec<f32>,
    weights: Vec<f32>,
    expected: OnceCell<[Vec<f64>; 2]>,
}

impl Layer {
    fn new(name: &str, shape: TtShape, frames: usize) -> Self {
        let cores = init::cores(&shape, CoreInit::Glorot1d, &mut stream(1, name));
        let mut rng = stream(2, name);
        let pixels = (0..frames * shape.in_features()).map(|_| rng.random()).collect();
        let weights = (0..frames * shape.out_features()).map(|_| rng.random_range(-1.0f32..1.0)).collect();
        Self { shape, frames, pixels, cores, weights, expected: OnceCell::new() }
    }

    /// Value and gradient of the cores.
    fn run(
        &self,
        device: &Device,
        dtype: DType,
        backend: Backend,
        precision: Precision,
    ) -> Result<[Vec<f64>; 2]> {
        let (shape, frames) = (&self.shape, self.frames);
        let x = Tensor::from_slice(&self.pixels, (frames, shape.in_features()), device)?;
        let cores = Var::from_tensor(&Tensor::new(&self.cores[..], device)?.to_dtype(dtype)?)?;
        let weights = Tensor::from_slice(&self.weights, (frames, shape.out_features()), device)?;
        let affine = Affine { scale: 1.0 / 128.0, shift: -1.0 };
        let layer = TtOperator::with_precision(shape, affine, backend, precision.into());
        let y = layer.forward(&x, &cores)?;
        let grads = (&y * weights.to_dtype(dtype)?)?.sum_all()?.backward()?;
        let gradient = grads.get(&cores).map_or_else(|| cores.zeros_like(), |g| Ok(g.clone()))?;
        Ok([flat(&y)?, flat(&gradient)?])
    }

    /// The same by candle's operators in f64 on the CPU, once for all precisions.
    fn expected(&self) -> Result<&[Vec<f64>; 2]> {
        if let Some(expected) = self.expected.get() {
            return Ok(expected);
        }
        let numbers = self.run(&Device::Cpu, DType::F64, Backend::Ops, Precision::F32)?;
        Ok(self.expected.get_or_init(|| numbers))
    }
}

type Shape = (&'static str, &'static [usize], &'static [usize], usize, usize, usize);

/// Name, input modes, output modes, rank, gates, frames: the paper's, and the edges.
fn shapes(quick: bool) -> Vec<Shape> {
    let edges: [Shape; 7] = [
        ("one core", &[7], &[3], 1, 1, 5),
        ("rank 1", &[4, 5, 6], &[2, 3, 2], 1, 3, 3),
        ("modes of 1", &[1, 6, 1, 5], &[2, 1, 3, 1], 3, 4, 2),
        ("primes", &[5, 7, 3], &[3, 2, 5], 3, 3, 1),
        ("wide", &[12, 10, 8], &[8, 8, 8], 8, 3, 4),
        ("five cores", &[3, 4, 5, 4, 3], &[2, 2, 3, 2, 2], 4, 4, 33),
        ("odd rows", &[3, 9, 5, 7], &[4, 4, 4, 4], 4, 3, 17),
    ];
    let paper: [Shape; 4] = [
        ("ucf11 tt-gru", &[8, 20, 20, 18], &[4, 4, 4, 4], 4, 3, 37),
        ("hollywood2 tt-lstm", &[10, 18, 13, 30], &[4, 4, 4, 4], 4, 4, 5),
        ("youtube-celebrities tt-gru", &[4, 20, 20, 36], &[4, 4, 4, 4], 4, 3, 6),
        ("ucf11 tt-mlp", &[20, 20, 24, 36], &[4, 4, 4, 4], 6, 1, 3),
    ];
    if quick { edges.to_vec() } else { edges.into_iter().chain(paper).collect() }
}

struct Problem {
    reference: Reference,
    lengths: Vec<usize>,
    masks: RecurrentMasks,
    x: Vec<f32>,
    weights: Vec<f32>,
    dlast: Vec<f32>,
}

impl Problem {
    fn new(cell: Cell, gate: GateActivation, hidden: usize, lengths: Vec<usize>, dropout: usize) -> Self {
        let mut rng = stream(5, "bench-gpu/recurrence");
        let mut draw =
            |n: usize, size: f32| -> Vec<f32> { (0..n).map(|_| rng.random_range(-size..size)).collect() };
        let (row, clips) = (cell.gates() * hidden, lengths.len());
        let x = draw(lengths.iter().sum::<usize>() * row, 1.5);
        let weights = draw((hidden + 1) * row, 1.5 / (hidden as f32).sqrt());
        let dlast = draw(clips * hidden, 1.0);
        let mut mask = |n: usize| -> Vec<f32> {
            draw(n, 1.0).into_iter().map(|v| if v < -0.5 { 0.0 } else { 4.0 / 3.0 }).collect()
        };
        let masks = match dropout {
            0 => RecurrentMasks::None,
            1 => RecurrentMasks::Shared(mask(clips * hidden)),
            _ => RecurrentMasks::PerGate(mask(clips * row)),
        };
        Self {
            reference: Reference { cell, gate_activation: gate, hidden },
            lengths,
            masks,
            x,
            weights,
            dlast,
        }
    }

    fn expected(&self) -> [Vec<f64>; 3] {
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|v| f64::from(*v)).collect() };
        let batch = Batch { masks: self.masks.view(), ..Batch::new(&self.lengths) };
        let (x, weights) = (wide(&self.x), wide(&self.weights));
        let none = vec![0.0; self.reference.cell.gates() * self.reference.hidden];
        let last = self.reference.forward(&x, &batch, &weights, &none);
        let gradients = self.reference.backward(&x, &batch, &weights, &none, &wide(&self.dlast));
        [last, gradients.x, gradients.weights]
    }

    fn found(&self, device: &Device) -> Result<[Vec<f64>; 3]> {
        let Reference { cell, gate_activation, hidden } = self.reference;
        let row = cell.gates() * hidden;
        let x = Tensor::from_slice(&self.x, (self.x.len() / row, row), device)?;
        let (x, weights) =
            (Var::from_tensor(&x)?, Var::from_tensor(&Tensor::new(&self.weights[..], device)?)?);
        let call = LayerCall {
            lengths: self.lengths.clone(),
            masks: self.masks.clone(),
            train: true,
            ..LayerCall::default()
        };
        let ops = Ops { cell, gate_activation, hidden, kernels: true };
        let last = ops.forward(&x, &weights, &call)?;
        let dlast = Tensor::from_slice(&self.dlast, last.shape(), device)?;
        let grads = (&last * dlast)?.sum_all()?.backward()?;
        let gradient =
            |var: &Var| -> Result<Vec<f64>> { grads.get(var).map_or_else(|| Ok(Vec::new()), flat) };
        Ok([flat(&last)?, gradient(&x)?, gradient(&weights)?])
    }
}

fn flat(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1()?)
}

fn compared(
    (kernel, case, what, precision): (&'static str, String, &'static str, Precision),
    found: &[f64],
    expected: &[f64],
    bar: f64,
) -> CheckRow {
    let scale = expected.iter().fold(f64::MIN_POSITIVE, |most, value| most.max(value.abs()));
    // NaN must not pass as no difference.
    let worse =
        |most: f64, difference: f64| if difference > most || difference.is_nan() { difference } else { most };
    let error = if found.len() == expected.len() {
        found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, worse) / scale
    } else {
        f64::INFINITY
    };
    CheckRow { kernel, case, what, precision: precision.name(), error, bar, passed: error <= bar }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_or_missing_fails() {
        let row = |found: &[f64]| {
            compared(("training", String::new(), "loss", Precision::F32), found, &[1.0, -2.0], 1e-3)
        };
        assert!(row(&[1.0, -2.001]).passed);
        assert!(!row(&[1.0, -2.01]).passed);
        assert!(!row(&[f64::NAN, -2.0]).passed);
        assert!(!row(&[1.0]).passed);
    }
}
