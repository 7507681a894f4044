//! Models of several layers, of both directions of time, of other read-outs than the last state, and of a factorized U.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use candle_core::{DType, Device, Tensor};
use rand::RngExt;
use std::collections::HashMap;
use tt_core::TtShape;
use tt_core::apply::{Affine, reference};
use tt_core::network::{FORMATS, Format};
use tt_core::rng::stream;
use tt_rnn::adam::AdamConfig;
use tt_rnn::layer::LayerCall;
use tt_rnn::models::{
    Mode, Model, ModelConfig, PackedFrames, Readout, RecurrentForm, Stack, find, of_states,
};
use tt_rnn::parameters::Optimizer;
use tt_rnn::rates::{RateRule, Rates};
use tt_rnn::recurrence::reference::Reference;
use tt_rnn::recurrence::{Batch, Cell, GateActivation, Output};

const LENGTHS: [usize; 3] = [4, 1, 7];
const FEATURES: usize = 24;
const HIDDEN: usize = 6;
const CLASSES: usize = 3;
const AFFINE: Affine = Affine { scale: 1.0 / 127.5, shift: -1.0 };

const ALL: Stack = Stack { layers: 2, bidirectional: true, readout: Readout::Last };

/// U in a format of rank 2, less than the largest of its modes.
fn of_rank_2(format: &str) -> RecurrentForm {
    RecurrentForm::Factorized { format: format.into(), rank: 2 }
}

fn config(stack: Stack) -> ModelConfig {
    ModelConfig { stack, affine: AFFINE, ..ModelConfig::new(&[4, 6], &[2, 3], 2, CLASSES) }
}

fn build(name: &str, config: &ModelConfig) -> Box<dyn Model> {
    find(name).unwrap().build(config, &Device::Cpu, 7).unwrap()
}

fn pixels(lengths: &[usize]) -> Vec<u8> {
    let mut rng = stream(1, "tests/stack");
    (0..lengths.iter().sum::<usize>() * FEATURES).map(|_| rng.random()).collect()
}

