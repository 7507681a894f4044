//! Vector exp, tanh and sigmoid (errors measured in the tests below, in units in the last place). NaN stays NaN: a
//! number is the second operand of `min` and `max`.

use super::Simd;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: products of the first with small integers are exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// e^r = 1 + r + r²·P(r) on |r| <= ln 2 / 2, relative error below 2^-26 (Cephes, Moshier, expf).
const P: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5];

/// (n, r, e^r - 1) with x = n ln 2 + r.
#[inline(always)]
unsafe fn reduce<S: Simd>(x: S::V) -> (S::V, S::V) {
    // SAFETY: arithmetic on registers; the caller has the instruction set.
    unsafe {
        let n = S::round(S::mul(x, S::splat(LOG2_E)));
        let r = S::fma(n, S::splat(-LN2_HIGH), x);
        let r = S::fma(n, S::splat(-LN2_LOW), r);
        let mut p = S::splat(P[0]);
        p = S::fma(p, r, S::splat(P[1]));
        p = S::fma(p, r, S::splat(P[2]));
        p = S::fma(p, r, S::splat(P[3]));
        p = S::fma(p, r, S::splat(P[4]));
        p = S::fma(p, r, S::splat(P[5]));
        (n, S::fma(p, S::mul(r, r), r))
    }
}

/// 1 / (1 + e^-x).
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
pub unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: arithmetic on registers; the caller has the instruction set.
    unsafe {
        // Below -87 the result leaves the normal numbers and is flushed anyway.
        let x = S::max(S::splat(-87.0), S::min(S::splat(87.0), x));
        let (n, e) = reduce::<S>(S::sub(S::splat(0.0), x));
        let scale = S::exp2_int(n);
        let exp = S::fma(scale, e, scale);
        S::div(S::splat(1.0), S::add(S::splat(1.0), exp))
    }
}

/// tanh x = E / (E + 2) with E = e^2|x| - 1, free of cancellation near zero.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
pub unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    // SAFETY: arithmetic on registers; the caller has the instruction set.
    unsafe {
        // From 9.02 on, tanh is 1 in f32.
        let a = S::min(S::splat(9.2), S::abs(x));
        let (n, e) = reduce::<S>(S::add(a, a));
        let scale = S::exp2_int(n);
        let em1 = S::fma(scale, e, S::sub(scale, S::splat(1.0)));
        S::copysign(S::div(em1, S::add(em1, S::splat(2.0))), x)
    }
}

/// clip(0.2 x + 0.5, 0, 1), the gate of the released code.
///
/// # Safety
/// The processor has the instruction set of `S`.
#[inline(always)]
pub unsafe fn hard_sigmoid<S: Simd>(x: S::V) -> S::V {
    // SAFETY: arithmetic on registers; the caller has the instruction set.
    unsafe {
        let y = S::fma(x, S::splat(0.2), S::splat(0.5));
        S::max(S::splat(0.0), S::min(S::splat(1.0), y))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Isa, Kernel, Simd};

    struct Map<'a> {
        x: &'a [f32],
        y: &'a mut [f32],
        function: usize,
    }

    impl Kernel for Map<'_> {
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            for (x, y) in self.x.chunks(S::LANES).zip(self.y.chunks_mut(S::LANES)) {
                // SAFETY: both pieces have the same length, at most one vector.
                unsafe {
                    let v = S::load_partial(x.as_ptr(), x.len());
                    let v = match self.function {
                        0 => super::sigmoid::<S>(v),
                        1 => super::tanh::<S>(v),
                        _ => super::hard_sigmoid::<S>(v),
                    };
                    S::store_partial(y.as_mut_ptr(), v, x.len());
                }
            }
        }
    }

    #[test]
    fn errors_stay_below_three_units() {
        let x: Vec<f32> = (-400_000..400_000).map(|i| (i as f32) * 5e-5).collect();
        let references: [fn(f64) -> f64; 3] =
            [|x| 1.0 / (1.0 + (-x).exp()), f64::tanh, |x| f64::from(0.2f32).mul_add(x, 0.5).clamp(0.0, 1.0)];
        for isa in Isa::available() {
            for (function, reference) in references.iter().enumerate() {
                let mut y = vec![0.0; x.len()];
                isa.run(Map { x: &x, y: &mut y, function });
                let worst = x.iter().zip(&y).fold(0.0f64, |worst, (&x, &y)| {
                    let exact = reference(f64::from(x));
                    // hard_sigmoid near its lower corner is a difference: an error of half a unit of 0.5.
                    let size = if function == 2 { exact.max(0.5) } else { exact.abs() };
                    let unit = (size as f32).max(f32::MIN_POSITIVE);
                    let unit = f64::from(unit.next_up() - unit);
                    worst.max((f64::from(y) - exact).abs() / unit)
                });
                println!("{} function {function}: {worst:.2} ulp", isa.name());
                assert!(worst < 3.0, "{} function {function}: {worst} ulp", isa.name());
            }
        }
    }

    #[test]
    fn nan_stays_nan() {
        for isa in Isa::available() {
            for function in 0..3 {
                let mut y = [0.0; 19];
                isa.run(Map { x: &[f32::NAN; 19], y: &mut y, function });
                assert!(y.iter().all(|y| y.is_nan()), "{} function {function}: {y:?}", isa.name());
            }
        }
    }

    #[test]
    fn limits() {
        for isa in Isa::available() {
            let x = [f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30, 0.0, -0.0, 12.0, -12.0];
            let mut y = [0.0; 8];
            isa.run(Map { x: &x, y: &mut y, function: 1 });
            assert_eq!(y, [1.0, -1.0, 1.0, -1.0, 0.0, 0.0, 1.0, -1.0], "{}", isa.name());
            isa.run(Map { x: &x, y: &mut y, function: 0 });
            assert_eq!((y[0], y[2], y[4]), (1.0, 1.0, 0.5));
            assert!(y[1] < 1e-37 && y[3] < 1e-37);
        }
    }
}
