//! The model that attends: what it says after every frame, where it looks, and what it is penalised for.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use candle_core::{Device, Tensor};
use rand::RngExt;
use tt_core::apply::Affine;
use tt_core::rng::stream;
use tt_rnn::models::{
    Mode, Model, ModelConfig, PackedFrames, Readout, RecurrentForm, Stack, find, probabilities,
};

/// Halved five times, a frame is a map of two rows of three places.
const WIDTH: usize = 80;
const HEIGHT: usize = 40;
const PLACES: usize = 6;
const LENGTHS: [usize; 3] = [2, 5, 1];

fn config() -> ModelConfig {
    ModelConfig {
        width: WIDTH,
        dense_hidden: 6,
        affine: Affine { scale: 1.0 / 127.5, shift: -1.0 },
        ..ModelConfig::new(&[3 * WIDTH * HEIGHT], &[6], 1, 3)
    }
}

fn build(config: &ModelConfig) -> Box<dyn Model> {
    let model = find("attention-lstm").unwrap().build(config, &Device::Cpu, 7).unwrap();
    // Initial states are small, and small states look everywhere alike.
    for parameter in model.parameters().iter().filter(|parameter| parameter.name == "attention.kernel") {
        parameter.var.set(&(parameter.var.as_tensor() * 40.0).unwrap()).unwrap();
    }
    model
}

fn frames() -> PackedFrames {
    let mut draws = stream(2, "test/frames");
    let (n, m) = (LENGTHS.iter().sum::<usize>(), 3 * WIDTH * HEIGHT);
    let pixels: Vec<u8> = (0..n * m).map(|_| draws.random()).collect();
    PackedFrames::new(Tensor::from_vec(pixels, (n, m), &Device::Cpu).unwrap(), LENGTHS.to_vec())
}

#[test]
fn a_prediction_is_the_mean_of_those_after_every_frame() {
    let (model, frames) = (build(&config()), frames());
    let scores = model.scores(&frames, Mode::Evaluate).unwrap();
    assert_eq!((scores.rows.dims(), scores.steps.as_deref()), (&[8, 3][..], Some(&LENGTHS[..])));
    let after_each = probabilities(&scores.rows, false).unwrap();
    let found = scores.probabilities(false).unwrap();
    let logits = probabilities(&model.logits(&frames, Mode::Evaluate).unwrap(), false).unwrap();
    for class in 0..3 {
        let of_second = after_each[2..7].iter().map(|row| row[class]).sum::<f64>() / 5.0;
        assert!((found[1][class] - of_second).abs() < 1e-12);
        assert!((logits[1][class] - of_second).abs() < 1e-6);
    }
}

#[test]
fn it_looks_at_places_of_a_grid_and_not_everywhere_alike() {
    let (model, frames) = (build(&config()), frames());
    let maps = model.attention(&frames).unwrap().unwrap();
    assert_eq!((maps.height, maps.width, maps.shares.len()), (2, 3, 8));
    for shares in &maps.shares {
        assert_eq!(shares.len(), PLACES);
        assert!((shares.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{shares:?}");
    }
    assert!(maps.shares.iter().flatten().any(|share| *share > 1.5 / PLACES as f32));
    assert!(
        find("cnn-gru")
            .unwrap()
            .build(&config(), &Device::Cpu, 7)
            .unwrap()
            .attention(&frames)
            .unwrap()
            .is_none()
    );
}

/// Mean over clips of `λ / T sum_i (1 - sum_t l_{t,i})²`, in training and only there.
#[test]
fn places_that_are_not_looked_at_once_are_penalised() {
    let (model, frames) = (build(&ModelConfig { attention_penalty: 0.5, ..config() }), frames());
    let shares = model.attention(&frames).unwrap().unwrap().shares;
    let mut rest = &shares[..];
    let mut expected = 0.0;
    for length in LENGTHS {
        let (own, after) = rest.split_at(length);
        rest = after;
        let of_place = |i: usize| (1.0 - own.iter().map(|shares| f64::from(shares[i])).sum::<f64>()).powi(2);
        expected += 0.5 * (0..PLACES).map(of_place).sum::<f64>() / (length * LENGTHS.len()) as f64;
    }
    let penalty = |model: &dyn Model| {
        let scores = model.scores(&frames, Mode::Train(&mut stream(0, "masks"))).unwrap();
        scores.penalty
    };
    let found = penalty(model.as_ref()).unwrap();
    assert!((f64::from(found.to_scalar::<f32>().unwrap()) - expected).abs() < 1e-5 * expected);
    // It moves what decides where the model looks.
    let kernel =
        model.parameters().into_iter().find(|parameter| parameter.name == "attention.kernel").unwrap();
    let gradient = found.backward().unwrap().get(&kernel.var).unwrap().abs().unwrap().max_all().unwrap();
    assert!(gradient.to_scalar::<f32>().unwrap() > 1e-4);
    assert!(model.scores(&frames, Mode::Evaluate).unwrap().penalty.is_none());
    assert!(penalty(build(&config()).as_ref()).is_none());
}

#[test]
fn what_it_does_not_have_is_refused_by_its_key() {
    let refused = |config: &ModelConfig| {
        find("attention-lstm").unwrap().build(config, &Device::Cpu, 7).unwrap_err().to_string()
    };
    let stack = |stack| ModelConfig { stack, ..config() };
    let factorized = RecurrentForm::Factorized { format: "tt".into(), rank: 2 };
    for (config, key) in [
        (stack(Stack { layers: 2, ..Stack::default() }), "model.layers"),
        (stack(Stack { bidirectional: true, ..Stack::default() }), "model.bidirectional"),
        (stack(Stack { readout: Readout::Mean, ..Stack::default() }), "model.readout"),
        (ModelConfig { recurrent: factorized, ..config() }, "model.recurrent"),
        (ModelConfig { warm_up_to: 9, ..config() }, "train.warm_up_to"),
    ] {
        assert!(refused(&config).ends_with(&format!("leave {key} out")), "{}", refused(&config));
    }
    let small = ModelConfig { features: 3 * 40 * 15, width: 40, ..config() };
    assert!(refused(&small).contains("frames of 40 x 15 pixels"));
}
