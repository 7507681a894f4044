//! The projection against loops written out.

use super::*;
use rand::RngExt;
use tt_core::apply::Unit;

const AFFINE: Affine = Affine { scale: 1.0 / 127.5, shift: -1.0 };

fn values(n: usize, purpose: &str) -> Vec<f32> {
    let mut rng = tt_core::rng::stream(4, purpose);
    (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect()
}

struct Case {
    features: usize,
    outputs: usize,
    lengths: Vec<usize>,
    gates: usize,
    frames: Vec<u8>,
    w: Vec<f32>,
    dout: Vec<f32>,
}

impl Case {
    fn new(features: usize, gates: usize, hidden: usize, lengths: &[usize]) -> Self {
        let n: usize = lengths.iter().sum();
        let mut rng = tt_core::rng::stream(5, "frames");
        Self {
            features,
            outputs: gates * hidden,
            lengths: lengths.to_vec(),
            gates,
            frames: (0..n * features).map(|_| rng.random()).collect(),
            w: values(features * gates * hidden, "w"),
            dout: values(n * gates * hidden, "dout"),
        }
    }

    /// out, dw, dx with the loops written out in f64.
    fn naive(&self, mask: Option<&InputMask<'_>>) -> [Vec<f64>; 3] {
        let (m, n, width) = (self.features, self.outputs, self.outputs / self.gates);
        let rows = self.frames.len() / m;
        let mut all = [vec![0.0; rows * n], vec![0.0; m * n], vec![0.0; rows * m]];
        let mut factors = vec![1.0; m];
        let clips: Vec<usize> =
            self.lengths.iter().enumerate().flat_map(|(clip, &t)| std::iter::repeat_n(clip, t)).collect();
        for (row, clip) in clips.into_iter().enumerate() {
            for gate in 0..self.gates {
                if let Some(mask) = mask {
                    mask.fill(gate, clip, 0, &mut factors);
                }
                for i in 0..m {
                    let p = f64::from(self.frames[row * m + i]);
                    let f = f64::from(factors[i]);
                    let x = (p * f64::from(AFFINE.scale) + f64::from(AFFINE.shift)) * f;
                    for j in gate * width..(gate + 1) * width {
                        all[0][row * n + j] += x * f64::from(self.w[i * n + j]);
                        all[1][i * n + j] += x * f64::from(self.dout[row * n + j]);
                        all[2][row * m + i] += f64::from(AFFINE.scale)
                            * f
                            * f64::from(self.w[i * n + j])
                            * f64::from(self.dout[row * n + j]);
                    }
                }
            }
        }
        all
    }

    fn ours(&self, mask: Option<&InputMask<'_>>, isa: Isa, as_f32: bool) -> [Vec<f32>; 3] {
        self.by(Dense::with_isa(self.features, self.outputs, AFFINE, isa), mask, as_f32)
    }

    fn on(&self, unit: Unit) -> [Vec<f32>; 3] {
        let dense = Dense::new(self.features, self.outputs, AFFINE);
        self.by(dense.on(Path::Digits(unit)).unwrap(), None, false)
    }

    fn by(&self, dense: Dense, mask: Option<&InputMask<'_>>, as_f32: bool) -> [Vec<f32>; 3] {
        let floats: Vec<f32> = self.frames.iter().map(|p| f32::from(*p)).collect();
        let rows = if as_f32 { Rows::F32(&floats) } else { Rows::U8(&self.frames) };
        let n = self.frames.len() / self.features;
        let mut out = vec![f32::NAN; n * self.outputs];
        let mut dw = vec![f32::NAN; self.w.len()];
        let mut dx = vec![f32::NAN; self.frames.len()];
        let mut panels = Panels::default();
        dense.forward(rows, mask, &self.w, &mut out, &mut panels).unwrap();
        let pieces = dense.weight_gradient(rows, mask.copied(), &self.dout, &mut panels).unwrap();
        crate::gradient::write(&pieces, &mut dw).unwrap();
        dense.input_gradient(&self.dout, mask, &self.w, &mut dx).unwrap();
        [out, dw, dx]
    }

    fn check(&self, probability: Option<f32>) {
        let mask = probability.map(|probability| InputMask {
            seed: 11,
            probability,
            gates: self.gates,
            lengths: &self.lengths,
        });
        let expected = self.naive(mask.as_ref());
        for isa in Isa::available() {
            for as_f32 in [false, true] {
                for (what, (ours, naive)) in
                    self.ours(mask.as_ref(), isa, as_f32).iter().zip(&expected).enumerate()
                {
                    let size = naive.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                    // A chain of k multiply-adds errs by about sqrt(k) roundings of its largest value.
                    let k = self.features.max(self.outputs).max(self.frames.len() / self.features);
                    let limit = f64::from(f32::EPSILON) * 4.0 * (k as f64).sqrt() * size;
                    for (a, b) in ours.iter().zip(naive) {
                        let error = (f64::from(*a) - b).abs();
                        assert!(error <= limit, "{what} on {}: {a} not {b}", isa.name());
                    }
                }
            }
        }
    }
}

#[test]
fn agrees_with_naive_loops() {
    for (features, gates, hidden, lengths) in [
        (1, 1, 1, &[1][..]),
        (7, 3, 5, &[2, 1, 4]),
        (193, 3, 43, &[60, 70]),
        (400, 4, 16, &[129]),
        (70, 1, 130, &[1100]),
        (64, 3, 32, &[16, 16]),
    ] {
        let case = Case::new(features, gates, hidden, lengths);
        case.check(None);
        case.check(Some(0.25));
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let case = Case::new(450, 3, 90, &[100, 40, 200]);
    let mask = InputMask { seed: 1, probability: 0.25, gates: 3, lengths: &case.lengths };
    for isa in Isa::available() {
        for mask in [None, Some(&mask)] {
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| case.ours(mask, isa, false))
            };
            let one = run(1);
            for threads in [2, 3, 8] {
                assert!(run(threads) == one, "{threads} threads");
            }
        }
    }
}

