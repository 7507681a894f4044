//! A Tucker decomposition over pairs of modes.

use super::fit::{numbers, with};
use super::{Format, FormatShape, Modes, Options, every};
use crate::Result;
use crate::decomposition::{Alternating, Decomposed, Fit, Truncation, hooi};
use crate::network::Network;

/// `W[i, j] = Σ_c G[c_1 … c_d] ∏ A_k[i_k, j_k, c_k]`.
///
/// # Paper
/// Tucker 1966, "Some mathematical notes on three-mode factor analysis".
#[derive(Debug, Clone, Copy)]
pub struct Tucker;

impl Format for Tucker {
    fn name(&self) -> &'static str {
        "tucker"
    }

    fn ranks(&self, modes: &Modes, _: &Options) -> Result<Vec<String>> {
        Ok((1..=modes.paired(self.name())?).map(|k| format!("r{k}")).collect())
    }

    fn network(&self, modes: &Modes, _: &Options, ranks: &[usize]) -> Network {
        let d = modes.inputs.len();
        let mut network = Network::open(&modes.inputs, &modes.gated());
        let bonds: Vec<usize> =
            ranks.iter().enumerate().map(|(k, rank)| network.inner(format!("r{}", k + 1), *rank)).collect();
        for (k, bond) in bonds.iter().enumerate() {
            network.core(format!("A{}", k + 1), &[k, d + k, *bond]);
        }
        network.core("G", &bonds);
        network
    }

    fn entry(&self, shape: &FormatShape, cores: &[f64], i: &[usize], j: &[usize]) -> f64 {
        let (d, mut sum) = (i.len(), 0.0);
        every(&shape.ranks, |c| {
            let factors: f64 = (0..d).map(|k| shape.core(cores, k, &[i[k], j[k], c[k]])).product();
            sum += shape.core(cores, d, c) * factors;
        });
        sum
    }

    fn decompose(&self, shape: &FormatShape, matrix: &[f32], search: &Alternating) -> Result<Fit<Vec<f64>>> {
        let (paired, modes) = shape.paired(matrix)?;
        let fit = hooi(&paired, &modes, &Truncation::Ranks(shape.ranks().to_vec()), search)?;
        Ok(with(fit, |found| numbers(found.cores())))
    }
}
