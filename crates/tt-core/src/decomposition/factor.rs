//! faer's products and factorizations, with results that are the same bits for any number of threads.
//!
//! faer cuts its work by the number of threads, and with it the order of its sums. Here a product is cut by its size
//! alone and the pieces run in parallel; a factorization runs on one thread.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch as apply_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj as apply_householder,
};
use faer::linalg::lu::partial_pivoting as lu;
use faer::linalg::matmul::matmul;
use faer::linalg::qr::no_pivoting::factor as qr;
use faer::linalg::svd::{ComputeSvdVectors, svd, svd_scratch};
use faer::mat::{MatMut, MatRef};
use faer::prelude::default;
use faer::{Accum, Conj, Mat, Par};

use super::Scalar;
use crate::{Error, Result};

/// Multiply-accumulates of a piece of a product: long beside the cost of handing it to another thread.
const PIECE: usize = 1 << 21;

/// `to = A · B`, or `to += A · B`.
pub(super) fn product<T: Scalar>(to: MatMut<'_, T>, accum: Accum, a: MatRef<'_, T>, b: MatRef<'_, T>) {
    let (rows, columns, depth) = (to.nrows(), to.ncols(), a.ncols());
    let longer = rows.max(columns);
    if longer < 64 || rows.saturating_mul(columns).saturating_mul(depth) <= PIECE {
        return matmul(to, accum, a, b, T::from_f64(1.0), Par::Seq);
    }
    let half = (longer / 2).next_multiple_of(32);
    let ((to, a, b), (other_to, other_a, other_b)) = if rows >= columns {
        let ((upper, lower), (a, other_a)) = (to.split_at_row_mut(half), a.split_at_row(half));
        ((upper, a, b), (lower, other_a, b))
    } else {
        let ((left, right), (b, other_b)) = (to.split_at_col_mut(half), b.split_at_col(half));
        ((left, a, b), (right, a, other_b))
    };
    rayon::join(|| product(to, accum, a, b), || product(other_to, accum, other_a, other_b));
}

/// A QR factorization as faer keeps it: R above the diagonal, Householder vectors below.
pub(super) struct Qr<T> {
    factors: Mat<T>,
    coefficients: Mat<T>,
}

impl<T: Scalar> Qr<T> {
    pub(super) fn new(a: Mat<T>) -> Self {
        let (m, n) = a.shape();
        let block = qr::recommended_block_size::<T>(m, n);
        let (mut factors, mut coefficients) = (a, Mat::zeros(block, m.min(n)));
        let mut memory = MemBuffer::new(qr::qr_in_place_scratch::<T>(m, n, block, Par::Seq, default()));
        let stack = MemStack::new(&mut memory);
        qr::qr_in_place(factors.as_mut(), coefficients.as_mut(), Par::Seq, stack, default());
        Self { factors, coefficients }
    }

    /// `R [min(m, n), n]`.
    pub(super) fn r(&self) -> Mat<T> {
        let (m, n) = self.factors.shape();
        let zero = T::from_f64(0.0);
        Mat::from_fn(m.min(n), n, |i, j| if i <= j { self.factors[(i, j)] } else { zero })
    }

    /// `Q [m, min(m, n)]`.
    pub(super) fn thin_q(&self) -> Mat<T> {
        let (m, n) = self.factors.shape();
        let columns = m.min(n);
        let mut q = Mat::identity(m, columns);
        let mut memory = MemBuffer::new(apply_scratch::<T>(m, self.coefficients.nrows(), columns));
        let stack = MemStack::new(&mut memory);
        let basis = self.factors.as_ref().subcols(0, columns);
        apply_householder(basis, self.coefficients.as_ref(), Conj::No, q.as_mut(), Par::Seq, stack);
        q
    }
}

