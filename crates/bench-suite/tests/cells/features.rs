//! `frozen-cnn-gru`: features beside frames, paired with models of frames, and what is said where something is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use bench_suite::record::CellRecord;
use candle_core::{Device, Tensor};
use rand::RngExt;
use tt_core::rng::stream;

use crate::compress::{compress_to, of_kernels};
use crate::resume::check;
use crate::run::{Run, engine, stderr};

const SETTINGS: [&str; 5] = [
    "data.width=40",
    "data.height=32",
    "model.input_modes=[]",
    "model.mlp_input_modes=[]",
    "train.epochs.tt-gru=15",
];

/// Weights of EfficientNet-Lite0 drawn at random, in a file.
fn weights(path: &Path, seed: u64) {
    let mut tensors = Vec::new();
    let mut layer = |conv: String, norm: String, shape: [usize; 4]| {
        let mut random = stream(seed, &conv);
        let bound = (6.0 / (shape[1] * shape[2] * shape[3]) as f32).sqrt();
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| random.random_range(-bound..bound)).collect();
        tensors.push((format!("{conv}.weight"), Tensor::from_vec(values, &shape[..], &Device::Cpu).unwrap()));
        for (part, value) in [("weight", 1.0_f32), ("bias", 0.1), ("running_mean", 0.0), ("running_var", 1.0)]
        {
            let values = Tensor::full(value, shape[0], &Device::Cpu).unwrap();
            tensors.push((format!("{norm}.{part}"), values));
        }
    };
    layer("_conv_stem".into(), "_bn0".into(), [32, 3, 3, 3]);
    let (mut inputs, mut block) = (32, 0);
    for (repeats, kernel, expand, outputs) in [
        (1, 3, 1, 16),
        (2, 3, 6, 24),
        (2, 5, 6, 40),
        (3, 3, 6, 80),
        (3, 5, 6, 112),
        (4, 5, 6, 192),
        (1, 3, 6, 320),
    ] {
        for _ in 0..repeats {
            let of = |name: &str| format!("_blocks.{block}.{name}");
            let wide = expand * inputs;
            if expand > 1 {
                layer(of("_expand_conv"), of("_bn0"), [wide, inputs, 1, 1]);
            }
            layer(of("_depthwise_conv"), of("_bn1"), [wide, 1, kernel, kernel]);
            layer(of("_project_conv"), of("_bn2"), [outputs, wide, 1, 1]);
            (inputs, block) = (outputs, block + 1);
        }
    }
    layer("_conv_head".into(), "_bn1".into(), [1280, inputs, 1, 1]);
    tt_rnn::checkpoint::save(path, &tensors, "").unwrap();
}

/// Has the engine take the weights of a seed; the setting that names them.
fn take(run: &Run, seed: u64) -> String {
    let path = run.root().join(format!("weights{seed}.safetensors"));
    weights(&path, seed);
    let output = pretrained(run, &path);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    let (_, setting) = said.trim_end().split_once("--set ").unwrap();
    setting.to_owned()
}

fn pretrained(run: &Run, file: &Path) -> Output {
    engine().args(["pretrained", "--root"]).arg(run.root()).arg("--file").arg(file).output().unwrap()
}

fn with<'a>(models: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&SETTINGS[..], &[models], more].concat()
}

fn record(run: &Run, cell: &str) -> CellRecord {
    serde_json::from_slice(&fs::read(run.folder(cell).join("cell.json")).unwrap()).unwrap()
}

const BOTH: &str = "model.names=[\"tt-gru\", \"frozen-cnn-gru\"]";

#[test]
fn features_are_computed_once_and_trained_on_beside_frames() {
    let mut run = Run::unplanned(["a", "b", "c", "d"], (40, 32));
    let setting = take(&run, 1);
    let settings = with(BOTH, &[&setting]);
    let refused = run.command_of("plan", &settings).output().unwrap();
    assert!(stderr(&refused).contains("no features yet: run `bench-suite prepare` first"), "{refused:?}");
    let prepare = || {
        let output = run.command_of("prepare", &settings).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output)
    };
    assert!(prepare().contains("features: 36/36 clips"));
    assert!(!prepare().contains("features:"), "computed again");
    run.make_plan(&settings);
    let [frames, features] = &run.cells()[..] else { panic!("{:?}", run.cells()) };
    let (frames, features) = (frames.clone(), features.clone());
    for cell in [&frames, &features] {
        run.finish(cell, "--threads 2");
    }
    let (of_frames, of_features) = (record(&run, &frames), record(&run, &features));
    assert_eq!(of_features.model, "frozen-cnn-gru");
    assert_eq!(of_frames.split_digest, of_features.split_digest, "no pair");
    assert_eq!((of_features.params_input, of_features.epochs), (1280 * 3 * 24, 15));
    assert_eq!(of_features.standard.unwrap().by, "feature");
    assert!(of_frames.standard.is_none());
    // Classes differ in brightness, which any network sees; chance is 0.25.
    assert!(of_features.value > 0.6, "{}", of_features.value);
    let output = run.export_command(&features, &run.dir().join("model")).output().unwrap();
    assert!(stderr(&output).contains("was trained on features of EfficientNet-Lite0"), "{output:?}");

    // The run of frames alone is the same run: its cells are found again.
    let digest = run.plan().run_digest.clone();
    run.make_plan(&with("model.names=[\"tt-gru\"]", &[&setting]));
    assert_eq!(run.plan().run_digest, digest);
}

