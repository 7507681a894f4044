//! Powers of two, so that a train's numbers may be of any size and a train of any length.
//!
//! A product of a thousand cores, or the square of a number near the end of its type's range, leaves that range long
//! before the tensor does. Whatever lies outside a comfortable range is multiplied by a power of two, which is exact,
//! and the exponent is carried along; what lies inside is left alone, bit for bit.

use std::borrow::Cow;

use super::{Core, Scalar};
use crate::{Error, Result};

/// `value · 2^by`, over the whole range of `f64`.
pub(super) fn times_two_to(value: f64, by: i64) -> f64 {
    let by = by.clamp(-3000, 3000) as i32;
    let (first, second) = (by / 3, by / 3);
    value * 2_f64.powi(first) * 2_f64.powi(second) * 2_f64.powi(by - first - second)
}

/// Frobenius norm; infinite where `f64` cannot hold it.
pub(super) fn norm_or_infinite(values: &[f64]) -> f64 {
    let (mantissa, exponent) = norm(values);
    times_two_to(mantissa, exponent)
}

/// Frobenius norm as `(m, e)`, `m · 2^e`, summed in `f64`; e is 0 unless the squares leave the range of `f64`.
pub(super) fn norm<T: Scalar>(values: &[T]) -> (f64, i64) {
    let squares = |by: i64| values.iter().map(|v| times_two_to(v.to_f64(), by).powi(2)).sum::<f64>();
    let plain = values.iter().map(|value| value.to_f64() * value.to_f64()).sum::<f64>();
    if T::SQUARES_FIT || (1e-270..1e300).contains(&plain) {
        return (plain.sqrt(), 0);
    }
    let largest = values.iter().fold(0.0_f64, |largest, value| largest.max(value.to_f64().abs()));
    if largest == 0.0 {
        return (0.0, 0);
    }
    let exponent = exponent(largest);
    (squares(-exponent).sqrt(), exponent)
}

/// e of a positive `value`, `2^e <= value < 2^(e+1)` up to rounding.
fn exponent(value: f64) -> i64 {
    value.log2().floor() as i64
}

/// The exponent that a buffer of this norm must lose to be in the comfortable range of `T`; 0 inside it.
pub(super) fn surplus<T: Scalar>((mantissa, exponent_of_two): (f64, i64)) -> i64 {
    if mantissa == 0.0 {
        return 0;
    }
    let exponent = exponent(mantissa) + exponent_of_two;
    if exponent.abs() > T::COMFORT { exponent } else { 0 }
}

/// Multiplies by `2^by`.
pub(super) fn shift<T: Scalar>(values: &mut [T], by: i64) {
    if by != 0 {
        for value in values {
            *value = T::from_f64(times_two_to(value.to_f64(), by));
        }
    }
}

/// As [`shift`], copying only what must change.
pub(super) fn shift_cow<T: Scalar>(values: &mut Cow<'_, [T]>, by: i64) {
    if by != 0 {
        shift(values.to_mut(), by);
    }
}

/// Brings a buffer into the comfortable range, and returns the exponent taken out of it.
pub(super) fn tame<T: Scalar>(values: &mut [T]) -> i64 {
    let taken = surplus::<T>(norm(values));
    shift(values, -taken);
    taken
}

/// Copies of cores in the comfortable range, and the exponent taken out of all together.
pub(super) fn tame_all<T: Scalar>(cores: &[Core<T>]) -> (Vec<Core<T>>, i64) {
    let mut cores = cores.to_vec();
    let taken = cores.iter_mut().map(|core| tame(&mut core.values)).sum();
    (cores, taken)
}

/// As [`tame`], copying only what must change.
pub(super) fn tamed<T: Scalar>(values: &[T]) -> (Cow<'_, [T]>, i64) {
    let (taken, mut values) = (surplus::<T>(norm(values)), Cow::Borrowed(values));
    shift_cow(&mut values, -taken);
    (values, taken)
}

/// Multiplies a product of tame cores by `2^exponent`: all of it in core `at` if that holds it, and otherwise in equal
/// parts in every core.
pub(super) fn restore<T: Scalar>(cores: &mut [Core<T>], at: usize, exponent_of_two: i64) {
    let (mantissa, own) = norm(&cores[at].values);
    if mantissa == 0.0 || exponent_of_two == 0 {
        return;
    }
    if (exponent(mantissa) + own + exponent_of_two).abs() <= T::LARGEST {
        return shift(&mut cores[at].values, exponent_of_two);
    }
    let d = cores.len() as i64;
    for (core, k) in cores.iter_mut().zip(0..) {
        let before = |k: i64| (exponent_of_two * k).div_euclid(d);
        shift(&mut core.values, before(k + 1) - before(k));
    }
}

/// `value · 2^exponent` as a `T`; too small a number is zero.
///
/// # Errors
/// [`Error::Overflow`] if it is too large.
pub(super) fn number<T: Scalar>(what: &'static str, value: T, exponent_of_two: i64) -> Result<T> {
    let value = T::from_f64(times_two_to(value.to_f64(), exponent_of_two));
    if value.to_f64().is_finite() { Ok(value) } else { Err(Error::Overflow(what)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_of_two_are_exact_over_the_whole_range() {
        assert_eq!(times_two_to(1.0, -1074), f64::from_bits(1));
        assert_eq!(times_two_to(f64::from_bits(1), 1074 + 1023), 2_f64.powi(1023));
        assert_eq!(times_two_to(0.3, 40) * 2_f64.powi(-40), 0.3);
        assert_eq!(times_two_to(1.0, 5000), f64::INFINITY);
        assert_eq!(times_two_to(1.0, -5000), 0.0);
    }

    #[test]
    fn norms_are_right_at_every_size() {
        for size in [f64::MIN_POSITIVE, 1e-200, 1e-150, 1.0, 1e150, 1e200, 1e307] {
            let (mantissa, exponent) = norm(&[3.0 * size, 0.0, -4.0 * size]);
            let found = times_two_to(mantissa / 5.0, exponent) / size;
            assert!((found - 1.0).abs() < 1e-15, "{size:e}: {found}");
        }
        assert_eq!(norm(&[0.0_f64; 3]), (0.0, 0));
        assert_eq!(norm(&[3e-44_f32, -4e-44]).1, 0, "squares of f32 fit f64");
    }

    #[test]
    fn what_is_comfortable_stays_as_it_is() {
        let mut values = [0.1_f64, -0.7];
        assert_eq!((tame(&mut values), values), (0, [0.1, -0.7]));
        let mut large = [1e300_f64, -7e300];
        let taken = tame(&mut large);
        assert!(taken > 900 && large[1].abs() < 2.0);
        shift(&mut large, taken);
        assert_eq!(large, [1e300, -7e300]);
    }
}
