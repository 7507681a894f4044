//! Initial values of the cores.

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use crate::rng::Stream;
use crate::{Error, Result, TtShape};

/// How the cores are initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum CoreInit {
    /// All cores as one vector of L numbers: U(-a, a), `a = sqrt(3 / sqrt(L))`.
    ///
    /// # Paper
    /// What the released code does: Keras' `glorot_uniform` gives a vector fan-in and fan-out `sqrt(L)`. An
    /// entry of the full W has a smaller variance than under dense Glorot.
    Glorot1d,
    /// Orthogonal cores by a QR sweep, then times `0.1 / (prod m_k * prod r_k)^(1/d)`.
    ///
    /// # Paper
    /// `init_orthogonal_tt_cores` of the released code.
    ///
    /// # Departs
    /// Each core is orthogonal in the layout that it is used in; the released code fills the flat vector in
    /// another order.
    Orthogonal,
    /// Uniform, so that an entry of the full W has the variance of dense Glorot, `2 / (M + N)`.
    VarianceMatched,
}

impl std::str::FromStr for CoreInit {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "glorot1d" => Ok(Self::Glorot1d),
            "orthogonal" => Ok(Self::Orthogonal),
            "variance-matched" => Ok(Self::VarianceMatched),
            _ => Err(Error::Unknown {
                what: "core initialisation",
                name: name.to_owned(),
                choices: "glorot1d, orthogonal, variance-matched",
            }),
        }
    }
}

impl std::fmt::Display for CoreInit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Glorot1d => "glorot1d",
            Self::Orthogonal => "orthogonal",
            Self::VarianceMatched => "variance-matched",
        })
    }
}

/// Draws the cores `[L]` of a shape.
pub fn cores(shape: &TtShape, init: CoreInit, stream: &mut Stream) -> Vec<f32> {
    let len = shape.params();
    match init {
        CoreInit::Glorot1d => uniform(len, (3.0 / (len as f64).sqrt()).sqrt(), stream),
        CoreInit::Orthogonal => orthogonal(shape, stream),
        CoreInit::VarianceMatched => uniform(len, (3.0 * core_variance(shape)).sqrt(), stream),
    }
}

/// U(-a, a).
fn uniform(len: usize, a: f64, stream: &mut Stream) -> Vec<f32> {
    (0..len).map(|_| (a * (2.0 * stream.random::<f64>() - 1.0)) as f32).collect()
}

/// Variance of a core entry such that W, a sum of `prod r_k` products of d entries, has `2 / (M + N)`.
pub(crate) fn core_variance(shape: &TtShape) -> f64 {
    let paths: f64 = shape.ranks().iter().map(|&r| r as f64).product();
    (2.0 / ((shape.in_features() + shape.out_features()) as f64 * paths)).powf(1.0 / shape.order() as f64)
}

/// A sweep of QR decompositions over normal cores `[r_k m_k n_k, r_{k+1}]`, the remainder carried along.
fn orthogonal(shape: &TtShape, stream: &mut Stream) -> Vec<f32> {
    let (d, ranks) = (shape.order(), shape.ranks());
    let inputs = shape.in_features() as f64;
    let paths: f64 = ranks.iter().map(|&r| r as f64).product();
    let scale = 0.1 / (inputs * paths).powf(1.0 / d as f64);
    let mut cores = vec![0.0; shape.params()];
    let mut carried = vec![1.0]; // [r_k, r_k]
    for k in 0..d {
        let (left, right) = (ranks[k], ranks[k + 1]);
        let modes = shape.input_modes()[k] * shape.output_mode(k);
        let columns = modes * right;
        let normal: Vec<f64> = (0..left * columns).map(|_| StandardNormal.sample(stream)).collect();
        let mut core = vec![0.0; left * columns]; // [r_k, (i, j), r_{k+1}]
        for (row, out) in core.chunks_exact_mut(columns).enumerate() {
            for (from, weights) in normal.chunks_exact(columns).enumerate() {
                for (value, weight) in out.iter_mut().zip(weights) {
                    *value += carried[row * left + from] * weight;
                }
            }
        }
        if k + 1 < d {
            carried = qr(&mut core, right);
        }
        let n = shape.output_mode(k);
        for (place, value) in core.iter().enumerate() {
            let (b, mode, a) = (place % right, place / right % modes, place / columns);
            let (i, j) = (mode / n, mode % n);
            let row = i * right + b;
            cores[shape.core_offset(k) + row * left * n + a * n + j] = (scale * value) as f32;
        }
    }
    cores
}

