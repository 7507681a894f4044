//! Tucker: a small core tensor and a factor for each mode.

use super::alternating::Alternating;
use super::full::{Decomposed, Fit, Full, transposed};
use super::scale::{restore, shift, tame_all};
use super::{Core, Scalar, Truncation, linear};
use crate::error::count;
use crate::{Error, Result};

/// A tensor `A(i_1 … i_d) = sum over c of G(c_1 … c_d) U_1(i_1, c_1) … U_d(i_d, c_d)`.
///
/// # Shapes
/// Factors `[1, n_k, r_k]`, then the core tensor as `[1, r_1 · … · r_d, 1]`, row-major over `(c_1 … c_d)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tucker {
    /// Factors, and the core tensor last.
    pub(super) cores: Vec<Core<f64>>,
}

impl Tucker {
    /// Joins factors `[1, n_k, r_k]` and a core tensor, row-major over `(c_1 … c_d)`.
    ///
    /// # Errors
    /// [`Error::Shape`] without factors or where one has a left rank; [`Error::Size`] for a core tensor of another size;
    /// [`Error::NotFinite`].
    pub fn new(mut factors: Vec<Core<f64>>, core: Vec<f64>) -> Result<Self> {
        if factors.is_empty() || factors.iter().any(|factor| factor.left != 1) {
            let sizes: Vec<_> = factors.iter().map(Core::size).collect();
            return Err(Error::Shape(format!("factors {sizes:?}: at least one, each [1, n_k, r_k]")));
        }
        let ranks: Vec<usize> = factors.iter().map(|factor| factor.right).collect();
        factors.push(Core::new(1, count("core tensor", &ranks)?, 1, core)?);
        Ok(Self { cores: factors })
    }

    /// Factors `[1, n_k, r_k]`.
    pub fn factors(&self) -> &[Core<f64>] {
        &self.cores[..self.cores.len() - 1]
    }

    /// The core tensor, row-major over `(c_1 … c_d)`.
    pub fn core(&self) -> &[f64] {
        &self.cores[self.cores.len() - 1].values
    }

    /// Ranks `r_1 … r_d`.
    pub fn ranks(&self) -> Vec<usize> {
        self.factors().iter().map(|factor| factor.right).collect()
    }

    /// The tensor as it is, without care for its size.
    pub(super) fn expanded(&self) -> Full {
        let core = Full { values: self.core().to_vec(), sizes: self.ranks() };
        self.factors().iter().fold(core, |state, factor| {
            let turned = transposed((&factor.values, factor.mode, factor.right));
            state.contracted((&turned, factor.right, factor.mode))
        })
    }
}

impl Decomposed for Tucker {
    fn cores(&self) -> Vec<&Core<f64>> {
        self.cores.iter().collect()
    }

    fn modes(&self) -> Vec<usize> {
        self.factors().iter().map(|factor| factor.mode).collect()
    }

    fn reconstruct(&self) -> Vec<f64> {
        let (cores, exponent) = tame_all(&self.cores);
        let mut values = Self { cores }.expanded().values;
        shift(&mut values, exponent);
        values
    }
}

/// Decomposes a full tensor, row-major over `modes`, by truncated singular value decompositions of its unfoldings, one
/// mode after the other on what the ones before left. Ranks `r_1 … r_d` are one a mode.
///
/// Factors are orthonormal. The error is at most the root of the summed squares of the best errors of the unfoldings,
/// hence at most `sqrt(d)` times that of the best Tucker decomposition of the same ranks.
///
/// # Cost
/// `O(n_1 · prod n_k)` for the first mode; the others work on what is left. Two copies of the tensor in `f64`.
///
/// # Errors
/// [`Error::Shape`] for modes or ranks that cannot be, [`Error::Size`], [`Error::NotFinite`], [`Error::Accuracy`].
///
/// # Paper
/// De Lathauwer, De Moor and Vandewalle, "A Multilinear Singular Value Decomposition", SIAM J. Matrix Anal. Appl. 21(4),
/// 2000; in sequence as Vannieuwenhoven, Vandebril and Meerbergen, SIAM J. Sci. Comput. 34(2), 2012, Algorithm 1.
pub fn hosvd<T: Scalar>(values: &[T], modes: &[usize], truncation: &Truncation) -> Result<Tucker> {
    let (tensor, taken) = Full::new(values, modes)?;
    let norm = tensor.norm();
    let (bounds, tolerance) = bounds(truncation, modes, norm)?;
    let mut found = truncated(tensor, &bounds, tolerance)?;
    let last = modes.len();
    restore(&mut found.cores, last, taken);
    Ok(found)
}

