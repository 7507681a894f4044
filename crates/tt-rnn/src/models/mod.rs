//! The models by name (the paper's, the deck's, controls, what the paper argues with), and what they share: configuration, classifier, counts.

mod attention;
mod cnn;
mod grey;
mod linear;
mod mean_frame;
mod mlp;
mod pass;
mod pooled_gru;
mod recurrent;
mod scores;
mod stacked_frames;
mod state_weights;

pub use crate::config::{CnnKernels, CnnSize, FormatSettings, ModelConfig, Readout, RecurrentForm, Stack};
use crate::frames::FrameRows;
use crate::parameters::{Parameter, glorot_uniform};
use crate::projection::{self, DENSE, Factorization, Projection, TRAIN};
use crate::rates::Kind;
use crate::recurrence::Cell;
use crate::{Error, Result, lite0};
use attention::AttentionLstm;
pub use attention::sizes as with_attention;
use candle_core::{DType, Device, Tensor};
use cnn::Cnn;
pub use grey::Grid;
use mean_frame::MeanFrame;
use mlp::Mlp;
pub(crate) use pass::Place;
use pooled_gru::PooledGru;
pub(crate) use recurrent::Matrices;
use recurrent::Recurrent;
pub use scores::Scores;
use stacked_frames::StackedFrames;
pub use stacked_frames::{GRID as STACKED_GRID, STACKED};
pub(crate) use state_weights::multiplied_out;
pub use state_weights::of_states;
use std::sync::Arc;
use tt_core::rng::{Stream, stream};

/// A model of the table.
#[derive(Debug, Clone, Copy)]
pub struct ModelEntry {
    /// The name used in configurations, records and charts.
    pub name: &'static str,
    /// What it is.
    pub form: Form,
}

/// What a model makes of the frames of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A few frames side by side, one layer.
    Mlp {
        /// The form of its matrix.
        input: Factorization,
    },
    /// A linear map of the mean frame.
    MeanFrame,
    /// A linear map of a few small grey frames side by side.
    StackedFrames,
    /// A recurrent layer on whole frames.
    Recurrent {
        /// The cell.
        cell: Cell,
        /// The form of its input projection.
        input: Factorization,
        /// Whether the input projection keeps its initial values; it is no parameter then.
        frozen: bool,
    },
    /// A GRU on area averages of frames.
    PooledGru(Grid),
    /// A recurrent layer on features that a pretrained network, which is not trained, made of each frame before.
    OnFeatures {
        /// The cell.
        cell: Cell,
        /// Numbers of a frame.
        features: usize,
    },
    /// A recurrent layer on what a small CNN sees of each frame, trained with it.
    Cnn {
        /// The cell.
        cell: Cell,
    },
    /// An LSTM that attends to places of what a small CNN sees of each frame, trained with it.
    Attention,
}

impl Form {
    /// Whether an input matrix is a product of cores, trained or not.
    pub fn is_factorized(&self) -> bool {
        matches!(self, Self::Mlp { input } | Self::Recurrent { input, .. } if *input != DENSE)
    }
}

/// The factorization of a format of `tt_core`.
macro_rules! factorization {
    ($name:literal, $of:ident) => {
        Factorization {
            name: $name,
            new: |config, gates| projection::network::of_model(&tt_core::network::format::$of, config, gates),
        }
    };
}

/// Makes [`MODELS`] and the list of its names from rows and, behind `formats`, from formats that every cell and the MLP have.
macro_rules! models {
    ($first:literal => $tt_mlp:expr, $($name:literal => $form:expr,)* formats: $($format:literal => $of:ident,)*) => {
        /// Every model: the paper's five, the deck's plain cells, controls, CNNs with a recurrent layer, then every cell and the MLP with every other
        /// format of the input matrix.
        pub const MODELS: &[ModelEntry] = &[
            ModelEntry { name: $first, form: $tt_mlp },
            $(ModelEntry { name: $name, form: $form },)*
            $(
                of_format(concat!($format, "-rnn"), Cell::Rnn, factorization!($format, $of)),
                of_format(concat!($format, "-gru"), Cell::Gru, factorization!($format, $of)),
                of_format(concat!($format, "-lstm"), Cell::Lstm, factorization!($format, $of)),
                ModelEntry {
                    name: concat!($format, "-mlp"),
                    form: Form::Mlp { input: factorization!($format, $of) },
                },
            )*
        ];
        /// The forms that a matrix can have beside dense, as settings call them.
        const FORMATS: &[(&str, Factorization)] = &[("tt", TRAIN), $(($format, factorization!($format, $of)),)*];
        const FORMAT_NAMES: &str = concat!("tt", $(", ", $format,)*);
        const NAMES: &str = concat!(
            $first,
            $(", ", $name,)*
            $(", ", $format, "-rnn, ", $format, "-gru, ", $format, "-lstm, ", $format, "-mlp",)*
        );
    };
}

