//! What every projection promises, and a factorization of these tests' own beside those of the crate.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod low_rank;

use candle_core::{DType, Device, Tensor, Var};
use rand::RngExt;
use tt_core::apply::{Affine, Backend, Precision};
use tt_core::init::CoreInit;
use tt_core::network::{FORMATS, Format};
use tt_core::rng::stream;
use tt_rnn::adam::AdamConfig;
use tt_rnn::layer::{GradientSink, LayerCall, RecurrentLayer, Sinks};
use tt_rnn::models::{
    CnnKernels, CnnSize, Form, FormatSettings, Mode, ModelConfig, ModelEntry, PackedFrames, RecurrentForm,
    Stack, find,
};
use tt_rnn::parameters::{Optimizer, orthogonal};
use tt_rnn::projection::{DENSE, Factorization, GateLayout, InputDropout, TRAIN};
use tt_rnn::rates::{RateRule, Rates};
use tt_rnn::recurrence::ops::Ops;
use tt_rnn::recurrence::{Cell, GateActivation, Recurrence};

const LOW_RANK: Factorization = Factorization { name: "low-rank", new: low_rank::of_model };

const ALL: [Factorization; 3] = [DENSE, TRAIN, LOW_RANK];

/// The formats of `tt_core::network`, as the models have them.
fn formats() -> Vec<Factorization> {
    let of = |format: &dyn Format| match find(&format!("{}-gru", format.name())).unwrap().form {
        Form::Recurrent { input, .. } => input,
        form => panic!("{} is {form:?}", format.name()),
    };
    FORMATS.into_iter().map(of).collect()
}

#[test]
fn formats_have_their_own_names_and_a_model_for_every_cell() {
    for (factorization, format) in formats().iter().zip(FORMATS) {
        assert_eq!(factorization.name, format.name());
        for cell in ["rnn", "gru", "lstm"] {
            let form = find(&format!("{}-{cell}", format.name())).unwrap().form;
            assert!(matches!(form, Form::Recurrent { input, .. } if input == *factorization), "{form:?}");
        }
    }
}

#[test]
fn settings_choose_the_ranks_of_a_format() {
    let count = |name: &str, formats: FormatSettings, gates: GateLayout| {
        let config = ModelConfig { formats, gates, ..config() };
        let model = find(name).unwrap().build(&config, &Device::Cpu, 7);
        model.map_or_else(|error| error.to_string(), |model| model.input_parameters().to_string())
    };
    let plain = FormatSettings::default;
    let ranks = |name: &str, ranks: &[usize]| FormatSettings {
        ranks: [(name.to_owned(), ranks.to_vec())].into(),
        ..plain()
    };
    let within = |input_weights| FormatSettings { input_weights, ..plain() };
    let (one, each) = (GateLayout::Concatenated, GateLayout::Separate);
    // (4 · 6 + 6 · 3) r for three gates in one network, (4 · 2 + 6 · 3) r for each.
    assert_eq!(count("cp-gru", plain(), one), (2 * 42).to_string(), "model.rank");
    assert_eq!(count("cp-gru", ranks("cp", &[3]), one), (3 * 42).to_string());
    assert_eq!(count("cp-gru", ranks("tr", &[3]), one), (2 * 42).to_string(), "of another format");
    assert_eq!(count("cp-gru", within(170), one), (4 * 42).to_string());
    assert_eq!(count("cp-gru", within(170), each), (2 * 3 * 26).to_string());
    assert_eq!(count("tt-gru", within(170), one), (4 * 42).to_string(), "trains too");
    assert_eq!(count("tt-gru", within(170), each), (2 * 3 * 26).to_string());
    assert_eq!(count("tt-gru", ranks("tt", &[3]), one), (3 * 42).to_string(), "its own");
    for (name, settings, said) in [
        ("tr-gru", within(41), "the smallest tr of these modes has 42"),
        ("tt-gru", within(41), "the smallest tt of these modes has 42"),
        ("tucker-gru", ranks("tucker", &[25]), "rank r1 is above 24"),
        ("ht-gru", FormatSettings { tree: "(1 3)".into(), ..plain() }, "misses mode 2"),
        ("bt-gru", FormatSettings { blocks: 0, ..plain() }, "has at least 1"),
    ] {
        let found = count(name, settings, one);
        assert!(found.contains(said), "{name}: {found}");
    }
}

