//! Alternating least squares: every block of numbers in turn, the others fixed, on what is left of the tensor.

use super::full::{Fit, Full, transposed};
use super::linear;
use crate::{Error, Result};

/// How far an iterative decomposition goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternating {
    /// Sweeps of each start at most.
    pub sweeps: usize,
    /// A start ends when a sweep lowers its error by no more than this share.
    pub change: f64,
    /// Starts, of which the best is kept: the first from singular vectors, the others random.
    pub starts: usize,
    /// Seed of the random starts.
    pub seed: u64,
}

impl Default for Alternating {
    /// 200 sweeps, a change of `1e-4`, three starts, seed 0.
    fn default() -> Self {
        Self { sweeps: 200, change: 1e-4, starts: 3, seed: 0 }
    }
}

impl Alternating {
    /// Refuses what cannot be asked for.
    pub(super) fn check(&self) -> Result<()> {
        if self.sweeps == 0 || self.starts == 0 {
            return Err(Error::Shape(format!(
                "{} sweeps and {} starts: both must be at least 1",
                self.sweeps, self.starts
            )));
        }
        if self.change.is_finite() && self.change > 0.0 { Ok(()) } else { Err(Error::Accuracy(self.change)) }
    }
}

/// A tensor as blocks of numbers, linear in each: its unfolding k, axes in a circle from k, is `X_k · Z_k` with the block
/// `X_k [n_k, c]` and a design `Z_k [c, rest]` of the others.
pub(super) trait Model: Sized {
    /// `Z_k`, row-major, and c.
    fn design(&self, k: usize) -> (Vec<f64>, usize);

    /// `X_k [n_k, c]`.
    fn block(&self, k: usize) -> Vec<f64>;

    /// Puts another `X_k` in place.
    fn set(&mut self, k: usize, block: Vec<f64>);

    /// Ends a sweep: numbers of one size again, the tensor and with it the residual the same or nearer.
    fn finish(&mut self, residual: &mut Full) -> Result<()>;

    /// The whole tensor of modes `n_k`.
    fn expanded(&self, modes: &[usize]) -> Full {
        let (design, columns) = self.design(0);
        let block = self.block(0);
        let values = linear::product(
            (&block, block.len() / columns, columns),
            (&design, columns, design.len() / columns),
        );
        Full { values, sizes: modes.to_vec() }
    }
}

/// The weight of the last block in the next, relative to the mean square of the design: enough for a solution where
/// columns depend on each other, too little to slow anything down.
const DAMPING: f64 = 1e-12;

/// Errors below this share of the norm are roundings.
const FLOOR: f64 = 1e-14;

/// The best of all starts. A start is a model and what it leaves of the tensor.
pub(super) fn best<M: Model>(
    tensor: &Full,
    options: &Alternating,
    start: impl Fn(usize) -> Result<M>,
) -> Result<Fit<M>> {
    let norm = tensor.norm();
    let mut best: Option<Fit<M>> = None;
    for at in 0..options.starts {
        let fit = descend(tensor, norm, options, start(at)?)?;
        if best.as_ref().is_none_or(|best| fit.relative_error < best.relative_error) {
            best = Some(fit);
        }
        if best.as_ref().is_some_and(|best| best.relative_error <= FLOOR) {
            break;
        }
    }
    best.ok_or_else(|| Error::Shape("no start".to_owned()))
}

fn descend<M: Model>(tensor: &Full, norm: f64, options: &Alternating, mut model: M) -> Result<Fit<M>> {
    let of = |left: &Full, sweeps, converged, found| {
        let relative_error = if norm == 0.0 { 0.0 } else { left.norm() / norm };
        Fit { found, relative_error, sweeps, converged }
    };
    let mut residual = model.expanded(&tensor.sizes);
    residual.values.iter_mut().zip(&tensor.values).for_each(|(model, value)| *model = value - *model);
    for sweep in 1..=options.sweeps {
        let before = residual.norm();
        for k in 0..tensor.sizes.len() {
            step(&mut model, k, &mut residual);
            residual = residual.rotated();
        }
        model.finish(&mut residual)?;
        let now = residual.norm();
        if now <= FLOOR * norm || before - now <= options.change * before {
            return Ok(of(&residual, sweep, true, model));
        }
    }
    Ok(of(&residual, options.sweeps, false, model))
}

/// The block that is nearest to the tensor, the others fixed: `X + R Zᵀ (Z Zᵀ + μ)⁻¹`. Taken only if it is nearer.
///
/// The correction is computed from the residual, so that the squared condition of `Z Zᵀ` slows down the last digits but
/// does not cost them.
fn step<M: Model>(model: &mut M, k: usize, residual: &mut Full) {
    let (rows, rest) = residual.first_unfolding();
    let (design, columns) = model.design(k);
    let of_design = (design.as_slice(), columns, rest);
    let mut gram = linear::product_with_transposed(of_design, of_design); // [c, c]
    let trace: f64 = gram.iter().step_by(columns + 1).sum();
    if trace == 0.0 {
        return;
    }
    gram.iter_mut().step_by(columns + 1).for_each(|square| *square += DAMPING * trace / columns as f64);
    let slope = linear::product_with_transposed((&residual.values, rows, rest), of_design); // [n, c]
    let change = linear::divide((&slope, rows, columns), (&gram, columns, columns));
    let mut left =
        Full { values: linear::product((&change, rows, columns), of_design), sizes: residual.sizes.clone() };
    left.values.iter_mut().zip(&residual.values).for_each(|(change, value)| *change = value - *change);
    // Written so that what is no number is not taken.
    if left.norm() <= residual.norm() {
        let block = model.block(k).iter().zip(&change).map(|(value, change)| value + change).collect();
        model.set(k, block);
        *residual = left;
    }
}

/// The first left singular vectors of each unfolding as columns of `[n_k, rank]`; where there are fewer, `fill` adds.
pub(super) fn singular_columns(
    tensor: &Full,
    rank: usize,
    mut fill: impl FnMut() -> f64,
) -> Result<Vec<Vec<f64>>> {
    let (mut state, mut blocks) = (tensor.clone(), Vec::with_capacity(tensor.sizes.len()));
    for _ in 0..tensor.sizes.len() {
        let (rows, rest) = state.first_unfolding();
        let split = linear::split((&state.values, rows, rest), rank, 0.0)?;
        let mut columns = transposed((&split.left, rows, split.rank)); // [found, n]
        columns.extend((split.rank..rank).flat_map(|_| 0..rows).map(|_| fill()));
        blocks.push(transposed((&columns, rank, rows)));
        state = state.rotated();
    }
    Ok(blocks)
}
