//! A Tensor Train as a network, for matrices that are multiplied out; layers have kernels of their own
//! ([`crate::TtShape`]), so that it is not among [`super::FORMATS`].

use super::fit::numbers;
use super::{Format, FormatShape, Modes, Options, every};
use crate::Result;
use crate::decomposition::{Alternating, Fit, Truncation, tt_svd};
use crate::network::Network;

/// `W[i, j] = G_1[i_1, j_1] … G_d[i_d, j_d]`, `G_k[i, j]` of `r_{k-1} x r_k`, `r_0 = r_d = 1`.
///
/// # Paper
/// Oseledets 2011; Novikov et al. 2015 for matrices.
#[derive(Debug, Clone, Copy)]
pub struct Train;

impl Format for Train {
    fn name(&self) -> &'static str {
        "tt"
    }

    fn ranks(&self, modes: &Modes, _: &Options) -> Result<Vec<String>> {
        Ok((1..modes.paired(self.name())?).map(|k| format!("r{k}")).collect())
    }

    fn network(&self, modes: &Modes, _: &Options, ranks: &[usize]) -> Network {
        let d = modes.inputs.len();
        let mut network = Network::open(&modes.inputs, &modes.gated());
        let bonds: Vec<usize> =
            (1..).zip(ranks).map(|(k, rank)| network.inner(format!("r{k}"), *rank)).collect();
        for k in 0..d {
            let left = k.checked_sub(1).map(|left| bonds[left]);
            let labels: Vec<usize> =
                left.into_iter().chain([k, d + k]).chain(bonds.get(k).copied()).collect();
            network.core(format!("G{}", k + 1), &labels);
        }
        network
    }

    fn entry(&self, shape: &FormatShape, cores: &[f64], i: &[usize], j: &[usize]) -> f64 {
        let mut sum = 0.0;
        every(&shape.ranks, |a| {
            let core = |k: usize| {
                let left = k.checked_sub(1).map(|left| a[left]);
                let at: Vec<usize> = left.into_iter().chain([i[k], j[k]]).chain(a.get(k).copied()).collect();
                shape.core(cores, k, &at)
            };
            sum += (0..i.len()).map(core).product::<f64>();
        });
        sum
    }

    fn decompose(&self, shape: &FormatShape, matrix: &[f32], _: &Alternating) -> Result<Fit<Vec<f64>>> {
        let (paired, modes) = shape.paired(matrix)?;
        let paired: Vec<f64> = paired.into_iter().map(f64::from).collect();
        let found = tt_svd(&paired, &modes, &Truncation::Ranks(shape.ranks.clone()))?;
        let lost = paired.iter().zip(found.reconstruct()).map(|(value, near)| (value - near).powi(2));
        let (lost, all) = (lost.sum::<f64>(), paired.iter().map(|value| value.powi(2)).sum::<f64>());
        let relative_error = (lost / all.max(f64::MIN_POSITIVE)).sqrt();
        Ok(Fit { found: numbers(found.cores()), relative_error, sweeps: 0, converged: true })
    }
}