tt_core::for_formats!(models! {
    "tt-mlp" => Form::Mlp { input: TRAIN },
    "gru" => recurrent(Cell::Gru, DENSE, false),
    "lstm" => recurrent(Cell::Lstm, DENSE, false),
    "tt-gru" => recurrent(Cell::Gru, TRAIN, false),
    "tt-lstm" => recurrent(Cell::Lstm, TRAIN, false),
    "rnn" => recurrent(Cell::Rnn, DENSE, false),
    "tt-rnn" => recurrent(Cell::Rnn, TRAIN, false),
    "mean-frame" => Form::MeanFrame,
    "stacked-frames" => Form::StackedFrames,
    // With 256 units 3,072 and 199,680 input weights, beside TT-GRU's 3,232 and its 203,435 in all.
    "pooled-gru-small" => Form::PooledGru(Grid { width: 2, height: 2 }),
    "pooled-gru" => Form::PooledGru(Grid { width: 20, height: 13 }),
    "projected-gru" => recurrent(Cell::Gru, DENSE, true),
    "tt-gru-frozen" => recurrent(Cell::Gru, TRAIN, true),
    "frozen-cnn-gru" => Form::OnFeatures { cell: Cell::Gru, features: lite0::FEATURES },
    "cnn-gru" => Form::Cnn { cell: Cell::Gru },
    "cnn-lstm" => Form::Cnn { cell: Cell::Lstm },
    "attention-lstm" => Form::Attention,
    formats:
});

const fn recurrent(cell: Cell, input: Factorization, frozen: bool) -> Form {
    Form::Recurrent { cell, input, frozen }
}

const fn of_format(name: &'static str, cell: Cell, input: Factorization) -> ModelEntry {
    ModelEntry { name, form: recurrent(cell, input, false) }
}

/// Finds a model by name.
///
/// # Errors
/// [`Error::Unknown`] with the list of names.
pub fn find(name: &str) -> Result<&'static ModelEntry> {
    let unknown = || Error::Unknown { what: "model", name: name.to_owned(), choices: NAMES };
    MODELS.iter().find(|entry| entry.name == name).ok_or_else(unknown)
}

/// Finds the form of a matrix by the name that settings give it.
fn format(name: &str) -> Result<Factorization> {
    let unknown = || Error::Unknown { what: "format", name: name.to_owned(), choices: FORMAT_NAMES };
    FORMATS.iter().find(|(known, _)| *known == name).map(|(_, form)| *form).ok_or_else(unknown)
}

impl ModelEntry {
    /// Builds the model with initial values from the streams of `seed`.
    pub fn build(&self, config: &ModelConfig, device: &Device, seed: u64) -> Result<Box<dyn Model>> {
        Ok(match self.form {
            Form::Mlp { input } => Box::new(Mlp::new(self.name, input, config, device, seed)?),
            Form::MeanFrame => Box::new(MeanFrame::new(config, device, seed)?),
            Form::StackedFrames => Box::new(StackedFrames::new(config, device, seed)?),
            Form::PooledGru(grid) => Box::new(PooledGru::new(config, grid, device, seed)?),
            Form::OnFeatures { cell, features } => {
                let config = ModelConfig { features, ..config.clone() };
                let matrices = Matrices::of(&config, cell, DENSE)?;
                Box::new(Recurrent::new(&config, cell, matrices, device, seed)?)
            }
            Form::Cnn { cell } => Box::new(Cnn::new(config, cell, device, seed)?),
            Form::Attention => Box::new(AttentionLstm::new(config, device, seed)?),
            Form::Recurrent { cell, input, frozen } => {
                let matrices = Matrices::of(config, cell, input)?;
                let model = Recurrent::new(config, cell, matrices, device, seed)?;
                Box::new(if frozen { model.frozen() } else { model })
            }
        })
    }
}

/// An MLP of this matrix, whatever modes, rank and form the configuration has; its weights begin at zero.
pub(crate) fn mlp_of_matrix(
    name: &'static str,
    config: &ModelConfig,
    projection: Arc<dyn Projection>,
    device: &Device,
) -> Result<Box<dyn Model>> {
    let weights = vec![0.0; projection.weights().shape.iter().product()];
    Ok(Box::new(Mlp::with(name, projection, weights, config, device, 0)?))
}

/// A recurrent model of these matrices, whatever modes, ranks and forms the configuration has.
pub(crate) fn of_matrices(
    config: &ModelConfig,
    cell: Cell,
    matrices: Matrices,
    device: &Device,
    seed: u64,
) -> Result<Box<dyn Model>> {
    Ok(Box::new(Recurrent::new(config, cell, matrices, device, seed)?))
}

