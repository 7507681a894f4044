//! Student's t, for what follows from a few values.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::moments::{mean, sample_std};

/// The share of a 95 % interval's misses on either side.
pub(super) const TAIL: f64 = 0.025;
/// The normal distribution's quantile at 1 − [`TAIL`].
const NORMAL: f64 = 1.959_963_984_540_054;

/// Student's quantile over the normal one.
pub(super) fn student(freedom: f64) -> Option<f64> {
    // Beyond, both agree to four digits, and the search for the quantile may not end.
    let student = StudentsT::new(0.0, 1.0, freedom.min(10_000.0)).ok()?;
    Some(student.inverse_cdf(1.0 - TAIL) / NORMAL)
}

/// The mean of a few values and its 95 % interval by Student's t; none for fewer than two.
pub fn of_few(values: &[f64]) -> Option<[f64; 3]> {
    let (count, center) = (values.len() as f64, mean(values)?);
    let half = NORMAL * student(count - 1.0)? * sample_std(values)? / count.sqrt();
    Some([center, center - half, center + half])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_values_have_the_interval_of_student() {
        let [center, low, high] = of_few(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        // t of four degrees of freedom is 2.7764.
        let half = 2.776_445 * 2.5_f64.sqrt() / 5_f64.sqrt();
        assert!(
            (center - 3.0).abs() < 1e-12
                && (low - 3.0 + half).abs() < 1e-5
                && (high - 3.0 - half).abs() < 1e-5
        );
        assert_eq!(of_few(&[1.0]), None);
    }
}
