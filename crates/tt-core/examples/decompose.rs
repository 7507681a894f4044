//! TT-SVD of a matrix: how many numbers it takes at several accuracies.
//!
//! `cargo run --release -p tt-core --example decompose [matrix.csv]`: a file of numbers, a row a line, without header;
//! without one, a kernel matrix `1 / (1 + |i - j|)` of 720 × 256.
#![expect(clippy::print_stdout, reason = "a table for people")]

use anyhow::{Context, Result, ensure};
use tt_core::decomposition::{Truncation, TtMatrix, balanced_modes};

fn main() -> Result<()> {
    let (values, rows, columns) = match std::env::args().nth(1) {
        Some(path) => read(&path)?,
        None => (
            (0..720 * 256).map(|at: i32| 1.0 / f64::from(1 + (at / 256 - at % 256).abs())).collect(),
            720,
            256,
        ),
    };
    // Three modes each, as equal as the factors of rows and columns allow.
    let (m, n) = (balanced_modes(rows, 3)?, balanced_modes(columns, 3)?);
    let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
    println!("{rows} x {columns}, {} numbers, modes {m:?} x {n:?}", values.len());
    println!("{:>9} {:>16} {:>10} {:>12}", "asked", "ranks", "numbers", "error");
    for accuracy in [1e-1, 1e-2, 1e-4, 1e-8] {
        let matrix = TtMatrix::from_dense(&values, &m, &n, &Truncation::RelativeError(accuracy))?;
        let wrong = values.iter().zip(matrix.reconstruct()).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
        let (ranks, numbers) = (format!("{:?}", matrix.train().ranks()), matrix.train().storage());
        println!("{accuracy:>9.0e} {ranks:>16} {numbers:>10} {:>12.2e}", wrong / norm);
    }
    Ok(())
}

fn read(path: &str) -> Result<(Vec<f64>, usize, usize)> {
    let mut file = csv::ReaderBuilder::new().has_headers(false).from_path(path).context(path.to_owned())?;
    let lines: Vec<Vec<f64>> = file.deserialize().collect::<Result<_, _>>().context(path.to_owned())?;
    let columns = lines.first().map_or(0, Vec::len);
    ensure!(columns > 0, "{path}: no number");
    Ok((lines.concat(), lines.len(), columns))
}
