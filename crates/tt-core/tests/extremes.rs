//! Trains that are long, tiny, huge or too many: right numbers at every size, or an error that names the cause.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use rand::RngExt;
use tt_core::decomposition::{
    Core, Cross, Scalar, Truncation, TtMatrix, TtTensor, pair_modes, tt_cross, tt_svd,
    unfolding_singular_values,
};
use tt_core::rng::stream;
use tt_core::{Error, TtShape};

fn of<T: Scalar>(values: &[f64]) -> Vec<T> {
    values.iter().map(|value| T::from_f64(*value)).collect()
}

/// `d` equal cores `[1, n, 1]`: an outer product of a vector with itself.
fn power<T: Scalar>(vector: &[f64], d: usize) -> TtTensor<T> {
    let core = Core::new(1, vector.len(), 1, of(vector)).unwrap();
    TtTensor::new(vec![core; d]).unwrap()
}

/// Sums of indices times `size`, of TT ranks 2.
fn sums<T: Scalar>(size: f64) -> Vec<T> {
    let sum = |at: usize| size * (at / 30 + at / 6 % 5 + at % 6 + 1) as f64;
    (0..120).map(|at| T::from_f64(sum(at))).collect()
}

fn close(found: f64, wanted: f64, tolerance: f64) -> bool {
    (found / wanted - 1.0).abs() <= tolerance
}

/// Norm, sum, rounding and elements of trains whose norm is `2^(d/2)`, and whose norm no number may hold.
fn long_trains<T: Scalar>(d: usize, relative_error: f64, tolerance: f64) {
    let (a, b) = (power::<T>(&[1.0, 0.0, 0.0, 1.0], d), power::<T>(&[1.0, 0.0, 0.0, -1.0], d));
    let log2 = d as f64 / 2.0;
    assert!((a.log2_norm() - log2).abs() < tolerance * d as f64, "{d}: {}", a.log2_norm());
    let expected = if log2 < 1024.0 { log2.exp2() } else { f64::INFINITY };
    assert!(a.norm() == expected || close(a.norm(), expected, tolerance * d as f64), "{d}: {}", a.norm());
    let rounded = a.add(&b).unwrap().round(&Truncation::RelativeError(relative_error)).unwrap();
    assert!(rounded.ranks()[1..d].iter().all(|rank| *rank == 2), "{d}: {:?}", rounded.ranks());
    let element = |at: usize, last: usize| {
        let mut index = vec![at; d];
        index[d - 1] = last;
        rounded.element(&index).unwrap().to_f64()
    };
    // 1 + 1, and 1 - 1 for an odd number of minus signs.
    assert!(close(element(0, 0), 2.0, tolerance * d as f64), "{d}: {}", element(0, 0));
    assert!(element(0, 3).abs() < tolerance * d as f64, "{d}: {}", element(0, 3));
    assert!(element(0, 1).abs() < tolerance * d as f64, "{d}: {}", element(0, 1));
    for orthogonal in [a.orthogonalize_left(), a.orthogonalize_right()] {
        assert!((orthogonal.log2_norm() - log2).abs() < tolerance * d as f64, "{d}");
        let found = orthogonal.element(&vec![0; d]).unwrap().to_f64();
        assert!(close(found, 1.0, tolerance * d as f64), "{d}: {found}");
    }
}

#[test]
fn trains_of_thousands_of_cores_keep_their_numbers() {
    for d in [300, 1100, 2100] {
        long_trains::<f64>(d, 1e-8, 1e-14);
        long_trains::<f32>(d, 1e-4, 2e-6);
    }
}

