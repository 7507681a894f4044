//! Our side of `cargo xtask bench decomposition`: TT-SVD, rounding, and a TT-matrix times a batch of vectors.

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;
use tt_core::decomposition::{Truncation, TtMatrix, TtTensor, tt_svd};

/// Modes of the matrix 57,600 × 256: those of the paper's UCF11 layer.
const INPUTS: [usize; 4] = [8, 20, 20, 18];
const OUTPUTS: [usize; 4] = [4, 4, 4, 4];

/// What to decompose.
#[derive(Debug, Args)]
pub struct DecompositionOptions {
    /// Raw little-endian f32: the matrix as a tensor of modes `m_k · n_k`, then vectors `[B, 57600]`.
    #[arg(long)]
    input: PathBuf,
    /// TT ranks.
    #[arg(long, value_delimiter = ',')]
    ranks: Vec<usize>,
}

/// Runs everything once and prints `{"op/rank": [seconds, relative error]}`, without an error for operations
/// that have none.
///
/// # Errors
/// A file that cannot be read or has another size.
#[expect(clippy::print_stdout, reason = "the answer is what the verb is for")]
pub fn decomposition(options: &DecompositionOptions) -> Result<()> {
    let bytes =
        std::fs::read(&options.input).with_context(|| format!("cannot read {}", options.input.display()))?;
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    drop(bytes);
    let modes: Vec<usize> = INPUTS.iter().zip(OUTPUTS).map(|(m, n)| m * n).collect();
    let count = modes.iter().product();
    ensure!(values.len() > count, "{}: too short", options.input.display());
    let (tensor, vectors) = values.split_at(count);
    let mut said = serde_json::Map::new();
    for &rank in &options.ranks {
        let truncation = Truncation::rank(rank, modes.len());
        let (train, seconds) = timed(|| tt_svd(tensor, &modes, &truncation))?;
        said.insert(format!("tt_svd/{rank}"), json!([seconds, error(tensor, &train)]));
        let twice = train.add(&train)?;
        let (rounded, seconds) = timed(|| twice.round(&truncation))?;
        let same = rounded.sub(&train.scale(2.0))?.norm() / twice.norm();
        said.insert(format!("round/{rank}"), json!([seconds, same]));
        let matrix = TtMatrix::new(train, &INPUTS, &OUTPUTS)?;
        let (_, seconds) = timed(|| matrix.apply(vectors))?;
        said.insert(format!("matvec/{rank}"), json!([seconds, null]));
    }
    println!("{}", serde_json::Value::Object(said));
    Ok(())
}

fn timed<T>(work: impl FnOnce() -> tt_core::Result<T>) -> Result<(T, f64)> {
    let started = Instant::now();
    let done = work()?;
    Ok((done, started.elapsed().as_secs_f64()))
}

fn error(tensor: &[f32], train: &TtTensor<f32>) -> f64 {
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let wrong = squares(&mut tensor.iter().zip(train.reconstruct()).map(|(a, b)| a - b));
    (wrong / squares(&mut tensor.iter().copied())).sqrt()
}
