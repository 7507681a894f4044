//! Canonical (CP): a sum of products of vectors, one for each mode.

use rand::RngExt;

use super::alternating::{Alternating, Model, best, singular_columns};
use super::full::{Decomposed, Fit, Full, transposed};
use super::scale::{norm_or_infinite, restore, shift, tame_all};
use super::svd::possible;
use super::{Core, Scalar};
use crate::Result;
use crate::rng::stream;

/// A tensor `A(i_1 … i_d) = sum over c of w_c U_1(i_1, c) … U_d(i_d, c)`.
///
/// # Shapes
/// Factors `[1, n_k, R]` with columns of norm 1, weights `w` as `[1, R, 1]`: at least 0, the largest first. The largest
/// number of each column is positive, but for those of the first factor. A term of zero has weight 0 and a column of zeros
/// in the first factor. Where weights cannot hold the norm of the tensor, all are so up to a power of two.
#[derive(Debug, Clone, PartialEq)]
pub struct Canonical {
    /// Factors, and the weights last.
    cores: Vec<Core<f64>>,
}

impl Canonical {
    /// Factors `[1, n_k, R]`.
    pub fn factors(&self) -> &[Core<f64>] {
        &self.cores[..self.cores.len() - 1]
    }

    /// The weights, largest first.
    pub fn weights(&self) -> &[f64] {
        &self.cores[self.cores.len() - 1].values
    }

    /// The number of terms.
    pub fn rank(&self) -> usize {
        self.weights().len()
    }

    /// Factors `[1, n_k, R]` that hold the weights too, in equal parts: all that a layer without weights has.
    pub fn balanced(&self) -> Vec<Core<f64>> {
        let shares: Vec<f64> =
            self.weights().iter().map(|weight| weight.powf(1.0 / self.factors().len() as f64)).collect();
        let mut factors = self.factors().to_vec();
        for factor in &mut factors {
            for row in factor.values.chunks_exact_mut(shares.len()) {
                row.iter_mut().zip(&shares).for_each(|(value, share)| *value *= share);
            }
        }
        factors
    }
}

impl Decomposed for Canonical {
    fn cores(&self) -> Vec<&Core<f64>> {
        self.cores.iter().collect()
    }

    fn modes(&self) -> Vec<usize> {
        self.factors().iter().map(|factor| factor.mode).collect()
    }

    fn reconstruct(&self) -> Vec<f64> {
        let (mut cores, exponent) = tame_all(&self.cores);
        let weights = cores.pop().map_or_else(Vec::new, |core| core.values);
        let mut terms =
            Terms { blocks: cores.into_iter().map(|core| core.values).collect(), rank: self.rank() };
        for row in terms.blocks[0].chunks_exact_mut(self.rank()) {
            row.iter_mut().zip(&weights).for_each(|(value, weight)| *value *= weight);
        }
        let mut values = terms.expanded(&self.modes()).values;
        shift(&mut values, exponent);
        values
    }
}

/// Decomposes a full tensor, row-major over `modes`, into `rank` products of vectors by alternating least squares.
///
/// Each step is damped by the one before, never enlarges the error and is taken only if it is a number, so that terms that
/// grow against each other, where no best decomposition exists, stay finite. For two modes the result is the best one.
/// For more there is no bound, and starts may end in different places: see [`Alternating::starts`].
///
/// # Cost
/// `O(d R · prod n_k)` a sweep; three copies of the tensor in `f64`, and R rows of its smallest unfolding.
///
/// # Errors
/// [`Error::Shape`](crate::Error::Shape) for modes that cannot be, a rank of 0 or above `prod n_k / max n_k`, no sweeps or starts;
/// [`Error::Size`](crate::Error::Size), [`Error::NotFinite`](crate::Error::NotFinite), [`Error::Accuracy`](crate::Error::Accuracy).
///
/// # Paper
/// Carroll and Chang, Psychometrika 35, 1970; Kolda and Bader, "Tensor Decompositions and Applications", SIAM Review 51(3),
/// 2009, Figure 3.3; damping as Navasca, De Lathauwer and Kindermann, "Swamp reducing technique for tensor decomposition",
/// EUSIPCO 2008.
pub fn canonical<T: Scalar>(
    values: &[T],
    modes: &[usize],
    rank: usize,
    options: &Alternating,
) -> Result<Fit<Canonical>> {
    options.check()?;
    let (tensor, taken) = Full::new(values, modes)?;
    let others = modes.iter().map(|mode| tensor.values.len() / mode).min().unwrap_or(1);
    possible(&[rank], &[others])?;
    let fit = best(&tensor, options, |start| {
        let mut random = stream(options.seed, &format!("canonical/start/{start}"));
        let mut fill = || random.random_range(-1.0..1.0);
        let mut blocks = if start == 0 {
            singular_columns(&tensor, rank, fill)?
        } else {
            modes.iter().map(|mode| (0..mode * rank).map(|_| fill()).collect()).collect()
        };
        // The first step finds this one.
        blocks[0].fill(0.0);
        Ok(Terms { blocks, rank })
    })?;
    let mut cores = fit.found.normalised(modes);
    restore(&mut cores, modes.len(), taken);
    let Fit { relative_error, sweeps, converged, .. } = fit;
    Ok(Fit { found: Canonical { cores }, relative_error, sweeps, converged })
}

