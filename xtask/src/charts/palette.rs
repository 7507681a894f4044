//! One colour per model in every chart, told apart by colour-blind readers too (after Okabe and Ito): a hue
//! per cell (GRU blue, LSTM orange, plain purple, MLP green), light for dense, dark for Tensor-Train.

/// Red, green, blue.
pub(crate) type Color = (u8, u8, u8);

/// Background.
pub(crate) const WHITE: Color = (255, 255, 255);
/// Text and axes.
pub(crate) const INK: Color = (34, 34, 34);
/// Secondary text.
pub(crate) const MUTED: Color = (98, 98, 98);
/// Grid lines.
pub(crate) const GRID: Color = (226, 226, 226);
/// Bars that are nobody's model.
pub(crate) const NEUTRAL: Color = (176, 176, 176);

/// Colour of a model, or of a layer of Figure 1.
pub(crate) fn color(name: &str) -> Color {
    match name {
        "tt-mlp" | "ttl" => (0, 140, 105),
        "gru" | "vanilla-tt-gru" => (86, 180, 233),
        "lstm" | "vanilla-tt-lstm" => (230, 159, 0),
        "tt-gru" => (0, 98, 165),
        "tt-lstm" => (200, 80, 0),
        "rnn" => (204, 121, 167),
        "tt-rnn" => (130, 40, 100),
        _ => MUTED,
    }
}

/// A colour dark enough for text on white.
pub(crate) fn ink((r, g, b): Color) -> Color {
    let dark = |c: u8| (u16::from(c) * 7 / 10) as u8;
    (dark(r), dark(g), dark(b))
}

/// Dense models have hollow marks.
pub(crate) fn is_dense(name: &str) -> bool {
    matches!(name, "gru" | "lstm" | "rnn" | "fc")
}

/// A model's name as the paper writes it.
pub(crate) fn title(name: &str) -> String {
    match name {
        "vanilla-tt-gru" => "vanilla TT-GRU".into(),
        "vanilla-tt-lstm" => "vanilla TT-LSTM".into(),
        "ttl" => "TT layer".into(),
        "fc" => "fully connected".into(),
        _ => name.to_uppercase(),
    }
}
