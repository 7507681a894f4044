//! Names of models and formats.

/// Makes the two lists: names of models, and formats that every cell and the MLP have.
macro_rules! names {
    ($($model:literal,)* formats: $($format:literal,)*) => {
        /// Names of the formats of input matrices that are not dense, the train first.
        pub const FORMAT_NAMES: &[&str] = &["tt", $($format),*];

        /// What stands before the name of a cell or of the MLP where its input matrix is factorized, for people to read.
        pub const FORMAT_PREFIXES: &str = concat!("tt-", $(", ", $format, "-",)*);

        /// Names of all models, in the order of tables and charts: the paper's five, the plain cells, controls, cells on what
        /// a CNN sees, and every cell and the MLP with every other format.
        pub const MODEL_NAMES: &[&str] = &[
            $($model,)*
            $(
                concat!($format, "-rnn"),
                concat!($format, "-gru"),
                concat!($format, "-lstm"),
                concat!($format, "-mlp"),
            )*
        ];
    };
}

names! {
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
    formats:
    "tr",
    "tr-split",
    "cp",
    "cp-split",
    "tucker",
    "bt",
    "ht",
}

/// The format of a model's input matrix, one of [`FORMAT_NAMES`], and its cell or `mlp`; none of a model that has no such
/// matrix.
pub fn format_of(model: &str) -> Option<(&'static str, &str)> {
    let cell = |format: &str| model.strip_prefix(format)?.strip_prefix('-');
    let cells = ["rnn", "gru", "lstm", "mlp"];
    FORMAT_NAMES.iter().find_map(|format| Some((*format, cell(format).filter(|cell| cells.contains(cell))?)))
}

/// Of `train.augment`: left and right change places.
pub const MIRROR: &str = "mirror";
/// Of `train.augment`: a window of each frame in its place.
pub const CROP: &str = "crop";

/// The model that chooses what it looks at.
pub const ATTENTION: &str = "attention-lstm";

/// The model on features of a pretrained network, `crate::pretrained`.
pub const ON_FEATURES: &str = "frozen-cnn-gru";
