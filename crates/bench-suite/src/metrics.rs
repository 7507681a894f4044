//! Scores of a fold while training: accuracy and mean average precision.

use crate::stats::Outcomes;

/// Index of the largest value; the first among equals.
pub fn argmax(values: &[f64]) -> usize {
    values.iter().enumerate().fold(0, |best, (i, v)| if *v > values[best] { i } else { best })
}

/// Share of clips whose most probable class is their (first) label.
///
/// # Shapes
/// `scores` `[clips][K]`, `labels` one list of classes a clip.
pub fn accuracy(scores: &[Vec<f64>], labels: &[Vec<usize>]) -> f64 {
    let right = scores.iter().zip(labels).map(|(s, l)| l.first() == Some(&argmax(s)));
    Outcomes::accuracy(right.collect()).score().unwrap_or(0.0)
}

/// Mean of the classes' average precisions; a class without a positive clip counts 0.
pub fn mean_average_precision(scores: &[Vec<f64>], labels: &[Vec<usize>], classes: usize) -> f64 {
    Outcomes::map(scores, labels, classes).score().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_counts_the_first_label() {
        let scores = vec![vec![0.2, 0.8], vec![0.6, 0.4]];
        assert_eq!(accuracy(&scores, &[vec![1], vec![1]]), 0.5);
        assert_eq!(accuracy(&[], &[]), 0.0);
    }

    #[test]
    fn a_class_without_positives_counts_zero() {
        let scores = vec![vec![0.9, 0.1], vec![0.1, 0.9]];
        assert_eq!(mean_average_precision(&scores, &[vec![0], vec![]], 2), 0.5);
    }
}