/// A planned run of the model on features, which are there, of so many epochs.
fn on_features(epochs: usize) -> Run {
    let mut run = Run::unplanned(["a", "b", "c", "d"], (40, 32));
    let (setting, epochs) = (take(&run, 1), format!("train.epochs.frozen-cnn-gru={epochs}"));
    let settings = with("model.names=[\"frozen-cnn-gru\"]", &[&setting, &epochs]);
    assert!(run.command_of("prepare", &settings).status().unwrap().success());
    run.make_plan(&settings);
    run
}

#[test]
fn a_cell_on_features_is_the_same_at_any_number_of_threads_and_after_a_kill() {
    let run = on_features(40);
    let cell = &run.cells()[0];
    run.finish(cell, "--threads 8");
    let at_eight = run.outcome(cell);
    run.clear();
    check(&run);
    assert!(run.outcome(cell) == at_eight);
}

/// Other kernels make other features, which are computed once for all cases of the form and rank.
#[test]
fn features_are_computed_again_for_factorized_kernels() {
    let run = on_features(15);
    let cell = run.cells()[0].clone();
    run.finish(&cell, "");
    for to in ["tt", "cp"] {
        let (case, kernels, said) = of_kernels(&run, &cell, (to, "12", "2"));
        assert!(said.contains("features: 36/36 clips"), "{said}");
        assert_eq!(case.acc_before.to_bits(), record(&run, &cell).value.to_bits());
        // Numbers at random have no small rank; that classes differ in brightness is seen through any of them.
        assert!(case.rel_error > 0.5 && case.rel_error < 1.0, "{case:?}");
        assert!(case.acc_finetuned > 0.4, "{case:?}");
        assert!(kernels.iter().all(|kernel| kernel.params < kernel.numbers));
        // Of 32, one is from 32 to 16 channels.
        assert_eq!(kernels.len(), 31, "{to}");
        let (_, _, said) = of_kernels(&run, &cell, (to, "12", "0"));
        assert!(!said.contains("features:"), "computed again: {said}");
    }
    let refused = compress_to(&run, "cp", (&cell, "kernels"), "5000", "1");
    assert!(stderr(&refused).contains("as every 1×1 kernel: lower the rank"), "{}", stderr(&refused));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let run = Run::unplanned(["a", "b", "c", "d"], (40, 32));
    let said = |verb: &str, settings: &[&str]| {
        let output = run.command_of(verb, settings).output().unwrap();
        assert!(!output.status.success(), "{settings:?}");
        stderr(&output)
    };
    let none = said("prepare", &with(BOTH, &[]));
    assert!(none.contains("cargo xtask setup --pretrained lite0 puts them there"), "{none}");
    // What cannot be built is said before anything is decoded.
    let deep = said("prepare", &["model.names=[\"attention-lstm\"]", "model.layers=2"]);
    assert!(
        deep.contains("attention-lstm cannot be built") && deep.contains("leave model.layers out"),
        "{deep}"
    );
    let small = said("prepare", &with(BOTH, &["data.height=31"]));
    assert!(small.contains("data.height") && small.contains("must be at least 32"), "{small}");
    let name = said("prepare", &with(BOTH, &["model.pretrained=resnet"]));
    assert!(name.contains("model.pretrained") && name.contains("is lite0, or the first 12"), "{name}");

    let (first, second) = (take(&run, 1), take(&run, 2));
    assert_ne!(first, second);
    let prepared = run.command_of("prepare", &with(BOTH, &[&first])).output().unwrap();
    assert!(prepared.status.success(), "{}", stderr(&prepared));
    assert!(said("plan", &with(BOTH, &[&second])).contains("no features yet"));
    // Weights in the place of others.
    let file = |setting: &str| -> PathBuf {
        let name = setting.split_once('=').unwrap().1;
        run.root().join("data/pretrained").join(format!("{name}.safetensors"))
    };
    fs::copy(file(&first), file(&second)).unwrap();
    let exchanged = said("prepare", &with(BOTH, &[&second]));
    assert!(exchanged.contains("its SHA-256 begins with"), "{exchanged}");

    let other = run.root().join("other.safetensors");
    let tensor = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
    tt_rnn::checkpoint::save(&other, &[("conv1.weight".into(), tensor)], "").unwrap();
    let output = pretrained(&run, &other);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("tensor \"_conv_stem.weight\""), "{}", stderr(&output));
}

#[test]
fn rows_have_no_pictures_to_look_at() {
    let files = |dir: &Path| crate::rows::write_rows(dir, &|_| false);
    let run = Run::rows(&files, &["model.names=[\"gru\"]"]);
    let output = run.command_of("plan", &["model.names=[\"frozen-cnn-gru\"]"]).output().unwrap();
    assert!(stderr(&output).contains("reads features of pictures, and rows are none"), "{output:?}");
}