fn clips(lengths: &[usize]) -> PackedFrames {
    let rows = Tensor::from_vec(pixels(lengths), ((), FEATURES), &Device::Cpu).unwrap();
    PackedFrames::new(rows, lengths.to_vec())
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Weights by name.
type Wide = HashMap<String, Vec<f64>>;

/// The logits `[B, K]` by plain loops in f64.
fn logits_in_f64(name: &str, stack: Stack, weights: &Wide) -> Vec<f64> {
    let cell: Cell = name.trim_start_matches("tt-").parse().unwrap();
    let mut features = FEATURES;
    let mut rows: Vec<f64> = pixels(&LENGTHS)
        .iter()
        .map(|p| f64::from(*p) * f64::from(AFFINE.scale) + f64::from(AFFINE.shift))
        .collect();
    for layer in 0..stack.layers {
        let last = layer + 1 == stack.layers && stack.readout == Readout::Last;
        let mut sides = Vec::new();
        for backward in [false, true].into_iter().take(stack.directions()) {
            let prefix = match (layer, backward) {
                (0, false) => String::new(),
                (_, false) => format!("layer.{}.", layer + 1),
                (_, true) => format!("layer.{}.back.", layer + 1),
            };
            let read = if backward { turned(&rows, features) } else { rows.clone() };
            let matrix = weights.get(&format!("{prefix}input.kernel")).cloned().unwrap_or_else(|| {
                let modes = if layer == 0 { vec![4, 6] } else { planned(features) };
                let shape = TtShape::uniform(&modes, &[2, 3], 2, cell.gates()).unwrap();
                reference::dense(&shape, &weights[&format!("{prefix}input.cores")]).unwrap()
            });
            let width = cell.gates() * HIDDEN;
            let x: Vec<f64> =
                read.chunks_exact(features).flat_map(|row| product(row, &matrix, width)).collect();
            let output = if last { Output::Last } else { Output::Sequence };
            let batch = Batch { output, ..Batch::new(&LENGTHS) };
            let steps = Reference { cell, gate_activation: GateActivation::Sigmoid, hidden: HIDDEN };
            let zero = vec![0.0; width];
            let joined = weights.get(&format!("{prefix}recurrent")).cloned().unwrap_or_else(|| {
                let shape = TtShape::uniform(&[2, 3], &[2, 3], 2, cell.gates()).unwrap();
                let matrix = reference::dense(&shape, &weights[&format!("{prefix}recurrent.cores")]);
                [matrix.unwrap(), weights[&format!("{prefix}recurrent.bias")].clone()].concat()
            });
            let states = steps.forward(&x, &batch, &joined, &zero);
            sides.push(if backward && !last { turned(&states, HIDDEN) } else { states });
        }
        features = sides.len() * HIDDEN;
        let count = sides[0].len() / HIDDEN;
        rows = (0..count)
            .flat_map(|row| sides.iter().flat_map(move |side| side[row * HIDDEN..][..HIDDEN].to_vec()))
            .collect();
    }
    let mut read = rows.clone();
    if stack.readout != Readout::Last {
        read.clear();
        let mut start = 0;
        for length in LENGTHS {
            let states: Vec<&[f64]> = rows.chunks_exact(features).skip(start).take(length).collect();
            let of_unit = |unit: usize| states.iter().map(move |state| state[unit]);
            read.extend((0..features).map(|unit| match stack.readout {
                Readout::Mean => of_unit(unit).sum::<f64>() / length as f64,
                _ => of_unit(unit).fold(f64::NEG_INFINITY, f64::max),
            }));
            start += length;
        }
    }
    let (kernel, bias) = (&weights["classifier.kernel"], &weights["classifier.bias"]);
    let scores = read.chunks_exact(features).map(|state| product(state, kernel, CLASSES));
    scores.flat_map(|scores| scores.into_iter().zip(bias).map(|(s, b)| s + b).collect::<Vec<_>>()).collect()
}

/// Two factors as equal as they can be.
fn planned(features: usize) -> Vec<usize> {
    match features {
        HIDDEN => vec![2, 3],
        12 => vec![3, 4],
        _ => panic!("no state has {features} numbers here"),
    }
}

fn product(row: &[f64], matrix: &[f64], width: usize) -> Vec<f64> {
    (0..width).map(|j| row.iter().enumerate().map(|(k, v)| v * matrix[k * width + j]).sum()).collect()
}

/// Every clip back to front.
fn turned(rows: &[f64], features: usize) -> Vec<f64> {
    let mut out = Vec::with_capacity(rows.len());
    let mut start = 0;
    for length in LENGTHS {
        let clip = &rows[start * features..][..length * features];
        out.extend(clip.chunks_exact(features).rev().flatten());
        start += length;
    }
    out
}

/// A scalar that depends on every logit.
fn loss(logits: &[f64]) -> f64 {
    logits.iter().enumerate().map(|(at, logit)| (1.0 + at as f64 / 4.0) * logit).sum()
}

/// Logits and gradients of a model against those of plain loops in f64, whose gradients are central differences.
fn check(name: &str, stack: Stack, recurrent: RecurrentForm) {
    let what = format!("{name} {stack:?} {recurrent:?}");
    let model = build(name, &ModelConfig { recurrent, ..config(stack) });
    let logits = model.logits(&clips(&LENGTHS), Mode::Train(&mut stream(0, "masks"))).unwrap();
    let factors: Vec<f32> = (0..9_u8).map(|at| 1.0 + f32::from(at) / 4.0).collect();
    let factors = Tensor::from_vec(factors, (3, CLASSES), &Device::Cpu).unwrap();
    let grads = (&logits * factors).unwrap().sum_all().unwrap().backward().unwrap();
    let parameters = model.parameters();
    let wide = |tensor: &Tensor| values(tensor).into_iter().map(f64::from).collect::<Vec<_>>();
    let mut weights: Wide = parameters.iter().map(|p| (p.name.clone(), wide(&p.var))).collect();
    for (a, b) in values(&logits).iter().zip(logits_in_f64(name, stack, &weights)) {
        assert!((f64::from(*a) - b).abs() < 1e-5, "{what}: logit {a} not {b}");
    }
    for parameter in &parameters {
        let found = match &parameter.sink {
            Some(sink) => sink.take(<[f32]>::to_vec).unwrap().unwrap(),
            None => values(grads.get(&parameter.var).unwrap()),
        };
        let scale = found.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
        assert!(scale > 0.0, "{what}: {}", parameter.name);
        for (at, found) in found.iter().enumerate() {
            let mut moved = |by: f64| {
                let value = weights.get_mut(&parameter.name).map(|values| &mut values[at]).unwrap();
                let before = std::mem::replace(value, *value + by);
                let loss = loss(&logits_in_f64(name, stack, &weights));
                weights.get_mut(&parameter.name).unwrap()[at] = before;
                loss
            };
            let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            // Two layers of seven steps with sums of 24 terms: a few hundred roundings at most.
            let allowed = f64::from(500.0 * f32::EPSILON * scale);
            assert!(
                (f64::from(*found) - expected).abs() <= allowed,
                "{what} {} {at}: {found} not {expected}",
                parameter.name
            );
        }
    }
}

#[test]
fn logits_and_gradients_are_those_of_plain_loops_in_f64() {
    for name in ["tt-gru", "lstm"] {
        for readout in [Readout::Last, Readout::Mean, Readout::Max] {
            check(name, Stack { readout, ..ALL }, RecurrentForm::Dense);
        }
        check(name, Stack { layers: 2, ..Stack::default() }, RecurrentForm::Dense);
    }
    for name in ["gru", "tt-lstm", "rnn", "tt-rnn"] {
        check(name, Stack { readout: Readout::Mean, ..ALL }, RecurrentForm::Dense);
    }
    check("tt-gru", Stack { layers: 1, ..ALL }, RecurrentForm::Dense);
    check("gru", Stack { layers: 1, bidirectional: false, readout: Readout::Max }, RecurrentForm::Dense);
}

#[test]
fn a_factorized_u_has_the_gradients_of_plain_loops_in_f64() {
    for name in ["tt-gru", "gru", "tt-lstm", "lstm", "tt-rnn"] {
        check(name, Stack::default(), of_rank_2("tt"));
    }
    check("tt-gru", Stack { readout: Readout::Mean, ..ALL }, of_rank_2("tt"));
}

/// With any format, a model is the one whose dense U that format multiplies out to, and its factors have the gradient of
/// that U through the projection.
#[test]
fn u_in_any_format_is_its_matrix() {
    for format in ["tt"].into_iter().chain(FORMATS.map(Format::name)) {
        let config = ModelConfig { recurrent: of_rank_2(format), ..square() };
        let projection = of_states(&config, 3, 64).unwrap().unwrap();
        let model = build("tt-gru", &config);
        let dense = build("tt-gru", &square());
        let of =
            |model: &dyn Model, name: &str| model.parameters().into_iter().find(|p| p.name == name).unwrap();
        let (factors, whole) = (of(model.as_ref(), "recurrent.cores"), of(dense.as_ref(), "recurrent"));
        let units = Tensor::eye(64, DType::F32, &Device::Cpu).unwrap();
        let call = LayerCall { lengths: vec![64], train: true, ..LayerCall::default() };
        let matrix = projection.forward(&units, &factors.var, &call).unwrap().flatten_all().unwrap();
        let biases = of(model.as_ref(), "recurrent.bias");
        whole.set(&Tensor::cat(&[&matrix, biases.var.as_tensor()], 0).unwrap().detach()).unwrap();
        let run = |model: &dyn Model| {
            let logits = model.logits(&clips(&LENGTHS), Mode::Train(&mut stream(0, "masks"))).unwrap();
            (values(&logits), logits.sqr().unwrap().sum_all().unwrap().backward().unwrap())
        };
        let ((logits, grads), (expected, _)) = (run(model.as_ref()), run(dense.as_ref()));
        assert_eq!(logits, expected, "{format}");
        let of_matrix = whole.sink.as_ref().unwrap().take(|d| d[..64 * 192].to_vec()).unwrap().unwrap();
        let of_matrix = Tensor::from_vec(of_matrix, 64 * 192, &Device::Cpu).unwrap();
        let through = (matrix * of_matrix).unwrap().sum_all().unwrap().backward().unwrap();
        let expected = values(through.get(&factors.var).unwrap());
        assert!(expected.iter().any(|d| *d != 0.0), "{format}");
        assert_eq!(values(grads.get(&factors.var).unwrap()), expected, "{format}");
    }
    let unknown = ModelConfig { recurrent: of_rank_2("mps"), ..square() };
    let text = find("gru").unwrap().build(&unknown, &Device::Cpu, 1).unwrap_err().to_string();
    assert!(text.contains("unknown format \"mps\": choose one of tt, tr"), "{text}");
}

/// Of `G` gates and H states, entries of Glorot's variance, in every draw other ones than the input's cores.
#[test]
fn a_factorized_u_starts_with_the_variance_of_glorot() {
    let (gates, hidden) = (3, 64);
    let shape = TtShape::uniform(&[4, 4, 4], &[4, 4, 4], 4, gates).unwrap();
    let (mut squares, mut count) = (0.0, 0_usize);
    for seed in 0..60 {
        let recurrent = RecurrentForm::Factorized { format: "tt".into(), rank: 4 };
        let config = ModelConfig { recurrent, ..square() };
        let model = find("tt-gru").unwrap().build(&config, &Device::Cpu, seed).unwrap();
        let of = |name: &str| {
            let parameters = model.parameters();
            values(&parameters.iter().find(|p| p.name == name).unwrap().var)
        };
        let (cores, input) = (of("recurrent.cores"), of("input.cores"));
        assert_ne!(cores[0] * input[1], cores[1] * input[0], "drawn from one stream");
        let wide: Vec<f64> = cores.into_iter().map(f64::from).collect();
        let matrix = reference::dense(&shape, &wide).unwrap();
        squares += matrix.iter().map(|v| v * v).sum::<f64>();
        count += matrix.len();
    }
    let (found, target) = (squares / count as f64, 2.0 / (hidden + gates * hidden) as f64);
    // Sixty draws of a product of three cores.
    assert!((found / target - 1.0).abs() < 0.1, "{found} not {target}");
}

/// 64 units as 4 · 4 · 4.
fn square() -> ModelConfig {
    ModelConfig::new(&[2, 3, 4], &[4, 4, 4], 2, CLASSES)
}

#[test]
fn rates_of_a_factorized_u_are_those_of_cores() {
    let rates = Rates { lr: 1e-3, rule: RateRule::FanIn, input_factor: 0.5 };
    for name in ["gru", "tt-gru"] {
        let model = build(name, &ModelConfig { recurrent: of_rank_2("tt"), ..config(Stack::default()) });
        let found: Vec<_> = model.parameters().iter().map(|p| (p.name.clone(), p.rates(&rates))).collect();
        // 2 · 6 · 2 and 3 · 2 · 3 numbers.
        assert_eq!(found[0], ("recurrent.cores".to_owned(), vec![(42, 1e-3)]), "{name}");
        assert_eq!(found[1], ("recurrent.bias".to_owned(), vec![(18, 1e-3)]), "{name}");
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let stack = Stack { readout: Readout::Mean, ..ALL };
    let lengths: Vec<usize> = (0..19).map(|clip| 1 + clip * 7 % 23).collect();
    for (name, recurrent) in
        [("tt-gru", RecurrentForm::Dense), ("tt-gru", of_rank_2("tt")), ("lstm", RecurrentForm::Dense)]
    {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let config = ModelConfig {
                    recurrent_dropout: 0.25,
                    tt_input_dropout: 0.25,
                    dense_input_dropout: 0.25,
                    stack,
                    recurrent: recurrent.clone(),
                    ..ModelConfig::new(&[4, 6], &[4, 12], 3, CLASSES)
                };
                let model = build(name, &config);
                let masks = &mut stream(5, "masks");
                let logits = model.logits(&clips(&lengths), Mode::Train(masks)).unwrap();
                let grads = logits.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                let gradients = model.parameters().into_iter().map(|p| match &p.sink {
                    Some(sink) => sink.take(<[f32]>::to_vec).unwrap().unwrap(),
                    None => values(grads.get(&p.var).unwrap()),
                });
                (values(&logits), gradients.collect::<Vec<_>>())
            })
        };
        let one = run(1);
        for threads in [2, 3, 8] {
            assert!(run(threads) == one, "{name} at {threads} threads");
        }
    }
}

