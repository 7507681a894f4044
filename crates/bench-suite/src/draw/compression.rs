//! The page of compressed models.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts;
use crate::results::compression::{COMPRESSION_HEADER, CompressionRow, Shown, shown};
use crate::results::{csv_bytes, machines, shown_line, write_atomic};
use crate::text::{md_table, score, thousands};

/// What [`derive()`] writes into a folder.
pub const DERIVED: [&str; 6] = [
    "table.csv",
    "compression.md",
    "compression.svg",
    "compression.png",
    "singular_values.svg",
    "singular_values.png",
];

/// Writes table, page and charts of an experiment from the run with the most cases.
pub fn derive(dir: &Path) -> Result<()> {
    let shown = shown(dir)?;
    write_atomic(&dir.join("table.csv"), &csv_bytes(COMPRESSION_HEADER, &shown.table)?)?;
    write_atomic(&dir.join("compression.md"), page(&shown).as_bytes())?;
    charts::compression(dir, &shown.about.data, &shown.table)?;
    charts::singular_values(dir, &shown.about.data, &shown.values)
}

fn page(Shown { about, table, run, others, .. }: &Shown) -> String {
    let rows = table.iter().map(|row| {
        let tuned = |value: f64| if row.epochs == 0 { String::new() } else { score(value) };
        vec![
            row.model.clone(),
            row.form.clone(),
            row.protocol.clone(),
            row.recipe.clone(),
            row.seed.to_string(),
            row.rank.to_string(),
            format!("{:.4}", row.rel_error),
            thousands(row.params),
            score(row.acc_before),
            score(row.acc_factorized),
            tuned(row.acc_finetuned),
            tuned(row.acc_scratch),
            row.epochs.to_string(),
            row.folds.to_string(),
            format!("{:.1}", row.factorize_s),
            format!("{:.2}", row.peak_rss_bytes as f64 / 1e9),
        ]
    });
    let header = [
        "model",
        "form",
        "protocol",
        "recipe",
        "seed",
        "rank",
        "relative error",
        "numbers",
        "dense",
        "factorized",
        "fine-tuned",
        "from scratch",
        "epochs",
        "folds",
        "seconds",
        "GB",
    ];
    let other = table.iter().any(CompressionRow::other_format);
    let (title, formats) = if other {
        (
            "in small cores",
            " A form that begins with a format's name, as `tr-concatenated`, is of that format in place of trains.",
        )
    } else {
        ("as Tensor Trains", "")
    };
    format!(
        "# Trained dense layers {title}: {}\n\nThe input matrix of a trained dense model, factorized by \
         TT-SVD: per gate (`separate`) or all gates in one train (`concatenated`). Relative error in the \
         Frobenius norm. Accuracy on the test fold: of the dense model, with the matrix factorized, after so \
         many epochs of fine-tuning all weights at the TT models' rate, and of a TT model trained as long from \
         initial weights. Seconds and memory are those of factorizing.{formats}\n\n- {}\n- data digest `{}`\n- {}\n- \
         machine: {}\n\n![accuracy against rank](compression.svg)\n\n{}\n\nSingular values of the unfoldings of the matrix (all \
         gates, the first fold), of its initial values and of what training changed; `rel_error` in \
         `singular_values.csv` is what the best cut of that unfolding alone would leave.\n\n![singular values \
         against their index](singular_values.svg)\n",
        about.experiment,
        about.data,
        about.data_digest,
        shown_line(run, others),
        machines(&about.provenance),
        md_table(&header, &rows.collect::<Vec<_>>())
    )
}
