//! What one call of a recurrent layer depends on beside its tensors.

/// Recurrent dropout masks, already scaled by `1 / (1 - p)` and constant over time.
#[derive(Debug, Clone, Default)]
pub enum RecurrentMasks {
    /// No dropout.
    #[default]
    None,
    /// `[B, H]`, the same for all gates.
    Shared(Vec<f32>),
    /// `[G, B, H]`.
    PerGate(Vec<f32>),
}

/// Dropout of the input features, one mask per gate and clip, constant over time.
#[derive(Debug, Clone, Copy)]
pub struct InputDropout {
    /// Share of the features that a gate does not see.
    pub probability: f32,
    /// Draws the masks.
    pub seed: u64,
}

/// Which states a recurrent layer returns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Output {
    /// The last of each clip, `[B, H]`.
    #[default]
    Last,
    /// The one after every frame, `[sum T_b, H]`, packed as the frames are.
    Sequence,
}

/// What one call of the layer depends on beside its tensors.
#[derive(Debug, Clone, Default)]
pub struct LayerCall {
    /// Frames per clip `[B]`; the rows are packed in this order.
    pub lengths: Vec<usize>,
    /// Recurrent dropout.
    pub masks: RecurrentMasks,
    /// Dropout of the input features, by projections that can show each gate other features.
    pub input_dropout: Option<InputDropout>,
    /// Bias-only steps before each clip `[B]`; empty for none.
    pub warm_up: Vec<usize>,
    /// Which states are returned.
    pub output: Output,
    /// Whether a backward pass will follow; without it nothing is saved.
    pub train: bool,
}
