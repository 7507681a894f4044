//! Layers that return every state, and what is made of them: stacked, bidirectional and pooled models.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use candle_core::{Device, Tensor, Var};
use rand::RngExt;
use std::sync::Arc;
use tt_core::apply::Affine;
use tt_core::rng::stream;
use tt_core::{CoreInit, TtShape};
use tt_rnn::adam::AdamConfig;
use tt_rnn::layer::{LayerCall, Output, RecurrentLayer, Sinks};
use tt_rnn::packed;
use tt_rnn::parameters::{Optimizer, Parameter, orthogonal};
use tt_rnn::projection::{DenseProjection, GateLayout, Projection, TtProjection};
use tt_rnn::rates::{Kind, Rates};
use tt_rnn::recurrence::ops::Ops;
use tt_rnn::recurrence::{Cell, GateActivation, Recurrence};

const CELL: Cell = Cell::Gru;
const HIDDEN: usize = 6;
const LENGTHS: [usize; 3] = [4, 1, 7];

/// A layer with weights of its own.
struct Own {
    layer: RecurrentLayer,
    input: Parameter,
    recurrent: Parameter,
}

impl Own {
    fn new(name: &str, projection: Arc<dyn Projection>, kernels: bool) -> Self {
        let weights = projection.weights();
        let parameter = |part: &str, kinds, values: Vec<f32>, shape: &[usize]| {
            Parameter::of_parts(&format!("{name}.{part}"), kinds, values, shape, &Device::Cpu).unwrap()
        };
        let input = parameter("input", weights.parts, projection.initial(3), &weights.shape);
        let width = CELL.gates() * HIDDEN;
        let mut values = orthogonal(HIDDEN, width, &mut stream(4, name));
        values.resize((HIDDEN + 1) * width, 0.0);
        let count = values.len();
        let recurrent = parameter("recurrent", vec![(count, Kind::Vector)], values, &[count]);
        let gate_activation = GateActivation::Sigmoid;
        let layer = if kernels {
            RecurrentLayer::new(projection, Recurrence::new(CELL, gate_activation, HIDDEN), Sinks::default())
        } else {
            let ops = Ops { cell: CELL, gate_activation, hidden: HIDDEN, kernels: false };
            RecurrentLayer::by_operators(projection, ops)
        };
        Self { layer, input, recurrent }
    }

    fn states(&self, rows: &Tensor, output: Output) -> Tensor {
        let call = LayerCall { lengths: LENGTHS.to_vec(), train: true, output, ..LayerCall::default() };
        self.layer.forward(rows, &self.input.var, &self.recurrent.var, call).unwrap()
    }
}

fn train() -> Arc<dyn Projection> {
    let shape = TtShape::uniform(&[4, 6], &[2, 3], 2, 3).unwrap();
    let affine = Affine { scale: 1.0 / 127.5, shift: -1.0 };
    Arc::new(
        TtProjection::new(&shape, GateLayout::Concatenated, affine)
            .unwrap()
            .starting(CoreInit::VarianceMatched),
    )
}

fn dense(features: usize) -> Arc<dyn Projection> {
    Arc::new(DenseProjection::new(features, 3 * HIDDEN, 3, Affine::IDENTITY))
}