/// Orthonormalises the columns of `q [rows, columns]` (twice, for accuracy) and returns `R [columns, columns]`;
/// columns that depend on earlier ones become zero.
fn qr(q: &mut [f64], columns: usize) -> Vec<f64> {
    let mut r = vec![0.0; columns * columns];
    for c in 0..columns {
        let norm = |q: &[f64]| q.chunks_exact(columns).map(|row| row[c] * row[c]).sum::<f64>().sqrt();
        let before = norm(q);
        for _ in 0..2 {
            for p in 0..c {
                let dot: f64 = q.chunks_exact(columns).map(|row| row[p] * row[c]).sum();
                r[p * columns + c] += dot;
                for row in q.chunks_exact_mut(columns) {
                    row[c] -= dot * row[p];
                }
            }
        }
        let length = norm(q);
        let independent = length > 1e-12 * before;
        r[c * columns + c] = if independent { length } else { 0.0 };
        for row in q.chunks_exact_mut(columns) {
            row[c] = if independent { row[c] / length } else { 0.0 };
        }
    }
    r
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::reference;
    use crate::rng;

    fn draw(shape: &TtShape, init: CoreInit) -> Vec<f64> {
        cores(shape, init, &mut rng::stream(1, "tests/init")).iter().map(|&v| f64::from(v)).collect()
    }

    #[test]
    fn glorot_has_the_paper_bound() {
        let shape = TtShape::uniform(&[8, 20, 20, 18], &[4; 4], 4, 3).unwrap();
        let values = draw(&shape, CoreInit::Glorot1d);
        let most = values.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
        assert!((0.2285..=0.229_73).contains(&most), "{most}");
        let std = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
        // Standard error of the std of 3,232 uniform numbers: 0.8 %.
        assert!((std - 0.1326).abs() < 0.004, "{std}");
    }

    /// `W[i, j] = G_1[i_1, j_1] … G_d[i_d, j_d]` of cores `[m_k, r_k, r_{k-1}, n_k]`.
    fn entry(shape: &TtShape, cores: &[f32], i: &[usize], j: &[usize]) -> f64 {
        let mut row = vec![1.0];
        for k in 0..shape.order() {
            let (left, right, n) = (shape.ranks()[k], shape.ranks()[k + 1], shape.output_mode(k));
            let core = &cores[shape.core_offset(k)..][..shape.core_len(k)];
            let at = |a: usize, b: usize| f64::from(core[((i[k] * right + b) * left + a) * n + j[k]]);
            row = (0..right).map(|b| (0..left).map(|a| row[a] * at(a, b)).sum()).collect();
        }
        row[0]
    }

    /// Entries of the paper's matrix, some of each of many draws.
    #[test]
    fn variance_matches_dense_glorot() {
        let shape = TtShape::uniform(&[8, 20, 20, 18], &[4; 4], 4, 1).unwrap();
        let target = 2.0 / (57_600.0 + 256.0);
        let (draws, each) = (20_000, 10);
        let mut sum = 0.0;
        for seed in 0..draws {
            let mut stream = rng::stream(seed, "tests/init");
            let drawn = cores(&shape, CoreInit::VarianceMatched, &mut stream);
            for _ in 0..each {
                let mut index = |sizes: &[usize]| -> Vec<usize> {
                    sizes.iter().map(|size| stream.random_range(0..*size)).collect()
                };
                let (i, j) = (index(shape.input_modes()), index(shape.output_modes()));
                sum += entry(&shape, &drawn, &i, &j).powi(2);
            }
        }
        let found = sum / (draws * each) as f64 / target;
        assert!((found - 1.0).abs() < 0.02, "{found} of the target");
    }

    #[test]
    fn entries_are_those_of_the_matrix() {
        let shape = TtShape::new(&[3, 4, 5], &[2, 3, 4], &[1, 4, 6, 1], 2).unwrap();
        let drawn = cores(&shape, CoreInit::Glorot1d, &mut rng::stream(1, "tests/init"));
        let wide: Vec<f64> = drawn.iter().map(|&v| f64::from(v)).collect();
        let w = reference::dense(&shape, &wide).unwrap();
        // W[(1, 2, 3), (3, 1, 2)], the gates being in the first output mode.
        let (row, column) = ((4 + 2) * 5 + 3, (3 * 3 + 1) * 4 + 2);
        let found = entry(&shape, &drawn, &[1, 2, 3], &[3, 1, 2]);
        assert!((found - w[row * shape.out_features() + column]).abs() < 1e-12, "{found}");
    }

    #[test]
    fn the_train_of_orthogonal_cores_keeps_the_norm_of_the_last() {
        let shape = TtShape::new(&[3, 4, 5], &[2, 3, 4], &[1, 4, 6, 1], 2).unwrap();
        let values = draw(&shape, CoreInit::Orthogonal);
        let scale = 0.1 / (60.0_f64 * 24.0).powf(1.0 / 3.0);
        // Left-orthogonal cores: |W| = |last core| once each core's scale is taken out.
        let unscaled: Vec<f64> = values.iter().map(|v| v / scale).collect();
        let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        let w = norm(&reference::dense(&shape, &unscaled).unwrap());
        let last = norm(&unscaled[..shape.core_len(2)]);
        assert!((w / last - 1.0).abs() < 1e-5, "{w} against {last}");
    }

    #[test]
    fn ranks_above_the_possible_stay_finite() {
        let shape = TtShape::new(&[1, 2], &[1, 2], &[1, 5, 1], 1).unwrap();
        assert!(draw(&shape, CoreInit::Orthogonal).iter().all(|v| v.is_finite()));
    }

    #[test]
    fn names_are_known() {
        assert_eq!("glorot1d".parse::<CoreInit>().unwrap(), CoreInit::Glorot1d);
        assert_eq!("orthogonal".parse::<CoreInit>().unwrap(), CoreInit::Orthogonal);
        assert_eq!("variance-matched".parse::<CoreInit>().unwrap(), CoreInit::VarianceMatched);
        for init in [CoreInit::Glorot1d, CoreInit::Orthogonal, CoreInit::VarianceMatched] {
            assert_eq!(init.to_string().parse::<CoreInit>().unwrap(), init);
        }
        assert!("he".parse::<CoreInit>().is_err());
    }
}
