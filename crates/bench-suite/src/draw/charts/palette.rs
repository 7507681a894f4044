//! One colour per model in every chart, told apart by colour-blind readers too (after Okabe and Ito): a hue
//! per cell (GRU blue, LSTM orange, plain purple, MLP green), light for dense, dark for Tensor-Train.

use std::fmt::Write as _;

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
        // Controls: browns and greens, which no model of the paper has.
        "mean-frame" => (176, 150, 110),
        "stacked-frames" => (120, 85, 40),
        "pooled-gru-small" => (170, 190, 60),
        "pooled-gru" => (105, 130, 20),
        "projected-gru" => (150, 130, 200),
        "tt-gru-frozen" => (85, 65, 150),
        "frozen-cnn-gru" => (95, 95, 110),
        // What a CNN sees: greys, tinted as their cells.
        "cnn-gru" => (95, 120, 140),
        "cnn-lstm" => (150, 115, 90),
        "attention-lstm" => (140, 85, 85),
        // Other factorizations: a hue each, light for the GRU and dark for the LSTM.
        "tr-gru" => (70, 170, 170),
        "tr-lstm" => (15, 105, 110),
        "tr-split-gru" => (140, 195, 110),
        "tr-split-lstm" => (75, 135, 45),
        "cp-gru" => (240, 150, 150),
        "cp-lstm" => (195, 60, 75),
        "cp-split-gru" => (180, 180, 130),
        "cp-split-lstm" => (115, 115, 60),
        "tucker-gru" => (190, 155, 235),
        "tucker-lstm" => (120, 75, 185),
        "bt-gru" => (225, 190, 95),
        "bt-lstm" => (165, 120, 15),
        "ht-gru" => (240, 145, 205),
        "ht-lstm" => (180, 50, 135),
        _ => MUTED,
    }
}

/// A colour dark enough for text on white.
pub(crate) fn ink((r, g, b): Color) -> Color {
    let dark = |c: u8| (u16::from(c) * 7 / 10) as u8;
    (dark(r), dark(g), dark(b))
}

/// Style rules that turn a chart's colours into those of a dark page: of the paper's models, and of
/// `others` that the page shows.
pub(crate) fn dark_style<'a>(others: impl Iterator<Item = &'a str>) -> String {
    let mut rules = String::new();
    let mut rule = |light: Color, dark: &str| {
        let light = format!("#{:02X}{:02X}{:02X}", light.0, light.1, light.2);
        for property in ["fill", "stroke"] {
            // Writing to a String cannot fail.
            let _ = writeln!(rules, "  .chart [{property}=\"{light}\"] {{ {property}: {dark}; }}");
        }
    };
    rule(WHITE, "var(--paper)");
    rule(INK, "var(--ink)");
    rule(MUTED, "var(--muted)");
    rule(GRID, "var(--line)");
    rule(NEUTRAL, "#6a7480");
    let mut names = vec!["tt-mlp", "gru", "lstm", "tt-gru", "tt-lstm", "rnn", "tt-rnn"];
    for other in others {
        if !names.contains(&other) {
            names.push(other);
        }
    }
    for name in names {
        let lighter = |share: u16| {
            let mix = |c: u8| (u16::from(c) + (255 - u16::from(c)) * share / 100) as u8;
            let (r, g, b) = color(name);
            format!("#{:02x}{:02x}{:02x}", mix(r), mix(g), mix(b))
        };
        rule(color(name), &lighter(if is_dense(name) { 10 } else { 25 }));
        rule(ink(color(name)), &lighter(50));
    }
    rules
}

/// Dense models have hollow marks.
pub(crate) fn is_dense(name: &str) -> bool {
    matches!(
        name,
        "gru"
            | "lstm"
            | "rnn"
            | "fc"
            | "projected-gru"
            | "pooled-gru"
            | "pooled-gru-small"
            | "frozen-cnn-gru"
            | "cnn-gru"
            | "cnn-lstm"
            | "attention-lstm"
    )
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