/// As [`hosvd`], followed by sweeps that choose each factor anew for what the others leave of the tensor: higher-order
/// orthogonal iteration. The error never grows, so the bound of [`hosvd`] holds; there is one start, and no seed.
///
/// Where a relative error is asked for, [`hosvd`] chooses the ranks, and the sweeps lower the error at these.
///
/// # Cost
/// `O(d r · prod n_k)` a sweep.
///
/// # Errors
/// As [`hosvd`]; [`Error::Shape`] for no sweeps or starts.
///
/// # Paper
/// De Lathauwer, De Moor and Vandewalle, "On the Best Rank-1 and Rank-(R1, R2, …, RN) Approximation of Higher-Order
/// Tensors", SIAM J. Matrix Anal. Appl. 21(4), 2000.
pub fn hooi<T: Scalar>(
    values: &[T],
    modes: &[usize],
    truncation: &Truncation,
    sweeps: &Alternating,
) -> Result<Fit<Tucker>> {
    sweeps.check()?;
    let (tensor, taken) = Full::new(values, modes)?;
    let norm = tensor.norm();
    let (bounds, tolerance) = bounds(truncation, modes, norm)?;
    let mut found = truncated(tensor.clone(), &bounds, tolerance)?;
    let squares = |tucker: &Tucker| tucker.core().iter().map(|value| value * value).sum::<f64>();
    let (mut done, mut converged, mut before) = (0, false, squares(&found));
    while done < sweeps.sweeps && !converged {
        sweep(&tensor, &mut found)?;
        done += 1;
        let now = squares(&found);
        let wrong = (norm * norm - before).max(0.0);
        // The error falls by half of this share; below the last digits of the norm nothing is left to find.
        converged = now - before <= (2.0 * sweeps.change * wrong).max(norm * norm * f64::EPSILON);
        before = now;
    }
    let relative_error = distance(&found.expanded(), &tensor) / norm.max(f64::MIN_POSITIVE);
    let last = modes.len();
    restore(&mut found.cores, last, taken);
    Ok(Fit { found, relative_error, sweeps: done, converged })
}

/// The rank allowed for each mode, and the error at each.
pub(super) fn bounds(truncation: &Truncation, modes: &[usize], norm: f64) -> Result<(Vec<usize>, f64)> {
    let numbers: usize = modes.iter().product();
    let largest: Vec<usize> = modes.iter().map(|mode| (*mode).min(numbers / mode)).collect();
    let (bounds, tolerance) = truncation.allowed(&largest, modes.len(), norm)?;
    if let Truncation::Ranks(ranks) = truncation {
        for (k, rank) in ranks.iter().enumerate() {
            let others = ranks.iter().enumerate().filter(|(j, _)| *j != k);
            let others = others.fold(1_usize, |product, (_, rank)| product.saturating_mul(*rank));
            if *rank > others {
                return Err(Error::Shape(format!(
                    "rank {rank} of mode {} in ranks {ranks:?}: at most the product of the others, {others}",
                    k + 1
                )));
            }
        }
    }
    Ok((bounds, tolerance))
}

/// The sequentially truncated decomposition of a tame tensor.
pub(super) fn truncated(tensor: Full, bounds: &[usize], tolerance: f64) -> Result<Tucker> {
    let (mut rest, mut cores) = (tensor, Vec::with_capacity(bounds.len() + 1));
    for bound in bounds {
        let (mode, columns) = rest.first_unfolding();
        let split = linear::split((&rest.values, mode, columns), *bound, tolerance)?;
        rest.values = split.right;
        rest.sizes[0] = split.rank;
        rest = rest.rotated();
        cores.push(Core { left: 1, mode, right: split.rank, values: split.left });
    }
    cores.push(Core { left: 1, mode: rest.values.len(), right: 1, values: rest.values });
    Ok(Tucker { cores })
}

/// Chooses each orthonormal factor anew, and the core tensor with it.
pub(super) fn sweep(tensor: &Full, tucker: &mut Tucker) -> Result<()> {
    let d = tensor.sizes.len();
    for k in 0..d {
        // Mode k first, then the others in a circle, each contracted with its factor and put last.
        let mut state = tensor.clone().permuted(&(0..d).map(|j| (k + j) % d).collect::<Vec<_>>()).rotated();
        for j in 1..d {
            let factor = &tucker.cores[(k + j) % d];
            state = state.contracted((&factor.values, factor.mode, factor.right));
        }
        let (mode, columns) = state.first_unfolding();
        let split = linear::split((&state.values, mode, columns), tucker.cores[k].right, 0.0)?;
        tucker.cores[k] = Core { left: 1, mode, right: split.rank, values: split.left };
        state.values = split.right;
        state.sizes[0] = split.rank;
        let core = state.permuted(&(0..d).map(|j| (j + d - k) % d).collect::<Vec<_>>()).values;
        tucker.cores[d] = Core { left: 1, mode: core.len(), right: 1, values: core };
    }
    Ok(())
}

/// The Frobenius norm of a difference.
fn distance(a: &Full, b: &Full) -> f64 {
    a.values.iter().zip(&b.values).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}
