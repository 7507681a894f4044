//! How the kernels of `tt_forward.cu` and `tt_backward.cu` are cut into blocks and warps: the same for a GPU and for the
//! emulation.

use super::{Cut, Forward};
use crate::apply::Precision;
use crate::cuda::{Launch, Source, TT};

/// Warps of a block of `tt_forward`: what 168 registers a thread allow.
const WARPS: usize = 12;
/// Warps of a block of `pixel_gradient`, of 32 pixels each.
const GRADIENT_WARPS: usize = 12;
/// Ranks whose products a warp holds in registers at a time.
const TILES: usize = 5;
const GRADIENT_TILES: usize = 4;
/// Warps of a block of `left_gradient`, of 8 outputs each, and columns of T that it takes.
const LEFT_WARPS: usize = 8;
const LEFT_WIDTH: usize = 256;
/// Bytes of the operand of one tensor-core product, `[16, 16]` in f16.
const FRAGMENT: usize = 512;

/// The largest count that kernels take: their loops may step past the end by less than a million.
#[cfg(any(feature = "cuda", test))]
const LARGEST: usize = i32::MAX as usize - (1 << 20);

/// A count as the kernels take it.
#[cfg(any(feature = "cuda", test))]
pub(super) fn counted(count: usize) -> crate::Result<i32> {
    if count > LARGEST {
        return Err(crate::Error::Shape(format!(
            "{count} numbers in one launch, but kernels count to {LARGEST}: pass fewer rows at once"
        )));
    }
    Ok(count as i32)
}

/// The geometry of one cut, precision and device.
///
/// # Cost
/// A frame of UCF11 (three gates, rank 4) is 57,600 bytes read and 3,072 written: 14 ns at 4.3 TB/s. Tensor cores
/// do, per frame and as exactly as f32, `24 * 4 * 20 * 2` = 3,840 products of `[16, 16]` by `[16, 8]` for T and `10 *
/// 4 * 6 * 3` = 720 for y: 18.7 MFLOP, 19 ns at 989 TFLOP/s; with one term 1,920 and 240, 9 ns. Training writes T,
/// 40,960 bytes more. The gradient of the right half reads the frame and dT, 98,560 bytes or 23 ns, and takes `10 * 4 * 48 *
/// 2` = 3,840 products, 16 ns; that of the left half reads T and dy, 44,032 bytes or 10 ns, and takes 491,520 multiply-adds of f32,
/// 15 ns at 67 TFLOP/s.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Geometry {
    cut: Cut,
    precision: Precision,
    tiles: usize,
    warps: usize,
    groups: usize,
    gradient_tiles: usize,
    gradient_warps: usize,
    stage: usize,
    left_warps: usize,
}

/// `total` in as few equal parts as `most` allows: how many in a part.
fn balanced(total: usize, most: usize) -> usize {
    total.div_ceil(total.div_ceil(most))
}

impl Geometry {
    /// The geometry for blocks with `shared_limit` bytes of shared memory; `None` if a part of the right half does
    /// not fit.
    pub fn new(cut: Cut, precision: Precision, shared_limit: usize) -> Option<Self> {
        let slices = cut.left_inputs.div_ceil(16);
        let warps = balanced(slices, WARPS);
        let gradient_tiles = balanced(cut.rank, GRADIENT_TILES);
        let mut geometry = Self {
            cut,
            precision,
            tiles: 0,
            warps,
            groups: WARPS / warps,
            gradient_tiles,
            gradient_warps: balanced(cut.right_inputs.div_ceil(32), GRADIENT_WARPS),
            stage: slices,
            left_warps: balanced(cut.left_outputs.div_ceil(8), LEFT_WARPS),
        };
        // A third of the memory caches pixels; a stage of one slice always fits.
        let mut parts = 1..=slices;
        geometry.stage = parts
            .find_map(|parts| {
                geometry.stage = slices.div_ceil(parts);
                (geometry.gradient_bytes() <= shared_limit / 3 * 2).then_some(geometry.stage)
            })
            .unwrap_or(1);
        for tiles in (1..=cut.rank.min(TILES)).rev() {
            geometry.tiles = balanced(cut.rank, tiles);
            for groups in (1..=WARPS / warps).rev() {
                geometry.groups = groups;
                if geometry.shared_bytes() <= shared_limit {
                    return Some(geometry);
                }
            }
        }
        None
    }

