//! Tensor Trains as objects of their own: decomposition, rounding, and algebra without ever leaving the format.
//!
//! Beside the train there are a ring of cores ([`Ring`]), a sum of products of vectors ([`Canonical`]), a core tensor with
//! factors ([`Tucker`]), a sum of those ([`Blocks`]) and a tree of cores ([`Hierarchical`]). Their decompositions take a
//! full tensor of either number type, compute in `f64` and return `f64`. Of a matrix, [`pair_modes`] makes the tensor of
//! joint modes `m_k · n_k` first; a row-major matrix as it is has the modes `m_1 … m_d n_1 … n_e`.
//!
//! | format | from a tensor | error at given ranks, beside the best of these ranks |
//! |---|---|---|
//! | train | [`tt_svd`] | at most `sqrt(d - 1)` times |
//! | Tucker | [`hosvd`], [`hooi`] | at most `sqrt(d)` times |
//! | hierarchical Tucker | [`hierarchical_svd`] | at most `sqrt(2 d - 3)` times |
//! | ring | [`ring_svd`], [`ring_als`] | no bound is known; `ring_als` is never above `ring_svd` |
//! | canonical | [`canonical`] | no bound is known, and the best need not exist |
//! | block terms | [`block_terms`] | no bound is known; never above greedy deflation |
//!
//! Letters: d cores, modes `n_k`, ranks `r_k` with `r_0 = r_d = 1`, `n` and `r` for their largest.
//!
//! # Paper
//! Oseledets, "Tensor-Train Decomposition", SIAM J. Sci. Comput. 33(5), 2011; the numbers of algorithms and
//! sections in this folder are its own.

mod algebra;
mod alternating;
mod blocks;
mod canonical;
#[cfg(feature = "candle")]
mod convert;
mod cross;
mod factor;
mod full;
mod hierarchical;
mod linear;
mod matrix;
mod operators;
mod packed;
mod plan;
mod ring;
mod scalar;
mod scale;
mod svd;
mod tree;
mod tucker;

pub use alternating::Alternating;
pub use blocks::{Blocks, block_terms};
pub use canonical::{Canonical, canonical};
pub use cross::{Cross, tt_cross};
pub use full::{Decomposed, Fit};
pub use hierarchical::{Hierarchical, hierarchical_svd};
pub use matrix::{TtMatrix, pair_modes};
pub use plan::{Plan, balanced_modes, plan};
pub use ring::{Ring, ring_als, ring_svd};
pub use scalar::Scalar;
pub use svd::{Truncation, tt_svd, unfolding_singular_values};
pub(crate) use tree::Node;
pub use tree::Tree;
pub use tucker::{Tucker, hooi, hosvd};

use self::scale::{number, shift, tame, tamed};
use crate::error::count;
use crate::{Error, Result};

/// A core `G_k [r_{k-1}, n_k, r_k]`, row-major.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "CoreFields<T>", bound(deserialize = "T: Scalar + serde::de::DeserializeOwned"))
)]
pub struct Core<T> {
    left: usize,
    mode: usize,
    right: usize,
    values: Vec<T>,
}

/// What serde reads of a core before it is checked.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
struct CoreFields<T> {
    left: usize,
    mode: usize,
    right: usize,
    values: Vec<T>,
}

#[cfg(feature = "serde")]
impl<T: Scalar> TryFrom<CoreFields<T>> for Core<T> {
    type Error = Error;

    fn try_from(read: CoreFields<T>) -> Result<Self> {
        Self::new(read.left, read.mode, read.right, read.values)
    }
}

impl<T: Scalar> Core<T> {
    /// Takes the numbers of a core `[left, mode, right]`.
    ///
    /// # Errors
    /// [`Error::Shape`] for a size of 0, [`Error::Size`] for the wrong count, [`Error::NotFinite`].
    pub fn new(left: usize, mode: usize, right: usize, values: Vec<T>) -> Result<Self> {
        if left == 0 || mode == 0 || right == 0 {
            return Err(Error::Shape(format!(
                "a core of [{left}, {mode}, {right}]: every size must be at least 1"
            )));
        }
        if values.len() != count("core", &[left, mode, right])? {
            return Err(Error::Size {
                what: "core",
                expected: format!("{left} x {mode} x {right} numbers"),
                found: values.len().to_string(),
            });
        }
        finite("core", &values)?;
        Ok(Self { left, mode, right, values })
    }

    /// `r_{k-1}`, `n_k`, `r_k`.
    pub fn size(&self) -> (usize, usize, usize) {
        (self.left, self.mode, self.right)
    }

    /// The numbers, row-major.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// `G_k(i)[a, b]`.
    fn at(&self, a: usize, i: usize, b: usize) -> T {
        self.values[(a * self.mode + i) * self.right + b]
    }
}

/// A tensor `A(i_1 … i_d) = G_1(i_1) … G_d(i_d)`.
///
/// # Examples
/// ```
/// use tt_core::decomposition::{Truncation, tt_svd};
///
/// // A sum of indices has TT ranks 2, whatever its size.
/// let values: Vec<f64> = (0..4 * 5 * 6).map(|at| (at / 30 + at / 6 % 5 + at % 6) as f64).collect();
/// let train = tt_svd(&values, &[4, 5, 6], &Truncation::RelativeError(1e-10))?;
/// assert_eq!(train.ranks(), [1, 2, 2, 1]);
/// assert!((train.element(&[3, 4, 5])? - 12.0).abs() < 1e-8);
/// # Ok::<(), tt_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(
        into = "Vec<Core<T>>",
        try_from = "Vec<Core<T>>",
        bound(
            serialize = "T: Clone + serde::Serialize",
            deserialize = "T: Scalar + serde::de::DeserializeOwned"
        )
    )
)]
pub struct TtTensor<T> {
    cores: Vec<Core<T>>,
}