fn config() -> ModelConfig {
    ModelConfig {
        features: 24,
        width: 4,
        classes: 3,
        input_modes: vec![4, 6],
        output_modes: vec![2, 3],
        rank: 2,
        gates: GateLayout::Separate,
        core_init: CoreInit::VarianceMatched,
        backend: Backend::Fused,
        precision: Precision::F32,
        dense_hidden: 6,
        stack: Stack::default(),
        recurrent: RecurrentForm::Dense,
        gate_activation: GateActivation::Sigmoid,
        affine: Affine { scale: 1.0 / 127.5, shift: -1.0 },
        mlp_frames: 3,
        mlp_input_modes: vec![8, 9],
        mlp_rank: 2,
        recurrent_dropout: 0.0,
        dense_masks_per_gate: false,
        dense_input_dropout: 0.0,
        tt_input_dropout: 0.0,
        warm_up_to: 0,
        classifier_l2: 0.0,
        formats: FormatSettings::default(),
        cnn: CnnSize::Small,
        cnn_kernels: CnnKernels::Dense,
        attention_penalty: 0.0,
    }
}

fn pixels(rows: usize) -> Tensor {
    let mut rng = stream(1, "tests/projection");
    let pixels: Vec<u8> = (0..rows * 24).map(|_| rng.random()).collect();
    Tensor::from_vec(pixels, (rows, 24), &Device::Cpu).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Sums of 24 terms, carried through six steps: a few hundred roundings of the largest value at most.
fn close(what: &str, found: &[f32], expected: &[f32]) {
    let scale = expected.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
    assert!(scale > 0.0 && found.len() == expected.len(), "{what}");
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() <= 300.0 * f32::EPSILON * scale, "{what}: {a} not {b}");
    }
}

#[test]
fn weights_initial_values_and_rates_fit_together() {
    for factorization in ALL.into_iter().chain(formats()) {
        let projection = (factorization.new)(&config(), 3).unwrap();
        let weights = projection.weights();
        assert_eq!(projection.features(), 24);
        assert_eq!(projection.outputs(), 18);
        assert_eq!(projection.initial(1).len(), weights.count(), "{}", factorization.name);
        assert_eq!(weights.parts.iter().map(|(count, _)| count).sum::<usize>(), weights.count());
        assert_ne!(projection.initial(1), projection.initial(2), "{}", factorization.name);
        assert_eq!(projection.initial(1), projection.initial(1), "{}", factorization.name);
    }
}

/// Last states, and gradients of the rows, the input weights and `[U | b]`.
fn run(
    factorization: Factorization,
    layer: impl Fn() -> RecurrentLayer,
    dropout: Option<InputDropout>,
) -> [Vec<f32>; 4] {
    let projection = (factorization.new)(&config(), 3).unwrap();
    let weights = projection.weights();
    let device = Device::Cpu;
    let input = Tensor::from_vec(projection.initial(3), weights.shape, &device).unwrap();
    let recurrent = orthogonal(6, 18, &mut stream(4, "tests/projection"));
    let recurrent = Tensor::from_vec([recurrent, vec![0.1; 18]].concat(), 7 * 18, &device).unwrap();
    let (input, recurrent) = (Var::from_tensor(&input).unwrap(), Var::from_tensor(&recurrent).unwrap());
    let bytes = pixels(9);
    let rows = Var::from_tensor(&bytes.to_dtype(DType::F32).unwrap()).unwrap();
    let call =
        LayerCall { lengths: vec![2, 6, 1], train: true, input_dropout: dropout, ..LayerCall::default() };
    let layer = layer();
    let from_bytes = layer.forward(&bytes, &input, &recurrent, call.clone()).unwrap();
    let last = layer.forward(&rows, &input, &recurrent, call).unwrap();
    close(&format!("{} from bytes", factorization.name), &values(&from_bytes), &values(&last));
    let loss = (last.sqr().unwrap() * 3.0).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap();
    let gradient = |var: &Var| values(grads.get(var).unwrap());
    [values(&last), gradient(&rows), gradient(&input), gradient(&recurrent)]
}

/// The kernels of the CPU and candle's operators, which get gradients in different ways.
#[test]
fn kernels_and_operators_agree_in_states_and_all_gradients() {
    let dropout = Some(InputDropout { probability: 0.3, seed: 5 });
    let own = [(DENSE, None), (DENSE, dropout), (TRAIN, None), (LOW_RANK, None)];
    for (factorization, dropout) in own.into_iter().chain(formats().into_iter().map(|format| (format, None)))
    {
        let projection = || (factorization.new)(&config(), 3).unwrap();
        let (cell, gate_activation, hidden) = (Cell::Gru, GateActivation::Sigmoid, 6);
        let recurrence = || Recurrence::new(cell, gate_activation, hidden);
        let ops = Ops { cell, gate_activation, hidden, kernels: false };
        let kernels =
            run(factorization, || RecurrentLayer::new(projection(), recurrence(), Sinks::default()), dropout);
        let operators = run(factorization, || RecurrentLayer::by_operators(projection(), ops), dropout);
        for (what, (a, b)) in
            ["last", "rows", "input", "recurrent"].iter().zip(kernels.iter().zip(&operators))
        {
            close(&format!("{} {what}", factorization.name), a, b);
        }
    }
}