/// Units that are here; names the others.
fn units() -> Vec<Unit> {
    let here = |unit: &Unit| unit.check().inspect_err(|error| eprintln!("skipped: {error}")).is_ok();
    Unit::ALL.into_iter().filter(here).collect()
}

fn bits(all: &[Vec<f32>; 3]) -> Vec<u32> {
    all.iter().flatten().map(|value| value.to_bits()).collect()
}

#[test]
fn digits_are_as_accurate_as_f32_and_the_same_on_every_unit_and_any_threads() {
    for (features, gates, hidden, lengths) in [
        (1, 1, 1, &[1][..]),
        (193, 3, 43, &[60, 70]),
        (1_100, 4, 16, &[129]),
        (70, 1, 50, &[1_100]),
        (57_600, 3, 16, &[9]),
    ] {
        let case = Case::new(features, gates, hidden, lengths);
        let expected = case.naive(None);
        let first = case.on(Unit::Emulated);
        for (what, (ours, naive)) in first.iter().zip(&expected).enumerate() {
            let size = naive.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            let error = ours.iter().zip(naive).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            eprintln!("{features} × {}: {what} errs by {:.1e}", gates * hidden, error / size);
            // The input's gradient, 2, is in f32.
            assert!(what == 2 || error <= 5e-7 * size, "{what} of {features} features: {error} of {size}");
        }
        for unit in units() {
            for threads in [1, 2, 8] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let all = pool.install(|| case.on(unit));
                assert!(bits(&all) == bits(&first), "{} on {threads} threads", unit.name());
            }
        }
        if features > 1 {
            assert!(bits(&case.ours(None, Isa::best(), false)) != bits(&first), "digits did not run");
        }
    }
}

#[test]
fn a_unit_that_nobody_named_is_used_where_it_pays() {
    let unit = [Unit::Amx, Unit::Vnni].into_iter().find(|unit| unit.check().is_ok());
    let Some(unit) = unit.filter(|_| std::env::var_os(Path::VARIABLE).is_none()) else {
        eprintln!("skipped: no unit for bytes here, or {} names another path", Path::VARIABLE);
        return;
    };
    let cases = if unit == Unit::Amx {
        [(31, [false, false]), (32, [true, true]), (256, [true, true])]
    } else {
        [(63, [false, false]), (64, [false, true]), (256, [true, true])]
    };
    for (rows, by_digits) in cases {
        let case = Case::new(70, 3, 20, &[rows]);
        let automatic = Dense::new(70, 60, AFFINE).on(Path::Automatic).unwrap();
        let (ours, f32) = (case.by(automatic, None, false), case.ours(None, Isa::best(), false));
        let digits = case.on(unit);
        for (pass, by_digits) in by_digits.into_iter().enumerate() {
            assert!(f32[pass] != digits[pass]);
            let expected = if by_digits { &digits } else { &f32 };
            assert!(ours[pass] == expected[pass], "pass {pass} of {rows} rows");
        }
    }
}

