//! `config.json`: what stands beside the weights, and whether it is a model.

use super::{CONFIG, misfit};
use crate::Result;
use crate::config::FormatSettings;
use crate::models::{Form, ModelConfig, RecurrentForm, Stack, find};
use crate::projection::{DENSE, GateLayout, TRAIN};
use crate::recurrence::{Cell, GateActivation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use tt_core::TtShape;
use tt_core::apply::{Affine, Backend, Precision};
use tt_core::init::CoreInit;

/// Version of `config.json` and of the tensors' names.
pub const FORMAT: u32 = 1;

/// A model's configuration, as far as it is used and not trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of the folder.
    pub format: u32,
    /// Model name: `tt-mlp`, `gru`, `lstm`, `tt-gru`, `tt-lstm`, `rnn` or `tt-rnn`.
    pub model: String,
    /// Names of the classes in the order of the outputs.
    pub classes: Vec<String>,
    /// Whether a clip can be of several classes: then every class has a probability of its own.
    pub multi_label: bool,
    /// How a clip becomes the model's input.
    pub frames: Frames,
    /// How frames become pre-activations.
    pub input: Input,
    /// How pre-activations become a state; none for `tt-mlp`.
    pub steps: Option<Steps>,
    /// On what the model was trained and how it scored, as the exporter wrote it: for people, not for loaders.
    pub trained: serde_json::Value,
}

/// How a clip becomes the model's input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frames {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Frames per second.
    pub fps: u32,
    /// What `fps` is.
    pub fps_rule: FpsRule,
    /// Every how manieth frame is used, from the first on.
    pub every: usize,
    /// Frames used at most; 0 for all.
    pub max_frames: usize,
    /// Which, where a clip has more. Left out where they are the first.
    #[serde(default, skip_serializing_if = "FrameWindow::is_first")]
    pub window: FrameWindow,
    /// So many of those at even distances (the middles of equal parts); none for all.
    pub take: Option<usize>,
    /// How the pictures were scaled for training.
    pub scaler: String,
    /// A byte p becomes `scale · p + shift`.
    pub scale: f32,
    /// See `scale`.
    pub shift: f32,
    /// Clips of fewer frames first run so many steps without input as they are short of; 0 for none.
    pub warm_up_to: usize,
}

/// Which frames a model sees of a clip that has more than it takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrameWindow {
    /// Those at its start.
    #[default]
    First,
    /// Evenly spaced ones: the middles of equal parts.
    Even,
    /// Those in its middle, one after the other.
    Middle,
}

impl FrameWindow {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
    fn is_first(&self) -> bool {
        *self == Self::First
    }
}

impl std::fmt::Display for FrameWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::First => "the first",
            Self::Even => "evenly spaced",
            Self::Middle => "the middle",
        })
    }
}

/// What the frames per second of a model are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FpsRule {
    /// Clips are brought to this rate; frames may repeat.
    Exactly,
    /// Clips keep their rate where it is lower.
    AtMost,
}

/// How frames become pre-activations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub enum Input {
    /// A matrix.
    Dense,
    /// Tensor Trains.
    Train {
        /// m_1 … m_d.
        input_modes: Vec<usize>,
        /// n_1 … n_d, without the gates.
        output_modes: Vec<usize>,
        /// r_0 … r_d of a train.
        ranks: Vec<usize>,
        /// Trains: 1 for all gates, the gate slowest in the first output mode, or one per gate.
        trains: usize,
    },
}

/// How pre-activations become a state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// `rnn`, `gru` or `lstm`.
    pub cell: String,
    /// H.
    pub hidden: usize,
    /// The blocks of `[G·H]`, in order.
    pub gates: Vec<String>,
    /// `hard-sigmoid` (`clip(0.2 x + 0.5, 0, 1)`) or `sigmoid`.
    pub gate_activation: String,
}