/// Packed clips: rows of all clips one after the other.
#[derive(Debug)]
pub struct PackedFrames {
    /// `[sum T_b, M]`.
    pub rows: FrameRows,
    /// Frames per clip `[B]`.
    pub lengths: Vec<usize>,
}

impl PackedFrames {
    /// Clips of so many rows each.
    pub fn new(rows: impl Into<FrameRows>, lengths: Vec<usize>) -> Self {
        Self { rows: rows.into(), lengths }
    }
}

/// How a forward pass is meant.
#[derive(Debug)]
pub enum Mode<'a> {
    /// No dropout, nothing saved.
    Evaluate,
    /// Dropout from this stream; a backward pass follows.
    Train(&'a mut Stream),
}

/// Which frames of a clip a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameChoice {
    /// All of them.
    All,
    /// So many at even distances.
    Even(usize),
    /// So many, drawn at random while it is trained and at even distances else.
    Drawn(usize),
}

/// How much of what a model read of each frame came from each place of a grid.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionMaps {
    /// Rows of the grid.
    pub height: usize,
    /// Places in each.
    pub width: usize,
    /// Shares by frame, row by row; those of a frame sum to one. `[sum T_b][height · width]`
    pub shares: Vec<Vec<f32>>,
}

/// A classifier of clips.
pub trait Model: std::fmt::Debug + Send + Sync {
    /// Class scores `[B, K]` before softmax or sigmoid.
    fn logits(&self, frames: &PackedFrames, mode: Mode<'_>) -> Result<Tensor>;
    /// What training compares with labels and predictions follow from: those scores, of models that judge a clip once.
    fn scores(&self, frames: &PackedFrames, mode: Mode<'_>) -> Result<Scores> {
        Ok(self.logits(frames, mode)?.into())
    }
    /// All parameters: what is trained.
    fn parameters(&self) -> Vec<Parameter>;
    /// Trained weights that read frames, biases left out, as the paper counts them.
    fn input_parameters(&self) -> usize;
    /// The frames that a clip must bring.
    fn frames(&self) -> FrameChoice {
        FrameChoice::All
    }
    /// Whether kernels read its frames, so that stored ones need no copy.
    fn reads_stored(&self) -> bool {
        false
    }
    /// Share of the gates' activations below 0.01 or above 0.99 over all steps, where gradients hardly pass;
    /// none for models without gates.
    fn saturated_gates(&self, _frames: &PackedFrames) -> Result<Option<f64>> {
        Ok(None)
    }
    /// Where it looks in each frame; none for models that read all of it alike.
    fn attention(&self, _frames: &PackedFrames) -> Result<Option<AttentionMaps>> {
        Ok(None)
    }
}

/// Probabilities `[B][K]` of the classes from their scores `[B, K]`: softmax, or one sigmoid per class where a clip can be of
/// several.
///
/// # Errors
/// Of candle.
pub fn probabilities(logits: &Tensor, multi_label: bool) -> Result<Vec<Vec<f64>>> {
    let scores = logits.detach().to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
    let mut rows: Vec<Vec<f64>> = scores.to_vec2()?;
    for row in &mut rows {
        squash(row, multi_label);
    }
    Ok(rows)
}

/// [`probabilities`] of one clip, in the place of its scores.
pub(crate) fn squash(scores: &mut [f64], multi_label: bool) {
    if multi_label {
        for score in scores.iter_mut() {
            *score = 1.0 / (1.0 + (-*score).exp());
        }
        return;
    }
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    for score in scores.iter_mut() {
        *score = (*score - largest).exp();
    }
    let sum: f64 = scores.iter().sum();
    for score in scores.iter_mut() {
        *score /= sum;
    }
}

/// Dense `[H, K]` softmax or sigmoid classifier on what is read of the hidden states.
#[derive(Debug)]
struct Classifier {
    kernel: Parameter,
    bias: Parameter,
}

impl Classifier {
    fn new(hidden: usize, config: &ModelConfig, device: &Device, seed: u64) -> Result<Self> {
        let classes = config.classes;
        let values = glorot_uniform(hidden, classes, classes, &mut stream(seed, "init/classifier"));
        let mut kernel = Parameter::new(
            "classifier.kernel",
            Kind::Matrix { fan_in: hidden },
            values,
            &[hidden, classes],
            device,
        )?;
        kernel.l2 = config.classifier_l2;
        let bias = Parameter::new("classifier.bias", Kind::Vector, vec![0.0; classes], &[classes], device)?;
        Ok(Self { kernel, bias })
    }

    fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(hidden.matmul(&self.kernel.var)?.broadcast_add(&self.bias.var)?) // [B, K]
    }

    fn parameters(&self) -> [Parameter; 2] {
        [self.kernel.clone(), self.bias.clone()]
    }
}
