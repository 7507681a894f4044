//! What products of bytes by digits need in a layer: the unit, groups of frames, and scratch.

use super::plan::Plan;
use crate::apply::Affine;
use crate::digits::{Bytes, Digits, LONGEST, ROWS, Ready, STEP, Scratch};
use crate::simd::{Buffer, Isa};

/// How a layer multiplies bytes by digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByDigits {
    pub(super) unit: Ready,
    pub(super) isa: Isa,
    /// The byte that counts as zero.
    pub(super) centre: u8,
    pub(super) groups: Groups,
}

/// Frames of a group, forwards and backwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Groups {
    pub(super) forward: usize,
    pub(super) backward: usize,
}

/// Frames of the largest group: work items of common batches are no longer.
pub(super) const GROUP_MOST: usize = 8;

/// Bytes of a group's working set: well inside L2 of the processors that have such units (1 to 2 MB).
const GROUP_BYTES: usize = 768 << 10;

impl Groups {
    /// None for a shape without two cores, or whose sums would not fit.
    pub(super) fn of(plan: &Plan) -> Option<Self> {
        let [.., before, last] = &plan.steps[..] else { return None };
        let columns = before.rho * before.columns;
        if before.m * last.m > LONGEST || before.outer > LONGEST {
            return None;
        }
        // A row of tiles, or a step of their sums, that is full of rows; among equals the smallest group forwards,
        // which saves scratch, and the largest backwards, which adds up the fewest partial sums.
        let waste = |frames: usize, whole: usize| {
            let rows = frames * before.outer;
            (rows.next_multiple_of(whole) * 1000 / rows, frames)
        };
        let most = |frame: usize| (GROUP_BYTES / frame).clamp(1, GROUP_MOST);
        let forward = most(plan.inputs + 4 * plan.saved.max(plan.outputs));
        // Bytes, three digits, and twice dT in f32.
        let backward = most(plan.inputs + 11 * before.outer * columns).min(LONGEST / before.outer);
        let fullest = |frames: std::ops::RangeInclusive<usize>,
                       whole: usize,
                       best: fn((usize, usize)) -> (usize, usize)| {
            frames.min_by_key(|frames| best(waste(*frames, whole))).unwrap_or(1)
        };
        Some(Self {
            forward: fullest(1..=forward, ROWS, |key| key),
            backward: fullest(backward.div_ceil(2)..=backward, STEP, |(waste, frames)| {
                (waste, usize::MAX - frames)
            }),
        })
    }
}

/// The map of bytes that count from `centre`: which is the one that comes nearest to zero.
pub(in crate::apply) fn centred(affine: Affine) -> (u8, Affine) {
    let (scale, shift) = (f64::from(affine.scale), f64::from(affine.shift));
    let zero = (-shift / scale).round();
    // Also where this is no number.
    let centre = if zero >= 1.0 { zero.min(255.0) as u8 } else { 0 };
    (centre, Affine { scale: affine.scale, shift: (shift + scale * f64::from(centre)) as f32 })
}

/// Scratch of a worker.
#[derive(Debug, Default)]
pub(super) struct Panels {
    pub(super) bytes: Bytes,
    pub(super) digits: Digits,
    pub(super) scratch: Scratch,
    /// dT_{d-2} of a group, without padding.
    pub(super) flow: Buffer,
    pub(super) places: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TtShape;

    #[test]
    fn groups_fill_tiles_and_their_sums_fit() {
        let groups = |modes: &[usize]| {
            let shape = TtShape::uniform(modes, &[4, 4, 4], 4, 1).unwrap();
            Groups::of(&Plan::by_digits(&shape, 16))
        };
        // 160 rows a frame are five pairs of tiles, and two frames five steps of 64.
        let forward = groups(&[160, 20, 18]).unwrap();
        assert_eq!((forward.forward, forward.backward % 2), (1, 0), "{forward:?}");
        assert!(groups(&[LONGEST / 2 + 1, 2, 2]).unwrap().backward == 1, "two frames' sums might not fit");
        assert_eq!(groups(&[LONGEST + 1, 2, 2]), None);
        assert_eq!(groups(&[2, LONGEST, 2]), None);
    }

    #[test]
    fn bytes_count_from_the_one_nearest_to_zero() {
        for (scale, shift, centre, rest) in [
            (1.0, 0.0, 0, 0.0),
            (0.5, -10.0, 20, 0.0),
            (1.0, -300.0, 255, -45.0),
            (-0.25, 40.0, 160, 0.0),
            (1.0, 7.0, 0, 7.0),
            (0.0, 1.0, 0, 1.0),
        ] {
            assert_eq!(centred(Affine { scale, shift }), (centre, Affine { scale, shift: rest }));
        }
    }
}