#[test]
fn a_clip_does_not_depend_on_its_batch() {
    for readout in [Readout::Last, Readout::Mean, Readout::Max] {
        let model = build("tt-gru", &config(Stack { readout, ..ALL }));
        let together = clips(&LENGTHS);
        let all = model.logits(&together, Mode::Evaluate).unwrap().to_vec2::<f32>().unwrap();
        let rows = together.rows.tensor().unwrap().narrow(0, 5, 7).unwrap().contiguous().unwrap();
        let alone = PackedFrames::new(rows, vec![7]);
        let alone = model.logits(&alone, Mode::Evaluate).unwrap().to_vec2::<f32>().unwrap();
        for (a, b) in all[2].iter().zip(&alone[0]) {
            assert!((a - b).abs() < 1e-5, "{readout}: {a} {b}");
        }
    }
}

/// Every place has weights and masks from streams of its own.
#[test]
fn no_two_passes_start_or_drop_alike() {
    let model = build("tt-gru", &config(Stack { layers: 3, ..ALL }));
    let mut seen: Vec<Vec<f32>> = Vec::new();
    for parameter in model.parameters().iter().filter(|p| p.name.ends_with("recurrent")) {
        let start = values(&parameter.var)[..8].to_vec();
        assert!(!seen.contains(&start), "{}", parameter.name);
        seen.push(start);
    }
    assert_eq!(seen.len(), 6);
    // The first pass is that of the model that has no other.
    assert_eq!(
        seen[0],
        values(&build("tt-gru", &config(Stack::default())).parameters()[0].var)[..8].to_vec()
    );

    let config = ModelConfig { recurrent_dropout: 0.5, tt_input_dropout: 0.5, ..config(ALL) };
    let model = build("tt-gru", &config);
    let logits = |mode: Mode<'_>| values(&model.logits(&clips(&LENGTHS), mode).unwrap());
    let trained = |seed| logits(Mode::Train(&mut stream(seed, "masks")));
    assert_eq!(logits(Mode::Evaluate), logits(Mode::Evaluate));
    assert_eq!(trained(1), trained(1));
    assert_ne!(trained(1), trained(2));
    assert_ne!(trained(1), logits(Mode::Evaluate));
}

