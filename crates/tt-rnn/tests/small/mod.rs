//! Small models with weights that a stream draws, as folders.

use candle_core::{Device, Tensor};
use rand::RngExt;
use std::collections::HashMap;
use tt_core::apply::{Affine, Backend, Precision};
use tt_core::init::CoreInit;
use tt_core::network::{FORMATS, Format};
use tt_core::rng::stream;
use tt_rnn::folder::{Config, FpsRule, FrameWindow, Frames, Numbers, from_checkpoint, save};
use tt_rnn::models::{
    CnnKernels, CnnSize, FormatSettings, FrameChoice, Model, ModelConfig, Readout, RecurrentForm, Stack, find,
};
use tt_rnn::projection::GateLayout;
use tt_rnn::recurrence::GateActivation;

/// Every model that can be exported.
pub(crate) const MODELS: [&str; 7] = ["tt-mlp", "gru", "lstm", "tt-gru", "tt-lstm", "rnn", "tt-rnn"];

/// Bytes of a frame of 4 × 2 pixels.
const FRAME: usize = 24;

/// What is exported.
#[derive(Clone)]
pub(crate) struct Kind {
    pub(crate) model: &'static str,
    pub(crate) gates: GateLayout,
    pub(crate) gate_activation: GateActivation,
    pub(crate) multi_label: bool,
    pub(crate) warm_up_to: usize,
    /// How the folder keeps the weights.
    pub(crate) kept: Numbers,
    pub(crate) stack: Stack,
    pub(crate) recurrent: RecurrentForm,
    pub(crate) formats: FormatSettings,
}

impl Kind {
    /// One train for all gates, hard sigmoids, softmax, and some steps before short clips.
    pub(crate) fn of(model: &'static str) -> Self {
        let (gates, gate_activation) = (GateLayout::Concatenated, GateActivation::HardSigmoid);
        Self {
            model,
            gates,
            gate_activation,
            multi_label: false,
            warm_up_to: 4,
            kept: Numbers::F32,
            stack: Stack::default(),
            recurrent: RecurrentForm::Dense,
            formats: FormatSettings::default(),
        }
    }

    /// Whether it takes its frames one after the other.
    pub(crate) fn has_stream(&self) -> bool {
        !self.model.ends_with("mlp") && !self.stack.bidirectional
    }

    /// What the model is built from.
    pub(crate) fn built(&self) -> ModelConfig {
        // Three modes, one of them of one value, for formats with a core that has no mode.
        let three = FORMATS.iter().any(|format| self.model.starts_with(&format!("{}-", format.name())));
        let (input_modes, output_modes) =
            if three { (vec![2, 3, 4], vec![2, 3, 1]) } else { (vec![4, 6], vec![2, 3]) };
        ModelConfig {
            features: FRAME,
            width: 4,
            classes: 3,
            input_modes,
            output_modes,
            rank: 2,
            gates: self.gates,
            core_init: CoreInit::Glorot1d,
            backend: Backend::Fused,
            precision: Precision::F32,
            dense_hidden: 5,
            stack: self.stack,
            recurrent: self.recurrent.clone(),
            gate_activation: self.gate_activation,
            affine: Affine { scale: 1.0 / 127.5, shift: -1.0 },
            mlp_frames: 3,
            mlp_input_modes: if three { vec![2, 4, 9] } else { vec![8, 9] },
            mlp_rank: 2,
            recurrent_dropout: 0.5,
            dense_masks_per_gate: false,
            dense_input_dropout: 0.0,
            tt_input_dropout: 0.0,
            warm_up_to: self.warm_up_to,
            classifier_l2: 0.1,
            formats: self.formats.clone(),
            cnn: CnnSize::Small,
            cnn_kernels: CnnKernels::Dense,
            attention_penalty: 0.0,
        }
    }
}

