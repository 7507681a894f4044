//! The controls against plain loops in f64, and what frozen weights leave to train.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use candle_core::{Device, Tensor};
use rand::RngExt;
use tt_core::apply::{Affine, Backend, Precision};
use tt_core::init::CoreInit;
use tt_core::rng::stream;
use tt_rnn::adam::AdamConfig;
use tt_rnn::models::{
    CnnKernels, CnnSize, FormatSettings, Mode, Model, ModelConfig, PackedFrames, RecurrentForm, Stack, find,
};
use tt_rnn::parameters::{Optimizer, Parameter};
use tt_rnn::projection::GateLayout;
use tt_rnn::rates::Rates;
use tt_rnn::recurrence::GateActivation;

const WIDTH: usize = 6;
const HEIGHT: usize = 4;
const FEATURES: usize = 3 * WIDTH * HEIGHT;
const CLASSES: usize = 3;
const SCALE: f64 = 1.0 / 127.5;
const LABELS: [u32; 4] = [0, 1, 2, 1];

fn config() -> ModelConfig {
    ModelConfig {
        features: FEATURES,
        width: WIDTH,
        classes: CLASSES,
        input_modes: vec![8, 9],
        output_modes: vec![2, 3],
        rank: 2,
        gates: GateLayout::Concatenated,
        core_init: CoreInit::Glorot1d,
        backend: Backend::Fused,
        precision: Precision::F32,
        dense_hidden: 6,
        stack: Stack::default(),
        recurrent: RecurrentForm::Dense,
        gate_activation: GateActivation::HardSigmoid,
        affine: Affine { scale: SCALE as f32, shift: -1.0 },
        mlp_frames: 1,
        mlp_input_modes: vec![8, 9],
        mlp_rank: 1,
        recurrent_dropout: 0.25,
        dense_masks_per_gate: false,
        dense_input_dropout: 0.0,
        tt_input_dropout: 0.0,
        warm_up_to: 0,
        classifier_l2: 0.01,
        formats: FormatSettings::default(),
        cnn: CnnSize::Small,
        cnn_kernels: CnnKernels::Dense,
        attention_penalty: 0.0,
    }
}

fn build(name: &str) -> Box<dyn Model> {
    find(name).unwrap().build(&config(), &Device::Cpu, 7).unwrap()
}

fn pixels(lengths: &[usize]) -> Vec<u8> {
    let mut rng = stream(1, "test/frames");
    (0..lengths.iter().sum::<usize>() * FEATURES).map(|_| rng.random()).collect()
}

fn packed(lengths: &[usize]) -> PackedFrames {
    let rows = Tensor::from_vec(pixels(lengths), ((), FEATURES), &Device::Cpu).unwrap();
    PackedFrames::new(rows, lengths.to_vec())
}

fn named(model: &dyn Model, name: &str) -> Parameter {
    model.parameters().into_iter().find(|p| p.name == name).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    values.into_iter().map(f64::from).collect()
}

/// Grey averages of a frame: every pixel is blown up until the cells' borders meet those of pixels.
fn averages(frame: &[u8], (width, height): (usize, usize)) -> Vec<f64> {
    let (wide, tall) = (WIDTH * width, HEIGHT * height);
    let grey = |x: usize, y: usize| {
        let at = 3 * (y / height * WIDTH + x / width);
        let [red, green, blue] = [0, 1, 2].map(|channel| f64::from(frame[at + channel]));
        0.299 * red + 0.587 * green + 0.114 * blue
    };
    let mut cells = vec![0.0; width * height];
    for y in 0..tall {
        for x in 0..wide {
            cells[y / HEIGHT * width + x / WIDTH] += grey(x, y) / (WIDTH * HEIGHT) as f64;
        }
    }
    cells
}

