//! The canonical decomposition of the tensor of all modes: a core for each of them.

use super::fit::{numbers, with};
use super::{Format, FormatShape, Modes, Options};
use crate::Result;
use crate::decomposition::{self, Alternating, Fit};
use crate::network::Network;

/// `W[i, j] = Σ_{c ≤ R} ∏ U_k[i_k, c] ∏ V_l[j_l, c]`.
///
/// There may be more input modes than output modes or fewer. The rank of the matrix is at most `R`.
///
/// # Paper
/// Hitchcock 1927, "The Expression of a Tensor or a Polyadic as a Sum of Products".
#[derive(Debug, Clone, Copy)]
pub struct SplitCanonical;

impl Format for SplitCanonical {
    fn name(&self) -> &'static str {
        "cp-split"
    }

    fn ranks(&self, _: &Modes, _: &Options) -> Result<Vec<String>> {
        Ok(vec!["c".into()])
    }

    fn network(&self, modes: &Modes, _: &Options, ranks: &[usize]) -> Network {
        let (d, e) = (modes.inputs.len(), modes.outputs.len());
        let mut network = Network::open(&modes.inputs, &modes.gated());
        let c = network.inner("c", ranks[0]);
        for k in 0..d + e {
            let name = if k < d { format!("U{}", k + 1) } else { format!("V{}", k - d + 1) };
            network.core(name, &[k, c]);
        }
        network
    }

    fn entry(&self, shape: &FormatShape, cores: &[f64], i: &[usize], j: &[usize]) -> f64 {
        let modes = [i, j].concat();
        let term = |c| (0..modes.len()).map(|k| shape.core(cores, k, &[modes[k], c])).product::<f64>();
        (0..shape.ranks[0]).map(term).sum()
    }

    fn decompose(&self, shape: &FormatShape, matrix: &[f32], search: &Alternating) -> Result<Fit<Vec<f64>>> {
        let fit = decomposition::canonical(matrix, &shape.split(), shape.ranks()[0], search)?;
        Ok(with(fit, |found| numbers(&found.balanced())))
    }
}
