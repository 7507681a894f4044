//! The specification: f64 loops over the definition, one weight entry at a time.
//!
//! # Cost
//! `M * N * sum_k r_k r_{k+1}` whatever the batch: for tests on small shapes.
//!
//! # Paper
//! Yang, Krompass, Tresp 2017: `y(j_1 … j_d) = sum over i of G_1(i_1, j_1) … G_d(i_d, j_d) x(i_1 … i_d)`.

use super::{check, row_count};
use crate::{Result, TtShape};

/// Gradients of [`backward`].
#[derive(Debug, Clone, PartialEq)]
pub struct Gradients {
    /// With respect to the cores, `[L]`.
    pub cores: Vec<f64>,
    /// With respect to the input, `[n, M]`.
    pub x: Vec<f64>,
}

/// Visits every weight `W[i, j]` with the row vectors to the left of each core and the column vectors to
/// the right of it: `W[i, j] = left[k] * G_k(i_k, j_k) * right[k]` for every k.
fn visit(shape: &TtShape, cores: &[f64], mut see: impl FnMut(usize, usize, &Entry)) {
    let d = shape.order();
    for i in 0..shape.in_features() {
        for j in 0..shape.out_features() {
            let entry = Entry::new(shape, cores, i, j, d);
            see(i, j, &entry);
        }
    }
}

/// One weight entry with its partial products.
struct Entry {
    modes: Vec<(usize, usize)>,
    left: Vec<Vec<f64>>,
    right: Vec<Vec<f64>>,
}

impl Entry {
    fn new(shape: &TtShape, cores: &[f64], mut i: usize, mut j: usize, d: usize) -> Self {
        let mut modes = vec![(0, 0); d];
        for k in (0..d).rev() {
            modes[k] = (i % shape.input_modes()[k], j % shape.output_mode(k));
            i /= shape.input_modes()[k];
            j /= shape.output_mode(k);
        }
        let ranks = shape.ranks();
        let mut left = vec![vec![1.0]];
        for k in 0..d {
            let mut next = vec![0.0; ranks[k + 1]];
            for (b, value) in next.iter_mut().enumerate() {
                for a in 0..ranks[k] {
                    *value += left[k][a] * cores[index(shape, k, modes[k], a, b)];
                }
            }
            left.push(next);
        }
        let mut right = vec![vec![1.0]; d];
        for k in (1..d).rev() {
            let mut next = vec![0.0; ranks[k]];
            for (a, value) in next.iter_mut().enumerate() {
                for b in 0..ranks[k + 1] {
                    *value += cores[index(shape, k, modes[k], a, b)] * right[k][b];
                }
            }
            right[k - 1] = next;
        }
        Self { modes, left, right }
    }

    fn weight(&self) -> f64 {
        self.left[self.modes.len()][0]
    }
}

/// Where `G_k(i, j)[a, b]` lies in the flat vector.
fn index(shape: &TtShape, k: usize, (i, j): (usize, usize), a: usize, b: usize) -> usize {
    let columns = shape.core_matrix(k).1;
    shape.core_offset(k) + (i * shape.ranks()[k + 1] + b) * columns + a * shape.output_mode(k) + j
}

/// The full matrix `W [M, N]`, row-major.
pub fn dense(shape: &TtShape, cores: &[f64]) -> Result<Vec<f64>> {
    check("cores", cores.len(), shape.params())?;
    let mut w = vec![0.0; shape.in_features() * shape.out_features()];
    visit(shape, cores, |i, j, entry| w[i * shape.out_features() + j] = entry.weight());
    Ok(w)
}

/// `y = x W`.
///
/// # Shapes
/// `x [n, M]`, `cores [L]`, result `[n, N]`.
pub fn forward(shape: &TtShape, x: &[f64], cores: &[f64]) -> Result<Vec<f64>> {
    let rows = row_count(x.len(), shape.in_features())?;
    let w = dense(shape, cores)?;
    let (m, n) = (shape.in_features(), shape.out_features());
    let mut y = vec![0.0; rows * n];
    for row in 0..rows {
        for i in 0..m {
            for j in 0..n {
                y[row * n + j] += x[row * m + i] * w[i * n + j];
            }
        }
    }
    Ok(y)
}

