//! Model folders: what is written is read back, what does not fit is named, and numpy gets the same probabilities.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod small;

use candle_core::{Device, Tensor};
use small::{Kind, MODELS, beyond_the_paper, clip, exported, frames};
use std::fs;
use std::path::{Path, PathBuf};
use tt_rnn::folder::{CONFIG, Config, FrameWindow, Frames, Numbers, WEIGHTS, read, save};
use tt_rnn::models::{Mode, Model, ModelConfig, PackedFrames, Stack, find};
use tt_rnn::projection::GateLayout;
use tt_rnn::recurrence::GateActivation;

#[test]
fn a_model_is_read_back_bit_for_bit() {
    let of_the_paper = MODELS.iter().flat_map(|name| {
        [GateLayout::Concatenated, GateLayout::Separate].map(|gates| Kind { gates, ..Kind::of(name) })
    });
    let beyond = beyond_the_paper().into_iter().map(|(_, kind)| kind);
    for (kind, format) in of_the_paper.map(|kind| (kind, 1)).chain(beyond.map(|kind| (kind, 2))) {
        let (name, gates) = (kind.model, kind.gates);
        let (model, dir) = exported(&kind);
        let trained = tt_rnn::load(dir.path()).unwrap();
        assert_eq!(trained.config.format, format, "{name}");
        let count = if name.ends_with("mlp") { 3 } else { 2 };
        let rows = Tensor::from_vec(clip(count, 0), (count, 24), &Device::Cpu).unwrap();
        let packed = PackedFrames::new(rows, vec![count]);
        let logits = |model: &dyn Model| {
            model.logits(&packed, Mode::Evaluate).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let expected = logits(model.as_ref());
        assert_eq!(logits(trained.model.as_ref()), expected, "{name} {gates:?}");
        let powers: Vec<f64> = expected.iter().map(|score| f64::from(*score).exp()).collect();
        let found = trained.predict(&clip(count, 0)).unwrap();
        for (power, found) in powers.iter().zip(found) {
            let others = if kind.multi_label { 1.0 + power } else { powers.iter().sum() };
            assert!((power / others - found).abs() < 1e-12, "{name}");
        }
    }
    let (_, dir) = exported(&Kind { multi_label: true, ..Kind::of("gru") });
    let sum: f64 = tt_rnn::load(dir.path()).unwrap().predict(&clip(2, 0)).unwrap().iter().sum();
    assert!((sum - 1.0).abs() > 1e-3, "sigmoids that sum to {sum}");
}

/// Of weights up to 0.5 in size, halves are off by 2^-12 at most and whole numbers by half of 0.5 / 127.
#[test]
fn small_numbers_take_less_room_and_change_little() {
    let of_the_paper = MODELS.map(Kind::of).into_iter();
    for kind in of_the_paper.chain(beyond_the_paper().into_iter().map(|(_, kind)| kind)) {
        let model = kind.model;
        let weights = |kept| {
            let (_, dir) = exported(&Kind { kept, ..kind.clone() });
            let size = fs::metadata(dir.path().join(WEIGHTS)).unwrap().len();
            (size, read(dir.path()).unwrap().1)
        };
        let (size, exact) = weights(Numbers::F32);
        for (kept, largest) in [(Numbers::F16, 2.0_f64.powi(-12)), (Numbers::Int8, 0.5 / 127.0 / 2.0)] {
            let (smaller, rounded) = weights(kept);
            assert!(smaller < size, "{model} {kept:?}: {smaller} {size}");
            let mut changed = false;
            let names: std::collections::BTreeSet<&String> = exact.keys().collect();
            for name in names {
                let exact = &exact[name];
                let apart = exact.sub(&rounded[name]).unwrap().abs().unwrap().flatten_all().unwrap();
                let apart = f64::from(apart.max(0).unwrap().to_scalar::<f32>().unwrap());
                assert!(apart <= largest * 1.0001, "{model} {kept:?} {name}: {apart}");
                changed |= apart > 0.0;
            }
            assert!(changed, "{model} {kept:?}");
        }
    }
}

#[test]
fn a_stream_says_after_each_frame_what_the_clip_so_far_shows() {
    let of_the_paper = MODELS.into_iter().filter(|model| *model != "tt-mlp").flat_map(|model| {
        [
            (GateLayout::Concatenated, GateActivation::HardSigmoid, false),
            (GateLayout::Separate, GateActivation::Sigmoid, true),
        ]
        .map(|(gates, gate_activation, multi_label)| Kind {
            gates,
            gate_activation,
            multi_label,
            warm_up_to: 0,
            ..Kind::of(model)
        })
    });
    let beyond = beyond_the_paper().into_iter().map(|(_, kind)| kind);
    for kind in of_the_paper.chain(beyond.filter(Kind::has_stream)) {
        let (_, dir) = exported(&kind);
        let trained = tt_rnn::load(dir.path()).unwrap();
        let mut stream = trained.stream().unwrap();
        for seed in [3, 4] {
            let clip = clip(6, seed);
            for (at, frame) in clip.chunks_exact(24).enumerate() {
                let expected = trained.predict(&clip[..(at + 1) * 24]).unwrap();
                for (found, expected) in stream.push(frame).unwrap().iter().zip(&expected) {
                    assert!((found - expected).abs() < 1e-6, "{} frame {at}: {found} {expected}", kind.model);
                }
            }
            stream.restart();
        }
        let error = stream.push(&[0; 23]).unwrap_err().to_string();
        assert!(error.contains("a frame: expected 24 values, found 23"), "{error}");
    }
    let both = Stack { bidirectional: true, ..Stack::default() };
    let both = Kind { stack: both, warm_up_to: 0, ..Kind::of("gru") };
    for (kind, reason) in [
        (Kind::of("tt-mlp"), "it has no recurrence"),
        (Kind::of("gru"), "warm_up_to is not 0"),
        (both, "layers.bidirectional is true"),
    ] {
        let (_, dir) = exported(&kind);
        let error = tt_rnn::load(dir.path()).unwrap().stream().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
}

/// Against the words of docs/export.md, frame by frame.
#[test]
fn frames_are_chosen_as_the_configuration_says() {
    let model = find("tt-gru").unwrap().build(&Kind::of("tt-gru").built(), &Device::Cpu, 0).unwrap();
    let plain = frames(model.as_ref(), 0);
    assert_eq!(plain.kept(4), [0, 1, 2, 3]);
    let rule = Frames { every: 3, max_frames: 2, ..plain.clone() };
    assert_eq!((rule.kept(10), rule.kept(3), rule.kept(0)), (vec![0, 3], vec![0], vec![]));
    let long = |window| Frames { every: 2, max_frames: 3, window, ..plain.clone() };
    let (even, inner) = (long(FrameWindow::Even), long(FrameWindow::Middle));
    assert_eq!(even.kept(17), [2, 8, 14], "of nine frames the middles of three parts: 1, 4 and 7");
    assert_eq!(inner.kept(17), [6, 8, 10], "of nine frames the three in the middle: 3, 4 and 5");
    assert_eq!((even.kept(5), inner.kept(5)), (vec![0, 2, 4], vec![0, 2, 4]));
    assert_eq!(
        Frames { take: Some(2), ..inner }.kept(17),
        [6, 10],
        "of the three in the middle the first and last"
    );
    let rule = Frames { every: 2, take: Some(3), ..plain };
    assert_eq!(rule.kept(17), [2, 8, 14], "of nine frames the middles of three parts: 1, 4 and 7");
    assert_eq!((rule.kept(3), rule.kept(0)), (vec![0, 2, 2], vec![]));
}

/// Which frames of a clip these are, only its end tells.
#[test]
fn a_window_has_no_stream() {
    let (_, dir) = exported(&Kind { warm_up_to: 0, ..Kind::of("tt-gru") });
    let path = dir.path().join(CONFIG);
    let text = fs::read_to_string(&path).unwrap();
    let even = text.replace("\"max_frames\": 0", "\"max_frames\": 2, \"window\": \"even\"");
    let even = even.replace("\"format\": 1", "\"format\": 2");
    fs::write(&path, even).unwrap();
    let error = tt_rnn::load(dir.path()).unwrap().stream().unwrap_err().to_string();
    assert!(error.contains("frames.window is not \"first\""), "{error}");
}

#[test]
fn frames_that_do_not_fit_are_refused() {
    let (_, dir) = exported(&Kind::of("tt-mlp"));
    let trained = tt_rnn::load(dir.path()).unwrap();
    for (count, cut) in [(0, 0), (2, 0), (4, 0), (3, 1)] {
        let clip = clip(count, 0);
        let error = trained.predict(&clip[..clip.len() - cut]).unwrap_err().to_string();
        assert!(error.contains("frames of a clip: expected"), "{error}");
    }
}

/// What loading says after a change to the configuration.
fn said(kind: &Kind, from: &str, to: &str) -> String {
    let (_, dir) = exported(kind);
    let path = dir.path().join(CONFIG);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
    tt_rnn::load(dir.path()).unwrap_err().to_string()
}

#[test]
fn a_configuration_that_does_not_fit_is_named() {
    for (model, from, to, expected) in [
        ("tt-gru", "\"format\": 1", "\"format\": 3, \"news\": 1", "of format 3, this program reads 1 to 2"),
        ("tt-gru", "\"width\": 4", "\"width\": 5", "input_modes multiply to 24, the model's frames have 30"),
        ("tt-gru", "\"width\": 4", "\"width\": 0", "frames.width is 0"),
        ("tt-gru", "\"width\": 4", "\"widht\": 4", "unknown field `widht`"),
        ("tt-gru", "\"width\": 4", "\"width\": 4294967296", "frames.width is 4294967296: from 1 to 65536"),
        ("gru", "\"hidden\": 5", "\"hidden\": 0", "steps.hidden is 0: from 1 to 65536"),
        ("gru", "\"hidden\": 5", "\"hidden\": 4611686018427387904", "steps.hidden is 4611686018427387904"),
        ("tt-gru", "\"fps\": 24", "\"fps\": 0", "frames.fps is 0"),
        ("tt-gru", "\"every\": 1", "\"every\": 0", "frames.every is 0"),
        ("tt-gru", "\"warm_up_to\": 4", "\"warm_up_to\": 1099511627776", "at most 65536"),
        ("tt-gru", "\"take\"", "\"window\": \"even\", \"take\"", "frames.window is there without"),
        ("tt-gru", "\"b\",", "\"a\",", "class \"a\" is there twice"),
        ("tt-gru", "\"hidden\": 6", "\"hidden\": 7", "output_modes multiply to 6, steps.hidden is 7"),
        ("tt-gru", "\"cell\": \"gru\"", "\"cell\": \"lstm\"", "do not fit model \"tt-gru\""),
        ("tt-gru", "\"trains\": 1", "\"trains\": 2", "input.trains is 2"),
        ("tt-gru", "\"model\": \"tt-gru\"", "\"model\": \"gru\"", "do not fit model \"gru\""),
        ("tt-gru", "\"model\": \"tt-gru\"", "\"model\": \"mean-frame\"", "is not kept in a folder"),
        ("tt-gru", "\"model\": \"tt-gru\"", "\"model\": \"tgru\"", "unknown model \"tgru\""),
        ("tt-gru", "\"update\",\n      \"reset\"", "\"reset\",\n      \"update\"", "steps.gates is"),
        ("tt-gru", "\"hard-sigmoid\"", "\"soft\"", "unknown gate activation \"soft\""),
        ("tt-gru", "\"take\": null", "\"take\": 6", "frames.take Some(6) does not fit"),
        ("gru", "\"a\",", "", "\"classifier.kernel\" is [5, 3], the configuration asks for [5, 2]"),
        ("tt-mlp", "\"take\": 3", "\"take\": 4", "multiply to 72, the model's frames have 96"),
    ] {
        let error = said(&Kind::of(model), from, to);
        assert!(error.contains(expected), "{to}: {error}");
        assert!(error.contains(".json: ") || error.contains(".safetensors: "), "no file is named: {error}");
    }
}

#[test]
fn a_configuration_of_formats_and_layers_that_does_not_fit_is_named() {
    let kinds = beyond_the_paper();
    let kind = |name: &str| {
        let named = kinds.iter().find(|(ending, kind)| format!("{}{ending}", kind.model) == name);
        &named.unwrap_or_else(|| panic!("no kind is called {name}")).1
    };
    for (name, from, to, expected) in [
        ("tr-gru", "\"format\": 2", "\"format\": 1", "format is 1, and what it says is of format 2"),
        (
            "tr-gru",
            "\"width\": 4",
            "\"width\": 5",
            "input.input_modes multiply to 24, the model's frames have 30",
        ),
        ("tr-gru", "\"networks\": 1", "\"networks\": 2", "input.networks is 2"),
        ("tr-gru", "\"format\": \"tr\"", "\"format\": \"cp\"", "do not fit model \"tr-gru\""),
        ("tr-gru", "\"r1\": 2", "\"r1\": 3", "\"input.core.A1\" is [2, 2, 6, 2]"),
        (
            "tr-gru",
            "\"r1\": 2",
            "\"q\": 2",
            "input: not supported: ranks [\"q\", \"r0\", \"r2\"] where there are",
        ),
        ("tr-gru", "A1[r0,m1,n1,r1]", "A1[r0,n1,m1,r1]", "input: not supported: cores"),
        ("bt-gru", "\"blocks\": 2", "\"blocks\": 3", "asks for"),
        ("ht-lstm-tree", "(2 (3 1))", "(2 (3 2))", "misses mode 1"),
        (
            "tt-gru-layers",
            "\"kind\": \"train\",\n        \"",
            "\"kind\": \"dense\",\n        \"",
            "layers.above.0 is of another form",
        ),
        ("lstm-mean", "\"kind\": \"dense\"\n      }", "\"kind\": \"train\"\n      }", "missing field"),
        ("lstm-mean", "\"mean\"", "\"mode\"", "unknown variant `mode`"),
        ("tt-gru-recurrent", "\"hidden\": 6", "\"hidden\": 7", "input.output_modes multiply to 6"),
    ] {
        let error = said(kind(name), from, to);
        assert!(error.contains(expected), "{name} {to}: {error}");
    }
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let (_, dir) = exported(&Kind { gates: GateLayout::Separate, ..Kind::of("tt-gru") });
    let path = dir.path().join(WEIGHTS);
    let all = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let refused = |change: &dyn Fn(&mut std::collections::HashMap<String, Tensor>)| {
        let mut tensors = all.clone();
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        tt_rnn::load(dir.path()).unwrap_err().to_string()
    };
    for value in [f32::NAN, f32::INFINITY] {
        let error = refused(&|tensors| {
            let bias = Tensor::full(value, 18, &Device::Cpu).unwrap();
            tensors.insert("recurrent.bias".into(), bias);
        });
        assert!(error.contains("tensor \"recurrent.bias\" holds NaN or infinity"), "{error}");
    }
    let zeros = Tensor::zeros(3, candle_core::DType::F32, &Device::Cpu).unwrap();
    let error = refused(&|tensors| drop(tensors.remove("input.gate.1.core.2")));
    assert!(error.contains("model.safetensors: tensor \"input.gate.1.core.2\" is missing"), "{error}");
    let error = refused(&|tensors| drop(tensors.insert("recurrent.bias".into(), zeros.clone())));
    assert!(error.contains("\"recurrent.bias\" is [3], the configuration asks for [18]"), "{error}");
    let error = refused(&|tensors| drop(tensors.insert("other".into(), zeros.clone())));
    assert!(error.contains("\"other\" belongs to no part of tt-gru"), "{error}");
    fs::remove_file(&path).unwrap();
    let error = tt_rnn::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("model.safetensors: it is not there: a model folder is"), "{error}");
    fs::remove_file(dir.path().join(CONFIG)).unwrap();
    let error = tt_rnn::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("config.json: ") && error.contains("cargo xtask export"), "{error}");
}