#[test]
fn inner_products_are_numbers_or_errors() {
    let a = power::<f64>(&[1.0, 0.0, 0.0, 1.0], 1000);
    assert!(close(a.inner(&a).unwrap(), 1000_f64.exp2(), 1e-12));
    let b = power::<f64>(&[1.0, 0.0, 0.0, 1.0], 2100);
    let text = b.inner(&b).unwrap_err().to_string();
    assert_eq!(text, "inner product is too large for its number type");
    let large = power::<f32>(&[2.0, 1.0], 200);
    assert!(matches!(large.element(&[0; 200]), Err(Error::Overflow(_))), "2^200 is no f32");
    assert_eq!(large.element(&[1; 200]).unwrap(), 1.0);
    // Partial products of 1e600 and 1e-600 on the way to a number that is neither.
    let cores = [1e300, 1e300, 1e-300, 1e-300, 3.0].map(|v| Core::new(1, 1, 1, vec![v]).unwrap());
    let swing = TtTensor::new(cores.to_vec()).unwrap();
    assert!(close(swing.element(&[0; 5]).unwrap(), 3.0, 1e-14));
    assert!(close(swing.reconstruct()[0], 3.0, 1e-14) && close(swing.norm(), 3.0, 1e-14));
    assert!(close(swing.inner(&swing).unwrap(), 9.0, 1e-14));
}

fn same_ranks_at<T: Scalar>(sizes: &[f64], relative_error: f64, tolerance: f64) {
    let truncation = Truncation::RelativeError(relative_error);
    for size in sizes {
        let values = sums::<T>(*size);
        let train = tt_svd(&values, &[4, 5, 6], &truncation).unwrap();
        assert_eq!(train.ranks(), [1, 2, 2, 1], "{size:e}");
        let rounded = train.add(&train).unwrap().round(&truncation).unwrap();
        assert_eq!(rounded.ranks(), [1, 2, 2, 1], "{size:e} rounded");
        let whole = train.reconstruct();
        for (at, (found, wanted)) in whole.iter().zip(&values).enumerate() {
            let error = found.to_f64() / size - wanted.to_f64() / size;
            assert!(error.abs() < 14.0 * tolerance, "{size:e}[{at}]: {found} for {wanted}");
            let index = [at / 30, at / 6 % 5, at % 6];
            let element = train.element(&index).unwrap().to_f64() / size - wanted.to_f64() / size;
            assert!(element.abs() < 14.0 * tolerance, "{size:e}[{at}]");
            let twice = rounded.element(&index).unwrap().to_f64() / size / 2.0 - wanted.to_f64() / size;
            assert!(twice.abs() < 14.0 * tolerance, "{size:e}[{at}] rounded");
        }
        let norm = (values.iter().map(|value| (value.to_f64() / size).powi(2)).sum::<f64>()).sqrt();
        assert!(close(train.norm() / size, norm, tolerance), "{size:e}: {}", train.norm());
        let singular = unfolding_singular_values(&values, &[4, 5, 6], 2).unwrap();
        assert!(singular[1] > 1e-3 * singular[0] && singular[2] < tolerance.sqrt() * singular[0], "{size:e}");
        let root = T::from_f64(size.sqrt().recip());
        let product = train.scale(root).scale(root).hadamard(&train).unwrap();
        let found = product.element(&[1, 2, 3]).unwrap().to_f64() / size;
        assert!(close(found, 49.0, 10.0 * tolerance), "{size:e}: {found}");
    }
}

#[test]
fn the_size_of_numbers_changes_no_rank() {
    same_ranks_at::<f64>(&[1e-300, 1e-170, 1e-100, 1e-20, 1.0, 1e70, 1e155, 1e200, 1e305], 1e-10, 1e-12);
    same_ranks_at::<f32>(&[1e-36, 1e-30, 1e-10, 1.0, 1e10, 1e25, 5e36], 1e-4, 2e-5);
    // Below the normal numbers of f32 four digits are left.
    same_ranks_at::<f32>(&[1e-40], 1e-3, 1e-3);
}

