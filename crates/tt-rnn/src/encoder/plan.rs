//! What an encoder consists of: sizes and places of its convolutions, and no weights.

use super::factors::factors;
use super::{GROUP_FRAMES, SHARES};
use crate::config::{CnnKernels, CnnSize};
use crate::{Error, Result};
use std::ops::Range;
use tt_core::network::FormatShape;
use tt_core::simd::convolution::{self, Convolution};

/// Channels that are normalised together.
pub(super) const GROUP: usize = 16;
/// Channels after each halving of the sides: of the stem, then of the blocks.
const SMALL: [usize; 5] = [16, 16, 32, 64, 96];
/// See [`SMALL`].
const LARGE: [usize; 5] = [32, 48, 96, 160, 320];

/// A convolution and the normalisation of what it puts out: its kernel, then a scale and a shift for each channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) conv: Convolution,
    /// Where its numbers begin among those of the encoder.
    pub(super) first: usize,
}

impl Unit {
    pub(super) fn kernel(&self) -> Range<usize> {
        self.first..self.first + self.conv.weights()
    }

    pub(super) fn scale(&self) -> Range<usize> {
        let first = self.kernel().end;
        first..first + self.conv.outputs
    }

    pub(super) fn shift(&self) -> Range<usize> {
        let first = self.scale().end;
        first..first + self.conv.outputs
    }

    /// Groups of channels.
    pub(super) fn groups(&self) -> usize {
        self.conv.outputs / GROUP
    }
}

/// A residual block that halves the sides: `relu(b(relu(a(x))) + skip(x))`, each of the three normalised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    /// 3×3 at stride 2.
    pub(super) a: Unit,
    /// 3×3.
    pub(super) b: Unit,
    /// 1×1 at stride 2.
    pub(super) skip: Unit,
}

/// A stem, 3×3 at stride 2, then blocks, then the mean of each channel.
#[derive(Debug, Clone)]
pub struct Plan {
    pub(super) stem: Unit,
    pub(super) blocks: Vec<Block>,
    /// What stands for the kernel of each unit; none for its numbers themselves.
    pub(super) factors: Vec<Option<FormatShape>>,
}

impl Plan {
    /// The encoder of this size for frames of so many rows of so many pixels.
    ///
    /// # Errors
    /// Frames so small that the last block would have less than a pixel to halve.
    pub fn new(size: CnnSize, height: usize, width: usize) -> Result<Self> {
        Self::of_channels(
            match size {
                CnnSize::Small => &SMALL,
                CnnSize::Large => &LARGE,
            },
            height,
            width,
        )
    }

    /// The same with so many channels after each halving.
    pub(super) fn of_channels(channels: &[usize], height: usize, width: usize) -> Result<Self> {
        let least = 1 << (channels.len() - 1);
        if height.min(width) < least {
            return Err(Error::Unsupported(format!(
                "frames of {width} x {height} pixels: a CNN halves them {} times, so that both sides must have at least \
                 {least}; set data.width and data.height",
                channels.len()
            )));
        }
        let mut first = 0;
        let mut unit = |(height, width, from), outputs, side, stride| {
            let conv = Convolution { height, width, channels: from, outputs, side, stride };
            let unit = Unit { conv, first };
            first = unit.shift().end;
            unit
        };
        let size = |unit: &Unit| (unit.conv.out_height(), unit.conv.out_width(), unit.conv.outputs);
        let stem = unit((height, width, 3), channels[0], 3, 2);
        let mut blocks = Vec::with_capacity(channels.len() - 1);
        let mut x = size(&stem);
        for outputs in &channels[1..] {
            let a = unit(x, *outputs, 3, 2);
            let b = unit(size(&a), *outputs, 3, 1);
            let skip = unit(x, *outputs, 1, 2);
            x = size(&b);
            blocks.push(Block { a, b, skip });
        }
        let factors = vec![None; 1 + 3 * blocks.len()];
        Ok(Self { stem, blocks, factors })
    }

    /// The same with kernels in this form: those of 3×3 behind the stem, where it takes fewer numbers than they have.
    ///
    /// # Errors
    /// A rank of 0, or one at which every kernel has fewer numbers than its factors.
    pub fn with_kernels(mut self, kernels: CnnKernels) -> Result<Self> {
        let of = |(_, unit): (String, &Unit)| {
            let Convolution { side, channels, outputs, .. } = unit.conv;
            if side == 1 || *unit == self.stem {
                Ok(None)
            } else {
                factors([side, channels, outputs], kernels)
            }
        };
        let found = self.units().map(of).collect::<Result<Vec<_>>>()?;
        if let CnnKernels::Tt { rank } | CnnKernels::Cp { rank } = kernels
            && found.iter().all(Option::is_none)
        {
            return Err(Error::Unsupported(format!(
                "factors of rank {rank} have at least as many numbers as every kernel of the CNN: lower model.cnn_rank"
            )));
        }
        self.factors = found;
        Ok(self)
    }

    /// The kernels that are factors, by the names of their convolutions.
    pub fn factorized(&self) -> impl Iterator<Item = (String, &FormatShape)> {
        self.units().zip(&self.factors).filter_map(|((name, _), shape)| Some((name, shape.as_ref()?)))
    }