fn pixels() -> Tensor {
    let mut rng = stream(1, "tests/sequences");
    let pixels: Vec<u8> = (0..12 * 24).map(|_| rng.random()).collect();
    Tensor::from_vec(pixels, (12, 24), &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Two layers, the second reads every state of the first: a train below, a dense matrix above.
fn stack(kernels: bool) -> (Own, Own, impl Fn(&Own, &Own) -> Tensor) {
    let model =
        |below: &Own, above: &Own| above.states(&below.states(&pixels(), Output::Sequence), Output::Last);
    (Own::new("below", train(), kernels), Own::new("above", dense(HIDDEN), kernels), model)
}

#[test]
fn a_stack_has_the_same_gradients_by_kernels_and_by_operators() {
    let gradients = |kernels: bool| {
        let (below, above, model) = stack(kernels);
        let grads = model(&below, &above).sqr().unwrap().sum_all().unwrap().backward().unwrap();
        [&below.input, &below.recurrent, &above.input, &above.recurrent]
            .map(|parameter| values(grads.get(&parameter.var).unwrap()))
    };
    for (a, b) in gradients(true).iter().zip(&gradients(false)) {
        let scale = b.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
        assert!(scale > 0.0);
        for (a, b) in a.iter().zip(b) {
            // Two layers of seven steps with sums of 24 terms: a few hundred roundings at most.
            assert!((a - b).abs() <= 500.0 * f32::EPSILON * scale, "{a} not {b}");
        }
    }
}

/// Trains last or pooled states to tell three clips apart: the loss before and after.
fn fit(parameters: Vec<Parameter>, states: impl Fn() -> Tensor) -> (f32, f32) {
    let labels = Tensor::new(&[0_u32, 1, 2], &Device::Cpu).unwrap();
    let mut optimizer = Optimizer::new(AdamConfig::default(), Rates::single(2e-2), parameters).unwrap();
    let mut losses = Vec::new();
    for _ in 0..60 {
        // A classifier without weights: the first units are the scores.
        let logits = (states().narrow(1, 0, 3).unwrap() * 4.0).unwrap();
        let loss = candle_nn::loss::cross_entropy(&logits, &labels).unwrap();
        losses.push(loss.to_scalar::<f32>().unwrap());
        optimizer.step(&loss.backward().unwrap()).unwrap();
    }
    (losses[0], losses[59])
}

#[test]
fn stacked_bidirectional_and_pooled_models_learn() {
    for kernels in [true, false] {
        let (below, above, model) = stack(kernels);
        let parameters = [&below, &above].map(|own| vec![own.input.clone(), own.recurrent.clone()]).concat();
        let (first, last) = fit(parameters, || model(&below, &above));
        assert!(last < 0.3 * first, "stacked, kernels {kernels}: {first} -> {last}");

        let (ahead, back) = (Own::new("ahead", train(), kernels), Own::new("back", train(), kernels));
        let reader = Own::new("reader", dense(2 * HIDDEN), kernels);
        let parameters =
            [&ahead, &back, &reader].map(|own| vec![own.input.clone(), own.recurrent.clone()]).concat();
        let (first, last) = fit(parameters, || {
            let reversed = packed::reverse(&pixels(), &LENGTHS).unwrap();
            let backward = back.states(&reversed, Output::Sequence);
            let both =
                [ahead.states(&pixels(), Output::Sequence), packed::reverse(&backward, &LENGTHS).unwrap()];
            let states = reader.states(&Tensor::cat(&both, 1).unwrap(), Output::Sequence);
            packed::mean(&states, &LENGTHS).unwrap()
        });
        assert!(last < 0.3 * first, "bidirectional and pooled, kernels {kernels}: {first} -> {last}");
    }
}

#[test]
fn clips_are_reversed_and_read_out_one_by_one() {
    let rows = Var::new(&[[1.0_f32], [2.0], [3.0], [10.0], [20.0]], &Device::Cpu).unwrap();
    let reversed = packed::reverse(&rows, &[3, 2]).unwrap();
    assert_eq!(values(&reversed), [3.0, 2.0, 1.0, 20.0, 10.0]);
    assert_eq!(values(&packed::mean(&rows, &[3, 2]).unwrap()), [2.0, 15.0]);
    assert_eq!(values(&packed::max(&rows, &[3, 2]).unwrap()), [3.0, 20.0]);
    assert!(packed::reverse(&rows, &[3, 3]).is_err());
    for read in [packed::mean, packed::max] {
        assert!(read(&rows, &[3]).is_err());
        assert!(read(&rows, &[5, 0]).unwrap_err().to_string().contains("clip 1 has no frames"));
    }
}

#[test]
fn of_equal_largest_values_the_first_has_the_gradient() {
    let rows = Var::new(&[[1.0_f32, 7.0], [5.0, 7.0], [5.0, -1.0], [-3.0, -2.0]], &Device::Cpu).unwrap();
    let largest = packed::max(&rows, &[3, 1]).unwrap();
    assert_eq!(values(&largest), [5.0, 7.0, -3.0, -2.0]);
    let factors = Tensor::new(&[[1.0_f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
    let grads = (largest * factors).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(values(grads.get(&rows).unwrap()), [0.0, 2.0, 1.0, 0.0, 0.0, 0.0, 3.0, 4.0]);
}
