//! The LSTM with attention against plain loops in f64.

use super::*;
use crate::call::{InputDropout, RecurrentMasks};
use candle_core::{Device, Var};
use rand::RngExt;
use tt_core::rng::stream;

const HIDDEN: usize = 5;
const PLACES: usize = 4;
const FEATURES: usize = 3;
const WIDTH: usize = GATES * HIDDEN;
const LENGTHS: [usize; 4] = [3, 1, 5, 3];
const FRAMES: usize = 12;

/// Maps, then the five weights, flat.
type Values = [Vec<f64>; 6];

const SHAPES: [&[usize]; 6] = [
    &[FRAMES, PLACES * FEATURES],
    &[FEATURES, WIDTH],
    &[(HIDDEN + 1) * WIDTH],
    &[HIDDEN, PLACES],
    &[FEATURES, 2 * HIDDEN],
    &[2 * HIDDEN],
];

fn problem() -> Values {
    let mut draws = stream(8, "attention");
    SHAPES.map(|shape| {
        // What f32 holds.
        (0..shape.iter().product()).map(|_| f64::from(draws.random_range(-0.8_f32..0.8))).collect()
    })
}

fn attention(gate_activation: GateActivation) -> Attention {
    Attention { gate_activation, hidden: HIDDEN, places: PLACES, features: FEATURES }
}

fn call(masks: RecurrentMasks, dropped: f32) -> LayerCall {
    let input_dropout = (dropped > 0.0).then_some(InputDropout { probability: dropped, seed: 3 });
    LayerCall { lengths: LENGTHS.to_vec(), masks, input_dropout, train: true, ..LayerCall::default() }
}

fn drawn(count: usize) -> Vec<f32> {
    let mut draws = stream(1, "masks");
    (0..count).map(|_| if draws.random::<bool>() { 2.0 } else { 0.0 }).collect()
}

fn product(row: &[f64], matrix: &[f64], columns: usize) -> Vec<f64> {
    (0..columns).map(|j| row.iter().zip(matrix.chunks_exact(columns)).map(|(x, w)| x * w[j]).sum()).collect()
}

/// `[sum T_b, H + P]`, clip by clip and frame by frame.
fn reference(of: &Attention, values: &Values, call: &LayerCall) -> Vec<f64> {
    let [maps, input, recurrent, places, start, start_bias] = values;
    let (u, b) = recurrent.split_at(HIDDEN * WIDTH);
    let gate = |x: f64| match of.gate_activation {
        GateActivation::HardSigmoid => (0.2 * x + 0.5).clamp(0.0, 1.0),
        GateActivation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    };
    let mut rest = &maps[..];
    let mut out = Vec::new();
    for (clip, length) in LENGTHS.into_iter().enumerate() {
        let (own, after) = rest.split_at(length * PLACES * FEATURES);
        rest = after;
        let mean: Vec<f64> = (0..FEATURES)
            .map(|f| own.iter().skip(f).step_by(FEATURES).sum::<f64>() / (length * PLACES) as f64)
            .collect();
        let first: Vec<f64> =
            product(&mean, start, 2 * HIDDEN).iter().zip(start_bias).map(|(x, b)| (x + b).tanh()).collect();
        let (mut h, mut c) = (first[..HIDDEN].to_vec(), first[HIDDEN..].to_vec());
        for map in own.chunks_exact(PLACES * FEATURES) {
            let powers: Vec<f64> = product(&h, places, PLACES).into_iter().map(f64::exp).collect();
            let sum: f64 = powers.iter().sum();
            let shares: Vec<f64> = powers.iter().map(|power| power / sum).collect();
            let glimpse = product(&shares, map, FEATURES);
            let mut pre = Vec::new();
            for block in 0..GATES {
                let mut factors = vec![1.0; FEATURES];
                if let Some(InputDropout { probability, seed }) = call.input_dropout {
                    let mask = InputMask { seed, probability, gates: GATES, lengths: &LENGTHS };
                    mask.fill(block, clip, 0, &mut factors);
                }
                let read: Vec<f64> = glimpse.iter().zip(factors).map(|(x, m)| x * f64::from(m)).collect();
                let state: Vec<f64> = (0..HIDDEN)
                    .map(|j| match &call.masks {
                        RecurrentMasks::None => h[j],
                        RecurrentMasks::Shared(mask) => h[j] * f64::from(mask[clip * HIDDEN + j]),
                        RecurrentMasks::PerGate(mask) => {
                            h[j] * f64::from(mask[(block * LENGTHS.len() + clip) * HIDDEN + j])
                        }
                    })
                    .collect();
                let (x, hu) = (product(&read, input, WIDTH), product(&state, u, WIDTH));
                pre.extend((block * HIDDEN..(block + 1) * HIDDEN).map(|at| x[at] + hu[at] + b[at]));
            }
            for j in 0..HIDDEN {
                let (i, f, o) = (gate(pre[j]), gate(pre[HIDDEN + j]), gate(pre[3 * HIDDEN + j]));
                c[j] = f * c[j] + i * pre[2 * HIDDEN + j].tanh();
                h[j] = o * c[j].tanh();
            }
            out.extend(h.iter().chain(&shares));
        }
    }
    out
}