/// Names of a cell's gate blocks in the order of the weights.
fn gate_names(cell: Cell) -> &'static [&'static str] {
    match cell {
        Cell::Rnn => &["h"],
        Cell::Gru => &["update", "reset", "candidate"],
        Cell::Lstm => &["input", "forget", "candidate", "output"],
    }
}

impl Frames {
    /// Bytes of a frame, M = height · width · 3.
    pub fn bytes(&self) -> usize {
        self.width * self.height * 3
    }

    /// Which of a clip's `total` frames, at the model's rate, the model is to see; none of none.
    pub fn kept(&self, total: usize) -> Vec<usize> {
        let all = total.div_ceil(self.every);
        let count = if self.max_frames > 0 { all.min(self.max_frames) } else { all };
        let kept = |at: usize| match self.window {
            FrameWindow::First => at,
            FrameWindow::Even => middle(at, count, all),
            FrameWindow::Middle => (all - count) / 2 + at,
        };
        let chosen = |at: usize| kept(at) * self.every;
        match self.take {
            None => (0..count).map(chosen).collect(),
            Some(_) if count == 0 => Vec::new(),
            Some(n) if count <= n => (0..n).map(|i| chosen(i.min(count - 1))).collect(),
            Some(n) => (0..n).map(|i| chosen(middle(i, n, count))).collect(),
        }
    }
}

/// The middle of the `at`-th of `parts` equal parts of `total` frames.
fn middle(at: usize, parts: usize, total: usize) -> usize {
    (2 * at + 1) * total / (2 * parts)
}

impl Steps {
    /// Of a cell with so many units.
    pub fn new(cell: Cell, hidden: usize, gate_activation: GateActivation) -> Self {
        let gate_activation = match gate_activation {
            GateActivation::HardSigmoid => "hard-sigmoid",
            GateActivation::Sigmoid => "sigmoid",
        };
        Self {
            cell: cell.name().into(),
            hidden,
            gates: gate_names(cell).iter().map(|name| (*name).to_owned()).collect(),
            gate_activation: gate_activation.into(),
        }
    }
}

impl Config {
    /// Of a model as it was built.
    ///
    /// # Errors
    /// [`crate::Error::Unsupported`] for a control, which says something of a data set and is not made for use, and for
    /// what a model folder has no place for.
    pub fn of(
        model: &str,
        built: &ModelConfig,
        (classes, multi_label): (Vec<String>, bool),
        frames: Frames,
        trained: serde_json::Value,
    ) -> Result<Self> {
        if let (Form::Recurrent { .. }, Some(key)) = (find(model)?.form, built.stack.unusual()) {
            return Err(crate::Error::Unsupported(format!(
                "{model} cannot be exported: a model folder holds one layer that reads forward and gives its last state, \
                 and {key} is set otherwise"
            )));
        }
        if matches!(find(model)?.form, Form::Recurrent { .. }) && built.recurrent != RecurrentForm::Dense {
            return Err(crate::Error::Unsupported(format!(
                "{model} cannot be exported: a model folder holds a dense matrix U, and model.recurrent is set otherwise"
            )));
        }
        let train = |modes: &[usize], rank, gates, trains| -> Result<Input> {
            let shape = TtShape::uniform(modes, &built.output_modes, rank, gates)?;
            Ok(Input::Train {
                input_modes: modes.to_vec(),
                output_modes: built.output_modes.clone(),
                ranks: shape.ranks().to_vec(),
                trains,
            })
        };
        let (input, steps) = match find(model)?.form {
            Form::Mlp { input } if input == TRAIN => {
                let built = built.of_mlp();
                (train(&built.input_modes, built.train_rank(1)?, 1, 1)?, None)
            }
            Form::Recurrent { cell, input, frozen: false } if input == DENSE => {
                (Input::Dense, Some(Steps::new(cell, built.dense_hidden, built.gate_activation)))
            }
            Form::Recurrent { cell, input, frozen: false } if input == TRAIN => {
                let (trains, gates) = built.gates.deal(cell.gates());
                let hidden = built.output_modes.iter().product();
                let rank = built.train_rank(cell.gates())?;
                let input = train(&built.input_modes, rank, gates, trains)?;
                (input, Some(Steps::new(cell, hidden, built.gate_activation)))
            }
            Form::Recurrent { input, frozen: false, .. } | Form::Mlp { input } => {
                return Err(crate::Error::Unsupported(format!(
                    "{model} cannot be exported: a model folder has no place for an input matrix of form {}",
                    input.name
                )));
            }
            _ => {
                return Err(crate::Error::Unsupported(format!(
                    "{model} is a control, which shows how little a data set asks for; tt-mlp, gru, lstm, tt-gru, \
                     tt-lstm, rnn and tt-rnn can be exported"
                )));
            }
        };
        let model = model.to_owned();
        Ok(Self { format: FORMAT, model, classes, multi_label, frames, input, steps, trained })
    }

