//! `config.json`: what stands beside the weights, and whether it is a model.

use super::{CONFIG, misfit};
use crate::Result;
use crate::models::{
    Form, Matrices, Model, ModelConfig, Place, Readout, Stack, find, mlp_of_matrix, of_matrices,
};
use crate::projection::{Factors, Matrix, Projection, Sides};
use crate::recurrence::{Cell, GateActivation};
use candle_core::Device;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tt_core::apply::Affine;

/// The newest version of `config.json` and of the tensors' names. A model that needs nothing of it is written as version 1.
pub const FORMAT: u32 = 2;

/// A model's configuration, as far as it is used and not trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Version of the folder.
    pub format: u32,
    /// Model name: `tt-mlp`, or a cell (`gru`, `lstm`, `rnn`) alone or behind `tt-` or another format.
    pub model: String,
    /// Names of the classes in the order of the outputs.
    pub classes: Vec<String>,
    /// Whether a clip can be of several classes: then every class has a probability of its own.
    pub multi_label: bool,
    /// How a clip becomes the model's input.
    pub frames: Frames,
    /// The matrix from frames to pre-activations.
    pub input: Matrix,
    /// How pre-activations become a state; none for `tt-mlp`.
    pub steps: Option<Steps>,
    /// Layers, directions and read-out, where they are not the paper's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers: Option<Layers>,
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

/// The most pixels, frames and steps of a kind: the longest clip of the paper's data has 1,496 frames.
const LARGEST: usize = 65_536;

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
    /// The form of U, where it is not dense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurrent: Option<Matrix>,
}

