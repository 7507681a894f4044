//! Exported graphs are those that other programs were seen to compute rightly.
//!
//! No runtime for ONNX is linked here: it would double the build. `golden/onnx.csv` holds the SHA-256 of every graph that
//! `xtask/checks/onnx/run` has compared, in onnx's checker, onnxruntime, OpenVINO and tract, with the probabilities of this
//! program; a graph that changes must be compared again.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod small;

use sha2::{Digest, Sha256};
use small::{Kind, beyond_the_paper, clip, exported};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use tt_rnn::folder::{CONFIG, Numbers, WEIGHTS, read};
use tt_rnn::models::Stack;
use tt_rnn::onnx::{Form, export};
use tt_rnn::projection::GateLayout;
use tt_rnn::recurrence::GateActivation;

/// Where the cases are written for other programs to compare, when it is set.
const DUMP: &str = "TT_ONNX_CASES";

/// Frames of a case's clips, and clips.
const SIZE: (usize, usize) = (5, 2);

struct Case {
    name: String,
    file: Vec<u8>,
    /// The model's folder: names and bytes.
    folder: Vec<(&'static str, Vec<u8>)>,
    /// Of each clip, in [`clip`]'s order.
    probabilities: Vec<Vec<f64>>,
    frames: usize,
}

fn cases() -> Vec<Case> {
    let plain = |model| Kind { warm_up_to: 0, ..Kind::of(model) };
    let mut kinds: Vec<(&str, Kind)> = small::MODELS.map(|model| ("", plain(model))).to_vec();
    for model in ["tt-gru", "tt-lstm"] {
        let gates = GateLayout::Separate;
        let gate_activation = GateActivation::Sigmoid;
        kinds.push(("-other", Kind { gates, gate_activation, multi_label: true, ..plain(model) }));
    }
    for (ending, kept) in [("-f16", Numbers::F16), ("-int8", Numbers::Int8)] {
        kinds.extend(
            ["tt-mlp", "gru", "tt-gru", "tt-lstm"].map(|model| (ending, Kind { kept, ..plain(model) })),
        );
    }
    kinds.extend(beyond_the_paper());
    for kept in [Numbers::F16, Numbers::Int8] {
        let ending = if kept == Numbers::F16 { "-all-f16" } else { "-all-int8" };
        kinds.extend(beyond_the_paper().pop().map(|(_, kind)| (ending, Kind { kept, ..kind })));
    }
    let mut cases = Vec::new();
    for (ending, kind) in kinds {
        let (_, dir) = exported(&kind);
        let trained = tt_rnn::load(dir.path()).unwrap();
        let folder = [CONFIG, WEIGHTS].map(|name| (name, fs::read(dir.path().join(name)).unwrap())).to_vec();
        // Of the weights as they were before the folder kept them.
        let (_, whole) = exported(&Kind { kept: Numbers::F32, ..kind.clone() });
        let (config, weights) = read(whole.path()).unwrap();
        let frames = config.frames.take.unwrap_or(SIZE.0);
        let probabilities =
            (0..SIZE.1).map(|seed| trained.predict(&clip(frames, seed as u64)).unwrap()).collect::<Vec<_>>();
        let forms: &[(&str, Option<Form>)] = if kind.model.ends_with("mlp") {
            &[("plain", None)]
        } else {
            &[("scan", Some(Form::Scan)), ("operator", Some(Form::Operator)), ("step", Some(Form::Step))]
        };
        // Form step is given the first frame first.
        let forms = if kind.has_stream() { forms } else { &forms[..forms.len().min(2)] };
        for (form, of) in forms {
            cases.push(Case {
                name: format!("{}{ending}.{form}", kind.model),
                file: export(&config, &weights, *of, kind.kept).unwrap(),
                folder: folder.clone(),
                probabilities: probabilities.clone(),
                frames,
            });
        }
    }
    cases
}

#[test]
fn graphs_are_those_that_other_programs_compute_rightly() {
    let dump = std::env::var_os(DUMP).map(PathBuf::from);
    let mut found = String::new();
    for case in cases() {
        write!(found, "{},", case.name).unwrap();
        Sha256::digest(&case.file).iter().for_each(|byte| write!(found, "{byte:02x}").unwrap());
        found.push('\n');
        if let Some(dir) = dump.as_ref().map(|dump| dump.join(&case.name)) {
            fs::create_dir_all(dir.join("model")).unwrap();
            fs::write(dir.join("model.onnx"), &case.file).unwrap();
            for (name, bytes) in &case.folder {
                fs::write(dir.join("model").join(name), bytes).unwrap();
            }
            let clips: Vec<u8> = (0..SIZE.1).flat_map(|seed| clip(case.frames, seed as u64)).collect();
            fs::write(dir.join("clips.bin"), clips).unwrap();
            fs::write(dir.join("probabilities.json"), serde_json::to_vec(&case.probabilities).unwrap())
                .unwrap();
        }
    }
    if let Some(dump) = dump {
        fs::write(dump.join("onnx.csv"), &found).unwrap();
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/onnx.csv");
    assert_eq!(found, fs::read_to_string(golden).unwrap(), "compare them again: xtask/checks/onnx/run");
}

#[test]
fn a_form_that_a_model_cannot_have_is_refused() {
    let refusal = |kind: &Kind, form| {
        let (_, dir) = exported(kind);
        let (config, weights) = read(dir.path()).unwrap();
        export(&config, &weights, form, Numbers::F32).unwrap_err().to_string()
    };
    let said = refusal(&Kind { warm_up_to: 0, ..Kind::of("tt-mlp") }, Some(Form::Step));
    assert!(said.contains("tt-mlp has no recurrence and so no form of one: leave --form out"), "{said}");
    let stack = Stack { bidirectional: true, ..Stack::default() };
    let said = refusal(&Kind { stack, warm_up_to: 0, ..Kind::of("gru") }, Some(Form::Step));
    assert!(said.contains("layers.bidirectional") && said.contains("scan and operator have it"), "{said}");
    let said = refusal(&Kind { warm_up_to: 4, ..Kind::of("tt-gru") }, None);
    assert!(said.contains("fewer than 4 frames") && said.contains("train.warm_up_to = 0"), "{said}");
    assert!("loop".parse::<Form>().unwrap_err().to_string().contains("scan, operator, step"));
}
