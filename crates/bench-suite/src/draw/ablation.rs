//! The page of an ablation.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts;
use crate::results::ablation::{ABLATION_HEADER, Shown, shown};
use crate::results::{csv_bytes, machines, shown_line, write_atomic};
use crate::text::{md_table, score};

/// What [`derive()`] writes into a folder.
pub const DERIVED: [&str; 6] =
    ["ablation.csv", "ablation.md", "ablation.svg", "ablation.png", "levels.svg", "levels.png"];

/// Writes table, page and chart of an ablation from the run with the most cells.
pub fn derive(dir: &Path) -> Result<()> {
    let shown = shown(dir)?;
    write_atomic(&dir.join("ablation.csv"), &csv_bytes(ABLATION_HEADER, &shown.table)?)?;
    write_atomic(&dir.join("ablation.md"), page(&shown).as_bytes())?;
    charts::ablation(dir, &shown.about.title, &shown.table)?;
    charts::levels(dir, &shown.about, &shown.table)
}

fn page(Shown { about, table, run, others }: &Shown) -> String {
    let mut text = format!(
        "# What the paper leaves open: {}\n\nOne factor at a time from recipe `{}`, protocol `{}`, final \
         epoch. Mean ± sample standard deviation over folds; 95 % intervals by bootstrap over the scored clips \
         within folds. `difference` is against the default on the same folds, clips drawn alike for both. Gates \
         saturated: share of the gates' activations below 0.01 or above 0.99 at the initial weights, over the \
         first training batch. Split `inner` scores on a part of the training fold and is what a setting may be \
         chosen by; `test` is the test fold, and chooses nothing.\n\n- {}\n- {} clips, {} frames; data digest \
         `{}`\n- {}\n- machine: {}\n\n![scores per level](ablation.svg)\n",
        about.ablation,
        about.recipe(),
        about.protocol,
        about.data,
        about.clips,
        about.frames,
        about.data_digest,
        shown_line(run, others),
        machines(&about.provenance)
    );
    if !about.axes.is_empty() {
        text.push_str("\n![scores against levels that are numbers](levels.svg)\n");
    }
    let range = |low: Option<f64>, high: Option<f64>| match (low, high) {
        (Some(low), Some(high)) => format!("{} to {}", score(low), score(high)),
        _ => String::new(),
    };
    for (factor, _) in &about.defaults {
        let rows: Vec<Vec<String>> = table
            .iter()
            .filter(|row| row.factor == *factor)
            .map(|row| {
                let difference = row
                    .difference
                    .map(|d| format!("{d:+.3} ({})", range(row.difference_low, row.difference_high)));
                vec![
                    row.split.clone(),
                    row.model.clone(),
                    row.level.clone(),
                    match row.std {
                        Some(std) => format!("{} ± {}", score(row.mean), score(std)),
                        None => score(row.mean),
                    },
                    range(row.ci_low, row.ci_high),
                    difference.unwrap_or_default(),
                    row.folds.to_string(),
                    row.epochs.to_string(),
                    row.saturated_gates.map_or_else(String::new, |s| format!("{:.1} %", s * 100.0)),
                    row.epoch_s.map_or_else(String::new, |s| format!("{s:.2}")),
                ]
            })
            .collect();
        if rows.is_empty() {
            continue;
        }
        let header = [
            "split",
            "model",
            "level",
            "accuracy",
            "95 % interval",
            "difference",
            "folds",
            "epochs",
            "gates saturated",
            "s/epoch",
        ];
        text.push_str("\n## ");
        text.push_str(factor);
        text.push_str("\n\n");
        text.push_str(&md_table(&header, &rows));
    }
    text
}
