//! Tensor rings: trains whose ends are joined.

use rand::RngExt;

use super::alternating::{Alternating, Model, best};
use super::full::{Decomposed, Fit, Full};
use super::scale::{norm_or_infinite, restore, shift, tame_all};
use super::{Core, Scalar, Truncation, linear};
use crate::error::count;
use crate::rng::{Stream, stream};
use crate::{Error, Result};

/// A tensor `A(i_1 … i_d) = trace(G_1(i_1) … G_d(i_d))`.
///
/// # Shapes
/// Cores `[r_{k-1}, n_k, r_k]`, `r_d = r_0`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ring {
    cores: Vec<Core<f64>>,
}

impl Ring {
    /// Joins cores whose ranks fit, the last one with the first.
    ///
    /// # Errors
    /// [`Error::Shape`] without cores, or where neighbouring ranks differ.
    pub fn new(cores: Vec<Core<f64>>) -> Result<Self> {
        let next = |k: usize| &cores[(k + 1) % cores.len()];
        if cores.is_empty() || cores.iter().enumerate().any(|(k, core)| core.right != next(k).left) {
            let sizes: Vec<_> = cores.iter().map(Core::size).collect();
            return Err(Error::Shape(format!(
                "cores {sizes:?}: at least one, and each ends with the rank that the next begins with, in a circle"
            )));
        }
        Ok(Self { cores })
    }

    /// Ranks `r_0 … r_{d-1}`.
    pub fn ranks(&self) -> Vec<usize> {
        self.cores.iter().map(|core| core.left).collect()
    }
}

impl Decomposed for Ring {
    fn cores(&self) -> Vec<&Core<f64>> {
        self.cores.iter().collect()
    }

    fn modes(&self) -> Vec<usize> {
        self.cores.iter().map(|core| core.mode).collect()
    }

    fn reconstruct(&self) -> Vec<f64> {
        let (cores, exponent) = tame_all(&self.cores);
        let mut values = Self { cores }.expanded(&self.modes()).values;
        shift(&mut values, exponent);
        values
    }
}

/// Decomposes a full tensor, row-major over `modes`, into a ring by truncated singular value decompositions: the first
/// unfolding is cut at rank `r_0 · r_1`, which is split between the two bonds of the first core, and what is left is a
/// train. Ranks are `r_0 … r_{d-1}`.
///
/// A relative error is kept; `r_0` is then the largest divisor of the first rank that is at most its root. At given ranks
/// no bound is known: how the first rank is split decides what the other cuts lose, and a tensor that is a ring of some
/// ranks need not be found at these. [`ring_als`] goes on from here. Where a cut has fewer singular values than its rank,
/// the core's other numbers are random (of seed 0), multiplied by zeros in the next.
///
/// # Cost
/// As [`super::tt_svd`] with a last mode of `r_0 n_d`; two copies of the tensor in `f64`.
///
/// # Errors
/// [`Error::Shape`] for modes that cannot be, or a rank above the product of its core's other rank and mode, on either
/// side; [`Error::Size`], [`Error::NotFinite`], [`Error::Accuracy`].
///
/// # Paper
/// Zhao, Zhou, Xie, Zhang and Cichocki, "Tensor Ring Decomposition", arXiv 1606.05535, 2016, Algorithm 1.
pub fn ring_svd<T: Scalar>(values: &[T], modes: &[usize], truncation: &Truncation) -> Result<Ring> {
    let (tensor, taken) = Full::new(values, modes)?;
    let mut ring = cut(&tensor, truncation)?;
    restore(&mut ring.cores, 0, taken);
    Ok(ring)
}

