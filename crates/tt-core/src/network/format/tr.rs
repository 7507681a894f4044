//! A tensor ring of matrix cores: a train whose ends are joined.

use super::fit::{numbers, with};
use super::{Format, FormatShape, Modes, Options, every};
use crate::Result;
use crate::decomposition::{Alternating, Decomposed, Fit, ring_als};
use crate::network::Network;

/// `W[i, j] = trace ∏ A_k[i_k, j_k]`, `A_k[i, j]` of `r_{k-1} x r_k`, `r_d = r_0`.
///
/// # Paper
/// Zhao et al. 2016, "Tensor Ring Decomposition".
#[derive(Debug, Clone, Copy)]
pub struct Ring;

impl Format for Ring {
    fn name(&self) -> &'static str {
        "tr"
    }

    fn ranks(&self, modes: &Modes, _: &Options) -> Result<Vec<String>> {
        // A single core would be joined to itself, which only sums copies of it.
        let d = modes.paired(self.name())?;
        Ok((0..if d == 1 { 0 } else { d }).map(|k| format!("r{k}")).collect())
    }

    fn network(&self, modes: &Modes, _: &Options, ranks: &[usize]) -> Network {
        let d = modes.inputs.len();
        let mut network = Network::open(&modes.inputs, &modes.gated());
        let bonds: Vec<usize> =
            ranks.iter().enumerate().map(|(k, rank)| network.inner(format!("r{k}"), *rank)).collect();
        for k in 0..d {
            let modes = [k, d + k];
            let labels = match &bonds[..] {
                [] => modes.to_vec(),
                bonds => vec![bonds[k], modes[0], modes[1], bonds[(k + 1) % d]],
            };
            network.core(format!("A{}", k + 1), &labels);
        }
        network
    }

    fn entry(&self, shape: &FormatShape, cores: &[f64], i: &[usize], j: &[usize]) -> f64 {
        if let ([i], [j]) = (i, j) {
            return shape.core(cores, 0, &[*i, *j]);
        }
        let (d, mut sum) = (i.len(), 0.0);
        every(&shape.ranks, |a| {
            sum += (0..d).map(|k| shape.core(cores, k, &[a[k], i[k], j[k], a[(k + 1) % d]])).product::<f64>();
        });
        sum
    }

    fn decompose(&self, shape: &FormatShape, matrix: &[f32], search: &Alternating) -> Result<Fit<Vec<f64>>> {
        let (paired, modes) = shape.paired(matrix)?;
        // A single core is joined to nothing.
        let ranks: &[usize] = if modes.len() == 1 { &[1] } else { shape.ranks() };
        Ok(with(ring_als(&paired, &modes, ranks, search)?, |found| numbers(found.cores())))
    }
}