/// Half precision ends at 65,504: what is larger would be read back as infinity.
#[test]
fn weights_too_large_for_half_precision_are_not_written_in_it() {
    let (_, dir) = exported(&Kind { warm_up_to: 0, ..Kind::of("tt-gru") });
    let (config, mut weights) = read(dir.path()).unwrap();
    weights.insert("recurrent.bias".into(), Tensor::full(7e4_f32, 18, &Device::Cpu).unwrap());
    let mut named: Vec<(String, Tensor)> = weights.clone().into_iter().collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let new = tempfile::tempdir().unwrap();
    for kept in [Numbers::F16, Numbers::Int8] {
        for error in [
            save(new.path(), &config, &named, kept).unwrap_err(),
            tt_rnn::onnx::export(&config, &weights, None, kept).unwrap_err(),
        ] {
            let error = error.to_string();
            assert!(
                error.contains("\"recurrent.bias\" holds 70000, more than half precision has"),
                "{error}"
            );
        }
    }
    assert_eq!(fs::read_dir(new.path()).unwrap().count(), 0);
    save(new.path(), &config, &named, Numbers::F32).unwrap();
}

#[test]
fn a_control_is_not_exported() {
    let built = Kind::of("tt-gru").built();
    for name in ["mean-frame", "pooled-gru", "projected-gru", "tt-gru-frozen"] {
        let model = find(name).unwrap().build(&built, &Device::Cpu, 0).unwrap();
        let frames = frames(model.as_ref(), 0);
        let error = Config::of(name, &built, (vec!["a".into()], false), frames, serde_json::Value::Null);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(&format!("{name} is a control")), "{error}");
    }
}