/// Decomposes a full tensor, row-major over `modes`, into a ring of ranks `r_0 … r_{d-1}` by alternating least squares.
///
/// The first start is [`ring_svd`], the others are random. A sweep never enlarges the error, so the result is never worse
/// than that of [`ring_svd`]; no bound is known.
///
/// # Cost
/// `O(d r² · prod n_k)` a sweep; three copies of the tensor in `f64`, and `r²` rows of its smallest unfolding.
///
/// # Errors
/// As [`ring_svd`]; [`Error::Shape`] for no sweeps or starts.
///
/// # Paper
/// Zhao et al. 2016, Algorithm 2.
///
/// # Departs
/// Each step is damped by the one before, so that it has a solution where the subchain has not full rank.
pub fn ring_als<T: Scalar>(
    values: &[T],
    modes: &[usize],
    ranks: &[usize],
    options: &Alternating,
) -> Result<Fit<Ring>> {
    options.check()?;
    let (tensor, taken) = Full::new(values, modes)?;
    let first = cut(&tensor, &Truncation::Ranks(ranks.to_vec()))?;
    let mut fit = best(&tensor, options, |start| {
        if start == 0 {
            return Ok(first.clone());
        }
        let mut random = stream(options.seed, &format!("ring/start/{start}"));
        let core = |(k, mode): (usize, &usize)| {
            let (left, right) = (ranks[k], ranks[(k + 1) % ranks.len()]);
            let mut values: Vec<f64> = draw(left * mode * right, &mut random);
            // The first step finds this one.
            if k == 0 {
                values.fill(0.0);
            }
            Core { left, mode: *mode, right, values }
        };
        Ok(Ring { cores: modes.iter().enumerate().map(core).collect() })
    })?;
    restore(&mut fit.found.cores, 0, taken);
    Ok(fit)
}

