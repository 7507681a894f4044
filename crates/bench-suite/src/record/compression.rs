//! What `compress` leaves of a case, and what a case is called.

use crate::device_name::DeviceName;
use serde::{Deserialize, Serialize};

/// A cell compressed at one rank: `case.json`, and a row of `results/compression/<experiment>/runs/<run>/cases.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompressionCase {
    /// `gru`, `lstm` or `rnn`; `cnn-gru`, `cnn-lstm` or `frozen-cnn-gru`.
    pub model: String,
    /// `concatenated` (one train for all gates) or `separate` (one per gate); of another format with its name before,
    /// `tr-concatenated`; of the kernels of a CNN `tt-kernels` or `cp-kernels`.
    pub form: String,
    /// Requested inner ranks.
    pub rank: usize,
    /// Fold index.
    pub fold: usize,
    /// Seed of the cell and of everything here.
    pub seed: u64,
    /// Protocol of the fold.
    pub protocol: String,
    /// Recipe.
    pub recipe: String,
    /// Relative error of the input matrix, or of all factorized kernels together; Frobenius norm.
    pub rel_error: f64,
    /// Numbers in the cores of the matrix, or in all kernels of the CNN, those that are not factorized too.
    pub params: usize,
    /// Score of the dense cell on the test fold.
    pub acc_before: f64,
    /// The same with matrix or kernels factorized.
    pub acc_factorized: f64,
    /// After fine-tuning.
    pub acc_finetuned: f64,
    /// The model of small cores trained as long from initial weights.
    pub acc_scratch: f64,
    /// Epochs of fine-tuning, and of the model from initial weights.
    pub epochs: usize,
    /// Epochs of the dense cell.
    pub epochs_before: usize,
    /// Wall seconds of reading and factorizing.
    pub factorize_s: f64,
    /// Peak resident memory of the process in bytes.
    pub peak_rss_bytes: u64,
}

/// A factorized kernel of a compressed CNN: a row of `results/compression/<experiment>/runs/<run>/kernels.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelCase {
    /// As the case's, and so on.
    pub model: String,
    /// See [`CompressionCase::form`].
    pub form: String,
    /// Requested inner rank.
    pub rank: usize,
    /// Fold index.
    pub fold: usize,
    /// Seed of the cell.
    pub seed: u64,
    /// Protocol of the fold.
    pub protocol: String,
    /// Recipe.
    pub recipe: String,
    /// Name of the convolution.
    pub kernel: String,
    /// Numbers of the kernel.
    pub numbers: usize,
    /// Numbers of its factors.
    pub params: usize,
    /// Relative error, Frobenius norm.
    pub rel_error: f64,
}

/// A singular value of an unfolding of a dense cell's input matrix: a row of
/// `results/compression/<experiment>/runs/<run>/singular_values.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SingularValue {
    /// `gru`, `lstm` or `rnn`.
    pub model: String,
    /// `trained`, `initial`, or `change`: trained less initial.
    pub matrix: String,
    /// k: rows are the paired indices 1 to k of input and output modes, all gates in one matrix.
    pub unfolding: usize,
    /// From 1, largest first.
    pub index: usize,
    /// The value.
    pub singular_value: f64,
    /// Relative error (Frobenius norm) of the best matrix of rank `index`.
    pub rel_error: f64,
}

/// What records of `compress` call a form of a format. Trains came first: in their form, matrices name no format.
pub fn form_name(to: &str, form: &str) -> String {
    if to == "tt" && form != "kernels" { form.to_owned() } else { format!("{to}-{form}") }
}

/// The name of a case of `compress`: the cell, its [`form_name`], rank, epochs of fine-tuning, and the device where it is
/// not the CPU.
pub fn case_name(cell: &str, form: &str, (rank, epochs): (usize, usize), device: DeviceName) -> String {
    let device = match device.kind() {
        "cpu" => String::new(),
        other => format!(".{other}"),
    };
    format!("{cell}.{form}.r{rank}.e{epochs}{device}")
}