    /// Bytes of shared memory of `tt_forward`: the right half in terms, sums of the warps, sums so far, factors of its
    /// columns.
    fn shared_bytes(&self) -> usize {
        let (_, columns) = self.cut.left_tiles();
        let wide = balanced(columns, 8);
        let sums = self.warps * wide * 8 * 17 + 2 * columns.div_ceil(wide) * wide * 8 * 16;
        4 * self.right_words() + (self.groups * sums + self.tiles * 16) * size_of::<f32>()
    }

    /// Bytes of shared memory of `pixel_gradient`: a stage of dT in terms, the next one as it is, a factor a row.
    fn gradient_bytes(&self) -> usize {
        let rows = self.gradient_tiles * 16;
        let row = self.stage * 16 + if self.stage.is_multiple_of(2) { 8 } else { 24 };
        self.stage * self.gradient_tiles * self.precision.terms() * FRAGMENT
            + rows * (row + 1) * size_of::<f32>()
    }

    /// Words of the right half in terms that one block holds.
    fn right_words(&self) -> usize {
        let lanes = if self.cut.right_inputs.is_multiple_of(8) { 32 } else { 16 };
        let steps = self.cut.right_inputs.div_ceil(lanes) * lanes / 16;
        steps * self.tiles * self.precision.terms() * FRAGMENT / 4
    }

    /// Columns of the right half, padding included.
    fn right_columns(&self) -> usize {
        self.parts() * self.tiles * self.cut.right_outputs.next_multiple_of(16)
    }

    /// The kernels with these sizes.
    pub fn source(&self) -> Source {
        Source::new("tt.cu", TT)
            .define("M_LEFT", self.cut.left_inputs)
            .define("M_RIGHT", self.cut.right_inputs)
            .define("N_LEFT", self.cut.left_outputs)
            .define("N_RIGHT", self.cut.right_outputs)
            .define("RANK", self.cut.rank)
            .define("TERMS", self.precision.terms())
            .define("TILES", self.tiles)
            .define("RIGHT_WORDS", self.right_words())
            .define("WARPS", self.warps)
            .define("GROUPS", self.groups)
            .define("GRADIENT_TILES", self.gradient_tiles)
            .define("GRADIENT_WARPS", self.gradient_warps)
            .define("STAGE", self.stage)
            .define("LEFT_WARPS", self.left_warps)
    }

    /// Bytes that the address of the frames must be a multiple of.
    pub fn alignment(&self) -> usize {
        if self.cut.right_inputs.is_multiple_of(8) { 8 } else { 4 }
    }

    /// Parts of the rank, a block each.
    fn parts(&self) -> usize {
        self.cut.rank.div_ceil(self.tiles)
    }

    /// The forward pass of `frames` frames on a device with this many multiprocessors, one block on each.
    pub fn forward(&self, frames: usize, multiprocessors: usize) -> Forward {
        let (parts, columns) = (self.parts(), self.right_columns());
        let across = self.cut.right_outputs.div_ceil(16) * parts;
        let items = frames.div_ceil(2 * self.groups);
        let blocks = items.min((multiprocessors / across).max(1));
        let mut launch =
            Launch::new("tt_forward", blocks, self.groups * self.warps * 32, self.shared_bytes());
        launch.grid[1] = across;
        Forward {
            source: self.source(),
            // A warp a column of either half.
            prepare: Launch::new("prepare", (columns + self.cut.left_columns()).div_ceil(8), 256, 0),
            halves: self.cut.left_words(self.precision) + across * self.right_words() + columns,
            launch,
            waits: false,
            parts,
            alignment: self.alignment(),
        }
    }

