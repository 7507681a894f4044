//! Everything that fixes a model but its weights.

use crate::recurrence::GateActivation;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use tt_core::apply::{Affine, Backend, Precision};
use tt_core::init::CoreInit;
use tt_core::network::Options;

/// How the gates of a TT projection share cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateLayout {
    /// One train whose first output mode carries the gates (the paper's TT-GRU and TT-LSTM).
    Concatenated,
    /// One train per gate (the deck's vanilla form).
    Separate,
}

impl GateLayout {
    /// How many matrices share the gates of a cell, and the gates of each.
    #[must_use]
    pub fn deal(self, gates: usize) -> (usize, usize) {
        match self {
            Self::Concatenated => (1, gates),
            Self::Separate => (gates, 1),
        }
    }
}

impl fmt::Display for GateLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Concatenated => "concatenated",
            Self::Separate => "separate",
        })
    }
}

impl FromStr for GateLayout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "concatenated" => Ok(Self::Concatenated),
            "separate" => Ok(Self::Separate),
            _ => Err(Error::Unknown {
                what: "gate layout",
                name: name.to_owned(),
                choices: "concatenated, separate",
            }),
        }
    }
}

/// What the classifier reads of the states of the uppermost layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readout {
    /// The last one: of a layer that reads backward the one after the first frame.
    #[default]
    Last,
    /// Their mean over the frames.
    Mean,
    /// The largest value of each unit over the frames.
    Max,
}

impl fmt::Display for Readout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Last => "last",
            Self::Mean => "mean",
            Self::Max => "max",
        })
    }
}

impl FromStr for Readout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "last" => Ok(Self::Last),
            "mean" => Ok(Self::Mean),
            "max" => Ok(Self::Max),
            _ => Err(Error::Unknown { what: "read-out", name: name.to_owned(), choices: "last, mean, max" }),
        }
    }
}

/// How many recurrent layers lie on one another, in which directions each reads, and what the classifier reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Layers; each but the first reads every state of the one below.
    pub layers: usize,
    /// Whether each layer also reads backward, with weights of its own: 2·H states a frame.
    pub bidirectional: bool,
    /// What the classifier reads.
    pub readout: Readout,
}

impl Default for Stack {
    /// The paper's: one layer, forward, and its last state.
    fn default() -> Self {
        Self { layers: 1, bidirectional: false, readout: Readout::Last }
    }
}

impl Stack {
    /// Directions that each layer reads in.
    pub fn directions(self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// The first key that differs from the default, as an experiment names it.
    pub fn unusual(self) -> Option<&'static str> {
        let usual = Self::default();
        [
            ("model.layers", self.layers != usual.layers),
            ("model.bidirectional", self.bidirectional != usual.bidirectional),
            ("model.readout", self.readout != usual.readout),
        ]
        .into_iter()
        .find_map(|(key, differs)| differs.then_some(key))
    }
}

/// The form of U, the matrix of the recurrent models from the state to the gates.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecurrentForm {
    /// A full matrix, as the paper's.
    #[default]
    Dense,
    /// A format of the input matrix, between the modes of the state on both sides.
    Factorized {
        /// `tt`, or another that an input matrix can have.
        format: String,
        /// Its inner rank.
        rank: usize,
    },
}

/// How large a CNN is that reads frames ([`crate::encoder`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CnnSize {
    /// 222,640 weights.
    #[default]
    Small,
    /// 1,987,392 weights.
    Large,
}

impl fmt::Display for CnnSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "small",
            Self::Large => "large",
        })
    }
}

impl FromStr for CnnSize {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "small" => Ok(Self::Small),
            "large" => Ok(Self::Large),
            _ => Err(Error::Unknown { what: "CNN", name: name.to_owned(), choices: "small, large" }),
        }
    }
}

/// The form of the kernels of a CNN ([`crate::encoder::factors`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CnnKernels {
    /// All of their numbers.
    #[default]
    Dense,
    /// Tensor Trains.
    Tt {
        /// Inner rank.
        rank: usize,
    },
    /// Sums of products of vectors.
    Cp {
        /// How many.
        rank: usize,
    },
}

impl CnnKernels {
    /// The form that settings call so, with this rank where it has one.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn of(name: &str, rank: usize) -> Result<Self> {
        match name {
            "dense" => Ok(Self::Dense),
            "tt" => Ok(Self::Tt { rank }),
            "cp" => Ok(Self::Cp { rank }),
            _ => Err(Error::Unknown {
                what: "form of a CNN's kernels",
                name: name.to_owned(),
                choices: "dense, tt, cp",
            }),
        }
    }
}

