//! The little linear algebra that trains need, on row-major buffers.

use faer::mat::{MatMut, MatRef};
use faer::{Accum, Mat};

use super::Scalar;
use super::factor::{self, Qr};
use super::scale::{tamed, times_two_to};
use crate::Result;

/// A row-major matrix: numbers, rows, columns.
pub(super) type Rows<'a, T> = (&'a [T], usize, usize);

fn view<T>((values, rows, columns): Rows<'_, T>) -> MatRef<'_, T> {
    MatRef::from_row_major_slice(values, rows, columns)
}

fn multiply<T: Scalar>(a: MatRef<'_, T>, b: MatRef<'_, T>) -> Vec<T> {
    let (rows, columns) = (a.nrows(), b.ncols());
    let mut out = vec![T::from_f64(0.0); rows * columns];
    factor::product(MatMut::from_row_major_slice_mut(&mut out, rows, columns), Accum::Replace, a, b);
    out
}

/// `A · B`, row-major.
pub(super) fn product<T: Scalar>(a: Rows<'_, T>, b: Rows<'_, T>) -> Vec<T> {
    multiply(view(a), view(b))
}

/// `Aᵀ · B`, row-major.
pub(super) fn product_of_transposed<T: Scalar>(a: Rows<'_, T>, b: Rows<'_, T>) -> Vec<T> {
    multiply(view(a).transpose(), view(b))
}

/// `A · Bᵀ`, row-major.
pub(super) fn product_with_transposed<T: Scalar>(a: Rows<'_, T>, b: Rows<'_, T>) -> Vec<T> {
    multiply(view(a), view(b).transpose())
}

fn row_major<T: Scalar>(matrix: MatRef<'_, T>) -> Vec<T> {
    let (rows, columns) = (matrix.nrows(), matrix.ncols());
    (0..rows * columns).map(|at| matrix[(at / columns, at % columns)]).collect()
}

/// With more rows than this, faer 0.24 returns `Q = I` for a matrix of `f32`.
const ROWS_OF_QR: usize = 1 << 19;

fn thin_qr<T: Scalar>(a: MatRef<'_, T>) -> (Mat<T>, Mat<T>) {
    if T::SQUARES_FIT && a.nrows() > ROWS_OF_QR {
        return double_qr(a);
    }
    let qr = Qr::new(a.to_owned());
    (qr.thin_q(), qr.r())
}

/// The thin factors, computed in `f64`.
fn double_qr<T: Scalar>(a: MatRef<'_, T>) -> (Mat<T>, Mat<T>) {
    let qr = Qr::new(Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)].to_f64()));
    let rounded = |of: &Mat<f64>| Mat::from_fn(of.nrows(), of.ncols(), |i, j| T::from_f64(of[(i, j)]));
    (rounded(&qr.thin_q()), rounded(&qr.r()))
}

/// `A = Q · R` with `Q [m, p]`, `R [p, n]`, `p = min(m, n)`, both row-major.
pub(super) fn qr<T: Scalar>(a: Rows<'_, T>) -> (Vec<T>, Vec<T>, usize) {
    let (q, r) = thin_qr(view(a));
    (row_major(q.as_ref()), row_major(r.as_ref()), a.1.min(a.2))
}

/// `A = L · Q` with `L [m, p]`, `Q [p, n]`, `p = min(m, n)`, both row-major.
pub(super) fn lq<T: Scalar>(a: Rows<'_, T>) -> (Vec<T>, Vec<T>, usize) {
    let (q, r) = thin_qr(view(a).transpose());
    (row_major(r.transpose()), row_major(q.transpose()), a.1.min(a.2))
}

/// Solves `X · B = A` for a square, well-conditioned B; all row-major.
pub(super) fn divide<T: Scalar>(a: Rows<'_, T>, b: Rows<'_, T>) -> Vec<T> {
    let solved = factor::solve(view(b).transpose().to_owned(), view(a).transpose().to_owned());
    row_major(solved.transpose())
}

/// A matrix cut in two: `A ≈ left · right`, the columns of `left [m, rank]` orthonormal.
#[derive(Debug)]
pub(super) struct Split<T> {
    pub(super) left: Vec<T>,
    pub(super) right: Vec<T>,
    pub(super) rank: usize,
}

/// The best split by singular values: the smallest rank whose error is at most `tolerance` (Frobenius), but at
/// most `max_rank` and at least 1.
///
/// A matrix of `f32` is never decomposed itself: the Gram matrix of its shorter side is summed in `f64`, which holds
/// the squares of `f32` without loss. Of `f64`, a QR or LQ factorization comes first.
///
/// # Cost
/// `O(m n min(m, n))`; of `f32`, about three matrices of `min(m, n)²` in `f64`.
pub(super) fn split<T: Scalar>(a: Rows<'_, T>, max_rank: usize, tolerance: f64) -> Result<Split<T>> {
    match (T::SQUARES_FIT, a.1 > a.2) {
        (true, true) => split_tall_by_gram(a, max_rank, tolerance),
        (true, false) => {
            let (basis, values) = eigen_of(&gram_of_rows(a))?;
            Ok(project(a, basis.as_ref(), rank_of(&values, max_rank, tolerance)))
        }
        (false, true) => split_tall_by_qr(a, max_rank, tolerance),
        (false, false) => {
            let upper = Qr::new(view(a).transpose().to_owned()).r();
            let (u, values, _) = factor::thin_svd(upper.transpose())?;
            Ok(project(a, u.as_ref(), rank_of(&values, max_rank, tolerance)))
        }
    }
}