/// The gradient of what is returned that is asked for.
fn asked() -> Vec<f64> {
    (0..FRAMES * (HIDDEN + PLACES)).map(|at| f64::from((at as f32 * 0.7).sin())).collect()
}

fn run(of: &Attention, values: &Values, call: &LayerCall) -> (Vec<f32>, [Vec<f32>; 6]) {
    let var = |at: usize| {
        let values: Vec<f32> = values[at].iter().map(|value| *value as f32).collect();
        Var::from_tensor(&Tensor::from_vec(values, SHAPES[at], &Device::Cpu).unwrap()).unwrap()
    };
    let vars: [Var; 6] = std::array::from_fn(var);
    let [maps, input, recurrent, places, start, start_bias] = &vars;
    let weights = Weights { input, recurrent, places, start, start_bias };
    let out = of.forward(maps, weights, call).unwrap();
    let asked: Vec<f32> = asked().into_iter().map(|value| value as f32).collect();
    let asked = Tensor::from_vec(asked, out.shape(), &Device::Cpu).unwrap();
    let grads = (&out * asked).unwrap().sum_all().unwrap().backward().unwrap();
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (flat(&out), vars.each_ref().map(|var| flat(grads.get(var).unwrap())))
}

#[test]
fn states_shares_and_gradients_are_those_of_plain_loops() {
    let plain = || RecurrentMasks::None;
    let shared = RecurrentMasks::Shared(drawn(LENGTHS.len() * HIDDEN));
    let per_gate = RecurrentMasks::PerGate(drawn(GATES * LENGTHS.len() * HIDDEN));
    for (activation, call) in [
        (GateActivation::HardSigmoid, call(plain(), 0.0)),
        (GateActivation::Sigmoid, call(shared, 0.0)),
        (GateActivation::Sigmoid, call(per_gate, 0.4)),
    ] {
        let (of, mut values) = (attention(activation), problem());
        let (out, gradients) = run(&of, &values, &call);
        for (found, expected) in out.iter().zip(reference(&of, &values, &call)) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} not {expected}");
        }
        for (which, gradient) in gradients.iter().enumerate() {
            assert!(gradient.iter().any(|value| value.abs() > 1e-3), "{which}: nothing comes back");
            for (at, found) in gradient.iter().enumerate() {
                let (was, step) = (values[which][at], 1e-6);
                let mut side = |value: f64| {
                    values[which][at] = value;
                    reference(&of, &values, &call).iter().zip(asked()).map(|(y, g)| y * g).sum::<f64>()
                };
                let expected = (side(was + step) - side(was - step)) / (2.0 * step);
                values[which][at] = was;
                let far = (f64::from(*found) - expected).abs();
                assert!(far < 1e-4, "{activation:?}, input {which}, {at}: {found} not {expected}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let of = attention(GateActivation::Sigmoid);
    let fits = problem();
    let tensor = |at: usize, values: &[f64]| {
        Tensor::new(values, &Device::Cpu)
            .unwrap()
            .to_dtype(candle_core::DType::F32)
            .unwrap()
            .reshape(SHAPES[at])
    };
    let [maps, input, recurrent, places, start, start_bias] =
        std::array::from_fn(|at| tensor(at, &fits[at]).unwrap());
    let weights = Weights {
        input: &input,
        recurrent: &recurrent,
        places: &places,
        start: &start,
        start_bias: &start_bias,
    };
    let error = |maps: &Tensor, weights, lengths: &[usize]| {
        let call = LayerCall { lengths: lengths.to_vec(), ..LayerCall::default() };
        of.forward(maps, weights, &call).unwrap_err().to_string()
    };
    assert!(error(&maps, weights, &[3, 1, 5, 4]).contains("numbers of the maps"));
    assert!(error(&maps, weights, &[12, 0]).contains("clip 1 has no frames"));
    assert!(error(&maps, weights, &[]).contains("no clips"));
    let other = Weights { places: &start_bias, ..weights };
    assert!(error(&maps, other, &LENGTHS).contains("weights of an LSTM with attention"));
}
