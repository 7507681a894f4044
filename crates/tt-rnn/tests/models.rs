//! Whole models: the paper's parameter counts, learning, gradients, determinism.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use candle_core::{DType, Device, Tensor};
use rand::RngExt;
use std::sync::Arc;
use tt_core::apply::{Affine, Backend, Precision};
use tt_core::init::CoreInit;
use tt_core::rng::stream;
use tt_rnn::adam::AdamConfig;
use tt_rnn::frames::StoredRows;
use tt_rnn::models::{
    CnnKernels, CnnSize, Form, FormatSettings, FrameChoice, MODELS, Mode, Model, ModelConfig, PackedFrames,
    Readout, RecurrentForm, Stack, find,
};
use tt_rnn::parameters::{Optimizer, Parameter};
use tt_rnn::projection::GateLayout;
use tt_rnn::rates::{RateRule, Rates};
use tt_rnn::recurrence::GateActivation;

/// A 4 × 2 × 3 "frame" of 24 features, small everywhere else too.
fn small() -> ModelConfig {
    ModelConfig {
        features: 24,
        width: 4,
        classes: 3,
        input_modes: vec![4, 6],
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

fn clips(lengths: &[usize], features: usize, seed: u64) -> PackedFrames {
    let mut rng = stream(seed, "test/frames");
    let rows: usize = lengths.iter().sum();
    let pixels: Vec<u8> = (0..rows * features).map(|_| rng.random()).collect();
    let rows = Tensor::from_vec(pixels, (rows, features), &Device::Cpu).unwrap();
    PackedFrames::new(rows, lengths.to_vec())
}

fn lengths_for(model: &dyn Model) -> Vec<usize> {
    match model.frames() {
        FrameChoice::All => vec![5, 1, 8, 3],
        FrameChoice::Even(frames) | FrameChoice::Drawn(frames) => vec![frames; 4],
    }
}

fn build(name: &str, config: &ModelConfig) -> Box<dyn Model> {
    find(name).unwrap().build(&fitting(name, config), &Device::Cpu, 7).unwrap()
}

/// The configuration with the smallest frames that a model can have, without padding where it has none.
fn fitting(name: &str, config: &ModelConfig) -> ModelConfig {
    let form = find(name).unwrap().form;
    let (features, width) = match form {
        Form::Cnn { .. } => (3 * 16 * 16, 16),
        // A map of 1 × 2 places.
        Form::Attention => (3 * 16 * 40, 40),
        Form::OnFeatures { features, .. } => (features, features),
        _ => (24, 4),
    };
    let warm_up_to = if form == Form::Attention { 0 } else { config.warm_up_to };
    ModelConfig { features, width, warm_up_to, ..config.clone() }
}

#[test]
fn every_model_overfits_one_batch() {
    for entry in MODELS {
        let model = build(entry.name, &small());
        let frames = clips(&lengths_for(model.as_ref()), fitting(entry.name, &small()).features, 1);
        let labels = Tensor::new(&[0_u32, 1, 2, 1], &Device::Cpu).unwrap();
        // Kernels of a few hundred terms are no larger than a few such steps.
        let has_cnn = matches!(entry.form, Form::Cnn { .. } | Form::Attention);
        let rate = if has_cnn { 3e-3 } else { 2e-2 };
        let mut optimizer =
            Optimizer::new(AdamConfig::default(), Rates::single(rate), model.parameters()).unwrap();
        let (mut first, mut last) = (f32::NAN, f32::NAN);
        for step in 0..200 {
            let logits = model.logits(&frames, Mode::Train(&mut stream(0, "masks"))).unwrap();
            let loss = candle_nn::loss::cross_entropy(&logits, &labels).unwrap();
            last = loss.to_scalar().unwrap();
            if step == 0 {
                first = last;
            }
            optimizer.step(&loss.backward().unwrap()).unwrap();
        }
        assert!(last < 0.05 && first > 0.5, "{}: loss {first} -> {last}", entry.name);
    }
}

/// The rows of a tensor, last first and with gaps, as a store may have them.
fn stored(rows: &Tensor) -> StoredRows {
    let (count, width) = rows.dims2().unwrap();
    let memory: Vec<u8> = rows
        .to_vec2()
        .unwrap()
        .into_iter()
        .rev()
        .flat_map(|row: Vec<u8>| [row, vec![255; 5]])
        .flatten()
        .collect();
    let starts = (0..count).rev().map(|at| at * (width + 5)).collect();
    StoredRows::new(Arc::new(memory), starts, width).unwrap()
}

/// Bit for bit: scores, gradients of all parameters, saturated gates.
#[test]
fn stored_frames_are_frames() {
    let paper = ModelConfig {
        recurrent_dropout: 0.2,
        dense_masks_per_gate: true,
        dense_input_dropout: 0.3,
        warm_up_to: 6,
        ..small()
    };
    let dropped = ModelConfig { tt_input_dropout: 0.3, ..small() };
    let stack = Stack { layers: 2, bidirectional: true, readout: Readout::Mean };
    let stacked = ModelConfig { stack, ..small() };
    let ops = ModelConfig { backend: Backend::Ops, ..small() };
    for entry in MODELS {
        for config in [&small(), &paper, &dropped, &stacked, &ops] {
            let config = &fitting(entry.name, config);
            let Ok(model) = entry.build(config, &Device::Cpu, 7) else { continue };
            let frames = clips(&lengths_for(model.as_ref()), config.features, 3);
            let lengths = frames.lengths.clone();
            let stored = PackedFrames::new(stored(&frames.rows.tensor().unwrap()), lengths);
            let run = |frames: &PackedFrames| {
                let logits = model.logits(frames, Mode::Train(&mut stream(0, "masks"))).unwrap();
                let grads = logits.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                let gradient = |parameter: Parameter| match &parameter.sink {
                    Some(sink) => sink.take(<[f32]>::to_vec).unwrap().unwrap(),
                    None => flat(grads.get(&parameter.var).unwrap()),
                };
                let gradients: Vec<Vec<f32>> = model.parameters().into_iter().map(gradient).collect();
                let logits = [logits, model.logits(frames, Mode::Evaluate).unwrap()];
                (logits.map(|logits| flat(&logits)), gradients, model.saturated_gates(frames).unwrap())
            };
            assert_eq!(run(&stored), run(&frames), "{} {config:?}", entry.name);
        }
    }
    assert!(StoredRows::new(Arc::new(vec![0; 48]), vec![24, 25], 24).is_err());
    let (model, one) = (build("tt-gru", &small()), StoredRows::new(Arc::new(vec![0; 48]), vec![1], 23));
    assert!(model.logits(&PackedFrames::new(one.unwrap(), vec![1]), Mode::Evaluate).is_err());
}

/// Kernels read frames where they lie; candle's operators, controls and masks of features take a copy.
#[test]
fn models_say_whether_they_read_stored_frames() {
    let reads = |name: &str, config: &ModelConfig| build(name, config).reads_stored();
    for name in [
        "gru",
        "lstm",
        "rnn",
        "tt-gru",
        "tt-lstm",
        "tt-rnn",
        "ht-gru",
        "projected-gru",
        "cnn-gru",
        "attention-lstm",
    ] {
        assert!(reads(name, &small()), "{name}");
    }
    for name in ["tt-mlp", "mean-frame", "stacked-frames", "pooled-gru"] {
        assert!(!reads(name, &small()), "{name}");
    }
    assert!(!reads("tt-gru", &ModelConfig { backend: Backend::Ops, ..small() }));
    assert!(!reads("tt-gru", &ModelConfig { tt_input_dropout: 0.1, ..small() }));
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn the_backends_agree_in_value_and_gradient() {
    for name in ["tt-gru", "tt-lstm", "tt-rnn", "tt-mlp"] {
        for gates in [GateLayout::Concatenated, GateLayout::Separate] {
            // Those of a unit that this machine lacks are asked for in the test below.
            let here = |backend: &Backend| backend.path().is_none_or(|path| path.check().is_ok());
            let results: Vec<Vec<f32>> = Backend::ALL
                .into_iter()
                .map(|(_, backend)| backend)
                .filter(here)
                .map(|backend| {
                    let model = build(name, &ModelConfig { backend, gates, ..small() });
                    let frames = clips(&lengths_for(model.as_ref()), 24, 2);
                    let logits = model.logits(&frames, Mode::Train(&mut stream(0, "masks"))).unwrap();
                    let grads = logits.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                    let cores = model.parameters().into_iter().find(|p| p.name == "input.cores").unwrap();
                    let grad = grads.get(&cores.var).unwrap().flatten_all().unwrap();
                    let mut all = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                    all.extend(grad.to_vec1::<f32>().unwrap());
                    all
                })
                .collect();
            let scale = results[0].iter().fold(0.0_f32, |max, v| max.max(v.abs()));
            for backend in &results[1..] {
                let worst = backend.iter().zip(&results[0]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                // A chain of two products and five steps in f32: a few hundred roundings at most.
                assert!(worst <= 300.0 * f32::EPSILON * scale, "{name} {gates:?}: {worst} of {scale}");
            }
        }
    }
}

/// Kernels apply an MLP's matrix on the CPU, candle's operators elsewhere.
#[test]
fn mlps_are_the_same_by_kernels_and_by_operators() {
    let mlps = MODELS.iter().map(|entry| entry.name).filter(|name| name.ends_with("-mlp"));
    for name in mlps.clone() {
        let [fused, ops] = [Backend::Fused, Backend::Ops].map(|backend| {
            let model = build(name, &ModelConfig { backend, ..small() });
            let frames = clips(&[3; 4], 24, 2);
            let logits = model.logits(&frames, Mode::Train(&mut stream(0, "masks"))).unwrap();
            let grads = logits.sqr().unwrap().sum_all().unwrap().backward().unwrap();
            let parameters = model.parameters();
            let gradients = parameters.iter().map(|parameter| grads.get(&parameter.var).unwrap());
            let all: Vec<Tensor> = std::iter::once(&logits).chain(gradients).cloned().collect();
            all.iter().map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect::<Vec<_>>()
        });
        for (a, b) in fused.iter().zip(&ops) {
            let scale = b.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
            let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // As for trains: chains of a few products of at most 72 terms.
            assert!(scale > 0.0 && worst <= 300.0 * f32::EPSILON * scale, "{name}: {worst} of {scale}");
        }
    }
    assert_eq!(mlps.count(), tt_core::network::FORMATS.len() + 1);
}

/// A budget is that of the layer, of whatever format; without one `mlp_rank` counts, not `rank`.
#[test]
fn mlps_keep_a_budget() {
    let weights = |name: &str, input_weights, mlp_rank| {
        let formats = FormatSettings { input_weights, ..FormatSettings::default() };
        build(name, &ModelConfig { formats, mlp_rank, ..small() }).input_parameters()
    };
    for name in ["tt-mlp", "cp-mlp"] {
        // (8 · 2 + 9 · 3) r
        assert_eq!(
            [weights(name, 0, 2), weights(name, 0, 3), weights(name, 200, 2)],
            [86, 129, 172],
            "{name}"
        );
    }
}

#[test]
fn a_backend_that_the_machine_lacks_is_refused_by_name() {
    for backend in [Backend::Vnni, Backend::Amx] {
        let Some(Err(error)) = backend.path().map(tt_core::apply::Path::check) else { continue };
        eprintln!("skipped: {error}");
        let built = find("tt-gru").unwrap().build(&ModelConfig { backend, ..small() }, &Device::Cpu, 0);
        assert!(built.unwrap_err().to_string().contains(&backend.to_string()), "{backend}");
    }
}

#[test]
fn evaluation_ignores_dropout_and_training_uses_it() {
    let config = ModelConfig { recurrent_dropout: 0.5, dense_input_dropout: 0.5, ..small() };
    for name in ["gru", "tt-gru"] {
        let model = build(name, &config);
        let frames = clips(&[4, 6], 24, 3);
        let values = |mode: Mode<'_>| model.logits(&frames, mode).unwrap().to_vec2::<f32>().unwrap();
        let trained = |seed| values(Mode::Train(&mut stream(seed, "masks")));
        assert_eq!(values(Mode::Evaluate), values(Mode::Evaluate));
        assert_ne!(values(Mode::Evaluate), trained(0));
        assert_eq!(trained(1), trained(1));
    }
}

#[test]
fn a_clip_does_not_depend_on_its_batch() {
    for name in ["gru", "tt-lstm", "cnn-lstm", "attention-lstm"] {
        let model = build(name, &small());
        let together = clips(&[4, 6], fitting(name, &small()).features, 4);
        let both = model.logits(&together, Mode::Evaluate).unwrap().to_vec2::<f32>().unwrap();
        let second = together.rows.tensor().unwrap().narrow(0, 4, 6).unwrap().contiguous().unwrap();
        let second = PackedFrames::new(second, vec![6]);
        let alone = model.logits(&second, Mode::Evaluate).unwrap().to_vec2::<f32>().unwrap();
        for (a, b) in both[1].iter().zip(&alone[0]) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} {b}");
        }
    }
}

#[test]
fn warm_up_steps_change_the_state_and_only_without_masking() {
    let frames = clips(&[4, 6], 24, 5);
    let logits = |warm_up_to| {
        let model = build("tt-lstm", &ModelConfig { warm_up_to, ..small() });
        // A zero bias would leave a zero state zero: give every bias a value.
        let recurrent = model.parameters().into_iter().find(|p| p.name == "recurrent").unwrap();
        recurrent.var.set(&(recurrent.var.as_tensor() + 0.1).unwrap()).unwrap();
        model.logits(&frames, Mode::Evaluate).unwrap().to_vec2::<f32>().unwrap()
    };
    assert_eq!(logits(0), logits(4), "no clip is shorter than 4 frames");
    let warmed = logits(50);
    assert_ne!(logits(0), warmed);
}

#[test]
fn wrong_batches_are_refused_by_name() {
    let model = build("tt-mlp", &small());
    let text = model.logits(&clips(&[2, 3], 24, 6), Mode::Evaluate).unwrap_err().to_string();
    assert!(text.contains("TT-MLP takes 3 frames"), "{text}");
    let model = build("gru", &small());
    let empty = PackedFrames::new(Tensor::zeros((0, 24), DType::U8, &Device::Cpu).unwrap(), vec![]);
    assert!(model.logits(&empty, Mode::Evaluate).is_err());
    assert!(find("tt-gpu").unwrap_err().to_string().contains("tt-gru"));
    let of = |features, width| {
        let config = ModelConfig { features, width, ..small() };
        find("cnn-gru").unwrap().build(&config, &Device::Cpu, 7).unwrap_err().to_string()
    };
    assert!(of(3 * 40 * 15, 40).contains("frames of 40 x 15 pixels"), "{}", of(3 * 40 * 15, 40));
    assert!(of(1000, 16).contains("the model reads pictures: 1000 numbers"), "{}", of(1000, 16));
}

#[test]
fn a_checkpoint_comes_back_byte_for_byte() {
    let folder = std::env::temp_dir().join(format!("tt-rnn-checkpoint-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("w.safetensors");
    let model = build("lstm", &small());
    let tensors: Vec<(String, Tensor)> =
        model.parameters().into_iter().map(|p| (p.name, p.var.as_tensor().clone())).collect();
    tt_rnn::checkpoint::save(&path, &tensors, "{\"epoch\":3}").unwrap();
    let first = std::fs::read(&path).unwrap();
    let (loaded, state) = tt_rnn::checkpoint::load(&path).unwrap();
    assert_eq!(state, "{\"epoch\":3}");
    for (name, tensor) in &tensors {
        let (a, b) = (tensor.flatten_all().unwrap(), loaded[name].flatten_all().unwrap());
        assert_eq!(a.to_vec1::<f32>().unwrap(), b.to_vec1::<f32>().unwrap());
    }
    tt_rnn::checkpoint::save(&path, &tensors, "{\"epoch\":3}").unwrap();
    assert_eq!(first, std::fs::read(&path).unwrap());
    let text = tt_rnn::checkpoint::save(&folder.join("no/such/w.safetensors"), &tensors, "").unwrap_err();
    assert!(text.to_string().contains("no/such"), "{text}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn dropping_no_feature_of_a_train_changes_nothing_and_dropping_some_does() {
    for name in ["tt-gru", "tt-lstm", "tt-rnn"] {
        let frames = clips(&[5, 1, 8, 3], 24, 3);
        let logits = |share: f32, mode: fn(&mut tt_core::rng::Stream) -> Mode<'_>| {
            let model = build(name, &ModelConfig { tt_input_dropout: share, ..small() });
            let logits = model.logits(&frames, mode(&mut stream(0, "masks"))).unwrap();
            logits.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let plain = logits(0.0, |s| Mode::Train(s));
        assert_eq!(logits(0.5, |_| Mode::Evaluate), logits(0.0, |_| Mode::Evaluate), "{name}");
        // A share too small to hit any of 96 features: rows as f32 in place of u8, scaled by nearly one.
        let none = logits(1e-6, |s| Mode::Train(s));
        let far = |other: &[f32]| plain.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far(&none) < 1e-4, "{name}: {}", far(&none));
        assert!(far(&logits(0.5, |s| Mode::Train(s))) > 1e-3, "{name}");
    }
}

#[test]
fn raw_pixels_saturate_the_gates_and_scaled_ones_do_not() {
    let share = |name: &str, scale: f32, shift: f32| {
        let affine = Affine { scale, shift };
        let model = build(name, &ModelConfig { affine, ..small() });
        model.saturated_gates(&clips(&[5, 1, 8, 3], 24, 3)).unwrap()
    };
    for name in ["gru", "lstm", "tt-gru", "tt-lstm"] {
        let (raw, scaled) = (share(name, 1.0, -128.0).unwrap(), share(name, 1.0 / 127.5, -1.0).unwrap());
        assert!(raw > 0.5 && scaled < 0.05, "{name}: raw {raw}, scaled {scaled}");
    }
    assert_eq!(share("rnn", 1.0, 0.0), None);
}

/// What a GPU runs, on the CPU: the whole model by candle's operators against the fused kernels.
#[test]
fn the_operators_train_as_the_fused_kernels_do() {
    let plain = small();
    let dropped = ModelConfig {
        recurrent_dropout: 0.25,
        dense_masks_per_gate: true,
        dense_input_dropout: 0.25,
        tt_input_dropout: 0.25,
        warm_up_to: 6,
        classifier_l2: 0.01,
        gate_activation: GateActivation::Sigmoid,
        ..small()
    };
    for (entry, config) in MODELS.iter().flat_map(|entry| [(entry, &plain), (entry, &dropped)]) {
        let [fused, ops] = [Backend::Fused, Backend::Ops].map(|backend| {
            let model = build(entry.name, &ModelConfig { backend, ..config.clone() });
            let frames = clips(&lengths_for(model.as_ref()), fitting(entry.name, config).features, 4);
            let labels = Tensor::new(&[0_u32, 1, 2, 1], &Device::Cpu).unwrap();
            let mut optimizer =
                Optimizer::new(AdamConfig::default(), Rates::single(1e-3), model.parameters()).unwrap();
            let mut losses = Vec::new();
            for step in 0..20 {
                let mut masks = stream(step, "masks");
                let logits = model.logits(&frames, Mode::Train(&mut masks)).unwrap();
                let loss = candle_nn::loss::cross_entropy(&logits, &labels).unwrap();
                losses.push(loss.to_scalar::<f32>().unwrap());
                optimizer.step(&loss.backward().unwrap()).unwrap();
            }
            let saturated = model.saturated_gates(&frames).unwrap();
            (losses, saturated)
        });
        assert_eq!(fused.1.is_some(), ops.1.is_some(), "{}", entry.name);
        // Adam divides rounding by rounding where a gradient is nearly zero, as many of a CNN are: there it grows with the steps.
        let of_cnn = ["cnn-gru", "cnn-lstm", "attention-lstm"].contains(&entry.name);
        for (step, (a, b)) in fused.0.iter().zip(&ops.0).enumerate() {
            let bound = if of_cnn && step >= 8 { 2e-3 } else { 2e-4 };
            assert!((a - b).abs() < bound * a.abs(), "{} step {step}: {a} not {b}", entry.name);
        }
    }
}

#[test]
fn every_parameter_of_every_model_has_the_rate_of_its_fan_in() {
    let rates = Rates { lr: 1e-3, rule: RateRule::FanIn, input_factor: 0.5 };
    for entry in MODELS {
        let model = build(entry.name, &small());
        // What the input matrix and the classifier sum over.
        let (input, read) = match entry.name {
            "mean-frame" => (24, 0),
            "stacked-frames" => (10 * 20 * 15, 0),
            "pooled-gru-small" => (2 * 2, 6),
            "pooled-gru" => (20 * 13, 6),
            "cnn-gru" | "cnn-lstm" | "attention-lstm" => (96, 6),
            "frozen-cnn-gru" => (1280, 6),
            _ => (24, 6),
        };
        let by = |fan_in: usize| 1e-3 * 256.0 / fan_in as f64;
        for parameter in model.parameters() {
            let count = parameter.var.elem_count();
            let single: Vec<f64> = parameter.rates(&Rates::single(1e-3)).iter().map(|(_, lr)| *lr).collect();
            assert!(single.iter().all(|lr| *lr == 1e-3), "{} {}", entry.name, parameter.name);
            let expected = match parameter.name.as_str() {
                "input.kernel" | "start.kernel" => vec![(count, 0.5 * by(input))],
                "input.cores" => vec![(count, 0.5e-3)],
                "recurrent" => vec![(count - count / 7, by(6)), (count / 7, 1e-3)],
                "classifier.kernel" => vec![(count, by(read))],
                "attention.kernel" => vec![(count, by(6))],
                "input.bias" | "classifier.bias" | "start.bias" => vec![(count, 1e-3)],
                // Rows, columns and channels that a place of the kernel sums over.
                name if name.starts_with("encoder.") && name.ends_with(".kernel") => {
                    vec![(count, 0.5 * by(parameter.var.dims()[..3].iter().product()))]
                }
                name if name.starts_with("encoder.") => vec![(count, 1e-3)],
                other => panic!("{}: no rule is known for {other}", entry.name),
            };
            assert_eq!(parameter.rates(&rates), expected, "{} {}", entry.name, parameter.name);
        }
    }
}
