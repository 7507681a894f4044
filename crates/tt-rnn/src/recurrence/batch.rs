//! What a batch of clips looks like to the recurrence, and how clips are dealt to groups.

use crate::call::{LayerCall, Output, RecurrentMasks};
use crate::error::{Error, Result, check_size};

/// Recurrent dropout: factors, already divided by 1 - p, constant over the steps of a clip.
#[derive(Clone, Copy, Debug, Default)]
pub enum Masks<'a> {
    /// No dropout.
    #[default]
    None,
    /// `[B, H]`: one mask for all gates. It multiplies `h` before `U`, and `r∘h` in the GRU candidate; the
    /// carry `z∘h` is not masked.
    Shared(&'a [f32]),
    /// `[G, B, H]`: one mask for each gate, at the same places.
    PerGate(&'a [f32]),
}

impl RecurrentMasks {
    /// The factors, borrowed.
    pub fn view(&self) -> Masks<'_> {
        match self {
            Self::None => Masks::None,
            Self::Shared(mask) => Masks::Shared(mask),
            Self::PerGate(mask) => Masks::PerGate(mask),
        }
    }
}

/// The clips of one call, packed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    /// T_b, frames of each clip, all at least 1. `[B]`
    pub lengths: &'a [usize],
    /// Recurrent dropout.
    pub masks: Masks<'a>,
    /// W_b, steps before the first frame without a frame (recipe `paper-code`: the padding of the released
    /// scripts); empty means none. `[B]`
    pub warm_up: &'a [usize],
    /// The input contribution of every warm-up step, `[G·H]`; `None` is zero.
    pub warm_x: Option<&'a [f32]>,
    /// Which states are returned.
    pub output: Output,
}

impl<'a> Batch<'a> {
    /// A batch without dropout and warm-up.
    pub fn new(lengths: &'a [usize]) -> Self {
        Self { lengths, ..Self::default() }
    }

    /// The clips of a call of the layer.
    pub(crate) fn of(call: &'a LayerCall) -> Self {
        let LayerCall { lengths, masks, warm_up, output, .. } = call;
        Self { lengths, masks: masks.view(), warm_up, warm_x: None, output: *output }
    }

    /// Frames of all clips.
    pub(super) fn frames(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// States that are returned.
    pub(crate) fn states(&self) -> usize {
        match self.output {
            Output::Last => self.lengths.len(),
            Output::Sequence => self.frames(),
        }
    }

    /// States of one clip that are returned.
    pub(super) fn states_of(&self, clip: usize) -> usize {
        match self.output {
            Output::Last => 1,
            Output::Sequence => self.lengths[clip],
        }
    }

    pub(super) fn warm_steps(&self) -> usize {
        self.warm_up.iter().sum()
    }

    /// Frames and warm-up steps of all clips.
    pub(super) fn steps(&self) -> usize {
        self.frames() + self.warm_steps()
    }

    /// W_b
    pub(super) fn warm(&self, clip: usize) -> usize {
        self.warm_up.get(clip).copied().unwrap_or(0)
    }

    /// The factors of one gate for one clip, `[H]`.
    pub(super) fn mask(&self, gate: usize, clip: usize, hidden: usize) -> Option<&'a [f32]> {
        let (all, row) = match self.masks {
            Masks::None => return None,
            Masks::Shared(all) => (all, clip),
            Masks::PerGate(all) => (all, gate * self.lengths.len() + clip),
        };
        Some(&all[row * hidden..(row + 1) * hidden])
    }

    /// Refuses clips, masks and counts that do not fit each other, `hidden` units and `gates` gates.
    pub(crate) fn check(&self, hidden: usize, gates: usize) -> Result<()> {
        let clips = self.lengths.len();
        if clips == 0 {
            return Err(Error::Empty("it has no clips".into()));
        }
        if let Some(clip) = self.lengths.iter().position(|&length| length == 0) {
            return Err(Error::Empty(format!("clip {clip} has no frames")));
        }
        let mut lengths = self.lengths.iter().chain(self.warm_up);
        let steps = lengths.try_fold(0_usize, |sum, length| sum.checked_add(*length));
        if steps.and_then(|steps| steps.checked_mul(gates * hidden)).is_none() {
            return Err(Error::Unsupported("clips of more steps than can be counted".into()));
        }
        match self.masks {
            Masks::None => {}
            Masks::Shared(m) => check_size("shared dropout mask", clips * hidden, m.len())?,
            Masks::PerGate(m) => check_size("dropout mask per gate", clips * gates * hidden, m.len())?,
        }
        if !self.warm_up.is_empty() {
            check_size("warm-up steps", clips, self.warm_up.len())?;
        }
        match self.warm_x {
            Some(x) => check_size("warm-up input", gates * hidden, x.len()),
            None => Ok(()),
        }
    }

    /// Deals the clips to groups that walk through time together, the longest first within a group.
    ///
    /// How clips are dealt changes the speed and no number, so it may depend on the threads.
    pub(super) fn groups(&self, threads: usize) -> Vec<Vec<usize>> {
        /// Rows beyond which a product gains nothing.
        const ROWS: usize = 16;
        let clips = self.lengths.len();
        let mut order: Vec<usize> = (0..clips).collect();
        order.sort_by_key(|&clip| std::cmp::Reverse(self.lengths[clip] + self.warm(clip)));
        let count = clips.div_ceil(ROWS).max(threads.min(clips));
        let mut groups = vec![Vec::new(); count];
        for (i, clip) in order.into_iter().enumerate() {
            groups[i % count].push(clip);
        }
        groups
    }
}

/// Cuts `all` into one slice per clip.
pub(super) fn split(mut all: &mut [f32], sizes: impl Iterator<Item = usize>) -> Vec<&mut [f32]> {
    sizes
        .map(|size| {
            let (head, tail) = std::mem::take(&mut all).split_at_mut(size);
            all = tail;
            head
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_hold_every_clip_once_longest_first() {
        let lengths: Vec<usize> = (0..37).map(|i| 1 + (i * 7919) % 31).collect();
        let batch = Batch::new(&lengths);
        for threads in [1, 2, 3, 8, 64] {
            let groups = batch.groups(threads);
            let mut seen: Vec<usize> = groups.concat();
            seen.sort_unstable();
            assert_eq!(seen, (0..37).collect::<Vec<_>>());
            for group in groups {
                assert!(!group.is_empty() && group.len() <= 16);
                assert!(group.windows(2).all(|w| lengths[w[0]] >= lengths[w[1]]));
            }
        }
    }
}