/// Everything that fixes a model but its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelConfig {
    /// Features of a frame M: rows of pixels, red, green and blue each.
    pub features: usize,
    /// Pixels of a row of a frame.
    pub width: usize,
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
    /// How exact its products are at least.
    pub precision: Precision,
    /// Hidden units of the dense models.
    pub dense_hidden: usize,
    /// Layers, directions and read-out of the recurrent models.
    #[serde(default)]
    pub stack: Stack,
    /// The form of U of every layer.
    #[serde(default)]
    pub recurrent: RecurrentForm,
    /// Gate non-linearity.
    pub gate_activation: GateActivation,
    /// Pixel scaling.
    pub affine: Affine,
    /// Frames that an MLP concatenates.
    pub mlp_frames: usize,
    /// Input modes of an MLP; their product is `mlp_frames · M`.
    pub mlp_input_modes: Vec<usize>,
    /// Inner rank of an MLP.
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
    /// Of input matrices that are tensor networks.
    #[serde(default)]
    pub formats: FormatSettings,
    /// The CNN of models that have one.
    #[serde(default)]
    pub cnn: CnnSize,
    /// The form of its kernels.
    #[serde(default)]
    pub cnn_kernels: CnnKernels,
    /// λ of the penalty on places that attention looks at more, or less, than once.
    #[serde(default)]
    pub attention_penalty: f32,
}

/// Ranks and options of input matrices that are tensor networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormatSettings {
    /// Weights of each input matrix at most: ranks are planned as large as that allows, those of trains too. 0 where the
    /// ranks are given.
    pub input_weights: usize,
    /// Ranks by format, one for all of a format's or all of them; [`ModelConfig::rank`] for a format without.
    pub ranks: BTreeMap<String, Vec<usize>>,
    /// Terms of a block-term decomposition.
    pub blocks: usize,
    /// Tree of a hierarchical decomposition as `((1 2) (3 4))`; empty for the balanced one.
    pub tree: String,
}

impl Default for FormatSettings {
    fn default() -> Self {
        let blocks = Options::default().blocks;
        Self { input_weights: 0, ranks: BTreeMap::new(), blocks, tree: String::new() }
    }
}

impl FormatSettings {
    /// As the formats take them.
    ///
    /// # Errors
    /// A tree that is none.
    pub(crate) fn options(&self) -> Result<Options> {
        let tree = if self.tree.trim().is_empty() { None } else { Some(self.tree.parse()?) };
        Ok(Options { blocks: self.blocks, tree })
    }
}

impl ModelConfig {
    /// Rows of a frame that is a picture of [`Self::width`] pixels in three colours.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for rows that are no such pictures.
    pub(crate) fn picture_height(&self) -> Result<usize> {
        let (features, row) = (self.features, self.width.saturating_mul(3));
        if row == 0 || features == 0 || !features.is_multiple_of(row) {
            return Err(Error::Unsupported(format!(
                "the model reads pictures: {features} numbers are no rows of {} pixels in three colours",
                self.width
            )));
        }
        Ok(features / row)
    }

    /// Models of sequences of numbers: rows of as many as the input modes multiply to, a state of as many as the output
    /// modes do, no dropout, sigmoid gates and numbers taken as they are.
    pub fn new(input_modes: &[usize], output_modes: &[usize], rank: usize, classes: usize) -> Self {
        let features = input_modes.iter().product();
        Self {
            features,
            width: features,
            classes,
            input_modes: input_modes.to_vec(),
            output_modes: output_modes.to_vec(),
            rank,
            gates: GateLayout::Concatenated,
            core_init: CoreInit::VarianceMatched,
            backend: Backend::Fused,
            precision: Precision::F32,
            dense_hidden: output_modes.iter().product(),
            stack: Stack::default(),
            recurrent: RecurrentForm::Dense,
            gate_activation: GateActivation::Sigmoid,
            affine: Affine::IDENTITY,
            mlp_frames: 1,
            mlp_input_modes: input_modes.to_vec(),
            mlp_rank: rank,
            recurrent_dropout: 0.0,
            dense_masks_per_gate: false,
            dense_input_dropout: 0.0,
            tt_input_dropout: 0.0,
            warm_up_to: 0,
            classifier_l2: 0.0,
            formats: FormatSettings::default(),
            cnn: CnnSize::Small,
            cnn_kernels: CnnKernels::Dense,
            attention_penalty: 0.0,
        }
    }

    /// The same for the layer of an MLP: all its frames as one row, and no gates.
    #[must_use]
    pub fn of_mlp(&self) -> Self {
        Self {
            features: self.mlp_input_modes.iter().product(),
            input_modes: self.mlp_input_modes.clone(),
            rank: self.mlp_rank,
            gates: GateLayout::Concatenated,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_as_it_was_written() {
        let stack = Stack { layers: 2, bidirectional: true, readout: Readout::Max };
        let gates = GateLayout::Separate;
        let recurrent = RecurrentForm::Factorized { format: "tt".into(), rank: 3 };
        let config = ModelConfig { gates, stack, recurrent, ..ModelConfig::new(&[4, 6], &[2, 3], 2, 5) };
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""gates":"separate""#) && text.contains(r#""backend":"fused""#), "{text}");
        assert_eq!(serde_json::from_str::<ModelConfig>(&text).unwrap(), config);
        for layout in [GateLayout::Concatenated, GateLayout::Separate] {
            assert_eq!(layout.to_string().parse::<GateLayout>().unwrap(), layout);
        }
        for readout in [Readout::Last, Readout::Mean, Readout::Max] {
            assert_eq!(readout.to_string().parse::<Readout>().unwrap(), readout);
        }
        for size in [CnnSize::Small, CnnSize::Large] {
            assert_eq!(size.to_string().parse::<CnnSize>().unwrap(), size);
        }
        assert_eq!(stack.unusual(), Some("model.layers"));
        assert_eq!(Stack::default().unusual(), None);
    }
}