#[test]
fn squares_beyond_f64_are_no_reason_to_cut() {
    for size in [1e-200, 1e160, 1e300] {
        let train = tt_svd(&[size, 0.0, 0.0, size], &[2, 2], &Truncation::RelativeError(1e-10)).unwrap();
        assert_eq!(train.ranks(), [1, 2, 1], "{size:e}");
        assert!(close(train.norm(), size * 2_f64.sqrt(), 1e-14), "{size:e}: {}", train.norm());
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let draw = |count: usize, seed: u64| -> Vec<f64> {
        let mut rng = stream(seed, "test/threads");
        (0..count).map(|_| rng.random_range(-1.0..1.0)).collect()
    };
    let values = draw(340 * 680, 1);
    let narrow = of::<f32>(&values);
    let core = |left: usize, n: usize, right: usize| {
        Core::new(left, n, right, draw(left * n * right, (left + right) as u64)).unwrap()
    };
    let train = TtTensor::new(vec![core(1, 340, 160), core(160, 20, 160), core(160, 340, 1)]).unwrap();
    let bits = |train: &TtTensor<f64>| -> Vec<u64> {
        train.cores().iter().flat_map(|core| core.values().iter().map(|value| value.to_bits())).collect()
    };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let truncation = Truncation::rank(30, 2);
            let mut found = vec![train.inner(&train).unwrap().to_bits()];
            found.extend(bits(&train.round(&Truncation::rank(80, 3)).unwrap()));
            for modes in [[340, 680], [680, 340]] {
                found.extend(bits(&tt_svd(&values, &modes, &truncation).unwrap()));
                let single = tt_svd(&narrow, &modes, &truncation).unwrap();
                let single = single.cores().iter().flat_map(Core::values);
                found.extend(single.map(|value| u64::from(value.to_bits())));
                let singular = unfolding_singular_values(&narrow, &modes, 1).unwrap();
                found.extend(singular.iter().map(|value| value.to_bits()));
            }
            found
        })
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn counts_beyond_a_machine_are_named() {
    let exact = Truncation::RelativeError(1e-6);
    let size = |error: Error| assert!(matches!(error, Error::Size { .. }), "{error}");
    size(tt_svd::<f64>(&[], &[2; 64], &exact).unwrap_err());
    size(unfolding_singular_values::<f64>(&[], &[2; 64], 3).unwrap_err());
    size(Core::<f64>::new(1 << 32, 1 << 32, 1, Vec::new()).unwrap_err());
    size(pair_modes::<f64>(&[], &[1 << 32; 2], &[1; 2]).unwrap_err());
    size(pair_modes::<f64>(&[], &[1 << 20; 2], &[1 << 20; 2]).unwrap_err());
    let one = TtTensor::new(vec![Core::new(1, 1, 1, vec![1.0]).unwrap()]).unwrap();
    size(TtMatrix::new(one, &[1 << 33], &[1 << 33]).unwrap_err());
    size(TtShape::uniform(&[1 << 16; 5], &[1; 5], 1, 1).unwrap_err());
    size(power::<f64>(&[1.0, 2.0], 70).to_tensor(&candle_core::Device::Cpu).unwrap_err());
}

fn cross(rank: usize, sweeps: usize) -> Cross {
    Cross { rank, accuracy: 1e-8, sweeps, seed: 1 }
}

#[test]
fn cross_takes_more_elements_than_can_be_counted() {
    for modes in [vec![10; 30], vec![2; 70]] {
        let wave = |at: &[usize]| (at.iter().sum::<usize>() as f64 / 10.0).sin();
        let train = tt_cross(wave, &modes, &cross(2, 10)).unwrap();
        let at: Vec<usize> = (0..modes.len()).map(|k| k % 2).collect();
        assert!((train.element(&at).unwrap() - wave(&at)).abs() < 1e-6);
        let text = tt_cross(wave, &modes, &cross(2, 1)).unwrap_err().to_string();
        assert!(text.starts_with("TT-cross did not converge: sweeps = 1: at least 2 are needed"), "{text}");
    }
}

#[test]
fn cross_says_that_it_saw_only_zeros() {
    let peak = |at: &[usize]| if at == [17, 3, 11, 5, 13] { 1.0 } else { 0.0 };
    let text = tt_cross(peak, &[20; 5], &cross(3, 4)).unwrap_err().to_string();
    assert!(text.contains("elements looked at are zero"), "{text}");
    // One core has been looked at in full.
    assert_eq!(tt_cross(|_| 0.0, &[5], &cross(3, 4)).unwrap().norm(), 0.0);
    let huge = tt_cross(|at: &[usize]| 1e200 * (at[0] + at[1]) as f64, &[6, 7], &cross(2, 5)).unwrap();
    assert!(close(huge.element(&[2, 5]).unwrap(), 7e200, 1e-9));
}
