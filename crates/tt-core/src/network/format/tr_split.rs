//! A tensor ring with cores of their own for the input and the output, as TR-LSTM has it.

use super::fit::{numbers, with};
use super::{Format, FormatShape, Modes, Options, every};
use crate::Result;
use crate::decomposition::{Alternating, Decomposed, Fit, ring_als};
use crate::network::Network;

/// `W[i, j] = trace(∏ U_k[i_k] ∏ V_l[j_l])`, `U_k[i]` of `r_{k-1} x r_k`, `V_l[j]` of `r_{d+l-1} x r_{d+l}`,
/// `r_{d+e} = r_0`.
///
/// There may be more input modes than output modes or fewer. The rank of the matrix is at most `r_0 r_d`.
///
/// # Paper
/// Pan et al. 2019, "Compressing Recurrent Neural Networks with Tensor Ring for Action Recognition".
#[derive(Debug, Clone, Copy)]
pub struct SplitRing;

impl Format for SplitRing {
    fn name(&self) -> &'static str {
        "tr-split"
    }

    fn ranks(&self, modes: &Modes, _: &Options) -> Result<Vec<String>> {
        Ok((0..modes.inputs.len() + modes.outputs.len()).map(|k| format!("r{k}")).collect())
    }

    fn network(&self, modes: &Modes, _: &Options, ranks: &[usize]) -> Network {
        let (d, all) = (modes.inputs.len(), ranks.len());
        let mut network = Network::open(&modes.inputs, &modes.gated());
        let bonds: Vec<usize> =
            ranks.iter().enumerate().map(|(k, rank)| network.inner(format!("r{k}"), *rank)).collect();
        for k in 0..all {
            let name = if k < d { format!("U{}", k + 1) } else { format!("V{}", k - d + 1) };
            network.core(name, &[bonds[k], k, bonds[(k + 1) % all]]);
        }
        network
    }

    fn entry(&self, shape: &FormatShape, cores: &[f64], i: &[usize], j: &[usize]) -> f64 {
        let (modes, mut sum) = ([i, j].concat(), 0.0);
        let all = modes.len();
        every(&shape.ranks, |a| {
            sum +=
                (0..all).map(|k| shape.core(cores, k, &[a[k], modes[k], a[(k + 1) % all]])).product::<f64>();
        });
        sum
    }

    fn decompose(&self, shape: &FormatShape, matrix: &[f32], search: &Alternating) -> Result<Fit<Vec<f64>>> {
        let fit = ring_als(matrix, &shape.split(), shape.ranks(), search)?;
        Ok(with(fit, |found| numbers(found.cores())))
    }
}
