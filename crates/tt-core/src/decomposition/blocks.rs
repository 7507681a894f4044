//! Block terms: a sum of Tucker decompositions.

use rand::RngExt;

use super::alternating::{Alternating, Model, best};
use super::full::{Decomposed, Fit, Full, transposed};
use super::scale::restore;
use super::tucker::{bounds, sweep, truncated};
use super::{Core, Scalar, Truncation, Tucker, linear};
use crate::rng::stream;
use crate::{Error, Result};

/// A tensor as a sum of Tucker decompositions of the same ranks, each with a core tensor and factors of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocks {
    terms: Vec<Tucker>,
}

impl Blocks {
    /// Joins terms of the same modes and ranks.
    ///
    /// # Errors
    /// [`Error::Shape`] without terms, or where modes or ranks differ.
    pub fn new(terms: Vec<Tucker>) -> Result<Self> {
        let of = |term: &Tucker| (term.modes(), term.ranks());
        if terms.is_empty() || terms.iter().any(|term| of(term) != of(&terms[0])) {
            let found: Vec<_> = terms.iter().map(of).collect();
            return Err(Error::Shape(format!(
                "terms of modes and ranks {found:?}: at least one, and all of the same"
            )));
        }
        Ok(Self { terms })
    }

    /// The terms.
    pub fn terms(&self) -> &[Tucker] {
        &self.terms
    }

    /// Ranks `r_1 … r_d` of each term.
    pub fn ranks(&self) -> Vec<usize> {
        self.terms[0].ranks()
    }
}

impl Decomposed for Blocks {
    fn cores(&self) -> Vec<&Core<f64>> {
        self.terms.iter().flat_map(Tucker::cores).collect()
    }

    fn modes(&self) -> Vec<usize> {
        self.terms[0].modes()
    }

    fn reconstruct(&self) -> Vec<f64> {
        let mut sum = self.terms[0].reconstruct();
        for term in &self.terms[1..] {
            sum.iter_mut().zip(term.reconstruct()).for_each(|(sum, value)| *sum += value);
        }
        sum
    }
}

/// Decomposes a full tensor, row-major over `modes`, into `terms` Tucker terms of ranks `r_1 … r_d`.
///
/// The first start is greedy: each term is the truncated Tucker decomposition, with one sweep of orthogonal iteration, of
/// what the ones before left. Then, as from random starts, sweeps of alternating least squares choose the factors of all
/// terms for one mode at a time, and each core tensor given all else. No step enlarges the error, so the result is never
/// worse than greedy deflation; no bound is known. One term is [`super::hooi`]'s task.
///
/// # Cost
/// `O(d N r · prod n_k)` a sweep of N terms; three copies of the tensor in `f64`, and `N r` rows of its smallest unfolding.
///
/// # Errors
/// [`Error::Shape`] for modes or ranks that cannot be, no terms, or more than `prod n_k / max n_k`; for no sweeps or starts;
/// [`Error::Size`], [`Error::NotFinite`], [`Error::Accuracy`].
///
/// # Paper
/// De Lathauwer and Nion, "Decompositions of a Higher-Order Tensor in Block Terms, Part III: Alternating Least Squares
/// Algorithms", SIAM J. Matrix Anal. Appl. 30(3), 2008, for ranks (L, M, N).
///
/// # Departs
/// Any number of modes; core tensors are chosen one after the other, by projection; the greedy start.
pub fn block_terms<T: Scalar>(
    values: &[T],
    modes: &[usize],
    terms: usize,
    ranks: &[usize],
    options: &Alternating,
) -> Result<Fit<Blocks>> {
    options.check()?;
    let (tensor, taken) = Full::new(values, modes)?;
    bounds(&Truncation::Ranks(ranks.to_vec()), modes, 1.0)?;
    let most = modes.iter().map(|mode| tensor.values.len() / mode).min().unwrap_or(1);
    if !(1..=most).contains(&terms) {
        return Err(Error::Shape(format!("{terms} terms for modes {modes:?}: from 1 to {most}")));
    }
    let mut fit = best(&tensor, options, |start| {
        if start == 0 {
            return greedy(tensor.clone(), terms, ranks);
        }
        let mut random = stream(options.seed, &format!("blocks/start/{start}"));
        let mut draw = |count: usize| (0..count).map(|_| random.random_range(-1.0..1.0)).collect();
        let mut term = |_| {
            let sizes = modes.iter().zip(ranks);
            let mut factors: Vec<Core<f64>> = sizes
                .map(|(mode, rank)| Core { left: 1, mode: *mode, right: *rank, values: draw(mode * rank) })
                .collect();
            // The first step finds this one.
            factors[0].values.fill(0.0);
            Tucker::new(factors, draw(ranks.iter().product()))
        };
        Ok(Blocks { terms: (0..terms).map(&mut term).collect::<Result<_>>()? })
    })?;
    for term in &mut fit.found.terms {
        restore(&mut term.cores, modes.len(), taken);
    }
    Ok(fit)
}