/// What there is beside one layer that reads forward and gives its last state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layers {
    /// The matrices of the second layer and those above it, which read all states of the layer below.
    pub above: Vec<Matrix>,
    /// Whether each layer also reads back to front, with weights of its own.
    pub bidirectional: bool,
    /// What the classifier reads of the uppermost layer's states.
    pub readout: Readout,
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
        let all = total.div_ceil(self.every.max(1));
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
            recurrent: None,
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
        let place = |projection: &Arc<dyn Projection>| -> Result<Matrix> {
            projection.matrix()?.ok_or_else(|| {
                crate::Error::Unsupported(format!(
                    "{model} cannot be exported: a model folder has no place for {projection:?}"
                ))
            })
        };
        let (input, steps, layers) = match find(model)?.form {
            Form::Mlp { input } => (place(&(input.new)(&built.of_mlp(), 1)?)?, None, None),
            Form::Recurrent { cell, input, frozen: false } => {
                let Matrices { rows, states } = Matrices::of(built, cell, input)?;
                let hidden = rows.first().map_or(0, |lowest| lowest.outputs() / cell.gates());
                let mut rows = rows.iter().map(place).collect::<Result<Vec<_>>>()?;
                let above = rows.split_off(1);
                let Stack { bidirectional, readout, .. } = built.stack;
                let steps = Steps {
                    recurrent: states.as_ref().map(place).transpose()?,
                    ..Steps::new(cell, hidden, built.gate_activation)
                };
                let layers = built.stack.unusual().map(|_| Layers { above, bidirectional, readout });
                (rows.swap_remove(0), Some(steps), layers)
            }
            Form::Cnn { .. } | Form::Attention => {
                return Err(crate::Error::Unsupported(format!(
                    "{model} cannot be exported: model folders and graphs have no place for its CNN; cargo xtask predict \
                     reads it from the run's cell"
                )));
            }
            _ => {
                return Err(crate::Error::Unsupported(format!(
                    "{model} is a control, which shows how little a data set asks for; rnn, gru, lstm and mlp with \
                     every form of the input matrix can be exported"
                )));
            }
        };
        let model = model.to_owned();
        let mut config =
            Self { format: FORMAT, model, classes, multi_label, frames, input, steps, layers, trained };
        config.format = config.least_format();
        Ok(config)
    }

    /// The version that has all that is said here.
    fn least_format(&self) -> u32 {
        let factorized = self.steps.as_ref().is_some_and(|steps| steps.recurrent.is_some());
        let network = matches!(self.input, Matrix::Network { .. });
        let window = self.frames.window != FrameWindow::First;
        if self.layers.is_some() || factorized || network || window { 2 } else { 1 }
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
        if let Some(format) = format.filter(|format| !(1..=u64::from(FORMAT)).contains(format)) {
            return Err(misfit(&path, format!("it is of format {format}, this program reads 1 to {FORMAT}")));
        }
        let config: Self = serde_json::from_slice(&text).map_err(|error| misfit(&path, error.to_string()))?;
        config.check().map_err(|reason| misfit(&path, reason))?;
        Ok(config)
    }

    /// The cell, as `steps` names it.
    pub(crate) fn cell(&self) -> Result<Option<Cell>> {
        self.steps.as_ref().map(|steps| steps.cell.parse()).transpose()
    }

    /// Units of a layer in one direction, H.
    pub(crate) fn hidden(&self) -> usize {
        match (&self.steps, &self.input) {
            (Some(steps), _) => steps.hidden,
            (None, Matrix::Train { output_modes, .. } | Matrix::Network { output_modes, .. }) => {
                output_modes.iter().product()
            }
            (None, Matrix::Dense) => 0,
        }
    }

    /// Units that the classifier reads: of both directions where there are two.
    pub(crate) fn units_read(&self) -> usize {
        self.hidden() * self.directions().len()
    }

    /// Numbers that the input layer reads at once: a frame, or all of TT-MLP's.
    pub(crate) fn input_features(&self) -> usize {
        self.frames.bytes() * self.frames.take.unwrap_or(1)
    }

    /// Whether each direction is the one back to front.
    pub(crate) fn directions(&self) -> &'static [bool] {
        match &self.layers {
            Some(Layers { bidirectional: true, .. }) => &[false, true],
            _ => &[false],
        }
    }

    /// What the classifier reads of the states.
    pub(crate) fn readout(&self) -> Readout {
        self.layers.as_ref().map_or(Readout::Last, |layers| layers.readout)
    }

    /// The matrix by which each layer reads its rows, the lowest first, and its sides.
    pub(crate) fn row_matrices(&self) -> Result<Vec<(&Matrix, Sides)>> {
        let (gates, hidden) = (self.cell()?.map_or(1, Cell::gates), self.hidden());
        let above = self.layers.iter().flat_map(|layers| &layers.above);
        let features = std::iter::once(self.input_features()).chain(std::iter::repeat(self.units_read()));
        let sides = features.map(|features| Sides { features, gates, hidden });
        Ok(std::iter::once(&self.input).chain(above).zip(sides).collect())
    }

    /// The form of U and its sides, where it is not dense.
    pub(crate) fn state_matrix(&self) -> Result<Option<(&Matrix, Sides)>> {
        let (gates, hidden) = (self.cell()?.map_or(1, Cell::gates), self.hidden());
        let form = self.steps.as_ref().and_then(|steps| steps.recurrent.as_ref());
        Ok(form.map(|form| (form, Sides { features: hidden, gates, hidden })))
    }

    /// Where the passes of each layer are in the model, the lowest layer first.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> {
        let layers = 1 + self.layers.as_ref().map_or(0, |layers| layers.above.len());
        let directions = self.directions();
        (0..layers).flat_map(move |layer| {
            directions.iter().map(move |backward| Place { layer, backward: *backward })
        })
    }

    /// Whether the parts fit each other; the reason names the key at fault.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let said = |error: crate::Error| error.to_string();
        let form = find(&self.model).map_err(said)?.form;
        let frames = &self.frames;
        let fps = frames.fps as usize;
        let (size, take) = ([("width", frames.width), ("height", frames.height)], frames.take.unwrap_or(1));
        for (key, value) in size.into_iter().chain([("fps", fps), ("every", frames.every), ("take", take)]) {
            if !(1..=LARGEST).contains(&value) {
                return Err(format!("frames.{key} is {value}: from 1 to {LARGEST}"));
            }
        }
        if let Some(steps) = self.steps.as_ref().filter(|steps| !(1..=LARGEST).contains(&steps.hidden)) {
            return Err(format!("steps.hidden is {}: from 1 to {LARGEST}", steps.hidden));
        }
        if frames.warm_up_to > LARGEST {
            return Err(format!("frames.warm_up_to is {}: at most {LARGEST}", frames.warm_up_to));
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
        let (cell, input) = match form {
            Form::Mlp { input } => (None, input.name),
            Form::Recurrent { cell, input, frozen: false } => (Some(cell), input.name),
            _ => return Err(format!("model {:?} is not kept in a folder", self.model)),
        };
        if cell.is_some() == frames.take.is_some() || frames.take == Some(0) {
            return Err(format!("frames.take {:?} does not fit model {:?}", frames.take, self.model));
        }
        if self.cell().map_err(said)? != cell || input != self.input.form() {
            return Err(format!("input.kind and steps.cell do not fit model {:?}", self.model));
        }
        if let (Some(steps), Some(cell)) = (&self.steps, cell) {
            steps.gate_activation.parse::<GateActivation>().map_err(said)?;
            if steps.gates != gate_names(cell) {
                let (found, expected) = (&steps.gates, gate_names(cell));
                return Err(format!("steps.gates is {found:?}; weights of this format have {expected:?}"));
            }
        }
        let least = self.least_format();
        if self.format < least {
            return Err(format!("format is {}, and what it says is of format {least}", self.format));
        }
        self.check_matrices()
    }

    fn check_matrices(&self) -> std::result::Result<(), String> {
        let said = |error: crate::Error| error.to_string();
        for (layer, (matrix, sides)) in self.row_matrices().map_err(said)?.into_iter().enumerate() {
            match layer {
                0 => check_matrix("input", matrix, sides, "the model's frames have"),
                _ => check_matrix(
                    &format!("layers.above.{}", layer - 1),
                    matrix,
                    sides,
                    "the states below are",
                ),
            }?;
            if matrix.form() != self.input.form() {
                return Err(format!("layers.above.{} is of another form than input", layer - 1));
            }
        }
        if let Some((matrix, sides)) = self.state_matrix().map_err(said)? {
            check_matrix("steps.recurrent", matrix, sides, "the state has")?;
            if matrix == &Matrix::Dense {
                return Err("steps.recurrent is dense: then the key is left out".into());
            }
        }
        if self.steps.is_none() && self.layers.is_some() {
            return Err(format!("layers are there, and {} has none", self.model));
        }
        Ok(())
    }

    /// The model, its weights not yet those of the folder.
    pub(super) fn build(&self, device: &Device) -> Result<Box<dyn Model>> {
        let config = self.model_config()?;
        let Some(cell) = self.cell()? else {
            let Matrices { mut rows, .. } = self.matrices()?;
            return mlp_of_matrix(find(&self.model)?.name, &config, rows.swap_remove(0), device);
        };
        of_matrices(&config, cell, self.matrices()?, device, 0)
    }

    /// The matrices of a recurrent model.
    pub(crate) fn matrices(&self) -> Result<Matrices> {
        let mut affine = Affine { scale: self.frames.scale, shift: self.frames.shift };
        let mut rows = Vec::new();
        for (matrix, sides) in self.row_matrices()? {
            rows.push(matrix.projection(sides, affine)?);
            affine = Affine::IDENTITY;
        }
        let states = self.state_matrix()?;
        let states = states.map(|(matrix, sides)| matrix.projection(sides, Affine::IDENTITY)).transpose()?;
        Ok(Matrices { rows, states })
    }

    /// What a model is built from beside its matrices.
    fn model_config(&self) -> Result<ModelConfig> {
        let activation = self.steps.as_ref().map_or("sigmoid", |steps| &steps.gate_activation);
        let stack = self.layers.as_ref().map_or_else(Stack::default, |layers| Stack {
            layers: 1 + layers.above.len(),
            bidirectional: layers.bidirectional,
            readout: layers.readout,
        });
        Ok(ModelConfig {
            features: self.frames.bytes(),
            width: self.frames.width,
            stack,
            gate_activation: activation.parse()?,
            affine: Affine { scale: self.frames.scale, shift: self.frames.shift },
            mlp_frames: self.frames.take.unwrap_or(1),
            warm_up_to: self.frames.warm_up_to,
            ..ModelConfig::new(&[], &[], 1, self.classes.len())
        })
    }
}

/// Whether a matrix fits the sides that it is to have; the reason names the key at fault.
fn check_matrix(key: &str, matrix: &Matrix, sides: Sides, rows: &str) -> std::result::Result<(), String> {
    let Sides { features, gates, hidden } = sides;
    let count = matrix.count();
    if count != 1 && count != gates {
        let name = if matches!(matrix, Matrix::Train { .. }) { "trains" } else { "networks" };
        return Err(format!("{key}.{name} is {count}: one for all gates, or one for each"));
    }
    let factors = matrix.factors(gates).map_err(|error| format!("{key}: {error}"))?;
    let (inputs, outputs) = match factors {
        None => return Ok(()),
        Some(Factors::Train(shape)) => (shape.in_features(), shape.out_features()),
        Some(Factors::Network(shape)) => (shape.network().in_features(), shape.network().out_features()),
    };
    if inputs != features {
        return Err(format!("{key}.input_modes multiply to {inputs}, {rows} {features}"));
    }
    if outputs * count != gates * hidden {
        let units = outputs * count / gates;
        return Err(format!("{key}.output_modes multiply to {units}, steps.hidden is {hidden}"));
    }
    Ok(())
}
