//! Sums, products, norms and rounding without leaving the format (sections 3 and 4).

use super::scale::{norm, number, restore, tame, tame_all, tamed, times_two_to};
use super::{Core, Scalar, Truncation, TtTensor, finite, linear};
use crate::error::count;
use crate::{Error, Result};

impl<T: Scalar> TtTensor<T> {
    fn same_modes(&self, other: &Self) -> Result<()> {
        if self.modes() == other.modes() {
            return Ok(());
        }
        Err(Error::Size {
            what: "modes of the second train",
            expected: format!("{:?}", self.modes()),
            found: format!("{:?}", other.modes()),
        })
    }

    /// `A + B`; ranks add up.
    ///
    /// # Cost
    /// `O(d n r²)`, a copy.
    ///
    /// # Errors
    /// [`Error::Size`] for other modes or ranks beyond counting.
    ///
    /// # Paper
    /// Section 4.1.
    pub fn add(&self, other: &Self) -> Result<Self> {
        self.same_modes(other)?;
        let last = self.order() - 1;
        let cores = self.cores.iter().zip(&other.cores).enumerate().map(|(k, (a, b))| {
            // Blocks lie on the diagonal, side by side in the first core and one above the other in the last.
            let (row, column) = (if k == 0 { 0 } else { a.left }, if k == last { 0 } else { a.right });
            let (left, right) = (row + b.left, column + b.right);
            let mut values = vec![T::from_f64(0.0); count("core of the sum", &[left, a.mode, right])?];
            for (core, row, column) in [(a, 0, 0), (b, row, column)] {
                for (at, line) in core.values.chunks_exact(core.right).enumerate() {
                    let (x, i) = (at / core.mode, at % core.mode);
                    let to = ((row + x) * a.mode + i) * right + column;
                    values[to..to + core.right].iter_mut().zip(line).for_each(|(to, from)| *to += *from);
                }
            }
            Ok(Core { left, mode: a.mode, right, values })
        });
        Self { cores: cores.collect::<Result<_>>()? }.checked("core of the sum")
    }

