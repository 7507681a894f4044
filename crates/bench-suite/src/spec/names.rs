//! Names of models and formats.

/// Names of the formats of input matrices beside dense and `tt`.
pub const FORMAT_NAMES: [&str; 7] = ["tr", "tr-split", "cp", "cp-split", "tucker", "bt", "ht"];

/// Names of all models, in the order of tables and charts: the paper's five, the plain cells, controls, cells on what
/// a CNN sees, and every cell and the MLP with every other format.
pub const MODEL_NAMES: [&str; 45] = [
    "tt-mlp",
    "gru",
    "lstm",
    "tt-gru",
    "tt-lstm",
    "rnn",
    "tt-rnn",
    "mean-frame",
    "stacked-frames",
    "pooled-gru-small",
    "pooled-gru",
    "projected-gru",
    "tt-gru-frozen",
    "frozen-cnn-gru",
    "cnn-gru",
    "cnn-lstm",
    "attention-lstm",
    "tr-rnn",
    "tr-gru",
    "tr-lstm",
    "tr-mlp",
    "tr-split-rnn",
    "tr-split-gru",
    "tr-split-lstm",
    "tr-split-mlp",
    "cp-rnn",
    "cp-gru",
    "cp-lstm",
    "cp-mlp",
    "cp-split-rnn",
    "cp-split-gru",
    "cp-split-lstm",
    "cp-split-mlp",
    "tucker-rnn",
    "tucker-gru",
    "tucker-lstm",
    "tucker-mlp",
    "bt-rnn",
    "bt-gru",
    "bt-lstm",
    "bt-mlp",
    "ht-rnn",
    "ht-gru",
    "ht-lstm",
    "ht-mlp",
];

/// Of `train.augment`: left and right change places.
pub const MIRROR: &str = "mirror";
/// Of `train.augment`: a window of each frame in its place.
pub const CROP: &str = "crop";

/// The model that chooses what it looks at.
pub const ATTENTION: &str = "attention-lstm";

/// The model on features of a pretrained network, `crate::pretrained`.
pub const ON_FEATURES: &str = "frozen-cnn-gru";