#[test]
fn a_cnn_is_not_exported() {
    let built = ModelConfig { features: 3 * 16 * 16, width: 16, ..Kind::of("gru").built() };
    let model = find("cnn-gru").unwrap().build(&built, &Device::Cpu, 0).unwrap();
    let frames = frames(model.as_ref(), 0);
    let error = Config::of("cnn-gru", &built, (vec!["a".into()], false), frames, serde_json::Value::Null);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("cnn-gru cannot be exported") && error.contains("predict"), "{error}");
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../results/models/ucf11-sample-tt-gru")
}

/// The probabilities that the loader in Python gave (`golden/folder.py`) for clips that a formula draws.
#[test]
fn numpy_and_this_program_agree() {
    let trained = tt_rnn::load(committed()).unwrap();
    let (width, height) = (trained.config.frames.width, trained.config.frames.height);
    let golden = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/folder.csv"));
    let golden = golden.unwrap();
    assert_eq!(golden.lines().count(), 6);
    for line in golden.lines() {
        let numbers: Vec<f64> = line.split(',').map(|number| number.parse().unwrap()).collect();
        let (kind, count) = (numbers[0] as usize, numbers[1] as usize);
        let pixel = |t: usize, y: usize, x: usize, c: usize| {
            let board = (x / 20 + y / 15 + t / 3 + kind) % 2 * 90;
            ((x * (kind + 1) + y * (kind + 2 * c) + t * 11 + board) % 256) as u8
        };
        let mut clip = Vec::with_capacity(count * width * height * 3);
        for t in 0..count {
            for y in 0..height {
                clip.extend((0..width).flat_map(|x| (0..3).map(move |c| pixel(t, y, x, c))));
            }
        }
        let found = trained.predict(&clip).unwrap();
        assert_eq!(found.len(), numbers.len() - 2);
        for (found, expected) in found.iter().zip(&numbers[2..]) {
            assert!((found - expected).abs() < 1e-5, "clip {kind}: {found} {expected}");
        }
    }
}