/// What the classifier of a linear control sees of each clip, in f64.
fn seen(name: &str, lengths: &[usize]) -> Vec<Vec<f64>> {
    let pixels = pixels(lengths);
    let mut frames = pixels.chunks_exact(FEATURES);
    let clip = |length: &usize| {
        let clip: Vec<&[u8]> = frames.by_ref().take(*length).collect();
        let raw: Vec<f64> = if name == "mean-frame" {
            let mean = |i: usize| clip.iter().map(|f| f64::from(f[i])).sum::<f64>() / *length as f64;
            (0..FEATURES).map(mean).collect()
        } else {
            clip.iter().flat_map(|frame| averages(frame, (20, 15))).collect()
        };
        let mean = raw.iter().sum::<f64>() / raw.len() as f64;
        raw.into_iter().map(|p| SCALE * (p - mean)).collect()
    };
    lengths.iter().map(clip).collect()
}

fn logits(seen: &[Vec<f64>], kernel: &[f64], bias: &[f64]) -> Vec<f64> {
    let score = |x: &Vec<f64>, k: usize| {
        bias[k] + x.iter().enumerate().map(|(i, x)| x * kernel[i * CLASSES + k]).sum::<f64>()
    };
    seen.iter().flat_map(|x| (0..CLASSES).map(move |k| score(x, k))).collect()
}

fn loss(logits: &[f64]) -> f64 {
    let of =
        |(row, label): (&[f64], &u32)| row.iter().map(|z| z.exp()).sum::<f64>().ln() - row[*label as usize];
    logits.chunks_exact(CLASSES).zip(&LABELS).map(of).sum::<f64>() / LABELS.len() as f64
}

#[test]
fn linear_controls_are_the_plain_maps_and_so_are_their_gradients() {
    for (name, lengths) in [("mean-frame", [5, 1, 8, 3]), ("stacked-frames", [10; 4])] {
        let model = build(name);
        let (kernel, bias) =
            (named(model.as_ref(), "input.kernel"), named(model.as_ref(), "classifier.bias"));
        let (mut w, b) = (flat(&kernel.var), flat(&bias.var));
        let seen = seen(name, &lengths);
        assert_eq!(model.input_parameters(), seen[0].len() * CLASSES);
        let found = model.logits(&packed(&lengths), Mode::Evaluate).unwrap();
        // Sums of 72 and of 3,000 products of numbers below 1, after averages of bytes.
        for (found, expected) in flat(&found).iter().zip(logits(&seen, &w, &b)) {
            assert!((found - expected).abs() < 1e-5, "{name}: {found} not {expected}");
        }
        let labels = Tensor::new(&LABELS, &Device::Cpu).unwrap();
        let grads = candle_nn::loss::cross_entropy(&found, &labels).unwrap().backward().unwrap();
        let found = flat(grads.get(&kernel.var).unwrap());
        for i in (0..w.len()).step_by(w.len() / 72) {
            let (at, step) = (w[i], 1e-4);
            let mut side = |value: f64| {
                w[i] = value;
                loss(&logits(&seen, &w, &b))
            };
            let expected = (side(at + step) - side(at - step)) / (2.0 * step);
            w[i] = at;
            assert!((found[i] - expected).abs() < 1e-5, "{name} {i}: {} not {expected}", found[i]);
        }
    }
}

#[test]
fn stacked_frames_refuses_other_numbers_of_frames() {
    let error = build("stacked-frames").logits(&packed(&[10, 9]), Mode::Evaluate).unwrap_err().to_string();
    assert!(error.contains("takes 10 frames of every clip, found [10, 9]"), "{error}");
}

