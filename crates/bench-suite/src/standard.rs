//! Standardization: what the training frames of a fold say of the numbers in a frame.

use crate::data::Clips;
use crate::record::StandardRecord;
use crate::spec::Spec;
use anyhow::Result;
use candle_core::{Device, Tensor};
use video_data::batch::{Form, Standard, Values};
use video_data::digest;

/// A deviation below this share of the mean is rounding: the number is constant.
const CONSTANT: f64 = 1e-6;

/// Means and factors of one number for all (one each), or of every number of a frame (M each).
#[derive(Debug, Clone)]
pub struct Fitted {
    standard: Standard,
    by: String,
    constant: usize,
}

impl Fitted {
    /// Of these clips, as `train.standardize` says; none where it says none. Sums run over the clips in their order, in f64:
    /// the same at any number of threads.
    pub(crate) fn of(spec: &Spec, clips: &Clips, train: &[usize]) -> Option<Self> {
        let by = spec.train.standardize.clone();
        let size = match by.as_str() {
            "all" => 1,
            "feature" => clips.features(),
            _ => return None,
        };
        let (mut sums, mut count) = (vec![0.0; size], 0_usize);
        for clip in train {
            count += visit(&clips.values(*clip, &Form::Numbers).1, &mut sums, |sum, value| *sum += value);
        }
        let mean: Vec<f64> = sums.iter().map(|sum| sum / count as f64).collect();
        let mut pairs: Vec<(f64, f64)> = mean.iter().map(|mean| (*mean, 0.0)).collect();
        for clip in train {
            let square = |(mean, sum): &mut (f64, f64), value: f64| *sum += (value - *mean).powi(2);
            visit(&clips.values(*clip, &Form::Numbers).1, &mut pairs, square);
        }
        let deviation = |(mean, sum): &(f64, f64)| {
            let deviation = (sum / count as f64).sqrt();
            (deviation > CONSTANT * mean.abs()).then_some(deviation)
        };
        let deviations: Vec<Option<f64>> = pairs.iter().map(deviation).collect();
        let standard = Standard {
            mean: mean.iter().map(|mean| *mean as f32).collect(),
            scale: deviations.iter().map(|deviation| deviation.map_or(1.0, f64::recip) as f32).collect(),
        };
        let constant = deviations.iter().filter(|deviation| deviation.is_none()).count();
        Some(Self { standard, by, constant })
    }

    /// The specification with what the model's own scale and shift have to be.
    pub(crate) fn settle(&self, spec: &Spec) -> Spec {
        let mut spec = spec.clone();
        let [mean, scale] = [&self.standard.mean, &self.standard.scale].map(|list| f64::from(list[0]));
        (spec.train.pixel_scale, spec.train.pixel_shift) =
            if self.is_by_number() { (1.0, 0.0) } else { (scale, -mean * scale) };
        spec
    }

    /// What batches are to be brought to, where the model's scale and shift cannot.
    pub(crate) fn of_batches(&self) -> Option<Standard> {
        self.is_by_number().then(|| self.standard.clone())
    }

    /// Tensors beside the weights: `[M]` each, and none where the configuration says all.
    pub(crate) fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        if !self.is_by_number() {
            return Ok(Vec::new());
        }
        let tensor = |name: &str, list: &[f32]| -> Result<(String, Tensor)> {
            Ok((format!("standard.{name}"), Tensor::new(list, &Device::Cpu)?))
        };
        Ok(vec![tensor("mean", &self.standard.mean)?, tensor("scale", &self.standard.scale)?])
    }

    /// What is kept of it in a cell's record.
    pub(crate) fn record(&self) -> StandardRecord {
        let numbers = self.standard.mean.iter().chain(&self.standard.scale);
        let bytes: Vec<u8> = numbers.flat_map(|value| value.to_le_bytes()).collect();
        let of_all = |list: &[f32]| (!self.is_by_number()).then(|| f64::from(list[0]));
        StandardRecord {
            by: self.by.clone(),
            mean: of_all(&self.standard.mean),
            scale: of_all(&self.standard.scale),
            constant: self.constant,
            sha256: digest::of_bytes(&bytes),
        }
    }

    fn is_by_number(&self) -> bool {
        self.by == "feature"
    }
}

/// Adds each number to that of `sums` at its place; returns how many were added to each.
fn visit<S>(values: &Values, sums: &mut [S], mut add: impl FnMut(&mut S, f64)) -> usize {
    let size = sums.len();
    let mut row =
        |values: &mut dyn Iterator<Item = f64>| sums.iter_mut().zip(values).for_each(|(sum, v)| add(sum, v));
    match values {
        Values::Bytes(list) => {
            for part in list.chunks_exact(size) {
                row(&mut part.iter().map(|value| f64::from(*value)));
            }
            list.len() / size
        }
        Values::Floats(list) => {
            for part in list.chunks_exact(size) {
                row(&mut part.iter().map(|value| f64::from(*value)));
            }
            list.len() / size
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_summed_at_their_place() {
        let mut sums = [0.0; 2];
        let count = visit(&Values::Bytes(vec![1, 2, 3, 4]), &mut sums, |sum, value| *sum += value);
        assert_eq!((count, sums), (2, [4.0, 6.0]));
        let count = visit(&Values::Floats(vec![0.5, -2.0]), &mut sums, |sum, value| *sum += value);
        assert_eq!((count, sums), (1, [4.5, 4.0]));
    }
}