/// Factors `[n_k, R]` without weights.
struct Terms {
    blocks: Vec<Vec<f64>>,
    rank: usize,
}

impl Terms {
    /// Columns as rows, `[R, n_k]`, and the norm of each.
    fn columns(&self, k: usize) -> (Vec<f64>, Vec<f64>) {
        let rows = self.blocks[k].len() / self.rank;
        let columns = transposed((&self.blocks[k], rows, self.rank));
        let norms = columns.chunks_exact(rows).map(norm_or_infinite).collect();
        (columns, norms)
    }

    /// Factors of normalised columns and the weights, the largest first.
    fn normalised(&self, modes: &[usize]) -> Vec<Core<f64>> {
        let all: Vec<_> = (0..modes.len()).map(|k| self.columns(k)).collect();
        let weights: Vec<f64> =
            (0..self.rank).map(|c| all.iter().map(|(_, norms)| norms[c]).product()).collect();
        let mut order: Vec<usize> = (0..self.rank).collect();
        order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
        let mut signs = vec![1.0; self.rank];
        let mut cores = Vec::with_capacity(modes.len() + 1);
        for (k, (mode, (columns, norms))) in modes.iter().zip(&all).enumerate().rev() {
            let mut values = Vec::with_capacity(columns.len());
            for c in &order {
                let column = &columns[c * mode..][..*mode];
                let largest = column.iter().fold(0.0_f64, |a, b| if b.abs() > a.abs() { *b } else { a });
                let sign = if k == 0 { signs[*c] } else { 1_f64.copysign(largest) };
                signs[*c] *= sign;
                let by = if norms[*c] == 0.0 { 0.0 } else { sign / norms[*c] };
                values.extend(column.iter().map(|value| value * by));
            }
            let values = transposed((&values, self.rank, *mode));
            cores.push(Core { left: 1, mode: *mode, right: self.rank, values });
        }
        cores.reverse();
        let values = order.iter().map(|c| weights[*c]).collect();
        cores.push(Core { left: 1, mode: self.rank, right: 1, values });
        cores
    }
}

impl Model for Terms {
    fn design(&self, k: usize) -> (Vec<f64>, usize) {
        let d = self.blocks.len();
        let mut design = vec![1.0; self.rank]; // [R, rest]
        for j in (k + 1..d).chain(0..k) {
            let (columns, _) = self.columns(j);
            let (rest, mode) = (design.len() / self.rank, columns.len() / self.rank);
            let terms = design.chunks_exact(rest).zip(columns.chunks_exact(mode));
            design = terms
                .flat_map(|(row, column)| row.iter().flat_map(move |a| column.iter().map(move |b| a * b)))
                .collect();
        }
        (design, self.rank)
    }

    fn block(&self, k: usize) -> Vec<f64> {
        self.blocks[k].clone()
    }

    fn set(&mut self, k: usize, block: Vec<f64>) {
        self.blocks[k] = block;
    }

    /// All columns of a term get one norm.
    fn finish(&mut self, _: &mut Full) -> Result<()> {
        let norms: Vec<Vec<f64>> = (0..self.blocks.len()).map(|k| self.columns(k).1).collect();
        for c in 0..self.rank {
            let logarithm = norms.iter().map(|norms| norms[c].ln()).sum::<f64>() / norms.len() as f64;
            if !logarithm.is_finite() {
                continue;
            }
            for (block, norms) in self.blocks.iter_mut().zip(&norms) {
                let by = logarithm.exp() / norms[c];
                block.iter_mut().skip(c).step_by(self.rank).for_each(|value| *value *= by);
            }
        }
        Ok(())
    }
}
