//! Means and deviations.

/// Arithmetic mean; none for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() { None } else { Some(values.iter().sum::<f64>() / values.len() as f64) }
}

/// Sample standard deviation (n − 1); none for fewer than two values.
pub fn sample_std(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    Some((squares(values)? / (values.len() - 1) as f64).sqrt())
}

/// Population standard deviation (n); none for no values.
pub fn population_std(values: &[f64]) -> Option<f64> {
    Some((squares(values)? / values.len() as f64).sqrt())
}

fn squares(values: &[f64]) -> Option<f64> {
    let m = mean(values)?;
    Some(values.iter().map(|v| (v - m) * (v - m)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deviations() {
        let v = [0.80, 0.82, 0.79, 0.83, 0.81];
        assert!((mean(&v).unwrap() - 0.81).abs() < 1e-12);
        assert!((sample_std(&v).unwrap() - 0.015_811_388_300_841_9).abs() < 1e-12);
        assert!((population_std(&v).unwrap() - 0.014_142_135_623_730_9).abs() < 1e-12);
        assert_eq!((mean(&[]), sample_std(&[0.5]), population_std(&[])), (None, None, None));
    }
}
