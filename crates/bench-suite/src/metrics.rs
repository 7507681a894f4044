//! Scores of a fold: accuracy and mean average precision.

use crate::stats::average_precision;

/// Index of the largest value; the first of equals.
pub fn argmax(values: &[f64]) -> usize {
    values.iter().enumerate().fold(0, |best, (i, v)| if *v > values[best] { i } else { best })
}

/// Share of clips whose most probable class is their (first) label.
///
/// # Shapes
/// `scores` `[clips][K]`, `labels` one list of classes a clip.
pub fn accuracy(scores: &[Vec<f64>], labels: &[Vec<usize>]) -> f64 {
    let right = scores.iter().zip(labels).filter(|(s, l)| l.first() == Some(&argmax(s))).count();
    right as f64 / scores.len().max(1) as f64
}

/// Mean of the classes' average precisions (the macro average of the released Hollywood2 script); a class without
/// a positive clip counts 0.
pub fn mean_average_precision(scores: &[Vec<f64>], labels: &[Vec<usize>], classes: usize) -> f64 {
    let of_class = |class: usize| {
        let column: Vec<f64> = scores.iter().map(|row| row[class]).collect();
        let positive: Vec<bool> = labels.iter().map(|l| l.contains(&class)).collect();
        average_precision(&column, &positive).unwrap_or(0.0)
    };
    (0..classes).map(of_class).sum::<f64>() / classes.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accuracy_counts_the_first_label() {
        let scores = vec![vec![0.2, 0.8], vec![0.6, 0.4]];
        assert_eq!(accuracy(&scores, &[vec![1], vec![1]]), 0.5);
    }

    #[test]
    fn a_class_without_positives_counts_zero() {
        let scores = vec![vec![0.9, 0.1], vec![0.1, 0.9]];
        assert_eq!(mean_average_precision(&scores, &[vec![0], vec![]], 2), 0.5);
    }
}