    /// Parts that `pixel_gradient` comes in, to be added.
    pub fn gradient_parts(&self, frames: usize, multiprocessors: usize) -> usize {
        let [_, across, columns] = self.gradient_grid();
        frames.min((multiprocessors / (across * columns)).max(1))
    }

    fn gradient_grid(&self) -> [usize; 3] {
        let across = self.cut.right_outputs.div_ceil(16) * self.cut.rank.div_ceil(self.gradient_tiles);
        [1, across, self.cut.right_inputs.div_ceil(32 * self.gradient_warps)]
    }

    /// `pixel_gradient` of `frames` frames.
    pub fn gradient(&self, frames: usize, multiprocessors: usize) -> Launch {
        let mut launch = Launch::new("pixel_gradient", 1, self.gradient_warps * 32, self.gradient_bytes());
        launch.grid = self.gradient_grid();
        launch.grid[0] = self.gradient_parts(frames, multiprocessors);
        launch
    }

    /// Parts that `left_gradient` comes in, to be added: two blocks for each multiprocessor.
    pub fn left_parts(&self, frames: usize, multiprocessors: usize) -> usize {
        let [_, columns, outputs] = self.left_grid();
        frames.min((2 * multiprocessors / (columns * outputs)).max(1))
    }

    fn left_grid(&self) -> [usize; 3] {
        let columns = (self.cut.rank * self.cut.left_inputs).div_ceil(LEFT_WIDTH);
        [1, columns, self.cut.left_outputs.div_ceil(8 * self.left_warps)]
    }

    /// `left_gradient` of `frames` frames.
    pub fn left_gradient(&self, frames: usize, multiprocessors: usize) -> Launch {
        let tile = 16 * (LEFT_WIDTH + self.left_warps * 8) * size_of::<f32>();
        let mut launch = Launch::new("left_gradient", 1, self.left_warps * 32, 2 * tile);
        launch.grid = self.left_grid();
        launch.grid[0] = self.left_parts(frames, multiprocessors);
        launch
    }

    /// `sum_parts` of parts of `count` numbers.
    pub fn sum(count: usize) -> Launch {
        Launch::new("sum_parts", count.div_ceil(256).min(1024), 256, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TtShape;

    #[test]
    fn ucf11_fills_a_multiprocessor() {
        let shape = TtShape::uniform(&[8, 20, 20, 18], &[4, 4, 4, 4], 4, 3).unwrap();
        let geometry = Geometry::new(Cut::cheapest(&shape), Precision::F32, 227 << 10).unwrap();
        assert_eq!((geometry.tiles, geometry.warps, geometry.groups, geometry.parts()), (4, 10, 1, 1));
        let Forward { launch, prepare, halves, .. } = geometry.forward(16_384, 132);
        assert_eq!((prepare.grid, halves), ([32, 1, 1], 55_552));
        assert_eq!((launch.grid, launch.block, launch.shared_bytes), ([132, 1, 1], [320, 1, 1], 137_344));
        let launch = geometry.gradient(16_384, 132);
        assert_eq!((launch.grid, launch.shared_bytes), ([132, 1, 1], 84_224));
        let launch = geometry.left_gradient(16_384, 132);
        assert_eq!((launch.grid, launch.block, launch.shared_bytes), ([88, 3, 1], [192, 1, 1], 38_912));
        // A desktop card, with 99 KiB of shared memory, has room for half of the ranks.
        let geometry = Geometry::new(Cut::cheapest(&shape), Precision::F32, 99 << 10).unwrap();
        assert_eq!((geometry.tiles, geometry.parts()), (2, 2));
    }

    #[test]
    fn more_than_kernels_count_is_refused() {
        assert_eq!(counted(LARGEST).unwrap(), 2_146_435_071);
        let error = counted(1 << 31).unwrap_err().to_string();
        assert!(error.contains("2147483648 numbers in one launch"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let cut = Cut::at(&TtShape::new(&[57_600], &[64], &[1, 1], 3).unwrap(), 0);
        assert_eq!(Geometry::new(cut, Precision::F32, 227 << 10), None);
    }
}
