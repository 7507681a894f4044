//! Scores of a fold: accuracy and mean average precision.

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

/// Average precision of one class: the sum over score thresholds of (change of recall) × precision, as
/// scikit-learn's `average_precision_score`; equal scores share one threshold. 0 without a positive.
pub fn average_precision(scores: &[f64], positive: &[bool]) -> f64 {
    let positives = positive.iter().filter(|p| **p).count();
    if positives == 0 {
        return 0.0;
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let (mut hits, mut found_before, mut sum) = (0, 0, 0.0);
    for (rank, &clip) in order.iter().enumerate() {
        hits += usize::from(positive[clip]);
        let threshold_ends = order.get(rank + 1).is_none_or(|next| scores[*next] < scores[clip]);
        if threshold_ends {
            let precision = hits as f64 / (rank + 1) as f64;
            sum += (hits - found_before) as f64 / positives as f64 * precision;
            found_before = hits;
        }
    }
    sum
}

/// Mean of the classes' average precisions (the macro average of the released Hollywood2 script).
pub fn mean_average_precision(scores: &[Vec<f64>], labels: &[Vec<usize>], classes: usize) -> f64 {
    let of_class = |class: usize| {
        let column: Vec<f64> = scores.iter().map(|row| row[class]).collect();
        let positive: Vec<bool> = labels.iter().map(|l| l.contains(&class)).collect();
        average_precision(&column, &positive)
    };
    (0..classes).map(of_class).sum::<f64>() / classes.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_precision_equals_scikit_learn() {
        // from sklearn.metrics import average_precision_score as ap
        // ap([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])                  -> 0.8333333333333333
        // ap([1, 0, 1, 0, 1], [0.5, 0.5, 0.5, 0.1, 0.9])           -> 0.8333333333333333
        // ap([0, 1, 0, 1, 1, 0], [0.9, 0.8, 0.8, 0.3, 0.2, 0.1])   -> 0.4777777777777778
        let cases: [(&[f64], &[u8], f64); 3] = [
            (&[0.1, 0.4, 0.35, 0.8], &[0, 0, 1, 1], 0.833_333_333_333_333_3),
            (&[0.5, 0.5, 0.5, 0.1, 0.9], &[1, 0, 1, 0, 1], 0.833_333_333_333_333_3),
            (&[0.9, 0.8, 0.8, 0.3, 0.2, 0.1], &[0, 1, 0, 1, 1, 0], 0.477_777_777_777_777_8),
        ];
        for (scores, positive, expected) in cases {
            let positive: Vec<bool> = positive.iter().map(|p| *p == 1).collect();
            let found = average_precision(scores, &positive);
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        }
    }

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
