//! The recurrence and Adam against PyTorch (`golden/make_golden.py` makes the files).

#![expect(clippy::unwrap_used, reason = "in tests, a failure to read the golden files is a failure")]

use candle_core::{Device, Tensor};
use safetensors::SafeTensors;
use tt_core::apply::{Affine, Backend, Precision};
use tt_core::init::CoreInit;
use tt_core::simd::Isa;
use tt_rnn::adam::{Adam, AdamConfig, AdamState};
use tt_rnn::layer::Gradient;
use tt_rnn::models::{
    CnnKernels, CnnSize, FormatSettings, Mode, ModelConfig, PackedFrames, RecurrentForm, Stack, find,
};
use tt_rnn::parameters::Optimizer;
use tt_rnn::projection::GateLayout;
use tt_rnn::rates::Rates;
use tt_rnn::recurrence::{Batch, Cell, GateActivation, Gradients, Recurrence, Saved};

struct Golden(Vec<u8>);

impl Golden {
    fn open(name: &str) -> Self {
        let path = format!("{}/tests/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        Self(std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}")))
    }

    fn get(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let view = tensors.tensor(name).unwrap();
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }
}

/// Errors relative to the largest value.
fn close(what: &str, ours: &[f32], golden: &[f32], tolerance: f32) {
    assert_eq!(ours.len(), golden.len(), "{what}");
    let size = golden.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(golden).enumerate() {
        assert!((a - b).abs() <= tolerance * size, "{what}[{i}]: {a} not {b}");
    }
}

#[test]
fn recurrence_agrees_with_pytorch() {
    for cell in [Cell::Gru, Cell::Lstm] {
        for frames in [4, 16, 64] {
            let name = format!("{}_{frames}", cell.name());
            let golden = Golden::open(&name);
            let lengths: Vec<usize> = golden.get("lengths").iter().map(|t| *t as usize).collect();
            let dlast = golden.get("dlast");
            let hidden = dlast.len() / lengths.len();
            let weights = [golden.get("u"), golden.get("b")].concat();
            for isa in Isa::available() {
                let recurrence = Recurrence::with_isa(cell, GateActivation::Sigmoid, hidden, isa);
                let (mut x, mut last) = (golden.get("x"), vec![0.0; dlast.len()]);
                let mut saved = Saved::default();
                let batch = Batch::new(&lengths);
                recurrence.forward(&mut x, &batch, &weights, &mut last, Some(&mut saved)).unwrap();
                let mut gradient = vec![0.0; weights.len()];
                let gradients = Gradients { weights: &mut gradient, warm_x: None };
                recurrence.backward(&mut x, &batch, &weights, &mut saved, &dlast, gradients).unwrap();
                let (du, db) = gradient.split_at(golden.get("u").len());
                // Roundings pass through as many steps as the clip has.
                let tolerance = f32::EPSILON * 8.0 * (frames as f32).sqrt().max(4.0);
                close(&format!("{name} last"), &last, &golden.get("last"), tolerance);
                close(&format!("{name} dx"), &x, &golden.get("dx"), tolerance);
                close(&format!("{name} du"), du, &golden.get("du"), tolerance);
                close(&format!("{name} db"), db, &golden.get("db"), tolerance);
            }
        }
    }
}

#[test]
fn adam_follows_the_trace_of_pytorch() {
    let golden = Golden::open("adam");
    let config = AdamConfig { epsilon: 1e-3, ..AdamConfig::default() };
    for isa in Isa::available() {
        let adam = Adam::with_isa(config, isa);
        let mut p = golden.get("start");
        let n = p.len();
        let (grads, trace) = (golden.get("grads"), golden.get("trace"));
        let mut state = AdamState::new(n);
        for (t, (grad, expected)) in (1..).zip(grads.chunks_exact(n).zip(trace.chunks_exact(n))) {
            adam.update(t, &[(p.len(), 0.01)], &mut p, Gradient::Values(grad), &mut state, 0.02, 1.0)
                .unwrap();
            close(&format!("parameter after step {t}"), &p, expected, 4.0 * f32::EPSILON);
        }
        close("first moment", &state.m, &golden.get("m"), 8.0 * f32::EPSILON);
        close("second moment", &state.v, &golden.get("v"), 8.0 * f32::EPSILON);
    }
}

/// The same weights and batches must give the same training, not only the same gradients.
#[test]
fn twenty_steps_of_training_follow_pytorch() {
    let config = ModelConfig {
        features: 24,
        width: 4,
        classes: 3,
        input_modes: vec![2, 3, 4],
        output_modes: vec![2, 3, 2],
        rank: 3,
        gates: GateLayout::Concatenated,
        core_init: CoreInit::Glorot1d,
        backend: Backend::Fused,
        precision: Precision::F32,
        dense_hidden: 12,
        stack: Stack::default(),
        recurrent: RecurrentForm::Dense,
        gate_activation: GateActivation::HardSigmoid,
        affine: Affine { scale: 1.0 / 127.5, shift: -1.0 },
        mlp_frames: 1,
        mlp_input_modes: vec![2, 3, 4],
        mlp_rank: 1,
        recurrent_dropout: 0.0,
        dense_masks_per_gate: false,
        dense_input_dropout: 0.0,
        tt_input_dropout: 0.0,
        warm_up_to: 0,
        classifier_l2: 0.01,
        formats: FormatSettings::default(),
        cnn: CnnSize::Small,
        cnn_kernels: CnnKernels::Dense,
        attention_penalty: 0.0,
    };
    for name in ["gru", "lstm", "tt-gru", "tt-lstm"] {
        let golden = Golden::open(&format!("training_{name}"));
        let model = find(name).unwrap().build(&config, &Device::Cpu, 0).unwrap();
        for parameter in model.parameters() {
            let values = golden.get(&parameter.name);
            let start = Tensor::from_vec(values, parameter.var.shape(), &Device::Cpu).unwrap();
            parameter.var.set(&start).unwrap();
        }
        let mut optimizer =
            Optimizer::new(AdamConfig::default(), Rates::single(1e-2), model.parameters()).unwrap();
        let lengths = vec![5, 1, 8, 3];
        let pixels: Vec<u8> = golden.get("frames").iter().map(|v| *v as u8).collect();
        let batches: Vec<&[u8]> = pixels.chunks_exact(17 * 24).collect();
        let labels: Vec<u32> = golden.get("labels").iter().map(|v| *v as u32).collect();
        for (step, expected) in golden.get("losses").into_iter().enumerate() {
            let at = step % batches.len();
            let rows = Tensor::from_slice(batches[at], (17, 24), &Device::Cpu).unwrap();
            let labels = Tensor::from_slice(&labels[at * 4..][..4], 4, &Device::Cpu).unwrap();
            let frames = PackedFrames::new(rows, lengths.clone());
            let mut masks = tt_core::rng::stream(0, "none are drawn");
            let logits = model.logits(&frames, Mode::Train(&mut masks)).unwrap();
            let loss = candle_nn::loss::cross_entropy(&logits, &labels).unwrap();
            optimizer.step(&loss.backward().unwrap()).unwrap();
            let loss = loss.to_scalar::<f32>().unwrap();
            assert!((loss - expected).abs() < 1e-4, "{name} step {step}: loss {loss}, PyTorch {expected}");
        }
    }
}
