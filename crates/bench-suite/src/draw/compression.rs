//! The page of compressed models.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts;
use crate::record::KernelCase;
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
    if shown.values.is_empty() {
        charts::remove(dir, "singular_values");
        return Ok(());
    }
    charts::singular_values(dir, &shown.about.data, &shown.values)
}

/// What is said of input matrices.
const OF_MATRICES: &str = "The input matrix of a trained dense model, factorized by \
     TT-SVD: per gate (`separate`) or all gates in one train (`concatenated`). Relative error in the \
     Frobenius norm. Accuracy on the test fold: of the dense model, with the matrix factorized, after so \
     many epochs of fine-tuning all weights at the TT models' rate, and of a TT model trained as long from \
     initial weights. Seconds and memory are those of factorizing.";
/// What is said of kernels.
const OF_KERNELS: &str = "The kernels of a trained CNN, factorized into trains by TT-SVD (`tt-kernels`) or into sums of \
     products by alternating least squares (`cp-kernels`), where that takes fewer numbers. Numbers are those of all kernels, \
     the relative error is that of the factorized ones together. Accuracy on the test fold: of the dense model, with factorized \
     kernels, after so many epochs of fine-tuning all weights at the model's rates, and of the model with such kernels trained \
     as long from initial weights. Of `frozen-cnn-gru` they are the 1×1 kernels of the pretrained network: its features are \
     computed again, and standardized on the training fold again; it stays as it is while the GRU on them is fine-tuned or \
     trained from initial weights. Seconds are those of factorizing, and memory is that of the whole case.";
/// What is said of singular values.
const OF_VALUES: &str = "Singular values of the unfoldings of the matrix (all \
     gates, the first fold), of its initial values and of what training changed; `rel_error` in \
     `singular_values.csv` is what the best cut of that unfolding alone would leave.\n\n![singular values \
     against their index](singular_values.svg)";

fn page(Shown { about, table, values, kernels, run, others }: &Shown) -> String {
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
    let of_kernels = table.iter().any(CompressionRow::of_kernels);
    let (title, formats) = match (other, of_kernels) {
        (false, _) => ("dense layers as Tensor Trains", ""),
        (true, true) => ("layers in small cores", ""),
        (true, false) => (
            "dense layers in small cores",
            " A form that begins with a format's name, as `tr-concatenated`, is of that format in place of trains.",
        ),
    };
    let mut about_them = Vec::new();
    if table.iter().any(|row| !row.of_kernels()) {
        about_them.push(format!("{OF_MATRICES}{formats}"));
    }
    if of_kernels {
        about_them.push(OF_KERNELS.to_owned());
    }
    let mut sections = vec![
        format!("# Trained {title}: {}", about.experiment),
        about_them.join("\n\n"),
        format!(
            "- {}\n- data digest `{}`\n- {}\n- machine: {}",
            about.data,
            about.data_digest,
            shown_line(run, others),
            machines(&about.provenance)
        ),
        "![accuracy against rank](compression.svg)".to_owned(),
        md_table(&header, &rows.collect::<Vec<_>>()),
    ];
    if !kernels.is_empty() {
        sections.push(kernels_table(kernels));
    }
    if !values.is_empty() {
        sections.push(OF_VALUES.to_owned());
    }
    format!("{}\n", sections.join("\n\n").trim_end())
}

/// Every kernel that was factorized, by form and rank.
fn kernels_table(kernels: &[KernelCase]) -> String {
    let rows = kernels.iter().map(|row| {
        vec![
            row.model.clone(),
            row.form.clone(),
            row.rank.to_string(),
            row.fold.to_string(),
            row.kernel.clone(),
            thousands(row.numbers),
            thousands(row.params),
            format!("{:.4}", row.rel_error),
        ]
    });
    let header = ["model", "form", "rank", "fold", "kernel", "numbers", "of factors", "relative error"];
    format!("Kernel by kernel; others stay whole.\n\n{}", md_table(&header, &rows.collect::<Vec<_>>()))
}