    /// `A - B`; ranks add up.
    ///
    /// # Errors
    /// [`Error::Size`] for other modes.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        self.add(&other.scale(T::from_f64(-1.0)))
    }

    /// `factor · A`; a number of the first core that has no place in the type becomes infinite.
    ///
    /// # Panics
    /// For a factor that is no number.
    #[must_use]
    pub fn scale(&self, factor: T) -> Self {
        assert!(factor.to_f64().is_finite(), "a factor that is a number");
        let mut scaled = self.clone();
        let mut factor = [factor];
        let exponent = tame(&mut factor) + tame(&mut scaled.cores[0].values);
        scaled.cores[0].values.iter_mut().for_each(|value| *value *= factor[0]);
        restore(&mut scaled.cores, 0, exponent);
        scaled
    }

    /// The element-wise product; ranks multiply.
    ///
    /// # Cost
    /// `O(d n r⁴)`.
    ///
    /// # Errors
    /// [`Error::Size`] for other modes.
    ///
    /// # Paper
    /// Section 4.2.
    pub fn hadamard(&self, other: &Self) -> Result<Self> {
        self.same_modes(other)?;
        let (a, of_a) = self.tame();
        let (b, of_b) = other.tame();
        let cores = a.cores.iter().zip(&b.cores).map(|(a, b)| {
            let size = count("core of the product", &[a.left, b.left, a.mode, a.right, b.right])?;
            let (left, right) = (a.left * b.left, a.right * b.right);
            let mut values = Vec::with_capacity(size);
            for row in 0..left {
                for i in 0..a.mode {
                    for column in 0..right {
                        values.push(
                            a.at(row / b.left, i, column / b.right) * b.at(row % b.left, i, column % b.right),
                        );
                    }
                }
            }
            Ok(Core { left, mode: a.mode, right, values })
        });
        Self { cores: cores.collect::<Result<_>>()? }.restored(of_a + of_b, "core of the product")
    }

    /// `sum A ∘ B`.
    ///
    /// # Cost
    /// `O(d n r³)`.
    ///
    /// # Errors
    /// [`Error::Size`] for other modes; [`Error::Overflow`] for a sum too large for the number type.
    ///
    /// # Paper
    /// Section 4.2.
    pub fn inner(&self, other: &Self) -> Result<T> {
        self.same_modes(other)?;
        let (mut joint, mut exponent) = (vec![T::from_f64(1.0)], 0); // [r_A, r_B]
        for (a, b) in self.cores.iter().zip(&other.cores) {
            let ((of_a, taken_a), (of_b, taken_b)) = (tamed(&a.values), tamed(&b.values));
            let half = linear::product((&joint, a.left, b.left), (&of_b, b.left, b.mode * b.right));
            let (rows, columns) = (a.left * a.mode, b.right);
            joint = linear::product_of_transposed((&of_a, rows, a.right), (&half, rows, columns));
            exponent += taken_a + taken_b + tame(&mut joint);
        }
        number("inner product", joint[0], exponent)
    }

    /// The Frobenius norm, exact to rounding also where `inner` would cancel; infinite where `f64` cannot hold it, see
    /// [`TtTensor::log2_norm`].
    ///
    /// # Cost
    /// `O(d n r³)`.
    pub fn norm(&self) -> f64 {
        let (mantissa, exponent) = self.norm_parts();
        times_two_to(mantissa, exponent)
    }

    /// The logarithm to base 2 of the Frobenius norm, for trains whose norm is beyond `f64`; minus infinity for zero.
    ///
    /// # Cost
    /// `O(d n r³)`.
    pub fn log2_norm(&self) -> f64 {
        let (mantissa, exponent) = self.norm_parts();
        mantissa.log2() + exponent as f64
    }

    /// The norm as `m · 2^e`.
    fn norm_parts(&self) -> (f64, i64) {
        let (tame, taken) = self.tame_right_orthogonal();
        let (mantissa, exponent) = norm(&tame.cores[0].values);
        (mantissa, exponent + taken)
    }

    /// Contracts mode `k` (from 0) with a vector: a train with one core fewer.
    ///
    /// # Cost
    /// `O(n r² + n r³)`.
    ///
    /// # Errors
    /// [`Error::Size`] for a mode that is not there, a vector of another length, or a train of one core.
    pub fn contract(&self, k: usize, vector: &[T]) -> Result<Self> {
        let core = self.cores.get(k).filter(|core| core.mode == vector.len() && self.order() > 1);
        let core = core.ok_or_else(|| Error::Size {
            what: "contraction",
            expected: format!("one of modes {:?} and a vector as long, two cores at least", self.modes()),
            found: format!("mode {k}, a vector of {}", vector.len()),
        })?;
        finite("vector", vector)?;
        let ((numbers, of_core), (vector, of_vector)) = (tamed(&core.values), tamed(vector));
        let mut matrix: Vec<T> = (0..core.left * core.right)
            .map(|at| {
                let line = numbers.iter().skip(at / core.right * core.mode * core.right + at % core.right);
                vector.iter().zip(line.step_by(core.right)).map(|(value, of_core)| *value * *of_core).sum()
            })
            .collect();
        let mut cores = self.cores.clone();
        cores.remove(k);
        let at = k.saturating_sub(1);
        let neighbour = &mut cores[at];
        let taken = of_core + of_vector + tame(&mut matrix) + tame(&mut neighbour.values);
        if k == 0 {
            let old = (neighbour.values.as_slice(), neighbour.left, neighbour.mode * neighbour.right);
            neighbour.values = linear::product((&matrix, core.left, core.right), old);
            neighbour.left = core.left;
        } else {
            let old = (neighbour.values.as_slice(), neighbour.left * neighbour.mode, neighbour.right);
            neighbour.values = linear::product(old, (&matrix, core.left, core.right));
            neighbour.right = core.right;
        }
        restore(&mut cores, at, taken);
        Self { cores }.checked("contracted core")
    }

    /// The same tensor with every core but the last left-orthogonal: `sum over i of G(i)ᵀ G(i) = 1`.
    ///
    /// Where the last core cannot hold the norm of the tensor, the cores are orthogonal up to a power of two.
    ///
    /// # Cost
    /// `O(d n r³)`.
    #[must_use]
    pub fn orthogonalize_left(&self) -> Self {
        let (Self { mut cores }, mut taken) = self.tame();
        for k in 0..cores.len() - 1 {
            let (before, after) = cores.split_at_mut(k + 1);
            let (core, next) = (&mut before[k], &mut after[0]);
            let (q, r, rank) = linear::qr((&core.values, core.left * core.mode, core.right));
            next.values =
                linear::product((&r, rank, core.right), (&next.values, next.left, next.mode * next.right));
            next.left = rank;
            core.values = q;
            core.right = rank;
            taken += tame(&mut next.values);
        }
        let last = cores.len() - 1;
        restore(&mut cores, last, taken);
        Self { cores }
    }

    /// The same tensor with every core but the first right-orthogonal: `sum over i of G(i) G(i)ᵀ = 1`.
    ///
    /// Where the first core cannot hold the norm of the tensor, the cores are orthogonal up to a power of two.
    ///
    /// # Cost
    /// `O(d n r³)`.
    #[must_use]
    pub fn orthogonalize_right(&self) -> Self {
        let (mut orthogonal, taken) = self.tame_right_orthogonal();
        restore(&mut orthogonal.cores, 0, taken);
        orthogonal
    }

    /// Tame cores, all but the first right-orthogonal, and the exponent taken out of the train.
    fn tame_right_orthogonal(&self) -> (Self, i64) {
        let (Self { mut cores }, mut taken) = self.tame();
        for k in (1..cores.len()).rev() {
            let (before, after) = cores.split_at_mut(k);
            let (previous, core) = (&mut before[k - 1], &mut after[0]);
            let (l, q, rank) = linear::lq((&core.values, core.left, core.mode * core.right));
            let rows = previous.left * previous.mode;
            previous.values =
                linear::product((&previous.values, rows, previous.right), (&l, core.left, rank));
            previous.right = rank;
            core.values = q;
            core.left = rank;
            taken += tame(&mut previous.values);
        }
        (Self { cores }, taken)
    }

    /// The same train with every core in the comfortable range, and the exponent taken out of it.
    pub(super) fn tame(&self) -> (Self, i64) {
        let (cores, taken) = tame_all(&self.cores);
        (Self { cores }, taken)
    }

    /// Puts back an exponent, and checks that the numbers of all cores can be held.
    pub(super) fn restored(mut self, exponent: i64, what: &'static str) -> Result<Self> {
        let last = self.order() - 1;
        restore(&mut self.cores, last, exponent);
        self.checked(what)
    }

    fn checked(self, what: &'static str) -> Result<Self> {
        let finite = |core: &Core<T>| core.values.iter().all(|value| value.to_f64().is_finite());
        if self.cores.iter().all(finite) { Ok(self) } else { Err(Error::Overflow(what)) }
    }

    /// A train of smaller ranks near this one: a QR sweep from right to left, then an SVD sweep back.
    ///
    /// # Cost
    /// `O(d n r³)`.
    ///
    /// # Errors
    /// [`Error::Accuracy`], [`Error::Shape`] for the wrong number of ranks, or [`Error::Overflow`].
    ///
    /// # Paper
    /// Oseledets 2011, Algorithm 2.
    pub fn round(&self, truncation: &Truncation) -> Result<Self> {
        let (Self { mut cores }, taken) = self.tame_right_orthogonal();
        let (mantissa, exponent) = norm(&cores[0].values);
        let (bounds, tolerance) = truncation.bounds(cores.len(), times_two_to(mantissa, exponent))?;
        for (k, bound) in bounds.into_iter().enumerate() {
            let (before, after) = cores.split_at_mut(k + 1);
            let (core, next) = (&mut before[k], &mut after[0]);
            let split = linear::split((&core.values, core.left * core.mode, core.right), bound, tolerance)?;
            let old = (next.values.as_slice(), next.left, next.mode * next.right);
            next.values = linear::product((&split.right, split.rank, core.right), old);
            next.left = split.rank;
            core.values = split.left;
            core.right = split.rank;
        }
        Self { cores }.restored(taken, "core of the rounded train")
    }
}