/// The split of a matrix by the first columns of an orthonormal basis of its columns.
fn project<T: Scalar>(a: Rows<'_, T>, basis: MatRef<'_, T>, rank: usize) -> Split<T> {
    let left = basis.subcols(0, rank);
    Split { right: multiply(left.transpose(), view(a)), left: row_major(left), rank }
}

/// `A ≈ (A V) Vᵀ` with the first right singular vectors, `A V` made orthonormal by a thin QR in `f64`.
fn split_tall_by_gram<T: Scalar>(a: Rows<'_, T>, max_rank: usize, tolerance: f64) -> Result<Split<T>> {
    let (_, m, n) = a;
    let (basis, values) = eigen_of::<T>(&gram_of_columns(a))?;
    let rank = rank_of(&values, max_rank, tolerance);
    let right = row_major(basis.as_ref().subcols(0, rank).transpose());
    let projected = product_with_transposed(a, (&right, rank, n));
    let (q, r) = double_qr(view((&projected, m, rank)));
    let right = product((&row_major(r.as_ref()), rank, rank), (&right, rank, n));
    Ok(Split { left: row_major(q.as_ref()), right, rank })
}

fn split_tall_by_qr<T: Scalar>(a: Rows<'_, T>, max_rank: usize, tolerance: f64) -> Result<Split<T>> {
    let (_, _, n) = a;
    let qr = Qr::new(view(a).to_owned());
    let (u, values, v) = factor::thin_svd(qr.r().as_ref())?;
    let rank = rank_of(&values, max_rank, tolerance);
    let left = multiply(qr.thin_q().as_ref(), u.as_ref().subcols(0, rank));
    let right = Mat::from_fn(rank, n, |i, j| T::from_f64(values[i]) * v[(j, i)]);
    Ok(Split { left, right: row_major(right.as_ref()), rank })
}

/// Eigenvectors of a Gram matrix as columns, and the roots of its eigenvalues, the largest first.
fn eigen_of<T: Scalar>(squares: &Mat<f64>) -> Result<(Mat<T>, Vec<f64>)> {
    let m = squares.nrows();
    let (ascending, u) = factor::eigen(squares.as_ref())?;
    let values = ascending.iter().rev().map(|value| value.max(0.0).sqrt()).collect();
    Ok((Mat::from_fn(m, m, |i, j| T::from_f64(u[(i, m - 1 - j)])), values))
}

/// Singular values of a matrix, largest first; of `f32` from the Gram matrix of its shorter side in `f64`.
pub(super) fn singular_values<T: Scalar>(a: Rows<'_, T>) -> Result<Vec<f64>> {
    let (_, m, n) = a;
    if T::SQUARES_FIT {
        let squares = if m > n { gram_of_columns(a) } else { gram_of_rows(a) };
        let ascending = factor::eigenvalues(squares.as_ref())?;
        return Ok(ascending.into_iter().rev().map(|square| square.max(0.0).sqrt()).collect());
    }
    let (values, taken) = tamed(a.0);
    let a = view((&values, m, n));
    let tall = if m > n { a } else { a.transpose() };
    let found = factor::singular_values(Qr::new(tall.to_owned()).r().as_ref())?;
    Ok(found.into_iter().map(|value| times_two_to(value, taken)).collect())
}

/// Columns or rows that a Gram matrix takes in at a time.
const BLOCK: usize = 2048;

/// `A · Aᵀ` in `f64`, block of columns by block of columns.
fn gram_of_rows<T: Scalar>((values, m, n): Rows<'_, T>) -> Mat<f64> {
    let mut sum = Mat::<f64>::zeros(m, m);
    let mut block = vec![0.0_f64; m * BLOCK.min(n)];
    for from in (0..n).step_by(BLOCK) {
        let width = BLOCK.min(n - from);
        for (row, to) in values.chunks_exact(n).zip(block.chunks_exact_mut(width)) {
            to.iter_mut().zip(&row[from..from + width]).for_each(|(to, value)| *to = value.to_f64());
        }
        let part = MatRef::from_row_major_slice(&block[..m * width], m, width);
        factor::product(sum.as_mut(), Accum::Add, part, part.transpose());
    }
    sum
}

/// `Aᵀ · A` in `f64`, block of rows by block of rows.
fn gram_of_columns<T: Scalar>((values, _, n): Rows<'_, T>) -> Mat<f64> {
    let mut sum = Mat::<f64>::zeros(n, n);
    for rows in values.chunks(BLOCK * n) {
        let block: Vec<f64> = rows.iter().map(|value| value.to_f64()).collect();
        let part = MatRef::from_row_major_slice(&block, rows.len() / n, n);
        factor::product(sum.as_mut(), Accum::Add, part.transpose(), part);
    }
    sum
}

/// The smallest rank whose discarded singular values are together at most `tolerance`.
fn rank_of(values: &[f64], max_rank: usize, tolerance: f64) -> usize {
    let mut rank = values.len();
    let mut discarded = 0.0;
    while rank > 1 {
        discarded += values[rank - 1] * values[rank - 1];
        if discarded.sqrt() > tolerance {
            break;
        }
        rank -= 1;
    }
    rank.min(max_rank).max(1)
}