    /// All convolutions in the order of their weights, and their names.
    pub(super) fn units(&self) -> impl Iterator<Item = (String, &Unit)> {
        let blocks = self.blocks.iter().enumerate().flat_map(|(at, block)| {
            [("a", &block.a), ("b", &block.b), ("skip", &block.skip)]
                .map(|(name, unit)| (format!("block{}.{name}", at + 1), unit))
        });
        std::iter::once(("stem".to_owned(), &self.stem)).chain(blocks)
    }

    pub(super) fn last(&self) -> &Unit {
        self.blocks.last().map_or(&self.stem, |block| &block.b)
    }

    /// Numbers of a frame.
    pub(super) fn frame(&self) -> usize {
        self.stem.conv.in_len()
    }

    /// Rows and columns of the last activation.
    pub fn grid(&self) -> (usize, usize) {
        let last = self.last().conv;
        (last.out_height(), last.out_width())
    }

    /// P, places of the last activation.
    pub fn places(&self) -> usize {
        self.last().conv.pixels()
    }

    /// F, channels of the last activation.
    pub fn features(&self) -> usize {
        self.last().conv.outputs
    }

    /// All weights, kernels multiplied out.
    pub fn weights(&self) -> usize {
        let last = self.blocks.last().map_or(&self.stem, |block| &block.skip);
        last.shift().end
    }

    /// Trained numbers of the convolutions' kernels.
    pub fn kernels(&self) -> usize {
        let of = |((_, unit), shape): ((String, &Unit), &Option<FormatShape>)| {
            shape.as_ref().map_or(unit.conv.weights(), |shape| shape.network().params())
        };
        self.units().zip(&self.factors).map(of).sum()
    }

    /// All that is trained: kernels, scales and shifts.
    pub fn parameters(&self) -> usize {
        self.kernels() + 2 * self.units().map(|(_, unit)| unit.conv.outputs).sum::<usize>()
    }

    /// Multiply-accumulates of a frame.
    pub fn macs(&self) -> usize {
        self.units().map(|(_, unit)| unit.conv.macs()).sum()
    }

    /// Bytes that a group of frames leaves behind for its way back, and those of the gradients on it.
    pub(super) fn group_bytes(&self) -> usize {
        let of = |unit: &Unit| unit.conv.out_len();
        let blocks = self.blocks.iter().map(|block| 3 * of(&block.b) + of(&block.a) + of(&block.skip));
        let kept = self.frame() + 2 * of(&self.stem) + blocks.sum::<usize>();
        // Two that take turns, and one of what is inside of a block.
        let gradients = of(&self.stem) + 2 * self.blocks.first().map_or(0, |block| of(&block.b));
        4 * (GROUP_FRAMES * (kept + gradients) + convolution::SCRATCH)
    }

    /// Bytes that training holds for the encoder beside frames, features, weights and their gradient, on so many threads:
    /// a group each, the shares' gradients, and kernels packed for both ways.
    pub fn held_bytes(&self, threads: usize) -> usize {
        threads.min(SHARES) * self.group_bytes() + 4 * (SHARES + 2) * self.weights()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_sizes_have_the_weights_and_costs_that_are_said_of_them() {
        let of = |size| Plan::new(size, 120, 160).unwrap();
        let (small, large) = (of(CnnSize::Small), of(CnnSize::Large));
        assert_eq!((small.kernels(), small.weights(), small.features()), (221_360, 222_640, 96));
        assert_eq!((large.kernels(), large.weights(), large.features()), (1_983_584, 1_987_392, 320));
        assert_eq!((small.macs(), large.macs()), (19_686_400, 145_561_600));
        assert_eq!([&small, &large].map(Plan::group_bytes), [4_339_712, 9_587_712]);
        assert_eq!((small.grid(), small.places(), large.grid()), ((4, 5), 20, (4, 5)));
        // Every weight belongs to one convolution.
        let ends: Vec<(usize, usize)> =
            small.units().map(|(_, unit)| (unit.first, unit.shift().end)).collect();
        assert!(ends.windows(2).all(|pair| pair[0].1 == pair[1].0) && ends[0].0 == 0);
    }

    #[test]
    fn frames_that_cannot_be_halved_so_often_are_refused() {
        assert!(Plan::new(CnnSize::Small, 16, 16).is_ok());
        let text = Plan::new(CnnSize::Small, 15, 40).unwrap_err().to_string();
        assert!(text.contains("frames of 40 x 15 pixels") && text.contains("at least 16"), "{text}");
    }

    #[test]
    fn kernels_are_factors_where_these_have_fewer_numbers() {
        let of = |kernels| Plan::new(CnnSize::Small, 120, 160).unwrap().with_kernels(kernels);
        let counts = |kernels| {
            let plan = of(kernels).unwrap();
            (plan.factorized().count(), plan.kernels(), plan.parameters(), plan.weights())
        };
        assert_eq!(counts(CnnKernels::Dense), (0, 221_360, 222_640, 222_640));
        // Stem and shortcuts have 9,392 numbers; sides and channels of the others add up to 800.
        assert_eq!(counts(CnnKernels::Cp { rank: 16 }), (8, 9_392 + 16 * 800, 23_472, 222_640));
        // Too large for kernels from 16 to 16 channels.
        assert_eq!(counts(CnnKernels::Tt { rank: 16 }).0, 6);
        let text = of(CnnKernels::Cp { rank: 500 }).unwrap_err().to_string();
        assert!(text.contains("factors of rank 500") && text.contains("lower model.cnn_rank"), "{text}");
    }
}
