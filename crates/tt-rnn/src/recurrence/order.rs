//! All clips of a batch at once, step by step: the longest first, and each drops out as it ends.

use crate::error::{Result, check_size};
use candle_core::{Device, Tensor};

/// Which clip is where at which step.
pub(super) struct Order {
    /// Clips, the longest first.
    pub(super) clips: Vec<usize>,
    /// Clips that are still there at each step: always the first ones.
    pub(super) active: Vec<usize>,
    lengths: Vec<usize>,
    warm_up: Vec<usize>,
}

impl Order {
    pub(super) fn new(lengths: &[usize], warm_up: &[usize]) -> Self {
        let warm_up = if warm_up.is_empty() { vec![0; lengths.len()] } else { warm_up.to_vec() };
        let steps = |clip: usize| lengths[clip] + warm_up[clip];
        let mut clips: Vec<usize> = (0..lengths.len()).collect();
        clips.sort_by_key(|&clip| std::cmp::Reverse(steps(clip)));
        let longest = clips.first().map_or(0, |&clip| steps(clip));
        let active = (0..longest).map(|step| clips.partition_point(|&clip| steps(clip) > step)).collect();
        Self { clips, active, lengths: lengths.to_vec(), warm_up }
    }

    /// `(clip, step)` of every row, step by step.
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let at = |(step, &active)| self.clips[..active].iter().map(move |&clip| (clip, step));
        self.active.iter().enumerate().flat_map(at)
    }

    fn starts(&self) -> Vec<usize> {
        let mut starts = vec![0];
        starts.extend(self.lengths.iter().scan(0, |end, length| {
            *end += length;
            Some(*end)
        }));
        starts
    }

    /// The packed row of every row in time; one past the last for steps before a clip.
    pub(super) fn gather(&self, device: &Device) -> Result<Tensor> {
        let (starts, none) = (self.starts(), self.lengths.iter().sum::<usize>());
        let row = |(clip, step): (usize, usize)| {
            step.checked_sub(self.warm_up[clip]).map_or(none, |frame| starts[clip] + frame) as u32
        };
        index(self.rows().map(row).collect(), device)
    }

    /// The row in time of every packed row.
    pub(super) fn scatter(&self, device: &Device) -> Result<Tensor> {
        let starts = self.starts();
        let mut found = vec![0; self.lengths.iter().sum()];
        for (at, (clip, step)) in self.rows().enumerate() {
            if let Some(frame) = step.checked_sub(self.warm_up[clip]) {
                found[starts[clip] + frame] = at as u32;
            }
        }
        index(found, device)
    }

    /// The place in `clips` of every row in time.
    pub(super) fn clip_of_row(&self, device: &Device) -> Result<Tensor> {
        index(self.active.iter().flat_map(|&active| 0..active as u32).collect(), device)
    }

    /// The place in `clips` of every clip.
    pub(super) fn unsort(&self, device: &Device) -> Result<Tensor> {
        let mut places = vec![0; self.clips.len()];
        for (place, &clip) in self.clips.iter().enumerate() {
            places[clip] = place as u32;
        }
        index(places, device)
    }

    /// Masks `[B, H]` in the order of `clips`.
    pub(super) fn masks(&self, mask: &[f32], hidden: usize, device: &Device) -> Result<Tensor> {
        check_size("dropout mask", self.clips.len() * hidden, mask.len())?;
        let rows: Vec<f32> =
            self.clips.iter().flat_map(|&clip| &mask[clip * hidden..(clip + 1) * hidden]).copied().collect();
        Ok(Tensor::from_vec(rows, (self.clips.len(), hidden), device)?)
    }
}

fn index(values: Vec<u32>, device: &Device) -> Result<Tensor> {
    let count = values.len();
    Ok(Tensor::from_vec(values, count, device)?)
}
