//! Where the train is cut in two, and the sizes of its halves.

use crate::TtShape;
use crate::apply::Precision;

/// Inputs of the largest right half whose rows of one rank still fit in the 163 KiB of an A100.
const LONGEST: usize = 1_500;

/// A train cut at one bond: `W[(i, m), (l, j)] = sum over a of left[a, l, i] right[m, (a, j)]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cut {
    /// Cores of the left half; 0 leaves everything to the right half.
    pub bond: usize,
    /// Inputs of the left half, the slow ones.
    pub left_inputs: usize,
    /// Inputs of the right half.
    pub right_inputs: usize,
    /// Outputs of the left half with the gates, the slow ones.
    pub left_outputs: usize,
    /// Outputs of the right half.
    pub right_outputs: usize,
    /// Rank of the bond.
    pub rank: usize,
}

impl Cut {
    /// The cut after `bond` cores.
    ///
    /// # Panics
    /// If the train has fewer cores.
    pub fn at(shape: &TtShape, bond: usize) -> Self {
        let (left, right) = shape.input_modes().split_at(bond);
        let outputs = |cores: std::ops::Range<usize>| cores.map(|k| shape.output_mode(k)).product();
        Self {
            bond,
            left_inputs: left.iter().product(),
            right_inputs: right.iter().product(),
            left_outputs: outputs(0..bond),
            right_outputs: outputs(bond..shape.order()),
            rank: shape.ranks()[bond],
        }
    }

    /// The cut with the least work for tensor cores, among those whose right half fits in shared memory, if there are any.
    ///
    /// UCF11 (8·20·20·18 to 4·4·4·4, rank 4) is cut in the middle: 160 x 360 pixels, `right [360, 64]`, `left [4,
    /// 48, 160]` for three gates.
    pub fn cheapest(shape: &TtShape) -> Self {
        let cuts = (0..shape.order()).map(|bond| Self::at(shape, bond));
        cuts.min_by_key(|cut| (cut.right_inputs > LONGEST, cut.work())).unwrap_or_else(|| Self::at(shape, 0))
    }

    /// Multiply-accumulates of a frame at full precision, padding to fragments included.
    ///
    /// Pixels are exact in f16, so the first product takes two multiplications for one; the second takes three.
    fn work(&self) -> usize {
        let between =
            self.left_inputs.next_multiple_of(16) * self.rank * self.right_outputs.next_multiple_of(16);
        let (inputs, outputs) =
            (self.right_inputs.next_multiple_of(16), self.left_outputs.next_multiple_of(8));
        between.saturating_mul(2 * inputs + 3 * outputs)
    }

    /// Columns of the right half, `(a, j)` with `j` fastest.
    pub fn right_columns(&self) -> usize {
        self.rank * self.right_outputs
    }

    /// Numbers of `T = x right` of one frame.
    pub fn between(&self) -> usize {
        self.left_inputs * self.right_columns()
    }

    /// Outputs of the whole train.
    pub fn outputs(&self) -> usize {
        self.left_outputs * self.right_outputs
    }

    /// Slices of 16 rows, and tiles of 8 outputs, padded to whole passes of at most 8, of the left half.
    pub(super) fn left_tiles(&self) -> (usize, usize) {
        let columns = self.left_outputs.div_ceil(8);
        let passes = columns.div_ceil(8);
        (self.left_inputs.div_ceil(16), columns.div_ceil(passes) * passes)
    }

    /// Columns of the left half that are scaled by themselves: an output of a rank each, padding included.
    pub(super) fn left_columns(&self) -> usize {
        self.rank * self.left_tiles().1 * 8
    }

    /// Words of the left half prepared for the forward kernels: fragments, then what scales its columns back.
    pub(super) fn left_words(&self, precision: Precision) -> usize {
        let (slices, tiles) = self.left_tiles();
        self.rank * slices * tiles * 32 * 2 * precision.terms() + self.left_columns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ucf11_is_cut_in_the_middle() {
        let shape = TtShape::uniform(&[8, 20, 20, 18], &[4, 4, 4, 4], 4, 3).unwrap();
        let cut = Cut::cheapest(&shape);
        assert_eq!((cut.bond, cut.left_inputs, cut.right_inputs), (2, 160, 360));
        assert_eq!((cut.left_outputs, cut.right_columns(), cut.between()), (48, 64, 10_240));
    }

    #[test]
    fn one_core_is_a_right_half() {
        let cut = Cut::cheapest(&TtShape::new(&[7], &[5], &[1, 1], 3).unwrap());
        assert_eq!((cut.bond, cut.left_inputs, cut.left_outputs, cut.rank), (0, 1, 1, 1));
        assert_eq!((cut.right_inputs, cut.right_outputs), (7, 15));
    }
}