/// What has no digits runs in f32, as does what a mask hides.
#[test]
fn numbers_without_digits_come_out_as_in_f32() {
    let best = Isa::best();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut case = Case::new(300, 3, 20, &[40]);
        case.w[7_000] = bad;
        case.dout[1_000] = bad;
        let f32 = case.ours(None, best, false);
        assert!(f32[0].iter().chain(&f32[1]).any(|v| !v.is_finite()), "{bad}");
        assert!(bits(&case.on(Unit::Emulated)) == bits(&f32), "{bad}");
    }
    let case = Case::new(300, 3, 20, &[40]);
    let mask = InputMask { seed: 1, probability: 0.25, gates: 3, lengths: &case.lengths };
    let dense = Dense::new(300, 60, AFFINE).on(Path::Digits(Unit::Emulated)).unwrap();
    assert!(bits(&case.by(dense, Some(&mask), false)) == bits(&case.ours(Some(&mask), best, false)));
    assert!(bits(&case.by(dense, None, true)) == bits(&case.ours(None, best, true)));
}

#[test]
fn masks_drop_the_right_share_independently() {
    let mask = InputMask { seed: 9, probability: 0.25, gates: 3, lengths: &[1, 1] };
    let n = 57_600;
    let draw = |gate, clip| {
        let mut row = vec![0.0; n];
        mask.fill(gate, clip, 0, &mut row);
        row.iter().map(|m| f64::from(u8::from(*m == 0.0))).collect::<Vec<_>>()
    };
    let rows: Vec<_> = (0..6).map(|i| draw(i / 2, i % 2)).collect();
    // Standard deviation of a share: sqrt(0.25·0.75/n) = 0.0018; of a joint share: 0.001.
    for (i, a) in rows.iter().enumerate() {
        assert!((a.iter().sum::<f64>() / n as f64 - 0.25).abs() < 0.008);
        for b in &rows[..i] {
            let both = a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() / n as f64;
            assert!((both - 0.0625).abs() < 0.005, "{both}");
        }
        for lag in [1, 2, 3, 480] {
            let both = a.iter().zip(&a[lag..]).map(|(a, b)| a * b).sum::<f64>() / n as f64;
            assert!((both - 0.0625).abs() < 0.005, "lag {lag}: {both}");
        }
    }
    let mut part = vec![0.0; 10];
    mask.fill(1, 1, 100, &mut part);
    assert!(part.iter().zip(&draw(1, 1)[100..]).all(|(m, dropped)| (*m == 0.0) == (*dropped == 1.0)));
    assert!(part.iter().all(|m| *m == 0.0 || *m == 4.0 / 3.0));
}

#[test]
fn wrong_sizes_are_refused() {
    let dense = Dense::new(3, 2, Affine::IDENTITY);
    assert!(
        dense.forward(Rows::F32(&[0.0; 7]), None, &[0.0; 6], &mut [0.0; 4], &mut Panels::default()).is_err()
    );
    assert!(
        dense.forward(Rows::F32(&[0.0; 6]), None, &[0.0; 5], &mut [0.0; 4], &mut Panels::default()).is_err()
    );
    assert!(
        dense.forward(Rows::F32(&[0.0; 6]), None, &[0.0; 6], &mut [0.0; 3], &mut Panels::default()).is_err()
    );
    let mask = InputMask { seed: 0, probability: 0.5, gates: 1, lengths: &[1] };
    assert!(
        dense
            .forward(Rows::F32(&[0.0; 6]), Some(&mask), &[0.0; 6], &mut [0.0; 4], &mut Panels::default())
            .is_err()
    );
}