    /// Reads and checks the configuration of a folder.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(CONFIG);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) => {
                let reason = format!("{error}: a model folder is what cargo xtask export writes");
                return Err(misfit(&path, reason));
            }
        };
        // Another version may have other fields: what it is comes before what is in it.
        let format = serde_json::from_slice::<serde_json::Value>(&text)
            .ok()
            .and_then(|value| value.get("format")?.as_u64());
        if format.is_some_and(|format| format != u64::from(FORMAT)) {
            let format = format.unwrap_or_default();
            return Err(misfit(&path, format!("it is of format {format}, this program reads {FORMAT}")));
        }
        let config: Self = serde_json::from_slice(&text).map_err(|error| misfit(&path, error.to_string()))?;
        config.check().map_err(|reason| misfit(&path, reason))?;
        Ok(config)
    }

    /// The cell, as `steps` names it.
    pub(crate) fn cell(&self) -> Result<Option<Cell>> {
        self.steps.as_ref().map(|steps| steps.cell.parse()).transpose()
    }

    /// Units that the classifier reads, H.
    pub(crate) fn hidden(&self) -> usize {
        match (&self.steps, &self.input) {
            (Some(steps), _) => steps.hidden,
            (None, Input::Train { output_modes, .. }) => output_modes.iter().product(),
            (None, Input::Dense) => 0,
        }
    }

    /// Numbers that the input layer reads at once: a frame, or all of TT-MLP's.
    pub(crate) fn input_features(&self) -> usize {
        self.frames.bytes() * self.frames.take.unwrap_or(1)
    }

    /// The shape of a train, the gates that it feeds included.
    pub(crate) fn train(&self) -> Result<Option<(TtShape, usize)>> {
        let Input::Train { input_modes, output_modes, ranks, trains } = &self.input else { return Ok(None) };
        let gates = self.cell()?.map_or(1, Cell::gates) / trains.max(&1);
        Ok(Some((TtShape::new(input_modes, output_modes, ranks, gates)?, *trains)))
    }

    /// Whether the parts fit each other; the reason names the key at fault.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let said = |error: crate::Error| error.to_string();
        let form = find(&self.model).map_err(said)?.form;
        let frames = &self.frames;
        let fps = frames.fps as usize;
        for (key, value) in
            [("width", frames.width), ("height", frames.height), ("fps", fps), ("every", frames.every)]
        {
            if value == 0 {
                return Err(format!("frames.{key} is 0"));
            }
        }
        if frames.max_frames == 0 && frames.window != FrameWindow::First {
            return Err("frames.window is there without frames.max_frames".into());
        }
        if self.classes.is_empty() {
            return Err("classes is empty".into());
        }
        let mut seen = BTreeSet::new();
        if let Some(class) = self.classes.iter().find(|class| !seen.insert(*class)) {
            return Err(format!("class {class:?} is there twice"));
        }
        let (cell, tensor_train) = match form {
            Form::Mlp { input } if input == TRAIN => (None, true),
            Form::Recurrent { cell, input, frozen: false } => (Some(cell), input == TRAIN),
            Form::Mlp { .. } => return Err(format!("model {:?} has no form in a folder", self.model)),
            _ => return Err(format!("model {:?} is a control and is not kept in a folder", self.model)),
        };
        if cell.is_some() == frames.take.is_some() || frames.take == Some(0) {
            return Err(format!("frames.take {:?} does not fit model {:?}", frames.take, self.model));
        }
        if self.cell().map_err(said)? != cell || tensor_train != matches!(self.input, Input::Train { .. }) {
            return Err(format!("input.kind and steps.cell do not fit model {:?}", self.model));
        }
        if let (Some(steps), Some(cell)) = (&self.steps, cell) {
            steps.gate_activation.parse::<GateActivation>().map_err(said)?;
            if steps.gates != gate_names(cell) {
                let (found, expected) = (&steps.gates, gate_names(cell));
                return Err(format!("steps.gates is {found:?}; weights of this format have {expected:?}"));
            }
        }
        self.check_train(cell)
    }

    fn check_train(&self, cell: Option<Cell>) -> std::result::Result<(), String> {
        if let Input::Train { trains, .. } = &self.input
            && *trains != 1
            && cell.is_none_or(|cell| *trains != cell.gates())
        {
            return Err(format!("input.trains is {trains}: one for all gates, or one for each"));
        }
        let Some((shape, trains)) = self.train().map_err(|error| error.to_string())? else { return Ok(()) };
        let (modes, features) = (shape.in_features(), self.input_features());
        if modes != features {
            return Err(format!("input.input_modes multiply to {modes}, the model's frames have {features}"));
        }
        let gates = cell.map_or(1, Cell::gates);
        if shape.out_features() * trains != gates * self.hidden() {
            let (units, hidden) = (shape.out_features() * trains / gates, self.hidden());
            return Err(format!("input.output_modes multiply to {units}, steps.hidden is {hidden}"));
        }
        let rank = shape.ranks().iter().copied().max().unwrap_or(1);
        let uniform = TtShape::uniform(shape.input_modes(), self.output_modes(), rank, shape.gates());
        if uniform.map_err(|error| error.to_string())?.ranks() != shape.ranks() {
            return Err(format!("input.ranks {:?} are not one rank, clamped", shape.ranks()));
        }
        Ok(())
    }

    fn output_modes(&self) -> &[usize] {
        if let Input::Train { output_modes, .. } = &self.input { output_modes } else { &[] }
    }

    /// What a model is built from.
    pub(super) fn model_config(&self) -> Result<ModelConfig> {
        let train = self.train()?;
        let modes = train.as_ref().map_or_else(Vec::new, |(shape, _)| shape.input_modes().to_vec());
        let rank = train.as_ref().and_then(|(shape, _)| shape.ranks().iter().copied().max()).unwrap_or(1);
        let separate = train.is_some_and(|(_, trains)| trains > 1);
        let activation = self.steps.as_ref().map_or("sigmoid", |steps| &steps.gate_activation);
        Ok(ModelConfig {
            features: self.frames.bytes(),
            width: self.frames.width,
            classes: self.classes.len(),
            input_modes: modes.clone(),
            output_modes: self.output_modes().to_vec(),
            rank,
            gates: if separate { GateLayout::Separate } else { GateLayout::Concatenated },
            core_init: CoreInit::Glorot1d,
            backend: Backend::Fused,
            precision: Precision::F32,
            dense_hidden: self.hidden(),
            stack: Stack::default(),
            recurrent: RecurrentForm::Dense,
            gate_activation: activation.parse()?,
            affine: Affine { scale: self.frames.scale, shift: self.frames.shift },
            mlp_frames: self.frames.take.unwrap_or(1),
            mlp_input_modes: modes,
            mlp_rank: rank,
            recurrent_dropout: 0.0,
            dense_masks_per_gate: false,
            dense_input_dropout: 0.0,
            tt_input_dropout: 0.0,
            warm_up_to: self.frames.warm_up_to,
            classifier_l2: 0.0,
            formats: FormatSettings::default(),
        })
    }
}
