//! What a model says of clips: once of each, or after every frame.

use super::probabilities;
use crate::{Result, packed};
use candle_core::{D, Tensor};

/// Class scores of a batch, before softmax or sigmoid.
#[derive(Debug, Clone)]
pub struct Scores {
    /// Of every clip, `[B, K]`, or of every frame, `[sum T_b, K]`.
    pub rows: Tensor,
    /// T_b, where scores are of frames: training compares each with the clip's labels, and the prediction is the mean of
    /// theirs. `[B]`
    pub steps: Option<Vec<usize>>,
    /// What training adds to its loss.
    pub penalty: Option<Tensor>,
}

impl From<Tensor> for Scores {
    /// Of clips.
    fn from(rows: Tensor) -> Self {
        Self { rows, steps: None, penalty: None }
    }
}

impl Scores {
    /// The same without the graph behind it.
    #[must_use]
    pub fn detach(&self) -> Self {
        let penalty = self.penalty.as_ref().map(Tensor::detach);
        Self { rows: self.rows.detach(), steps: self.steps.clone(), penalty }
    }

    /// What each of the clips is to every row: `of_clips` of its clip.
    pub fn by_row<T: Clone>(&self, of_clips: &[T]) -> Vec<T> {
        let Some(steps) = &self.steps else { return of_clips.to_vec() };
        of_clips
            .iter()
            .zip(steps)
            .flat_map(|(of_clip, steps)| std::iter::repeat_n(of_clip.clone(), *steps))
            .collect()
    }

    /// What every row counts in a mean over clips, `[sum T_b]`; none where rows are clips, which count alike.
    ///
    /// # Errors
    /// Of candle.
    pub fn shares(&self) -> Result<Option<Tensor>> {
        let Some(steps) = &self.steps else { return Ok(None) };
        let of_clips: Vec<f32> = steps.iter().map(|count| 1.0 / (count * steps.len()) as f32).collect();
        let shares = self.by_row(&of_clips);
        let count = shares.len();
        Ok(Some(Tensor::from_vec(shares, count, self.rows.device())?))
    }

    /// Probabilities `[B][K]` of the classes: softmax, or one sigmoid per class where a clip can be of several.
    ///
    /// # Errors
    /// Of candle.
    pub fn probabilities(&self, multi_label: bool) -> Result<Vec<Vec<f64>>> {
        let rows = probabilities(&self.rows, multi_label)?;
        let Some(steps) = &self.steps else { return Ok(rows) };
        let mut rest = &rows[..];
        let mean = |count: &usize| {
            let (own, after) = rest.split_at(*count);
            rest = after;
            let sum = |class: usize| own.iter().map(|row| row[class]).sum::<f64>();
            (0..own[0].len()).map(|class| sum(class) / own.len() as f64).collect()
        };
        Ok(steps.iter().map(mean).collect())
    }

    /// Scores `[B, K]` whose softmax is the prediction, of exclusive classes.
    ///
    /// # Errors
    /// Of candle.
    pub fn logits(&self) -> Result<Tensor> {
        let Some(steps) = &self.steps else { return Ok(self.rows.clone()) };
        let of_steps = candle_nn::ops::softmax(&self.rows, D::Minus1)?;
        Ok(packed::mean(&of_steps, steps)?.log()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Two clips, of one frame and of two.
    fn of_frames() -> Scores {
        let rows = Tensor::new(&[[0.0_f32, 0.0], [0.0, 3.0_f32.ln()], [0.0, 0.0]], &Device::Cpu).unwrap();
        Scores { steps: Some(vec![1, 2]), ..rows.into() }
    }

    #[test]
    fn a_prediction_is_the_mean_of_those_of_its_frames() {
        let close = |found: &[Vec<f64>], expected: [[f64; 2]; 2]| {
            let far = |(a, b): (&f64, &f64)| (a - b).abs() > 1e-6;
            assert!(!found.concat().iter().zip(expected.as_flattened()).any(far), "{found:?}");
        };
        let scores = of_frames();
        close(&scores.probabilities(false).unwrap(), [[0.5, 0.5], [0.375, 0.625]]);
        close(&scores.probabilities(true).unwrap(), [[0.5, 0.5], [0.5, 0.625]]);
        close(&probabilities(&scores.logits().unwrap(), false).unwrap(), [[0.5, 0.5], [0.375, 0.625]]);
        let of_clips = Scores::from(scores.rows.narrow(0, 1, 2).unwrap());
        close(&of_clips.probabilities(false).unwrap(), [[0.25, 0.75], [0.5, 0.5]]);
    }

    #[test]
    fn frames_have_the_labels_of_their_clip_and_a_share_of_its_part() {
        let scores = of_frames();
        assert_eq!(scores.by_row(&["a", "b"]), ["a", "b", "b"]);
        assert_eq!(scores.shares().unwrap().unwrap().to_vec1::<f32>().unwrap(), [0.5, 0.25, 0.25]);
        let of_clips = Scores::from(scores.rows);
        assert_eq!(of_clips.by_row(&[1, 2, 3]), [1, 2, 3]);
        assert!(of_clips.shares().unwrap().is_none());
    }
}