#[test]
fn models_train_with_every_factorization_on_every_backend() {
    for input in ALL {
        for cell in [Cell::Gru, Cell::Lstm, Cell::Rnn] {
            for backend in [Backend::Fused, Backend::Ops] {
                let form = Form::Recurrent { cell, input, frozen: false };
                let config = ModelConfig { backend, recurrent_dropout: 0.05, ..config() };
                let model =
                    ModelEntry { name: "of these tests", form }.build(&config, &Device::Cpu, 7).unwrap();
                let frames = PackedFrames::new(pixels(17), vec![5, 1, 8, 3]);
                let labels = Tensor::new(&[0_u32, 1, 2, 1], &Device::Cpu).unwrap();
                let rates = Rates { lr: 5e-4, rule: RateRule::FanIn, input_factor: 1.0 };
                let mut optimizer = Optimizer::new(AdamConfig::default(), rates, model.parameters()).unwrap();
                let mut losses = Vec::new();
                for step in 0..60 {
                    let mut masks = stream(step, "masks");
                    let logits = model.logits(&frames, Mode::Train(&mut masks)).unwrap();
                    let loss = candle_nn::loss::cross_entropy(&logits, &labels).unwrap();
                    losses.push(loss.to_scalar::<f32>().unwrap());
                    optimizer.step(&loss.backward().unwrap()).unwrap();
                }
                let what = format!("{} {} {backend}: {losses:?}", input.name, cell.name());
                assert!(losses[59] < 0.5 * losses[0], "{what}");
            }
        }
    }
}

/// A layer that reads two batches in one graph: both branches count.
#[test]
fn a_layer_used_twice_has_the_sum_of_both_gradients() {
    for factorization in ALL.into_iter().chain(formats()) {
        let gradients = |batches: &[usize], sinks: bool| {
            let projection = (factorization.new)(&config(), 3).unwrap();
            let weights = projection.weights();
            let new = || if sinks { Some(GradientSink::default()) } else { None };
            let sinks = Sinks { input: weights.sink.then(new).flatten(), recurrent: new() };
            let recurrence = Recurrence::new(Cell::Gru, GateActivation::Sigmoid, 6);
            let device = Device::Cpu;
            let input = Tensor::from_vec(projection.initial(3), weights.shape, &device).unwrap();
            let input = Var::from_tensor(&input).unwrap();
            let recurrent = orthogonal(6, 18, &mut stream(4, "tests/projection"));
            let recurrent = Tensor::from_vec([recurrent, vec![0.1; 18]].concat(), 7 * 18, &device).unwrap();
            let recurrent = Var::from_tensor(&recurrent).unwrap();
            let layer = RecurrentLayer::new(projection, recurrence, sinks.clone());
            let all = pixels(8);
            // A pass that nobody asked for the gradient of leaves nothing behind.
            let states = |first: usize| {
                let call = LayerCall { lengths: vec![1, 3], train: true, ..LayerCall::default() };
                layer
                    .forward(all.narrow(0, first, 4).unwrap().copy().unwrap(), &input, &recurrent, call)
                    .unwrap()
            };
            states(0).sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let states: Vec<Tensor> = batches.iter().map(|first| states(*first)).collect();
            let loss = Tensor::cat(&states, 0).unwrap().sqr().unwrap().sum_all().unwrap();
            let grads = loss.backward().unwrap();
            [(&sinks.input, &input), (&sinks.recurrent, &recurrent)].map(|(sink, var)| match sink {
                Some(sink) => sink.take(<[f32]>::to_vec).unwrap().unwrap(),
                None => values(grads.get(var).unwrap()),
            })
        };
        let (first, second) = (gradients(&[0], true), gradients(&[4], true));
        for sinks in [true, false] {
            let both = gradients(&[0, 4], sinks);
            for ((both, first), second) in both.iter().zip(&first).zip(&second) {
                for ((both, first), second) in both.iter().zip(first).zip(second) {
                    // One addition, whose order may differ.
                    assert!((both - (first + second)).abs() <= f32::EPSILON * both.abs().max(1e-6));
                }
            }
        }
    }
}