/// Gradients of a loss whose gradient with respect to `y` is `dy`.
///
/// # Shapes
/// `x [n, M]`, `cores [L]`, `dy [n, N]`.
pub fn backward(shape: &TtShape, x: &[f64], cores: &[f64], dy: &[f64]) -> Result<Gradients> {
    let rows = row_count(x.len(), shape.in_features())?;
    check("cores", cores.len(), shape.params())?;
    let (m, n) = (shape.in_features(), shape.out_features());
    check("output gradient", dy.len(), rows * n)?;
    let mut grads = Gradients { cores: vec![0.0; cores.len()], x: vec![0.0; x.len()] };
    visit(shape, cores, |i, j, entry| {
        let mut dw = 0.0;
        for row in 0..rows {
            dw += x[row * m + i] * dy[row * n + j];
            grads.x[row * m + i] += entry.weight() * dy[row * n + j];
        }
        for (k, &modes) in entry.modes.iter().enumerate() {
            for (a, l) in entry.left[k].iter().enumerate() {
                for (b, r) in entry.right[k].iter().enumerate() {
                    grads.cores[index(shape, k, modes, a, b)] += dw * l * r;
                }
            }
        }
    });
    Ok(grads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;
    use rand::RngExt;

    #[test]
    fn gradients_match_finite_differences() {
        for (modes, out, ranks, gates) in [
            (vec![3, 2, 4], vec![2, 3, 2], vec![1, 2, 3, 1], 2),
            (vec![5], vec![3], vec![1, 1], 1),
            (vec![2, 1], vec![1, 3], vec![1, 2, 1], 3),
        ] {
            let shape = TtShape::new(&modes, &out, &ranks, gates).unwrap();
            let mut stream = rng::stream(3, "reference/differences");
            let mut draw = |n: usize| (0..n).map(|_| stream.random::<f64>() - 0.5).collect::<Vec<_>>();
            let (mut x, mut cores) = (draw(2 * shape.in_features()), draw(shape.params()));
            let dy = draw(2 * shape.out_features());
            let loss = |x: &[f64], cores: &[f64]| -> f64 {
                forward(&shape, x, cores).unwrap().iter().zip(&dy).map(|(y, g)| y * g).sum()
            };
            let grads = backward(&shape, &x, &cores, &dy).unwrap();
            // The loss is linear in x and multi-linear in the cores: central differences are exact up to
            // rounding, about eps * |loss| / h.
            let h = 1e-3;
            for k in 0..cores.len() {
                let keep = cores[k];
                cores[k] = keep + h;
                let up = loss(&x, &cores);
                cores[k] = keep - h;
                let down = loss(&x, &cores);
                cores[k] = keep;
                assert!(((up - down) / (2.0 * h) - grads.cores[k]).abs() < 1e-10, "core entry {k}");
            }
            for k in 0..x.len() {
                let keep = x[k];
                x[k] = keep + h;
                let up = loss(&x, &cores);
                x[k] = keep - h;
                let down = loss(&x, &cores);
                x[k] = keep;
                assert!(((up - down) / (2.0 * h) - grads.x[k]).abs() < 1e-10, "input {k}");
            }
        }
    }

    #[test]
    fn sizes_are_checked() {
        let shape = TtShape::uniform(&[2, 2], &[2, 2], 2, 1).unwrap();
        let cores = vec![0.0; shape.params()];
        assert!(forward(&shape, &[], &cores).is_err());
        assert!(forward(&shape, &[0.0; 5], &cores).is_err());
        assert!(forward(&shape, &[0.0; 4], &cores[1..]).is_err());
        assert!(backward(&shape, &[0.0; 4], &cores, &[0.0; 3]).is_err());
    }
}
