//! Frames as a few grey numbers: averages over the cells of a coarse grid, for the controls.

use super::{ModelConfig, PackedFrames};
use crate::Result;
use crate::error::check_size;
use candle_core::{DType, Device, Tensor};

/// Shares of red, green and blue in the grey value: the luma of ITU-R BT.601.
const LUMA: [f32; 3] = [0.299, 0.587, 0.114];

/// A grid of cells of equal area over a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Cells of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Grid {
    /// Numbers that are left of a frame.
    pub const fn cells(self) -> usize {
        self.width * self.height
    }
}

/// The map from frames to grey averages. It is linear and separable: along the rows first, then down the columns.
#[derive(Debug)]
pub(super) struct Grey {
    grid: Grid,
    /// `[3·W, w]`
    along: Tensor,
    /// `[h, H]`
    down: Tensor,
}

impl Grey {
    pub(super) fn new(grid: Grid, config: &ModelConfig, device: &Device) -> Result<Self> {
        let along: Vec<f32> = shares(config.width, grid.width)
            .chunks_exact(grid.width)
            .flat_map(|pixel| LUMA.map(|luma| pixel.iter().map(move |share| luma * share)))
            .flatten()
            .collect();
        let along = Tensor::from_vec(along, (3 * config.width, grid.width), device)?;
        let height = config.picture_height()?;
        let down = Tensor::from_vec(shares(height, grid.height), (height, grid.height), device)?;
        Ok(Self { grid, along, down: down.t()?.contiguous()? })
    }

    /// Averages of pixel values `[sum T_b, h·w]`.
    ///
    /// # Cost
    /// One clip in f32 at a time.
    pub(super) fn average(&self, frames: &PackedFrames) -> Result<Tensor> {
        let (pixels, columns) = (self.along.dim(0)?, self.grid.width);
        let mut clips = Vec::with_capacity(frames.lengths.len());
        let (rows, mut start) = (frames.rows.tensor()?, 0);
        check_size("frames of all clips", frames.lengths.iter().sum(), rows.dim(0)?)?;
        for length in &frames.lengths {
            let clip = rows.narrow(0, start, *length)?.to_dtype(DType::F32)?;
            let short = clip.reshape(((), pixels))?.matmul(&self.along)?; // [T·H, w]
            let short = short.reshape((*length, (), columns))?;
            clips.push(self.down.broadcast_matmul(&short)?.reshape((*length, self.grid.cells()))?); // [T, h·w]
            start += length;
        }
        Ok(Tensor::cat(&clips, 0)?)
    }
}

/// The share of each of `pixels` in the average of each of `cells`, `[pixels, cells]`: what of the cell it covers.
fn shares(pixels: usize, cells: usize) -> Vec<f32> {
    let size = pixels as f64 / cells as f64;
    let share = |pixel: usize, cell: usize| {
        let (from, to) = (cell as f64 * size, (cell + 1) as f64 * size);
        let covered = to.min((pixel + 1) as f64) - from.max(pixel as f64);
        (covered.max(0.0) / size) as f32
    };
    (0..pixels).flat_map(|pixel| (0..cells).map(move |cell| share(pixel, cell))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_the_mean_of_the_area_that_it_covers() {
        // 3 pixels in 2 cells: each has one pixel and half of the middle one.
        let expected = [2.0 / 3.0, 0.0, 1.0 / 3.0, 1.0 / 3.0, 0.0, 2.0 / 3.0];
        for (share, expected) in shares(3, 2).iter().zip(expected) {
            assert!((share - expected as f32).abs() < 1e-7);
        }
        // More cells than pixels: a pixel is repeated.
        assert_eq!(shares(2, 4), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
    }
}
