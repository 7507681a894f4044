//! Sums, products, norms and rounding without leaving the format (sections 3 and 4).

use super::{Core, Scalar, Truncation, TtTensor, linear};
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
    /// [`Error::Size`] for other modes.
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
            let mut values = vec![T::from_f64(0.0); left * a.mode * right];
            for (core, row, column) in [(a, 0, 0), (b, row, column)] {
                for (at, line) in core.values.chunks_exact(core.right).enumerate() {
                    let (x, i) = (at / core.mode, at % core.mode);
                    let to = ((row + x) * a.mode + i) * right + column;
                    values[to..to + core.right].iter_mut().zip(line).for_each(|(to, from)| *to += *from);
                }
            }
            Core { left, mode: a.mode, right, values }
        });
        Ok(Self { cores: cores.collect() })
    }

    /// `A - B`; ranks add up.
    ///
    /// # Errors
    /// [`Error::Size`] for other modes.
    pub fn sub(&self, other: &Self) -> Result<Self> {
        self.add(&other.scale(T::from_f64(-1.0)))
    }

    /// `factor · A`.
    #[must_use]
    pub fn scale(&self, factor: T) -> Self {
        let mut scaled = self.clone();
        scaled.cores[0].values.iter_mut().for_each(|value| *value *= factor);
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
        let cores = self.cores.iter().zip(&other.cores).map(|(a, b)| {
            let (left, right) = (a.left * b.left, a.right * b.right);
            let mut values = Vec::with_capacity(left * a.mode * right);
            for row in 0..left {
                for i in 0..a.mode {
                    for column in 0..right {
                        values.push(
                            a.at(row / b.left, i, column / b.right) * b.at(row % b.left, i, column % b.right),
                        );
                    }
                }
            }
            Core { left, mode: a.mode, right, values }
        });
        Ok(Self { cores: cores.collect() })
    }

    /// `sum A ∘ B`.
    ///
    /// # Cost
    /// `O(d n r³)`.
    ///
    /// # Errors
    /// [`Error::Size`] for other modes.
    ///
    /// # Paper
    /// Section 4.2.
    pub fn inner(&self, other: &Self) -> Result<T> {
        self.same_modes(other)?;
        let mut joint = vec![T::from_f64(1.0)]; // [r_A, r_B]
        for (a, b) in self.cores.iter().zip(&other.cores) {
            let half = linear::product((&joint, a.left, b.left), (&b.values, b.left, b.mode * b.right));
            let (rows, columns) = (a.left * a.mode, b.right);
            joint = linear::product_of_transposed((&a.values, rows, a.right), (&half, rows, columns));
        }
        Ok(joint[0])
    }

    /// The Frobenius norm, exact to rounding also where `inner` would cancel.
    ///
    /// # Cost
    /// `O(d n r³)`.
    pub fn norm(&self) -> f64 {
        linear::norm(&self.orthogonalize_right().cores[0].values)
    }

    /// Contracts mode `k` (from 0) with a vector: a train of one core less.
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
        let matrix: Vec<T> = (0..core.left * core.right)
            .map(|at| {
                let (a, b) = (at / core.right, at % core.right);
                vector.iter().enumerate().map(|(i, value)| *value * core.at(a, i, b)).sum()
            })
            .collect();
        let mut cores = self.cores.clone();
        cores.remove(k);
        let neighbour = if k == 0 { &mut cores[0] } else { &mut cores[k - 1] };
        if k == 0 {
            let old = (neighbour.values.as_slice(), neighbour.left, neighbour.mode * neighbour.right);
            neighbour.values = linear::product((&matrix, core.left, core.right), old);
            neighbour.left = core.left;
        } else {
            let old = (neighbour.values.as_slice(), neighbour.left * neighbour.mode, neighbour.right);
            neighbour.values = linear::product(old, (&matrix, core.left, core.right));
            neighbour.right = core.right;
        }
        Ok(Self { cores })
    }

    /// The same tensor with every core but the last left-orthogonal: `sum over i of G(i)ᵀ G(i) = 1`.
    ///
    /// # Cost
    /// `O(d n r³)`.
    #[must_use]
    pub fn orthogonalize_left(&self) -> Self {
        let mut cores = self.cores.clone();
        for k in 0..cores.len() - 1 {
            let (before, after) = cores.split_at_mut(k + 1);
            let (core, next) = (&mut before[k], &mut after[0]);
            let (q, r, rank) = linear::qr((&core.values, core.left * core.mode, core.right));
            next.values =
                linear::product((&r, rank, core.right), (&next.values, next.left, next.mode * next.right));
            next.left = rank;
            core.values = q;
            core.right = rank;
        }
        Self { cores }
    }

    /// The same tensor with every core but the first right-orthogonal: `sum over i of G(i) G(i)ᵀ = 1`.
    ///
    /// # Cost
    /// `O(d n r³)`.
    #[must_use]
    pub fn orthogonalize_right(&self) -> Self {
        let mut cores = self.cores.clone();
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
        }
        Self { cores }
    }

    /// A train of smaller ranks near this one: a QR sweep from right to left, then an SVD sweep back.
    ///
    /// # Cost
    /// `O(d n r³)`.
    ///
    /// # Errors
    /// [`Error::Accuracy`], or [`Error::Shape`] for the wrong number of ranks.
    ///
    /// # Paper
    /// Oseledets 2011, Algorithm 2.
    pub fn round(&self, truncation: &Truncation) -> Result<Self> {
        let mut cores = self.orthogonalize_right().cores;
        let (bounds, tolerance) = truncation.bounds(cores.len(), linear::norm(&cores[0].values))?;
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
        Ok(Self { cores })
    }
}
