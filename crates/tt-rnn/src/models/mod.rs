//! The models of the paper by name, and what they share: configuration, classifier, parameter counts.

mod recurrent;
mod tt_mlp;

use crate::parameters::{Parameter, glorot_uniform};
use crate::projection::GateLayout;
use crate::rates::Kind;
use crate::recurrence::{Cell, GateActivation};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use recurrent::Recurrent;
use tt_core::apply::{Affine, Backend, Precision};
use tt_core::init::CoreInit;
use tt_core::rng::{Stream, stream};
use tt_mlp::TtMlp;

/// A model of the table: name, builder, and whether its input projection is a Tensor Train.
#[derive(Debug, Clone, Copy)]
pub struct ModelEntry {
    /// The name used in configurations, records and charts.
    pub name: &'static str,
    /// Whether the input projection is a Tensor Train.
    pub tensor_train: bool,
    build: fn(&ModelConfig, &Device, u64) -> Result<Box<dyn Model>>,
}

/// Every model: the paper's five, then the deck's plain cells.
pub const MODELS: [ModelEntry; 7] = [
    ModelEntry { name: "tt-mlp", tensor_train: true, build: |c, d, s| Ok(Box::new(TtMlp::new(c, d, s)?)) },
    ModelEntry { name: "gru", tensor_train: false, build: |c, d, s| dense(c, Cell::Gru, d, s) },
    ModelEntry { name: "lstm", tensor_train: false, build: |c, d, s| dense(c, Cell::Lstm, d, s) },
    ModelEntry { name: "tt-gru", tensor_train: true, build: |c, d, s| tensor_train(c, Cell::Gru, d, s) },
    ModelEntry { name: "tt-lstm", tensor_train: true, build: |c, d, s| tensor_train(c, Cell::Lstm, d, s) },
    ModelEntry { name: "rnn", tensor_train: false, build: |c, d, s| dense(c, Cell::Rnn, d, s) },
    ModelEntry { name: "tt-rnn", tensor_train: true, build: |c, d, s| tensor_train(c, Cell::Rnn, d, s) },
];

fn dense(config: &ModelConfig, cell: Cell, device: &Device, seed: u64) -> Result<Box<dyn Model>> {
    Ok(Box::new(Recurrent::dense(config, cell, device, seed)?))
}

fn tensor_train(config: &ModelConfig, cell: Cell, device: &Device, seed: u64) -> Result<Box<dyn Model>> {
    Ok(Box::new(Recurrent::tensor_train(config, cell, device, seed)?))
}

/// Finds a model by name.
///
/// # Errors
/// [`Error::Unknown`] with the list of names.
pub fn find(name: &str) -> Result<&'static ModelEntry> {
    MODELS.iter().find(|entry| entry.name == name).ok_or_else(|| Error::Unknown {
        what: "model",
        name: name.to_owned(),
        choices: "tt-mlp, gru, lstm, tt-gru, tt-lstm, rnn, tt-rnn",
    })
}

impl ModelEntry {
    /// Builds the model with initial values from the streams of `seed`.
    pub fn build(&self, config: &ModelConfig, device: &Device, seed: u64) -> Result<Box<dyn Model>> {
        (self.build)(config, device, seed)
    }
}

/// Everything that fixes a model but its weights.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Features of a frame M.
    pub features: usize,
    /// Classes K.
    pub classes: usize,
    /// Input modes of the train; their product is M.
    pub input_modes: Vec<usize>,
    /// Output modes; their product is the hidden size of the TT models.
    pub output_modes: Vec<usize>,
    /// Inner TT rank.
    pub rank: usize,
    /// Concatenated or separate gates.
    pub gates: GateLayout,
    /// Initial values of the cores.
    pub core_init: CoreInit,
    /// Which implementation applies the train.
    pub backend: Backend,
    /// Precision of the CUDA kernels.
    pub precision: Precision,
    /// Hidden units of the dense models.
    pub dense_hidden: usize,
    /// Gate non-linearity.
    pub gate_activation: GateActivation,
    /// Pixel scaling.
    pub affine: Affine,
    /// Frames that TT-MLP concatenates.
    pub mlp_frames: usize,
    /// Input modes of TT-MLP; their product is `mlp_frames · M`.
    pub mlp_input_modes: Vec<usize>,
    /// Inner rank of TT-MLP.
    pub mlp_rank: usize,
    /// Dropout probability on the hidden-to-hidden path.
    pub recurrent_dropout: f32,
    /// Recurrent masks of the dense models: one per gate instead of one for all.
    pub dense_masks_per_gate: bool,
    /// Dropout probability of the input features of the dense models (one mask per gate).
    pub dense_input_dropout: f32,
    /// Dropout probability of the input features of the TT models (one mask for all gates).
    pub tt_input_dropout: f32,
    /// Clips shorter than this run that many bias-only steps first; 0 for none.
    pub warm_up_to: usize,
    /// Penalty on the classifier's weights, `l2 · sum w²`.
    pub classifier_l2: f32,
}

/// Packed clips: rows of all clips one after the other.
#[derive(Debug)]
pub struct PackedFrames {
    /// `[sum T_b, M]`, u8.
    pub rows: Tensor,
    /// Frames per clip `[B]`.
    pub lengths: Vec<usize>,
}

/// How a forward pass is meant.
#[derive(Debug)]
pub enum Mode<'a> {
    /// No dropout, nothing saved.
    Evaluate,
    /// Dropout from this stream; a backward pass follows.
    Train(&'a mut Stream),
}

/// A classifier of clips.
pub trait Model: std::fmt::Debug {
    /// Class scores `[B, K]` before softmax or sigmoid.
    fn logits(&self, frames: &PackedFrames, mode: Mode<'_>) -> Result<Tensor>;
    /// All parameters.
    fn parameters(&self) -> Vec<Parameter>;
    /// Input-to-hidden weights, biases left out, as the paper counts them.
    fn input_parameters(&self) -> usize;
    /// Frames that a clip must bring: none for whole clips, some for a fixed number.
    fn fixed_frames(&self) -> Option<usize> {
        None
    }
    /// Share of the gates' activations below 0.01 or above 0.99 over all steps, where gradients hardly pass;
    /// none for models without gates.
    fn saturated_gates(&self, _frames: &PackedFrames) -> Result<Option<f64>> {
        Ok(None)
    }
}

/// Dense `[H, K]` softmax or sigmoid classifier on the last hidden state.
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