/// Left singular vectors, singular values (the largest first) and right singular vectors, as columns.
pub(super) fn thin_svd<T: Scalar>(a: MatRef<'_, T>) -> Result<(Mat<T>, Vec<f64>, Mat<T>)> {
    let (m, n) = a.shape();
    let size = m.min(n);
    let (mut u, mut v, mut s) = (Mat::zeros(m, size), Mat::zeros(n, size), Diag::zeros(size));
    let thin = ComputeSvdVectors::Thin;
    let mut memory = MemBuffer::new(svd_scratch::<T>(m, n, thin, thin, Par::Seq, default()));
    let stack = MemStack::new(&mut memory);
    svd(a, s.as_mut(), Some(u.as_mut()), Some(v.as_mut()), Par::Seq, stack, default())
        .map_err(|_| no_convergence("singular values", m, n))?;
    Ok((u, s.column_vector().iter().map(|s| s.to_f64()).collect(), v))
}

/// Singular values, the largest first.
pub(super) fn singular_values<T: Scalar>(a: MatRef<'_, T>) -> Result<Vec<f64>> {
    let (m, n) = a.shape();
    let mut s = Diag::zeros(m.min(n));
    let none = ComputeSvdVectors::No;
    let mut memory = MemBuffer::new(svd_scratch::<T>(m, n, none, none, Par::Seq, default()));
    svd(a, s.as_mut(), None, None, Par::Seq, MemStack::new(&mut memory), default())
        .map_err(|_| no_convergence("singular values", m, n))?;
    Ok(s.column_vector().iter().map(|s| s.to_f64()).collect())
}

/// Eigenvalues of a symmetric matrix, ascending, and its eigenvectors as columns.
pub(super) fn eigen(a: MatRef<'_, f64>) -> Result<(Vec<f64>, Mat<f64>)> {
    let n = a.nrows();
    let (mut u, mut s) = (Mat::zeros(n, n), Diag::zeros(n));
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::Yes, Par::Seq, default());
    let mut memory = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut memory);
    self_adjoint_evd(a, s.as_mut(), Some(u.as_mut()), Par::Seq, stack, default())
        .map_err(|_| no_convergence("eigenvalues", n, n))?;
    Ok((s.column_vector().iter().copied().collect(), u))
}

/// Eigenvalues of a symmetric matrix, ascending.
pub(super) fn eigenvalues(a: MatRef<'_, f64>) -> Result<Vec<f64>> {
    let n = a.nrows();
    let mut s = Diag::zeros(n);
    let scratch = self_adjoint_evd_scratch::<f64>(n, ComputeEigenvectors::No, Par::Seq, default());
    let mut memory = MemBuffer::new(scratch);
    self_adjoint_evd(a, s.as_mut(), None, Par::Seq, MemStack::new(&mut memory), default())
        .map_err(|_| no_convergence("eigenvalues", n, n))?;
    Ok(s.column_vector().iter().copied().collect())
}

/// Solves `B · X = A` in place of A, for a square and regular B.
pub(super) fn solve<T: Scalar>(mut b: Mat<T>, mut a: Mat<T>) -> Mat<T> {
    let (n, k) = (b.nrows(), a.ncols());
    let (mut forward, mut backward) = (vec![0_usize; n], vec![0_usize; n]);
    let mut memory = MemBuffer::new(lu::factor::lu_in_place_scratch::<usize, T>(n, n, Par::Seq, default()));
    let stack = MemStack::new(&mut memory);
    let (_, order) =
        lu::factor::lu_in_place(b.as_mut(), &mut forward, &mut backward, Par::Seq, stack, default());
    let mut memory = MemBuffer::new(lu::solve::solve_in_place_scratch::<usize, T>(n, k, Par::Seq));
    let stack = MemStack::new(&mut memory);
    lu::solve::solve_in_place_with_conj(b.as_ref(), b.as_ref(), order, Conj::No, a.as_mut(), Par::Seq, stack);
    a
}

fn no_convergence(what: &'static str, m: usize, n: usize) -> Error {
    Error::NoConvergence { what, detail: format!("a {m} x {n} matrix") }
}
