//! TT-cross: a train of a tensor that is given as a function, from few of its elements.

use rand::RngExt;

use super::scale::tame;
use super::{Core, Scalar, TtTensor, finite, linear};
use crate::error::count;
use crate::rng::stream;
use crate::{Error, Result};

/// When [`tt_cross`] stops.
#[derive(Debug, Clone, PartialEq)]
pub struct Cross {
    /// Inner ranks; clamped where a mode product allows less.
    pub rank: usize,
    /// Stop when two sweeps differ by at most this at the probed elements, relative to the largest.
    pub accuracy: f64,
    /// The most sweeps, there and back.
    pub sweeps: usize,
    /// Seed of the first index sets and of the probes.
    pub seed: u64,
}

/// Rows of a tall matrix are exchanged until no entry of `Q · Q_rows⁻¹` is larger than this.
const DOMINANCE: f64 = 1.05;
/// Elements compared between sweeps.
const PROBES: usize = 64;

/// Interpolates `f` on crosses of its unfoldings, chosen by maximal volume.
///
/// # Cost
/// `O(d n r²)` evaluations of `f` and `O(d n r³)` arithmetic a sweep.
///
/// # Errors
/// [`Error::Shape`] and [`Error::Accuracy`] for options that cannot be met, [`Error::NotFinite`] where `f` is not, and
/// [`Error::NoConvergence`] after the last sweep, or where every element looked at is zero and some were not looked at: a
/// narrow peak is found only by chance.
///
/// # Paper
/// Oseledets and Tyrtyshnikov, "TT-cross approximation for multidimensional arrays", Linear Algebra Appl. 432, 2010.
pub fn tt_cross<T: Scalar>(f: impl Fn(&[usize]) -> T, modes: &[usize], cross: &Cross) -> Result<TtTensor<T>> {
    if modes.is_empty() || modes.contains(&0) || cross.rank == 0 {
        return Err(Error::Shape(format!("modes {modes:?} and rank {}: all must be at least 1", cross.rank)));
    }
    if !(cross.accuracy.is_finite() && cross.accuracy > 0.0) {
        return Err(Error::Accuracy(cross.accuracy));
    }
    let d = modes.len();
    let mut sets = Sets::new(modes, cross);
    let mut random = stream(cross.seed, "tt-cross/probes");
    let probes: Vec<Vec<usize>> =
        (0..PROBES).map(|_| modes.iter().map(|n| random.random_range(0..*n)).collect()).collect();
    let seen = std::cell::Cell::new(0_usize);
    let nonzero = std::cell::Cell::new(false);
    let f = |at: &[usize]| {
        let value = f(at);
        seen.set(seen.get() + 1);
        nonzero.set(nonzero.get() || value.to_f64() != 0.0);
        value
    };
    let mut before: Option<Vec<f64>> = None;
    let (mut change, mut size) = (f64::INFINITY, 0.0);
    for _ in 0..cross.sweeps {
        let train = sets.forward(&f)?;
        let now: Vec<f64> =
            probes.iter().map(|at| train.element(at).map(T::to_f64)).collect::<Result<_>>()?;
        size = now.iter().fold(0.0_f64, |size, v| size.max(v.abs()));
        if let Some(before) = &before {
            change = before.iter().zip(&now).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        }
        // One core is the whole tensor.
        if d == 1 || (nonzero.get() && change <= cross.accuracy * size) {
            return Ok(train);
        }
        before = Some(now);
        sets.backward(&f)?;
    }
    let detail = if cross.sweeps < 2 {
        format!("sweeps = {}: at least 2 are needed, to compare one with the next", cross.sweeps)
    } else if nonzero.get() {
        format!(
            "after {} sweeps of rank {} probed elements still change by {change:e} of {size:e}: allow more sweeps or a larger rank",
            cross.sweeps, cross.rank
        )
    } else {
        format!("all {} elements looked at are zero; try another seed or a larger rank", seen.get())
    };
    Err(Error::NoConvergence { what: "TT-cross", detail })
}

/// Nested index sets: `left[k]` has `r_k` choices of `i_1 … i_k`, `right[k]` as many of `i_{k+1} … i_d`.
struct Sets<'a> {
    modes: &'a [usize],
    left: Vec<Vec<Vec<usize>>>,
    right: Vec<Vec<Vec<usize>>>,
}

impl<'a> Sets<'a> {
    fn new(modes: &'a [usize], cross: &Cross) -> Self {
        let d = modes.len();
        let capped = |modes: &[usize]| {
            modes.iter().fold(1_usize, |product, n| product.saturating_mul(*n).min(cross.rank))
        };
        let mut random = stream(cross.seed, "tt-cross/indices");
        let mut right: Vec<Vec<Vec<usize>>> = vec![vec![Vec::new()]; d + 1];
        for k in 1..d {
            let rank = capped(&modes[..k]).min(capped(&modes[k..]));
            let mut set: Vec<Vec<usize>> = Vec::new();
            while set.len() < rank {
                let draw: Vec<usize> = modes[k..].iter().map(|n| random.random_range(0..*n)).collect();
                if !set.contains(&draw) {
                    set.push(draw);
                }
            }
            right[k] = set;
        }
        Self { modes, left: vec![vec![Vec::new()]; d + 1], right }
    }

