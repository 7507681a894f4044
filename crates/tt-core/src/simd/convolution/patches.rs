//! Patches of images: where they lie, copied from the images and added to them.

use super::{Convolution, Simd};
use std::ops::Range;

/// The patch of a pixel that is put out: what of it lies inside its image.
#[derive(Debug)]
struct Patch {
    /// Its place among those of the tile.
    at: usize,
    /// Rows of the kernel.
    rows: Range<usize>,
    /// Columns of the kernel.
    columns: Range<usize>,
    /// The number of the images that the first of these rows and columns begin at.
    from: usize,
}

/// The patches of a tile, one after the other.
#[derive(Debug)]
struct Patches {
    of: Convolution,
    at: usize,
    len: usize,
    image: usize,
    row: usize,
    column: usize,
}

impl Iterator for Patches {
    type Item = Patch;

    #[inline(always)]
    fn next(&mut self) -> Option<Patch> {
        if self.at == self.len {
            return None;
        }
        let Convolution { height, width, channels, side, stride, .. } = self.of;
        let padding = side / 2;
        let (top, left) = (self.row * stride, self.column * stride);
        let inside =
            |first: usize, length: usize| padding.saturating_sub(first)..side.min(length + padding - first);
        let (rows, columns) = (inside(top, height), inside(left, width));
        let (y, x) = (top + rows.start - padding, left + columns.start - padding);
        let from = ((self.image * height + y) * width + x) * channels;
        let patch = Patch { at: self.at, rows, columns, from };
        self.at += 1;
        self.column += 1;
        if self.column == self.of.out_width() {
            (self.column, self.row) = (0, self.row + 1);
        }
        if self.row == self.of.out_height() {
            (self.row, self.image) = (0, self.image + 1);
        }
        Some(patch)
    }
}

impl Convolution {
    #[inline(always)]
    fn patches(&self, tile: Range<usize>) -> Patches {
        let (pixel, along) = (tile.start % self.pixels(), self.out_width());
        let (image, row, column) = (tile.start / self.pixels(), pixel / along, pixel % along);
        Patches { of: *self, at: 0, len: tile.len(), image, row, column }
    }

    /// The patches of a tile, with zeros where they are outside of their images.
    #[inline(always)]
    pub(super) unsafe fn gather<S: Simd>(&self, images: &[f32], tile: Range<usize>, patches: *mut f32) {
        let Self { width, channels, side, .. } = *self;
        for Patch { at, rows, columns, from } in self.patches(tile) {
            let len = columns.len() * channels;
            // SAFETY: the part of the patch that is inside lies in the images, and the caller has made room for the tile.
            unsafe {
                let patch = patches.add(at * self.depth());
                if rows.len() * columns.len() < side * side {
                    patch.write_bytes(0, self.depth());
                }
                let mut from = images.as_ptr().add(from);
                for row in rows {
                    let to = patch.add((row * side + columns.start) * channels);
                    let mut k = 0;
                    while k + S::LANES <= len {
                        S::store(to.add(k), S::load(from.add(k)));
                        k += S::LANES;
                    }
                    if k < len {
                        S::store_partial(to.add(k), S::load_partial(from.add(k), len - k), len - k);
                    }
                    from = from.wrapping_add(width * channels);
                }
            }
        }
    }

    /// Adds the patches of a tile to the images.
    #[inline(always)]
    pub(super) unsafe fn scatter<S: Simd>(
        &self,
        patches: *const f32,
        tile: Range<usize>,
        images: &mut [f32],
    ) {
        let Self { width, channels, side, .. } = *self;
        for Patch { at, rows, columns, from: to } in self.patches(tile) {
            let len = columns.len() * channels;
            // SAFETY: as in `gather`.
            unsafe {
                let mut to = images.as_mut_ptr().add(to);
                for row in rows {
                    let from = patches.add(at * self.depth() + (row * side + columns.start) * channels);
                    let mut k = 0;
                    while k + S::LANES <= len {
                        S::store(to.add(k), S::add(S::load(to.add(k)), S::load(from.add(k))));
                        k += S::LANES;
                    }
                    if k < len {
                        let (more, rest) = (S::load_partial(from.add(k), len - k), len - k);
                        S::store_partial(to.add(k), S::add(S::load_partial(to.add(k), rest), more), rest);
                    }
                    to = to.wrapping_add(width * channels);
                }
            }
        }
    }
}