#[cfg(feature = "serde")]
impl<T: Scalar> TryFrom<Vec<Core<T>>> for TtTensor<T> {
    type Error = Error;

    fn try_from(cores: Vec<Core<T>>) -> Result<Self> {
        Self::new(cores)
    }
}

#[cfg(feature = "serde")]
impl<T> From<TtTensor<T>> for Vec<Core<T>> {
    fn from(train: TtTensor<T>) -> Self {
        train.into_cores()
    }
}

impl<T> TtTensor<T> {
    /// Gives the cores away.
    pub fn into_cores(self) -> Vec<Core<T>> {
        self.cores
    }
}

impl<T: Scalar> TtTensor<T> {
    /// Joins cores whose ranks fit.
    ///
    /// # Errors
    /// [`Error::Shape`] without cores, or where neighbouring ranks differ or the outer ones are not 1.
    pub fn new(cores: Vec<Core<T>>) -> Result<Self> {
        let ends = cores.first().zip(cores.last()).map(|(first, last)| (first.left, last.right));
        if ends != Some((1, 1)) {
            return Err(Error::Shape(format!("the outer ranks must be 1, found {ends:?}")));
        }
        for (k, pair) in cores.windows(2).enumerate() {
            if pair[0].right != pair[1].left {
                let (right, left) = (pair[0].right, pair[1].left);
                return Err(Error::Shape(format!(
                    "core {k} ends with rank {right}, the next begins with {left}"
                )));
            }
        }
        Ok(Self { cores })
    }

    /// The cores `G_1 … G_d`.
    pub fn cores(&self) -> &[Core<T>] {
        &self.cores
    }

    /// Number of cores d.
    pub fn order(&self) -> usize {
        self.cores.len()
    }

    /// Modes `n_1 … n_d`.
    pub fn modes(&self) -> Vec<usize> {
        self.cores.iter().map(|core| core.mode).collect()
    }

    /// Ranks `r_0 … r_d`.
    pub fn ranks(&self) -> Vec<usize> {
        std::iter::once(1).chain(self.cores.iter().map(|core| core.right)).collect()
    }

    /// Numbers stored, `sum r_{k-1} n_k r_k`.
    pub fn storage(&self) -> usize {
        self.cores.iter().map(|core| core.values.len()).sum()
    }

    /// `A(i_1 … i_d)`.
    ///
    /// # Cost
    /// `O(d r²)`.
    ///
    /// # Errors
    /// [`Error::Size`] for the wrong number of indices or one outside its mode; [`Error::Overflow`] for an element too
    /// large for the number type.
    pub fn element(&self, at: &[usize]) -> Result<T> {
        if at.len() != self.order() || at.iter().zip(&self.cores).any(|(i, core)| *i >= core.mode) {
            return Err(Error::Size {
                what: "index",
                expected: format!("one below each of {:?}", self.modes()),
                found: format!("{at:?}"),
            });
        }
        let (mut row, mut exponent) = (vec![T::from_f64(1.0)], 0);
        for (core, i) in self.cores.iter().zip(at) {
            let mut slice: Vec<T> = (0..core.left)
                .flat_map(|a| core.values[(a * core.mode + i) * core.right..][..core.right].iter().copied())
                .collect();
            exponent += tame(&mut slice);
            row = (0..core.right)
                .map(|b| row.iter().enumerate().map(|(a, value)| *value * slice[a * core.right + b]).sum())
                .collect();
            exponent += tame(&mut row);
        }
        number("element", row[0], exponent)
    }

    /// The whole tensor, row-major over `(i_1 … i_d)`; an element too large for the number type is infinite.
    ///
    /// # Cost
    /// `O(r · prod n_k)` time, the last product dominating; memory of the result times the last rank.
    ///
    /// # Panics
    /// If memory cannot hold the tensor.
    pub fn reconstruct(&self) -> Vec<T> {
        assert!(count("tensor", &self.modes()).is_ok(), "more numbers than can be counted: {self}");
        let (mut whole, mut exponent) = (vec![T::from_f64(1.0)], 0);
        let mut rows = 1;
        for core in &self.cores {
            exponent += tame(&mut whole);
            let (values, taken) = tamed(&core.values);
            exponent += taken;
            whole = linear::product((&whole, rows, core.left), (&values, core.left, core.mode * core.right));
            rows *= core.mode;
        }
        shift(&mut whole, exponent);
        whole
    }
}

/// Refuses NaN and infinity.
fn finite<T: Scalar>(what: &'static str, values: &[T]) -> Result<()> {
    match values.iter().position(|value| !value.to_f64().is_finite()) {
        None => Ok(()),
        Some(index) => Err(Error::NotFinite { what, index, value: values[index].to_f64() }),
    }
}

/// Refuses what is no full tensor of these modes.
fn whole<T: Scalar>(values: &[T], modes: &[usize]) -> Result<()> {
    if modes.is_empty() || modes.contains(&0) {
        return Err(Error::Shape(format!("modes {modes:?}: at least one, and every one at least 1")));
    }
    let count = count("tensor", modes)?;
    if values.len() != count {
        return Err(Error::Size {
            what: "tensor",
            expected: format!("{count} numbers for modes {modes:?}"),
            found: values.len().to_string(),
        });
    }
    finite("tensor", values)
}
