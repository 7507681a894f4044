//! TT-SVD: from a full tensor to its train (Algorithm 1).

use std::borrow::Cow;

use super::scale::{self, norm, restore, surplus, times_two_to};
use super::{Core, Scalar, TtTensor, finite, linear, whole};
use crate::error::count;
use crate::{Error, Result};

/// When a decomposition stops.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Truncation {
    /// Relative error at most this in the Frobenius norm.
    RelativeError(f64),
    /// Ranks. Of a train the inner ones, `r_1 … r_{d-1}`, where those larger than possible are clamped; of another
    /// format those that its decomposition names, where they are refused. Those of a tensor that has smaller ones, to the
    /// last digit, come out smaller.
    Ranks(Vec<usize>),
}

impl Truncation {
    /// The same inner rank everywhere.
    pub fn rank(rank: usize, order: usize) -> Self {
        Self::Ranks(vec![rank; order.saturating_sub(1)])
    }

    /// The bound of each inner rank, and the Frobenius error allowed at each cut of a tensor of this norm.
    pub(super) fn bounds(&self, order: usize, norm: f64) -> Result<(Vec<usize>, f64)> {
        let cuts = order - 1;
        match self {
            Self::RelativeError(_) => self.allowed(&vec![usize::MAX; cuts], cuts, norm),
            Self::Ranks(ranks) if ranks.len() != cuts || ranks.contains(&0) => Err(Error::Shape(format!(
                "{order} cores need {cuts} inner ranks of at least 1, found {ranks:?}"
            ))),
            Self::Ranks(ranks) => Ok((ranks.clone(), 0.0)),
        }
    }

    /// Per rank its bound, at most `largest`, and the Frobenius error allowed at each of `cuts` for a tensor of this norm.
    pub(super) fn allowed(&self, largest: &[usize], cuts: usize, norm: f64) -> Result<(Vec<usize>, f64)> {
        match self {
            Self::RelativeError(accuracy) if !(accuracy.is_finite() && *accuracy > 0.0) => {
                Err(Error::Accuracy(*accuracy))
            }
            Self::RelativeError(accuracy) => {
                Ok((largest.to_vec(), accuracy * norm / (cuts.max(1) as f64).sqrt()))
            }
            Self::Ranks(ranks) => Ok((possible(ranks, largest)?, 0.0)),
        }
    }
}

/// The ranks themselves.
///
/// # Errors
/// [`Error::Shape`] for another number of them, or one that is 0 or larger than possible.
pub(super) fn possible(ranks: &[usize], largest: &[usize]) -> Result<Vec<usize>> {
    let fits = |(rank, largest): (&usize, &usize)| (1..=*largest).contains(rank);
    if ranks.len() == largest.len() && ranks.iter().zip(largest).all(fits) {
        return Ok(ranks.to_vec());
    }
    Err(Error::Shape(format!("ranks {ranks:?}: expected {} from 1 to {largest:?}", largest.len())))
}

/// Decomposes a full tensor, row-major over `modes`.
///
/// The error is at most `sqrt(sum of the squared errors of the best approximations of the unfoldings)`, hence at
/// most `sqrt(d - 1)` times that of the best train of the same ranks (Corollary 2.4).
///
/// Scaling the tensor scales the result and changes no rank. All cores but the last are left-orthogonal (where the
/// last cannot hold the tensor's norm, up to a power of two).
///
/// # Cost
/// `O(n_1 · prod n_k)` for the first unfolding; the others work on what is left, `r_k` times smaller in each mode.
///
/// # Errors
/// [`Error::Shape`], [`Error::Size`], [`Error::NotFinite`], [`Error::Accuracy`].
///
/// # Paper
/// Oseledets 2011, Algorithm 1.
pub fn tt_svd<T: Scalar>(values: &[T], modes: &[usize], truncation: &Truncation) -> Result<TtTensor<T>> {
    whole(values, modes)?;
    let (mantissa, exponent) = norm(values);
    let taken = surplus::<T>((mantissa, exponent));
    let mut rest = Cow::Borrowed(values);
    scale::shift_cow(&mut rest, -taken);
    let (bounds, tolerance) = truncation.bounds(modes.len(), times_two_to(mantissa, exponent - taken))?;
    let mut cores = Vec::with_capacity(modes.len());
    let mut left = 1;
    for (mode, bound) in modes.iter().zip(bounds) {
        let rows = left * mode;
        let split = linear::split((&rest, rows, rest.len() / rows), bound, tolerance)?;
        cores.push(Core { left, mode: *mode, right: split.rank, values: split.left });
        (rest, left) = (split.right.into(), split.rank);
    }
    let mode = modes[modes.len() - 1];
    cores.push(Core { left, mode, right: 1, values: rest.into_owned() });
    let last = cores.len() - 1;
    restore(&mut cores, last, taken);
    Ok(TtTensor { cores })
}

/// Singular values of unfolding `k` (rows `i_1 … i_k`, `0 < k < d`) of a full tensor, largest first.
///
/// # Errors
/// [`Error::Size`] for a k outside its range or the wrong number of values, [`Error::NotFinite`].
pub fn unfolding_singular_values<T: Scalar>(values: &[T], modes: &[usize], k: usize) -> Result<Vec<f64>> {
    let count = count("tensor", modes)?;
    let rows: usize = modes.iter().take(k).product();
    if k == 0 || k >= modes.len() || values.len() != count || count == 0 {
        return Err(Error::Size {
            what: "unfolding",
            expected: format!("0 < k < {} and {count} numbers", modes.len()),
            found: format!("k = {k} and {} numbers", values.len()),
        });
    }
    finite("tensor", values)?;
    linear::singular_values((values, rows, count / rows))
}