fn greedy(mut rest: Full, count: usize, ranks: &[usize]) -> Result<Blocks> {
    let mut terms = Vec::with_capacity(count);
    for _ in 0..count {
        let mut term = truncated(rest.clone(), ranks, 0.0)?;
        sweep(&rest, &mut term)?;
        rest.values.iter_mut().zip(term.expanded().values).for_each(|(rest, value)| *rest -= value);
        terms.push(widened(term, ranks));
    }
    Blocks::new(terms)
}

/// The same term with columns of zeros where what was left had smaller ranks.
fn widened(mut term: Tucker, ranks: &[usize]) -> Tucker {
    let mut core = Full { values: term.core().to_vec(), sizes: term.ranks() };
    let d = ranks.len();
    for (factor, rank) in term.cores[..d].iter_mut().zip(ranks) {
        let (found, rest) = core.first_unfolding();
        core.values.resize(rank * rest, 0.0);
        core.sizes[0] = *rank;
        core = core.rotated();
        let mut values = vec![0.0; factor.mode * rank];
        for (to, from) in values.chunks_exact_mut(*rank).zip(factor.values.chunks_exact(found)) {
            to[..found].copy_from_slice(from);
        }
        (factor.values, factor.right) = (values, *rank);
    }
    term.cores[d] = Core { left: 1, mode: core.values.len(), right: 1, values: core.values };
    term
}

impl Model for Blocks {
    fn design(&self, k: usize) -> (Vec<f64>, usize) {
        let d = self.terms[0].factors().len();
        let mut design = Vec::new();
        for term in &self.terms {
            let core = Full { values: term.core().to_vec(), sizes: term.ranks() };
            // Mode k last; each other mode is contracted and put behind it.
            let core = core.permuted(&(1..=d).map(|j| (k + j) % d).collect::<Vec<_>>());
            let rows = (1..d).fold(core, |state, j| {
                let factor = &term.factors()[(k + j) % d];
                let turned = transposed((&factor.values, factor.mode, factor.right));
                state.contracted((&turned, factor.right, factor.mode))
            });
            design.extend(rows.values); // [r_k, rest]
        }
        (design, self.terms.len() * self.terms[0].factors()[k].right)
    }

    fn block(&self, k: usize) -> Vec<f64> {
        let factors: Vec<&Core<f64>> = self.terms.iter().map(|term| &term.factors()[k]).collect();
        let rank = factors[0].right;
        (0..factors[0].mode)
            .flat_map(|row| factors.iter().flat_map(move |factor| &factor.values[row * rank..][..rank]))
            .copied()
            .collect()
    }

    fn set(&mut self, k: usize, block: Vec<f64>) {
        let (count, rank) = (self.terms.len(), self.terms[0].factors()[k].right);
        for (at, term) in self.terms.iter_mut().enumerate() {
            let rows = block.chunks_exact(count * rank);
            term.cores[k].values = rows.flat_map(|row| &row[at * rank..][..rank]).copied().collect();
        }
    }

    /// Factors become orthonormal, and each core tensor takes what they hold of the residual.
    fn finish(&mut self, residual: &mut Full) -> Result<()> {
        let d = residual.sizes.len();
        for term in &mut self.terms {
            let mut core = Full { values: term.core().to_vec(), sizes: term.ranks() };
            for factor in &mut term.cores[..d] {
                let (q, r, rank) = linear::qr((&factor.values, factor.mode, factor.right));
                let turned = transposed((&r, rank, factor.right));
                core = core.contracted((&turned, factor.right, rank));
                (factor.values, factor.right) = (q, rank);
            }
            let held = term.cores[..d].iter().fold(residual.clone(), |state, factor| {
                state.contracted((&factor.values, factor.mode, factor.right))
            });
            core.values.iter_mut().zip(&held.values).for_each(|(core, held)| *core += held);
            term.cores[d].values = held.values;
            let values = term.expanded().values;
            residual.values.iter_mut().zip(values).for_each(|(rest, value)| *rest -= value);
            term.cores[d].values = core.values;
        }
        Ok(())
    }

    fn expanded(&self, modes: &[usize]) -> Full {
        let mut sum = Full { values: vec![0.0; modes.iter().product()], sizes: modes.to_vec() };
        for term in &self.terms {
            sum.values.iter_mut().zip(term.expanded().values).for_each(|(sum, value)| *sum += value);
        }
        sum
    }
}