/// What the paper's models have not: other formats, of the MLP too, stacks, a factorized U; of each what it is called beside its model.
pub(crate) fn beyond_the_paper() -> Vec<(&'static str, Kind)> {
    let plain = |model| Kind { warm_up_to: 0, ..Kind::of(model) };
    let stack = |layers, bidirectional, readout| Stack { layers, bidirectional, readout };
    let factorized = |format: &str| RecurrentForm::Factorized { format: format.into(), rank: 2 };
    let separate = |model| Kind {
        gates: GateLayout::Separate,
        gate_activation: GateActivation::Sigmoid,
        multi_label: true,
        ..plain(model)
    };
    let gru = |format: &dyn Format| find(&format!("{}-gru", format.name())).unwrap().name;
    let mut kinds: Vec<(&str, Kind)> = FORMATS.map(|format| ("", plain(gru(format)))).to_vec();
    kinds.extend(["tr-mlp", "cp-split-mlp", "ht-mlp"].map(|model| ("", plain(model))));
    kinds.push(("-other", separate("tr-lstm")));
    let budget = FormatSettings { input_weights: 90, blocks: 3, ..FormatSettings::default() };
    kinds.push(("-budget", Kind { formats: budget, ..plain("bt-rnn") }));
    let tree = FormatSettings { tree: "(2 (3 1))".into(), ..FormatSettings::default() };
    kinds.push(("-tree", Kind { formats: tree, ..plain("ht-lstm") }));
    kinds.push(("-layers", Kind { stack: stack(2, false, Readout::Last), ..plain("tt-gru") }));
    kinds.push(("-mean", Kind { stack: stack(3, false, Readout::Mean), ..plain("lstm") }));
    kinds.push(("-max", Kind { stack: stack(2, false, Readout::Max), ..separate("tt-lstm") }));
    kinds.push(("-both", Kind { stack: stack(1, true, Readout::Last), ..plain("rnn") }));
    kinds.push(("-both-mean", Kind { stack: stack(2, true, Readout::Mean), ..plain("gru") }));
    kinds.push(("-both-max", Kind { stack: stack(2, true, Readout::Max), ..plain("cp-gru") }));
    kinds.push(("-recurrent", Kind { recurrent: factorized("tt"), ..plain("tt-gru") }));
    kinds.push(("-recurrent", Kind { recurrent: factorized("ht"), ..separate("tt-lstm") }));
    kinds.push(("-recurrent", Kind { recurrent: factorized("cp"), ..plain("gru") }));
    let all = stack(2, true, Readout::Mean);
    kinds.push(("-all", Kind { stack: all, recurrent: factorized("tr"), ..plain("tr-gru") }));
    kinds
}

/// The frames of a model.
pub(crate) fn frames(model: &dyn Model, warm_up_to: usize) -> Frames {
    Frames {
        width: 4,
        height: 2,
        fps: 24,
        fps_rule: FpsRule::AtMost,
        every: 1,
        max_frames: 0,
        window: FrameWindow::First,
        take: match model.frames() {
            FrameChoice::All => None,
            FrameChoice::Even(n) | FrameChoice::Drawn(n) => Some(n),
        },
        scaler: "bicubic".into(),
        scale: 1.0 / 127.5,
        shift: -1.0,
        warm_up_to,
    }
}

/// A model with biases that are not zero, and its folder.
pub(crate) fn exported(kind: &Kind) -> (Box<dyn Model>, tempfile::TempDir) {
    let built = kind.built();
    let model = find(kind.model).unwrap().build(&built, &Device::Cpu, 5).unwrap();
    let mut draws = stream(1, kind.model);
    let mut parameters = HashMap::new();
    for parameter in model.parameters() {
        let count = parameter.var.elem_count();
        let values: Vec<f32> = (0..count).map(|_| draws.random_range(-0.5..0.5)).collect();
        parameter.set(&Tensor::from_vec(values, parameter.var.dims(), &Device::Cpu).unwrap()).unwrap();
        parameters.insert(parameter.name.clone(), parameter.var.as_tensor().clone());
    }
    let classes = (["a", "b", "c"].map(String::from).to_vec(), kind.multi_label);
    let trained = serde_json::json!({ "recipe": "none" });
    let frames = frames(model.as_ref(), kind.warm_up_to);
    let config = Config::of(kind.model, &built, classes, frames, trained).unwrap();
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &config, &from_checkpoint(&config, &parameters).unwrap(), kind.kept).unwrap();
    (model, dir)
}

/// Frames of a clip.
pub(crate) fn clip(count: usize, seed: u64) -> Vec<u8> {
    let mut draws = stream(seed, "clip");
    (0..count * FRAME).map(|_| draws.random()).collect()
}
