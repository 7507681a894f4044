//! Trains as objects: every operation against the same one on the full tensor.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use candle_core::{Device, Tensor};
use proptest::prelude::*;
use rand::RngExt;
use tt_core::apply::{Affine, Backend};
use tt_core::decomposition::{
    Core, Cross, Truncation, TtMatrix, TtTensor, tt_cross, tt_svd, unfolding_singular_values,
};
use tt_core::rng::stream;
use tt_core::{CoreInit, Error, TtOperator, TtShape};

fn draw(count: usize, seed: u64) -> Vec<f64> {
    let mut rng = stream(seed, "test/train");
    (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// A random train of these modes and inner ranks.
fn random(modes: &[usize], inner: &[usize], seed: u64) -> TtTensor<f64> {
    let ranks: Vec<usize> = [&[1], inner, &[1]].concat();
    let cores = modes.iter().enumerate().map(|(k, n)| {
        let values = draw(ranks[k] * n * ranks[k + 1], seed + k as u64);
        Core::new(ranks[k], *n, ranks[k + 1], values).unwrap()
    });
    TtTensor::new(cores.collect()).unwrap()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    norm(&a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<_>>())
}

fn shapes() -> impl Strategy<Value = (Vec<usize>, u64)> {
    (prop::collection::vec(1_usize..6, 1..5), any::<u64>())
}

/// Modes, inner ranks that fit them, a seed.
fn trains() -> impl Strategy<Value = (Vec<usize>, Vec<usize>, u64)> {
    shapes().prop_flat_map(|(modes, seed)| {
        let d = modes.len();
        (Just(modes), prop::collection::vec(1_usize..4, d - 1), Just(seed))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_error_of_tt_svd_is_within_the_accuracy((modes, seed) in shapes(), digits in 0_i32..12) {
        let accuracy = 10_f64.powi(-digits);
        let values = draw(modes.iter().product(), seed);
        let train = tt_svd(&values, &modes, &Truncation::RelativeError(accuracy)).unwrap();
        let error = distance(&train.reconstruct(), &values);
        prop_assert!(error <= accuracy * norm(&values) + 1e-13, "{error}");
        for (k, value) in values.iter().enumerate().step_by(7) {
            let mut at: Vec<usize> = vec![0; modes.len()];
            let mut rest = k;
            for i in (0..modes.len()).rev() {
                at[i] = rest % modes[i];
                rest /= modes[i];
            }
            let found = train.element(&at).unwrap();
            prop_assert!((found - value).abs() <= accuracy * norm(&values) + 1e-12);
        }
    }

    #[test]
    fn single_precision_keeps_its_accuracy((modes, seed) in shapes(), digits in 0_i32..6) {
        let accuracy = 10_f64.powi(-digits);
        let values: Vec<f32> = draw(modes.iter().product(), seed).into_iter().map(|v| v as f32).collect();
        let train = tt_svd(&values, &modes, &Truncation::RelativeError(accuracy)).unwrap();
        let wide = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let error = distance(&wide(&train.reconstruct()), &wide(&values));
        // Roundings of d products, beside what was cut.
        let floor = 16.0 * f64::from(f32::EPSILON) * norm(&wide(&values));
        prop_assert!(error <= accuracy * norm(&wide(&values)) + floor, "{error}");
    }

    #[test]
    fn truncation_is_quasi_optimal((modes, inner, seed) in trains()) {
        prop_assume!(modes.len() > 1);
        let values = draw(modes.iter().product(), seed);
        let train = tt_svd(&values, &modes, &Truncation::Ranks(inner)).unwrap();
        let best: f64 = (1..modes.len())
            .map(|k| {
                let singular = unfolding_singular_values(&values, &modes, k).unwrap();
                singular.iter().skip(train.ranks()[k]).map(|s| s * s).sum::<f64>()
            })
            .sum();
        let error = distance(&train.reconstruct(), &values);
        prop_assert!(error <= best.sqrt() + 1e-12, "{error} > {}", best.sqrt());
    }

    #[test]
    fn a_train_decomposes_to_its_own_ranks((modes, inner, seed) in trains()) {
        let train = random(&modes, &inner, seed);
        let again = tt_svd(&train.reconstruct(), &modes, &Truncation::RelativeError(1e-10)).unwrap();
        for (found, had) in again.ranks().iter().zip(train.ranks()) {
            prop_assert!(*found <= had);
        }
    }

    #[test]
    fn rounding_a_sum_gives_back_the_ranks((modes, inner, seed) in trains()) {
        let train = random(&modes, &inner, seed).round(&Truncation::RelativeError(1e-11)).unwrap();
        prop_assume!(train.norm() > 1e-3);
        let doubled = train.add(&train).unwrap();
        let rounded = doubled.round(&Truncation::RelativeError(1e-10)).unwrap();
        prop_assert_eq!(rounded.ranks(), train.ranks());
        prop_assert!(distance(&rounded.reconstruct(), &train.scale(2.0).reconstruct()) <= 1e-9 * doubled.norm());
    }

    #[test]
    fn algebra_in_the_format_is_algebra_on_the_tensor((modes, inner, seed) in trains()) {
        let (a, b) = (random(&modes, &inner, seed), random(&modes, &inner, seed.wrapping_add(99)));
        let (x, y) = (a.reconstruct(), b.reconstruct());
        let pairs = || x.iter().zip(&y);
        let close = |found: Vec<f64>, wanted: Vec<f64>| distance(&found, &wanted) <= 1e-11 * (1.0 + norm(&wanted));
        prop_assert!(close(a.add(&b).unwrap().reconstruct(), pairs().map(|(x, y)| x + y).collect()));
        prop_assert!(close(a.sub(&b).unwrap().reconstruct(), pairs().map(|(x, y)| x - y).collect()));
        prop_assert!(close(a.hadamard(&b).unwrap().reconstruct(), pairs().map(|(x, y)| x * y).collect()));
        prop_assert!(close(a.scale(-3.0).reconstruct(), x.iter().map(|x| -3.0 * x).collect()));
        prop_assert!(close(a.orthogonalize_left().reconstruct(), x.clone()));
        prop_assert!(close(a.orthogonalize_right().reconstruct(), x.clone()));
        let inner: f64 = pairs().map(|(x, y)| x * y).sum();
        prop_assert!((a.inner(&b).unwrap() - inner).abs() <= 1e-11 * (1.0 + norm(&x) * norm(&y)));
        prop_assert!((a.norm() - norm(&x)).abs() <= 1e-11 * (1.0 + norm(&x)));
    }

    #[test]
    fn contracting_a_mode_is_a_weighted_sum((modes, inner, seed) in trains(), at in 0_usize..4) {
        prop_assume!(modes.len() > 1);
        let k = at % modes.len();
        let (train, vector) = (random(&modes, &inner, seed), draw(modes[k], seed ^ 1));
        let full = train.reconstruct();
        let tail: usize = modes[k + 1..].iter().product();
        let head: usize = modes[..k].iter().product();
        let mut wanted = vec![0.0; head * tail];
        for (index, value) in full.iter().enumerate() {
            wanted[index / (tail * modes[k]) * tail + index % tail] += value * vector[index / tail % modes[k]];
        }
        let found = train.contract(k, &vector).unwrap().reconstruct();
        prop_assert!(distance(&found, &wanted) <= 1e-11 * (1.0 + norm(&wanted)));
    }

    #[test]
    fn matrices_multiply_and_transpose_like_matrices(seed in any::<u64>(), rank in 1_usize..4) {
        let (m, l, n) = ([2, 3, 2], [3, 1, 4], [2, 2, 3]);
        let matrix = |rows: &[usize; 3], columns: &[usize; 3], seed| {
            let modes: Vec<usize> = rows.iter().zip(columns).map(|(m, n)| m * n).collect();
            TtMatrix::new(random(&modes, &[rank, rank], seed), rows, columns).unwrap()
        };
        let (a, b) = (matrix(&m, &l, seed), matrix(&l, &n, seed ^ 7));
        let (x, y) = (a.reconstruct(), b.reconstruct()); // [12, 12], [12, 12]
        let wanted: Vec<f64> =
            (0..144).map(|at| (0..12).map(|k| x[at / 12 * 12 + k] * y[k * 12 + at % 12]).sum()).collect();
        prop_assert!(distance(&a.multiply(&b).unwrap().reconstruct(), &wanted) <= 1e-11 * (1.0 + norm(&wanted)));
        let applied: Vec<f64> =
            (0..144).map(|at| (0..12).map(|k| y[at / 12 * 12 + k] * x[k * 12 + at % 12]).sum()).collect();
        prop_assert!(distance(&a.apply(&y).unwrap(), &applied) <= 1e-11 * (1.0 + norm(&applied)));
        let turned: Vec<f64> = (0..144).map(|at| x[at % 12 * 12 + at / 12]).collect();
        prop_assert!(distance(&a.transpose().reconstruct(), &turned) <= 1e-14 * (1.0 + norm(&turned)));
    }
}

#[test]
fn ill_conditioned_tensors_keep_their_accuracy() {
    // A Hilbert tensor: singular values fall by many orders of magnitude.
    let values: Vec<f64> = (0..6_usize.pow(4))
        .map(|at| 1.0 / (1 + at / 216 + at / 36 % 6 + at / 6 % 6 + at % 6) as f64)
        .collect();
    for digits in [2, 4, 8, 12] {
        let accuracy = 10_f64.powi(-digits);
        let train = tt_svd(&values, &[6; 4], &Truncation::RelativeError(accuracy)).unwrap();
        assert!(distance(&train.reconstruct(), &values) <= accuracy * norm(&values) * (1.0 + 1e-6));
    }
    let train = tt_svd(&values, &[6; 4], &Truncation::RelativeError(1e-4)).unwrap();
    assert!(train.ranks().iter().all(|r| *r <= 5), "{:?}", train.ranks());
}

#[test]
fn a_factorized_matrix_is_the_layer_that_computes_it() {
    let (inputs, outputs) = ([3, 4, 2], [2, 3, 2]);
    let w: Vec<f32> = draw(24 * 12, 5).into_iter().map(|v| v as f32).collect();
    let matrix = TtMatrix::from_dense(&w, &inputs, &outputs, &Truncation::RelativeError(1e-6)).unwrap();
    let (shape, cores) = matrix.to_layer().unwrap();
    assert_eq!(TtMatrix::from_layer(&shape, &cores).unwrap(), matrix);
    let x: Vec<f32> = draw(5 * 24, 6).into_iter().map(|v| v as f32).collect();
    let layer = TtOperator::new(&shape, Affine::IDENTITY, Backend::Reference);
    let (rows, packed) = (
        Tensor::from_slice(&x, (5, 24), &Device::Cpu).unwrap(),
        Tensor::from_slice(&cores, cores.len(), &Device::Cpu).unwrap(),
    );
    let by_layer = layer.forward(&rows, &packed).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let by_matrix = matrix.apply(&x).unwrap();
    for (at, (a, b)) in by_layer.iter().zip(&by_matrix).enumerate() {
        let dense: f32 = (0..24).map(|i| x[at / 12 * 24 + i] * w[i * 12 + at % 12]).sum();
        assert!((a - b).abs() < 1e-5 && (a - dense).abs() < 1e-4, "{a} {b} {dense}");
    }
}

#[test]
fn cross_finds_a_low_rank_function_from_few_elements() {
    let modes = [20, 20, 20, 20, 20];
    let calls = std::cell::Cell::new(0);
    let f = |at: &[usize]| {
        calls.set(calls.get() + 1);
        let sum: f64 = at.iter().map(|i| *i as f64 / 20.0).sum();
        sum.sin() + at[0] as f64 * at[4] as f64
    };
    let cross = Cross { rank: 4, accuracy: 1e-9, sweeps: 10, seed: 3 };
    let train = tt_cross(f, &modes, &cross).unwrap();
    assert!(calls.get() < 20_usize.pow(5) / 50, "{} evaluations", calls.get());
    for at in [[0, 1, 2, 3, 4], [19, 19, 19, 19, 19], [5, 0, 7, 0, 9]] {
        assert!((train.element(&at).unwrap() - f(&at)).abs() < 1e-6, "{at:?}");
    }
}

#[test]
fn files_and_tensors_come_back() {
    let folder = std::env::temp_dir().join(format!("tt-core-train-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let train = random(&[3, 4, 2], &[2, 2], 1);
    train.save(&folder.join("t.safetensors")).unwrap();
    assert_eq!(TtTensor::load(&folder.join("t.safetensors")).unwrap(), train);
    let matrix = TtMatrix::new(random(&[6, 4], &[3], 2), &[2, 4], &[3, 1]).unwrap();
    matrix.save(&folder.join("m.safetensors")).unwrap();
    assert_eq!(TtMatrix::load(&folder.join("m.safetensors")).unwrap(), matrix);
    assert!(
        TtTensor::<f64>::load(&folder.join("m.safetensors")).is_err(),
        "four dimensions are no tensor core"
    );
    std::fs::remove_dir_all(&folder).unwrap();
    let tensor = train.to_tensor(&Device::Cpu).unwrap();
    let again = TtTensor::<f64>::from_tensor(&tensor, &Truncation::RelativeError(1e-12)).unwrap();
    assert!(distance(&again.reconstruct(), &train.reconstruct()) < 1e-11);
}

#[test]
fn operators_are_the_functions_they_stand_for() {
    let (a, b) = (random(&[3, 4, 2], &[2, 2], 1), random(&[3, 4, 2], &[1, 2], 2));
    assert_eq!((&a + &b).unwrap(), a.add(&b).unwrap());
    assert_eq!((&a - &b).unwrap(), a.sub(&b).unwrap());
    assert_eq!((&a * &b).unwrap(), a.hadamard(&b).unwrap());
    assert_eq!(&a * 3.0, a.scale(3.0));
    assert_eq!(-&a, a.scale(-1.0));
    assert!((&a + &random(&[3, 4], &[2], 1)).is_err());
    assert_eq!(a.to_string(), "train of modes [3, 4, 2] and ranks [1, 2, 2, 1]: 26 numbers");
    let matrix = TtMatrix::new(random(&[4, 9], &[2], 3), &[2, 3], &[2, 3]).unwrap();
    assert_eq!((&matrix * &matrix).unwrap(), matrix.multiply(&matrix).unwrap());
    assert_eq!(matrix.to_string(), "matrix of modes [2, 3] x [2, 3] and ranks [1, 2, 1]: 26 numbers");
    assert_eq!(Truncation::RelativeError(1e-3).to_string(), "relative error 1e-3");
}

#[test]
fn bad_input_is_named() {
    let text = |error: Error| error.to_string();
    let exact = Truncation::RelativeError(1e-3);
    assert_eq!(
        text(tt_svd(&[1.0, f64::NAN], &[2], &exact).unwrap_err()),
        "tensor[1] is NaN: a decomposition needs finite numbers"
    );
    assert!(text(tt_svd(&[1.0, f64::INFINITY], &[2], &exact).unwrap_err()).contains("tensor[1] is inf"));
    assert!(text(tt_svd(&[1.0_f64], &[1, 0], &exact).unwrap_err()).contains("modes [1, 0]"));
    assert!(text(tt_svd(&[1.0_f64; 5], &[2, 3], &exact).unwrap_err()).contains("expected 6 numbers"));
    for accuracy in [0.0, -1.0, f64::NAN] {
        let error = tt_svd(&[1.0_f64; 6], &[2, 3], &Truncation::RelativeError(accuracy)).unwrap_err();
        assert!(matches!(error, Error::Accuracy(_)), "{error}");
    }
    // Ranks larger than possible are clamped.
    assert_eq!(tt_svd(&draw(6, 1), &[2, 3], &Truncation::rank(50, 2)).unwrap().ranks(), [1, 2, 1]);
    assert_eq!(tt_svd(&[0.0_f64; 6], &[2, 3], &exact).unwrap().ranks(), [1, 1, 1]);
    let (a, b) = (random(&[2, 3], &[2], 1), random(&[2, 4], &[2], 1));
    assert!(a.add(&b).is_err() && a.inner(&b).is_err() && a.hadamard(&b).is_err());
    assert!(a.element(&[2, 0]).is_err() && a.contract(2, &[1.0]).is_err());
    assert!(TtMatrix::from_dense(&[1.0_f64; 6], &[2, 3], &[1], &exact).is_err());
    assert!(tt_cross(|_| f64::NAN, &[3, 3], &Cross { rank: 2, accuracy: 1e-3, sweeps: 3, seed: 0 }).is_err());
}

#[test]
fn truncated_trains_are_those_of_tensorly() {
    let rows = include_str!("golden/tt_svd.csv").lines().skip(1);
    let rows: Vec<Vec<f64>> =
        rows.map(|line| line.split(',').map(|field| field.parse().unwrap()).collect()).collect();
    let column = |k: usize| rows.iter().map(|row| row[k]).collect::<Vec<f64>>();
    let (values, modes) = (column(0), [4, 5, 6, 3]);
    let narrow: Vec<f32> = values.iter().map(|v| *v as f32).collect();
    for rank in [2, 3] {
        let (expected, truncation) = (column(rank - 1), Truncation::rank(rank, 4));
        let found = tt_svd(&values, &modes, &truncation).unwrap().reconstruct();
        assert!(distance(&found, &expected) < 1e-12 * norm(&expected), "rank {rank}");
        let found = tt_svd(&narrow, &modes, &truncation).unwrap().reconstruct();
        let found: Vec<f64> = found.into_iter().map(f64::from).collect();
        assert!(distance(&found, &expected) < 1e-5 * norm(&expected), "rank {rank} in f32");
    }
}

/// More numbers along one mode than faer's QR of `f32` takes.
const LONG: usize = (1 << 19) + 5;

#[test]
fn singular_values_of_long_matrices_are_those_in_double_precision() {
    let doubled = draw(LONG * 4, 5);
    let values: Vec<f32> = doubled.iter().map(|value| *value as f32).collect();
    let doubled: Vec<f64> = values.iter().map(|value| f64::from(*value)).collect();
    for modes in [[LONG, 4], [4, LONG]] {
        let single = unfolding_singular_values(&values, &modes, 1).unwrap();
        let double = unfolding_singular_values(&doubled, &modes, 1).unwrap();
        assert!(single.iter().zip(&double).all(|(a, b)| (a - b).abs() < 1e-6 * b), "{single:?} {double:?}");
        assert!(single[3] > 0.9 * single[0], "noise does not fall");
        let train = tt_svd(&values, &modes, &Truncation::Ranks(vec![3])).unwrap();
        let lost = distance(&train.reconstruct().into_iter().map(f64::from).collect::<Vec<_>>(), &doubled);
        assert!((lost / double[3] - 1.0).abs() < 1e-4, "{modes:?}: {lost} of {double:?}");
    }
}

#[test]
fn long_cores_become_orthogonal() {
    let single = |count, seed| draw(count, seed).into_iter().map(|value| value as f32).collect::<Vec<f32>>();
    let (tall, wide) = (single(LONG * 2, 1), single(2 * 3, 2));
    let values = |train: &TtTensor<f32>| train.reconstruct().into_iter().map(f64::from).collect::<Vec<_>>();
    for turned in [false, true] {
        let cores = if turned {
            vec![Core::new(1, 3, 2, wide.clone()), Core::new(2, LONG, 1, tall.clone())]
        } else {
            vec![Core::new(1, LONG, 2, tall.clone()), Core::new(2, 3, 1, wide.clone())]
        };
        let train = TtTensor::new(cores.into_iter().collect::<Result<_, _>>().unwrap()).unwrap();
        let whole = values(&train);
        assert!((train.norm() / norm(&whole) - 1.0).abs() < 1e-5);
        for orthogonal in [train.orthogonalize_left(), train.orthogonalize_right()] {
            assert!(distance(&values(&orthogonal), &whole) < 1e-5 * norm(&whole));
            let long = &orthogonal.cores()[usize::from(turned)];
            let power: f64 = long.values().iter().map(|value| f64::from(*value).powi(2)).sum();
            let free = norm(&whole).powi(2);
            assert!((power - 2.0).abs() < 1e-5 || (power / free - 1.0).abs() < 1e-5, "{power} {free}");
        }
    }
}

#[test]
fn what_is_written_comes_back_and_what_does_not_fit_is_refused() {
    let values: Vec<f64> = (0..24).map(f64::from).collect();
    let train = tt_svd(&values, &[4, 6], &Truncation::RelativeError(1e-9)).unwrap();
    let text = serde_json::to_string(&train).unwrap();
    assert_eq!(serde_json::from_str::<TtTensor<f64>>(&text).unwrap(), train);
    assert!(serde_json::from_str::<TtTensor<f64>>(&text.replace("\"mode\":4", "\"mode\":5")).is_err());
    let matrix = TtMatrix::new(train, &[2, 2], &[2, 3]).unwrap();
    let text = serde_json::to_string(&matrix).unwrap();
    assert_eq!(serde_json::from_str::<TtMatrix<f64>>(&text).unwrap(), matrix);
    let text = text.replace("\"input_modes\":[2,2]", "\"input_modes\":[2,3]");
    assert!(serde_json::from_str::<TtMatrix<f64>>(&text).is_err());

    let shape = TtShape::uniform(&[3, 4], &[2, 2], 2, 3).unwrap();
    let text = serde_json::to_string(&shape).unwrap();
    assert_eq!(serde_json::from_str::<TtShape>(&text).unwrap(), shape);
    assert!(serde_json::from_str::<TtShape>(&text.replace("\"gates\":3", "\"gates\":0")).is_err());
    assert_eq!(serde_json::to_string(&Backend::Fused).unwrap(), "\"fused\"");
    assert_eq!(serde_json::to_string(&CoreInit::VarianceMatched).unwrap(), "\"variance-matched\"");
}