/// The GRU itself is tested elsewhere: here it gets the averages from loops.
#[test]
fn a_pooled_gru_is_a_gru_on_averages() {
    let lengths = [5, 1, 8, 3];
    for (name, width, height) in [("pooled-gru-small", 2, 2), ("pooled-gru", 20, 13)] {
        let cells = width * height;
        let gru = find("gru").unwrap();
        let gru = gru.build(&ModelConfig { features: cells, ..config() }, &Device::Cpu, 7).unwrap();
        let pooled = build(name);
        assert_eq!(pooled.input_parameters(), cells * 3 * 6);
        let rows: Vec<f32> = pixels(&lengths)
            .chunks_exact(FEATURES)
            .flat_map(|frame| averages(frame, (width, height)))
            .map(|v| v as f32)
            .collect();
        let rows = Tensor::from_vec(rows, ((), cells), &Device::Cpu).unwrap();
        let averaged = PackedFrames::new(rows, lengths.to_vec());
        let run = |model: &dyn Model, frames: &PackedFrames| {
            let logits = model.logits(frames, Mode::Train(&mut stream(0, "masks"))).unwrap();
            let grads = logits.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let mut values = flat(&logits);
            for parameter in model.parameters() {
                match &parameter.sink {
                    Some(sink) => {
                        values.extend(
                            sink.take(|g| g.iter().map(|v| f64::from(*v)).collect::<Vec<_>>())
                                .unwrap()
                                .unwrap(),
                        );
                    }
                    None => values.extend(flat(grads.get(&parameter.var).unwrap())),
                }
            }
            values
        };
        let (found, expected) = (run(pooled.as_ref(), &packed(&lengths)), run(gru.as_ref(), &averaged));
        let scale = expected.iter().fold(0.0_f64, |max, v| max.max(v.abs()));
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            // Averages differ in their last bits, and eight steps of a small GRU do not blow that up.
            assert!((found - expected).abs() < 1e-5 * scale, "{name}: {found} not {expected}");
        }
    }
}

/// Frozen, the twin trains as if its input weights were in no optimiser, to the last bit, on both paths.
#[test]
fn frozen_inputs_are_no_parameters_and_change_nothing_else() {
    for (frozen, twin, input) in
        [("projected-gru", "gru", "input.kernel"), ("tt-gru-frozen", "tt-gru", "input.cores")]
    {
        for backend in [Backend::Fused, Backend::Ops] {
            let config = ModelConfig { backend, ..config() };
            let frames = packed(&[5, 1, 8, 3]);
            let [frozen, twin] = [frozen, twin].map(|name| {
                let model = find(name).unwrap().build(&config, &Device::Cpu, 7).unwrap();
                let trained: Vec<Parameter> =
                    model.parameters().into_iter().filter(|p| p.name != input).collect();
                assert_eq!(trained.len() == model.parameters().len(), name == frozen, "{name}");
                assert_eq!(model.input_parameters() == 0, name == frozen, "{name}");
                let mut optimizer =
                    Optimizer::new(AdamConfig::default(), Rates::single(1e-2), trained).unwrap();
                let labels = Tensor::new(&LABELS, &Device::Cpu).unwrap();
                let mut losses = Vec::new();
                for step in 0..10 {
                    let logits = model.logits(&frames, Mode::Train(&mut stream(step, "masks"))).unwrap();
                    let loss = candle_nn::loss::cross_entropy(&logits, &labels).unwrap();
                    losses.push(loss.to_scalar::<f32>().unwrap());
                    let grads = loss.backward().unwrap();
                    optimizer.step(&grads).unwrap();
                }
                assert!(losses[9] < losses[0], "{name}: {losses:?}");
                losses
            });
            assert_eq!(frozen, twin, "{input} {backend:?}");
        }
    }
}

#[test]
fn a_step_without_all_gradients_changes_nothing() {
    let [first, second] = [build("mean-frame"), build("mean-frame")];
    let values = |model: &dyn Model| model.parameters().iter().flat_map(|p| flat(&p.var)).collect::<Vec<_>>();
    let before = values(first.as_ref());
    let both = [first.parameters(), second.parameters()].concat();
    let mut optimizer = Optimizer::new(AdamConfig::default(), Rates::single(1e-2), both).unwrap();
    let logits = first.logits(&packed(&[2, 1]), Mode::Train(&mut stream(0, "masks"))).unwrap();
    let error = optimizer.step(&logits.sqr().unwrap().sum_all().unwrap().backward().unwrap()).unwrap_err();
    assert!(error.to_string().contains("no gradient for classifier"), "{error}");
    assert_eq!((optimizer.steps(), values(first.as_ref())), (0, before));
}
