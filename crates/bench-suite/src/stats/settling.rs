//! When a training has come to its end.

/// A loss cannot count as settled earlier: a fifth of fewer epochs shows no trend.
const SETTLES_FROM: usize = 20;

/// Whether the training loss has stopped falling: its lowest value of the last fifth of the epochs is less than
/// `share` below the lowest before. Looks at the training curve alone.
pub fn has_settled(losses: &[f64], share: f64) -> bool {
    if share == 0.0 || losses.len() < SETTLES_FROM {
        return false;
    }
    let lowest = |part: &[f64]| part.iter().copied().fold(f64::INFINITY, f64::min);
    let (before, last) = losses.split_at(losses.len() - losses.len() / 5);
    lowest(last) > (1.0 - share) * lowest(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_settles_when_its_last_fifth_brings_less_than_the_share() {
        let falling: Vec<f64> = (0..40).map(|epoch| 2.0 * 0.99_f64.powi(epoch)).collect();
        // One per cent an epoch: 7.7 % over the last eight of forty.
        assert!(!has_settled(&falling, 0.01) && !has_settled(&falling, 0.07) && has_settled(&falling, 0.08));
        let mut flat = falling.clone();
        flat[32..].fill(falling[31]);
        assert!(has_settled(&flat, 0.01) && !has_settled(&flat, 0.0));
        // A single new low within the fifth, however noisy its neighbours, is a loss that still falls.
        flat[35] = falling[31] * 0.98;
        assert!(!has_settled(&flat, 0.01));
        assert!(!has_settled(&[1.0; 19], 0.01) && has_settled(&[1.0; 20], 0.01));
    }
}