    /// `f` on `left[k] × n_k × right[k + 1]`, row-major.
    fn block<T: Scalar>(&self, f: &impl Fn(&[usize]) -> T, k: usize) -> Result<Vec<T>> {
        let (left, right) = (&self.left[k], &self.right[k + 1]);
        let size = count("cross", &[left.len(), self.modes[k], right.len()])?;
        let mut values = Vec::with_capacity(size);
        let mut at = Vec::with_capacity(self.modes.len());
        for head in left {
            for i in 0..self.modes[k] {
                for tail in right {
                    at.clear();
                    at.extend_from_slice(head);
                    at.push(i);
                    at.extend_from_slice(tail);
                    values.push(f(&at));
                }
            }
        }
        finite("function value", &values)?;
        Ok(values)
    }

    /// New left sets, and the train that interpolates on them.
    fn forward<T: Scalar>(&mut self, f: &impl Fn(&[usize]) -> T) -> Result<TtTensor<T>> {
        let d = self.modes.len();
        let mut cores = Vec::with_capacity(d);
        for k in 0..d {
            let (left, mode, right) = (self.left[k].len(), self.modes[k], self.right[k + 1].len());
            let mut block = self.block(f, k)?;
            if k == d - 1 {
                cores.push(Core::new(left, mode, 1, block)?);
                break;
            }
            tame(&mut block);
            let (q, _, rank) = linear::qr((&block, left * mode, right));
            let (rows, interpolation) = dominant_rows((&q, left * mode, rank));
            self.left[k + 1] = rows
                .iter()
                .map(|row| self.left[k][row / mode].iter().copied().chain([row % mode]).collect())
                .collect();
            cores.push(Core::new(left, mode, rank, interpolation)?);
        }
        TtTensor::new(cores)
    }

    /// New right sets.
    fn backward<T: Scalar>(&mut self, f: &impl Fn(&[usize]) -> T) -> Result<()> {
        for k in (1..self.modes.len()).rev() {
            let (left, mode, right) = (self.left[k].len(), self.modes[k], self.right[k + 1].len());
            let mut block = self.block(f, k)?;
            tame(&mut block);
            let columns = mode * right;
            let transposed: Vec<T> =
                (0..block.len()).map(|at| block[at % left * columns + at / left]).collect();
            let (q, _, rank) = linear::qr((&transposed, columns, left));
            let (rows, _) = dominant_rows((&q, columns, rank));
            self.right[k] = rows
                .iter()
                .map(|row| {
                    std::iter::once(row / right)
                        .chain(self.right[k + 1][row % right].iter().copied())
                        .collect()
                })
                .collect();
        }
        Ok(())
    }
}

/// Rows of a tall `Q [m, r]` whose square block has nearly maximal volume, and `Q · Q_rows⁻¹`.
///
/// # Paper
/// Goreinov et al., "How to find a good submatrix", 2010 (algorithm maxvol).
fn dominant_rows<T: Scalar>((q, m, r): linear::Rows<'_, T>) -> (Vec<usize>, Vec<T>) {
    let mut rows = pivot_rows(q, m, r);
    loop {
        let square: Vec<T> = rows.iter().flat_map(|row| q[row * r..(row + 1) * r].iter().copied()).collect();
        let ratio = linear::divide((q, m, r), (&square, r, r));
        let largest =
            ratio.iter().enumerate().max_by(|a, b| a.1.to_f64().abs().total_cmp(&b.1.to_f64().abs()));
        match largest {
            // Each exchange multiplies the volume by more than DOMINANCE, so this ends.
            Some((at, value)) if value.to_f64().abs() > DOMINANCE => rows[at % r] = at / r,
            _ => return (rows, ratio),
        }
    }
}

/// Pivots of Gaussian elimination: rows of a regular square block.
fn pivot_rows<T: Scalar>(q: &[T], m: usize, r: usize) -> Vec<usize> {
    let mut work: Vec<f64> = q.iter().map(|value| value.to_f64()).collect();
    let mut rows = Vec::with_capacity(r);
    for column in 0..r {
        let free = (0..m).filter(|row| !rows.contains(row));
        let pivot = free.max_by(|a, b| work[a * r + column].abs().total_cmp(&work[b * r + column].abs()));
        let Some(pivot) = pivot else { break };
        rows.push(pivot);
        let line = work[pivot * r..(pivot + 1) * r].to_vec();
        for row in 0..m {
            if rows.contains(&row) || line[column] == 0.0 {
                continue;
            }
            let factor = work[row * r + column] / line[column];
            for at in column..r {
                work[row * r + at] -= factor * line[at];
            }
        }
    }
    rows
}