fn draw(count: usize, random: &mut Stream) -> Vec<f64> {
    (0..count).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// Numbers of a core, at most: the bonds of a ring bound each other in a circle, so that their sizes alone bound nothing.
const MOST: usize = 1 << 28;

/// Refuses ranks that the mode and the other rank of a core cannot carry.
fn check(ranks: &[usize], modes: &[usize]) -> Result<()> {
    let d = modes.len();
    if ranks.len() != d || ranks.contains(&0) {
        return Err(Error::Shape(format!(
            "ranks {ranks:?}: a ring of {d} modes has {d} ranks of at least 1"
        )));
    }
    for k in 0..d {
        let size = count("core of the ring", &[ranks[k], modes[k], ranks[(k + 1) % d]])?;
        if size > MOST {
            return Err(Error::Shape(format!(
                "ranks {ranks:?}: core {k} would have {size} numbers, and {MOST} is the most"
            )));
        }
        let before = (k + d - 1) % d;
        let (left, right) =
            (modes[before].checked_mul(ranks[before]), modes[k].checked_mul(ranks[(k + 1) % d]));
        let largest = if d == 1 { 1 } else { left.unwrap_or(usize::MAX).min(right.unwrap_or(usize::MAX)) };
        if ranks[k] > largest {
            return Err(Error::Shape(format!(
                "rank {} of bond {k} in ranks {ranks:?}: at most {largest}, the mode times the other rank of the core \
                 beside it",
                ranks[k]
            )));
        }
    }
    Ok(())
}

/// The sequence of cuts of a tame tensor.
fn cut(tensor: &Full, truncation: &Truncation) -> Result<Ring> {
    let (modes, d) = (&tensor.sizes, tensor.sizes.len());
    let unlimited = vec![usize::MAX; d];
    let (bounds, tolerance) = match truncation {
        Truncation::RelativeError(_) => truncation.allowed(&unlimited, d, tensor.norm())?,
        Truncation::Ranks(ranks) => {
            check(ranks, modes)?;
            (ranks.clone(), 0.0)
        }
    };
    let exact = matches!(truncation, Truncation::Ranks(_));
    if d == 1 {
        let core = Core { left: 1, mode: modes[0], right: 1, values: tensor.values.clone() };
        return Ok(Ring { cores: vec![core] });
    }
    let mut random = stream(0, "ring/fill");
    let (mode, rest) = tensor.first_unfolding();
    let of_both = bounds[0].saturating_mul(bounds[1]);
    let split = linear::split((&tensor.values, mode, rest), of_both, 2_f64.sqrt() * tolerance)?;
    let (split, closing) = if exact {
        (filled(split, mode, of_both, &mut random), bounds[0])
    } else {
        let divides = |rank: &usize| split.rank.is_multiple_of(*rank) && rank * rank <= split.rank;
        let closing = (1..=split.rank).filter(divides).max().unwrap_or(1);
        (split, closing)
    };
    let opening = split.rank / closing;
    let first = Full { values: split.left, sizes: vec![mode, closing, opening] }.permuted(&[1, 0, 2]);
    let mut cores = vec![Core { left: closing, mode, right: opening, values: first.values }];
    // [r_0, r_1, n_2 … n_d] to [r_1, n_2 … n_d, r_0]
    let mut rest = Full { values: split.right, sizes: vec![closing, opening * rest] }.rotated().values;
    let mut left = opening;
    for k in 1..d - 1 {
        let rows = left * modes[k];
        let bound = bounds[k + 1];
        let mut split = linear::split((&rest, rows, rest.len() / rows), bound, tolerance)?;
        if exact {
            split = filled(split, rows, bound, &mut random);
        }
        cores.push(Core { left, mode: modes[k], right: split.rank, values: split.left });
        (rest, left) = (split.right, split.rank);
    }
    cores.push(Core { left, mode: modes[d - 1], right: closing, values: rest });
    Ok(Ring { cores })
}

/// The same product with an inner size of `rank`: random columns on the left, rows of zeros on the right.
fn filled(split: linear::Split<f64>, rows: usize, rank: usize, random: &mut Stream) -> linear::Split<f64> {
    let found = split.rank;
    let columns = split.right.len() / found;
    let mut left = Vec::with_capacity(rows * rank);
    for row in split.left.chunks_exact(found) {
        left.extend_from_slice(row);
        left.extend(draw(rank - found, random));
    }
    let mut right = split.right;
    right.resize(rank * columns, 0.0);
    linear::Split { left, right, rank }
}

impl Model for Ring {
    fn design(&self, k: usize) -> (Vec<f64>, usize) {
        let (left, right) = (self.cores[k].left, self.cores[k].right);
        let mut chain: Vec<f64> =
            (0..right * right).map(|at| f64::from(u8::from(at % (right + 1) == 0))).collect();
        let mut rank = right;
        for j in 1..self.cores.len() {
            let core = &self.cores[(k + j) % self.cores.len()];
            let rows = chain.len() / rank;
            chain = linear::product((&chain, rows, rank), (&core.values, core.left, core.mode * core.right));
            rank = core.right;
        }
        // [r_k, rest, r_{k-1}] to [r_{k-1}, r_k, rest]
        let rest = chain.len() / right / left;
        let chain = Full { values: chain, sizes: vec![right, rest, left] }.permuted(&[2, 0, 1]);
        (chain.values, left * right)
    }

    fn block(&self, k: usize) -> Vec<f64> {
        let core = &self.cores[k];
        let sizes = vec![core.left, core.mode, core.right];
        Full { values: core.values.clone(), sizes }.permuted(&[1, 0, 2]).values
    }

    fn set(&mut self, k: usize, block: Vec<f64>) {
        let core = &mut self.cores[k];
        let sizes = vec![core.mode, core.left, core.right];
        core.values = Full { values: block, sizes }.permuted(&[1, 0, 2]).values;
    }

    /// All cores get one norm.
    fn finish(&mut self, _: &mut Full) -> Result<()> {
        let norms: Vec<f64> = self.cores.iter().map(|core| norm_or_infinite(&core.values)).collect();
        let logarithm = norms.iter().map(|norm| norm.ln()).sum::<f64>() / norms.len() as f64;
        if logarithm.is_finite() {
            for (core, norm) in self.cores.iter_mut().zip(norms) {
                let by = logarithm.exp() / norm;
                core.values.iter_mut().for_each(|value| *value *= by);
            }
        }
        Ok(())
    }
}
