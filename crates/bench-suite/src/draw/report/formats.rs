//! What each format of the input matrix reaches, and what it costs.

use crate::draw::report::blocks::{Block, words};
use crate::draw::report::{interval, metric, plus_minus, table};
use crate::results::RunFile;
use crate::results::formats::FormatRow;
use crate::results::paired::PairedRow;
use crate::text::{p_value, thousands};

/// What is shown, then a table, and the differences from the train of this experiment's own; none unless there are formats
/// to compare.
pub(super) fn blocks(run: &RunFile, rows: &[FormatRow], pairs: &[PairedRow]) -> Option<Vec<Block>> {
    if rows.is_empty() {
        return None;
    }
    let text = "One row a format, cell and budget, from this experiment and from those beside it whose name differs in \
                a number at the end, the budget. Mflop is what input matrix and recurrence do for a frame, forwards; \
                µs is the training of a frame, seconds of an epoch over its frames. Both are empty where they were \
                not recorded, seconds where cells did not have the cores for themselves.";
    let head = [
        "model",
        "protocol",
        "recipe",
        "weights, input",
        metric(run),
        "95 % interval",
        "folds",
        "Mflop/frame",
        "µs/frame",
        "s/epoch",
    ];
    let row = |FormatRow { row, macs_per_frame, frame_us, .. }: &FormatRow| {
        vec![
            row.model.clone(),
            row.protocol.clone(),
            row.recipe.clone(),
            thousands(row.params_input),
            plus_minus(Some(row.mean), row.std),
            interval(row.ci_low, row.ci_high),
            row.folds.to_string(),
            macs_per_frame.map_or_else(String::new, |macs| format!("{:.2}", 2e-6 * macs as f64)),
            frame_us.map_or_else(String::new, |us| format!("{us:.0}")),
            row.epoch_s.map_or_else(String::new, |s| format!("{s:.2}")),
        ]
    };
    let mut blocks = vec![Block::Text { text: words(text) }, table(&head, 3, rows.iter().map(row).collect())];
    let pairs: Vec<_> = pairs.iter().filter(|row| !row.of_twins()).map(compared).collect();
    if !pairs.is_empty() {
        let text = "Other formats less the train at this experiment's budget, on the same folds: the interval draws the same \
                    test clips, groups and seeds for both, and p is of no difference, adjusted (Holm 1979) for all \
                    comparisons of a protocol and a recipe.";
        let head = ["pair", "protocol", "recipe", "difference", "95 % interval", "p", "folds", "epochs"];
        blocks.extend([Block::Text { text: words(text) }, table(&head, 3, pairs)]);
    }
    Some(blocks)
}

fn compared(row: &PairedRow) -> Vec<String> {
    vec![
        format!("{} − {}", row.model, row.baseline),
        row.protocol.clone(),
        row.recipe.clone(),
        plus_minus(Some(row.mean_difference), row.std),
        interval(row.ci_low, row.ci_high),
        row.p.map_or_else(String::new, p_value),
        row.folds.to_string(),
        row.epochs(),
    ]
}