#[test]
fn weights_between_layers_have_the_rate_of_what_they_read() {
    let rates = Rates { lr: 1e-3, rule: RateRule::FanIn, input_factor: 0.5 };
    let by = |fan_in: usize| 1e-3 * 256.0 / fan_in as f64;
    for (name, of_frames, of_states) in [("gru", 0.5 * by(24), by(12)), ("tt-gru", 0.5e-3, 1e-3)] {
        let model = build(name, &config(ALL));
        for parameter in model.parameters().iter().filter(|p| p.name.contains("input.")) {
            let expected = if parameter.name.starts_with("layer.2.") { of_states } else { of_frames };
            assert_eq!(parameter.rates(&rates)[0].1, expected, "{name} {}", parameter.name);
        }
        let kernel = model.parameters().into_iter().find(|p| p.name == "classifier.kernel").unwrap();
        assert_eq!(kernel.rates(&rates)[0].1, by(12));
    }
}

#[test]
fn stacks_learn_and_their_gates_are_watched() {
    let labels = Tensor::new(&[0_u32, 1, 2], &Device::Cpu).unwrap();
    let models = [
        ("tt-gru", Readout::Last),
        ("lstm", Readout::Mean),
        ("tt-gru-frozen", Readout::Max),
        ("pooled-gru", Readout::Mean),
    ];
    for (name, readout) in models {
        let model = build(name, &ModelConfig { width: 4, ..config(Stack { readout, ..ALL }) });
        let frames = clips(&LENGTHS);
        let mut optimizer =
            Optimizer::new(AdamConfig::default(), Rates::single(2e-2), model.parameters()).unwrap();
        let mut last = f32::NAN;
        for _ in 0..100 {
            let logits = model.logits(&frames, Mode::Train(&mut stream(0, "masks"))).unwrap();
            let loss = candle_nn::loss::cross_entropy(&logits, &labels).unwrap();
            last = loss.to_scalar().unwrap();
            optimizer.step(&loss.backward().unwrap()).unwrap();
        }
        assert!(last < 0.1, "{name} {readout}: {last}");
        assert!(model.saturated_gates(&frames).unwrap().is_some_and(|share| share < 1.0), "{name}");
    }
}

#[test]
fn what_a_stack_cannot_have_is_refused_by_its_key() {
    let refused = |config: &ModelConfig| {
        find("tt-gru").unwrap().build(config, &Device::Cpu, 1).unwrap_err().to_string()
    };
    for (stack, key) in [
        (Stack { layers: 2, ..Stack::default() }, "model.layers"),
        (Stack { bidirectional: true, ..Stack::default() }, "model.bidirectional"),
        (Stack { readout: Readout::Mean, ..Stack::default() }, "model.readout"),
    ] {
        let text = refused(&ModelConfig { warm_up_to: 5, ..config(stack) });
        assert!(text.contains("train.warm_up_to") && text.contains(key), "{text}");
    }
    let text = refused(&config(Stack { layers: 0, ..Stack::default() }));
    assert!(text.contains("at least one layer"), "{text}");
}
