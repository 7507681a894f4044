//! A block-term decomposition: a sum of Tucker decompositions, each with cores of its own.

use super::fit::with;
use super::{Format, FormatShape, Modes, Options, every};
use crate::Result;
use crate::decomposition::{Alternating, Fit, Tucker, block_terms};
use crate::network::Network;

/// `W[i, j] = Σ_{b ≤ B} Σ_c G[b, c_1 … c_d] ∏ A_k[i_k, j_k, b, c_k]`.
///
/// One block is Tucker; blocks of rank 1 are the terms of the canonical decomposition.
///
/// # Paper
/// Ye et al. 2018, "Learning Compact Recurrent Neural Networks with Block-Term Tensor Decomposition".
#[derive(Debug, Clone, Copy)]
pub struct BlockTerm;

impl Format for BlockTerm {
    fn name(&self) -> &'static str {
        "bt"
    }

    fn ranks(&self, modes: &Modes, _: &Options) -> Result<Vec<String>> {
        Ok((1..=modes.paired(self.name())?).map(|k| format!("r{k}")).collect())
    }

    fn network(&self, modes: &Modes, options: &Options, ranks: &[usize]) -> Network {
        let d = modes.inputs.len();
        let mut network = Network::open(&modes.inputs, &modes.gated());
        let bonds: Vec<usize> =
            ranks.iter().enumerate().map(|(k, rank)| network.inner(format!("r{}", k + 1), *rank)).collect();
        let block = network.inner("b", options.blocks);
        for (k, bond) in bonds.iter().enumerate() {
            network.core(format!("A{}", k + 1), &[k, d + k, block, *bond]);
        }
        network.core("G", &[&[block], &bonds[..]].concat());
        network
    }

    fn entry(&self, shape: &FormatShape, cores: &[f64], i: &[usize], j: &[usize]) -> f64 {
        let (d, mut sum) = (i.len(), 0.0);
        for block in 0..shape.options.blocks {
            every(&shape.ranks, |c| {
                let factors: f64 = (0..d).map(|k| shape.core(cores, k, &[i[k], j[k], block, c[k]])).product();
                sum += shape.core(cores, d, &[&[block], c].concat()) * factors;
            });
        }
        sum
    }

    fn decompose(&self, shape: &FormatShape, matrix: &[f32], search: &Alternating) -> Result<Fit<Vec<f64>>> {
        let (paired, modes) = shape.paired(matrix)?;
        let fit = block_terms(&paired, &modes, shape.options.blocks, shape.ranks(), search)?;
        Ok(with(fit, |found| {
            let mut weights = Vec::with_capacity(shape.network().params());
            for (k, rank) in shape.ranks().iter().enumerate() {
                for row in 0..modes[k] {
                    let factors = found.terms().iter().map(|term| &term.factors()[k]);
                    weights.extend(factors.flat_map(|factor| &factor.values()[row * rank..][..*rank]));
                }
            }
            weights.extend(found.terms().iter().flat_map(Tucker::core));
            weights
        }))
    }
}
