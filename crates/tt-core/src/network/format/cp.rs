//! A canonical decomposition into products over pairs of modes: a sum of Kronecker products.

use super::fit::{numbers, with};
use super::{Format, FormatShape, Modes, Options};
use crate::Result;
use crate::decomposition::{self, Alternating, Fit};
use crate::network::Network;

/// `W[i, j] = Σ_{c ≤ R} ∏ A_k[i_k, j_k, c]`.
///
/// # Paper
/// Wang et al. 2020, "Kronecker CP Decomposition with Fast Multiplication for Compressing RNNs".
#[derive(Debug, Clone, Copy)]
pub struct Canonical;

impl Format for Canonical {
    fn name(&self) -> &'static str {
        "cp"
    }

    fn ranks(&self, modes: &Modes, _: &Options) -> Result<Vec<String>> {
        modes.paired(self.name())?;
        Ok(vec!["c".into()])
    }

    fn network(&self, modes: &Modes, _: &Options, ranks: &[usize]) -> Network {
        let d = modes.inputs.len();
        let mut network = Network::open(&modes.inputs, &modes.gated());
        let c = network.inner("c", ranks[0]);
        for k in 0..d {
            network.core(format!("A{}", k + 1), &[k, d + k, c]);
        }
        network
    }

    fn entry(&self, shape: &FormatShape, cores: &[f64], i: &[usize], j: &[usize]) -> f64 {
        let term = |c| (0..i.len()).map(|k| shape.core(cores, k, &[i[k], j[k], c])).product::<f64>();
        (0..shape.ranks[0]).map(term).sum()
    }

    fn decompose(&self, shape: &FormatShape, matrix: &[f32], search: &Alternating) -> Result<Fit<Vec<f64>>> {
        let (paired, modes) = shape.paired(matrix)?;
        let fit = decomposition::canonical(&paired, &modes, shape.ranks()[0], search)?;
        Ok(with(fit, |found| numbers(&found.balanced())))
    }
}
