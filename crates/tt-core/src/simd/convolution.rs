//! Convolutions of images by a dense kernel on the CPU, forward and backward: patches as rows of a matrix, times the kernel.
//!
//! Images are `[n, H, W, C]`, as frames of video are stored: a row of a patch is one run of memory then, and to copy patches
//! costs a few per cent of the products. They are made a tile at a time and stay in a core's cache. A call runs on the thread
//! that makes it, and its sums have one order.

mod patches;

use super::product::{Operands, pack_row, product};
use super::{Buffer, Isa, Simd};
use std::ops::Range;

/// Numbers of the patches that are multiplied at once: 256 KiB, a part of a core's second cache.
const TILE: usize = 1 << 16;
/// Patches of a tile at most: a panel as long as it leaves room in the first cache.
const LONGEST: usize = 256;
/// Rows of a panel that are multiplied at once, at most, for the same reason.
const DEEPEST: usize = 288;
/// Numbers of memory that a call uses again, at most: a tile, and a panel as long as it.
pub const SCRATCH: usize = TILE + LONGEST * 32;

/// A square kernel with zeros around the image: half its side, rounded down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Rows of an image.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// Numbers of a pixel, C.
    pub channels: usize,
    /// Numbers of a pixel that is put out, N.
    pub outputs: usize,
    /// Rows and columns of the kernel.
    pub side: usize,
    /// Pixels from one place of the kernel to the next, down and along.
    pub stride: usize,
}

/// The kernel `[k · k · C, N]` of a convolution as panels, and its transpose.
#[derive(Debug, Default)]
pub struct Panels {
    forward: Buffer,
    /// Turned round where the convolution is flat.
    backward: Buffer,
}

/// The instruction set of convolutions: a panel as narrow as the few channels of a first layer, where that costs nothing.
pub fn isa() -> Isa {
    let best = Isa::best();
    best.half().unwrap_or(best)
}

/// A matrix of so many columns as panels: each a block of `[rows, 2·LANES]`.
#[inline(always)]
unsafe fn pack<S: Simd>(matrix: &[f32], columns: usize, to: &mut Buffer) {
    let (wide, rows) = (2 * S::LANES, matrix.len() / columns);
    to.resize(columns.div_ceil(wide) * rows * wide);
    for (panel, first) in (0..columns).step_by(wide).enumerate() {
        for row in 0..rows {
            // SAFETY: a row has `columns` numbers, of which at most `wide` follow the first; the buffer has a row for each.
            unsafe {
                let from = matrix.as_ptr().add(row * columns + first);
                pack_row::<S>(
                    from,
                    wide.min(columns - first),
                    to.as_mut_ptr().add((panel * rows + row) * wide),
                );
            }
        }
    }
}

impl Panels {
    /// Packs a kernel; `backward` its transpose too, which [`Convolution::input_gradient`] reads.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    ///
    /// # Panics
    /// A kernel of another size.
    #[inline(always)]
    pub unsafe fn pack<S: Simd>(&mut self, of: &Convolution, kernel: &[f32], backward: bool) {
        let (depth, outputs) = (of.depth(), of.outputs);
        assert_eq!(kernel.len(), depth * outputs, "numbers of the kernel");
        // SAFETY: the caller vouches for the instruction set.
        unsafe {
            pack::<S>(kernel, outputs, &mut self.forward);
            if backward {
                let transposed: Vec<f32> = if of.is_flat() {
                    // From every place of the kernel to the one opposite, and from outputs to channels.
                    let blocks = kernel.chunks_exact(of.channels * outputs).rev();
                    blocks
                        .flat_map(|block| (0..outputs * of.channels).map(move |at| (block, at)))
                        .map(|(block, at)| block[at % of.channels * outputs + at / of.channels])
                        .collect()
                } else {
                    (0..outputs).flat_map(|n| (0..depth).map(move |k| kernel[k * outputs + n])).collect()
                };
                let columns = if of.is_flat() { of.channels } else { depth };
                pack::<S>(&transposed, columns, &mut self.backward);
            }
        }
    }
}

impl Convolution {
    /// Rows of what is put out.
    #[inline]
    pub fn out_height(&self) -> usize {
        self.places(self.height)
    }

    /// Pixels of a row of what is put out.
    #[inline]
    pub fn out_width(&self) -> usize {
        self.places(self.width)
    }

    #[inline]
    fn places(&self, length: usize) -> usize {
        (length + 2 * (self.side / 2) - self.side) / self.stride + 1
    }

    /// Numbers of a patch.
    #[inline]
    pub fn depth(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// Numbers of an image.
    #[inline]
    pub fn in_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Pixels that are put out of an image.
    #[inline]
    pub fn pixels(&self) -> usize {
        self.out_height() * self.out_width()
    }

    /// Numbers that are put out of an image.
    #[inline]
    pub fn out_len(&self) -> usize {
        self.pixels() * self.outputs
    }

    /// Numbers of the kernel.
    #[inline]
    pub fn weights(&self) -> usize {
        self.depth() * self.outputs
    }

    /// Multiply-accumulates of an image.
    #[inline]
    pub fn macs(&self) -> usize {
        self.pixels() * self.weights()
    }

    /// How many images there are in a buffer of them and one of their results.
    fn count(&self, images: usize, results: usize) -> usize {
        let n = images / self.in_len();
        assert_eq!((images, results), (n * self.in_len(), n * self.out_len()), "numbers of {n} images");
        n
    }

    fn tiles(&self, n: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (pixels, tile) = (n * self.pixels(), (TILE / self.depth()).clamp(1, LONGEST));
        (0..pixels).step_by(tile).map(move |first| first..pixels.min(first + tile))
    }

    /// Room for the patches of a tile, and for a panel of as many rows.
    fn room<S: Simd>(&self, scratch: &mut Buffer) -> (*mut f32, *mut f32) {
        let tile = (TILE / self.depth()).clamp(1, LONGEST);
        scratch.resize(tile * (self.depth() + 2 * S::LANES));
        let patches = scratch.as_mut_ptr();
        (patches, patches.wrapping_add(tile * self.depth()))
    }

    /// Whether it neither enlarges nor shrinks an image: the way back is a convolution with the kernel turned round.
    #[inline]
    fn is_flat(&self) -> bool {
        self.stride == 1 && self.side % 2 == 1
    }

    /// The way back of a flat one.
    fn turned(&self) -> Self {
        Self { channels: self.outputs, outputs: self.channels, ..*self }
    }

    /// `results (+)= images * kernel`.
    #[inline(always)]
    unsafe fn convolve<S: Simd>(
        &self,
        images: &[f32],
        panels: &Buffer,
        (results, add): (&mut [f32], bool),
        scratch: &mut Buffer,
    ) {
        let (wide, depth) = (2 * S::LANES, self.depth());
        let n = self.count(images.len(), results.len());
        assert_eq!(panels.len(), self.outputs.div_ceil(wide) * depth * wide, "numbers of the panels");
        let deep = depth.div_ceil(depth.div_ceil(DEEPEST));
        let (patches, _) = self.room::<S>(scratch);
        for tile in self.tiles(n) {
            // SAFETY: the patches have room for a tile; sizes of all buffers are checked above.
            unsafe {
                self.gather::<S>(images, tile.clone(), patches);
                for (panel, first) in (0..self.outputs).step_by(wide).enumerate() {
                    for from in (0..depth).step_by(deep) {
                        product::<S>(&Operands {
                            rows: tile.len(),
                            k: deep.min(depth - from),
                            a: patches.add(from),
                            a_row: depth,
                            a_k: 1,
                            b: panels.as_ptr().add((panel * depth + from) * wide),
                            c: results.as_mut_ptr().add(tile.start * self.outputs + first),
                            c_row: self.outputs,
                            columns: wide.min(self.outputs - first),
                            add: add || from > 0,
                        });
                    }
                }
            }
        }
    }

    /// `results [n, H', W', N]` of `images [n, H, W, C]`.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`, with which the panels were packed.
    ///
    /// # Panics
    /// Buffers of other sizes.
    #[inline(always)]
    pub unsafe fn forward<S: Simd>(
        &self,
        images: &[f32],
        panels: &Panels,
        results: &mut [f32],
        scratch: &mut Buffer,
    ) {
        // SAFETY: as the caller's.
        unsafe { self.convolve::<S>(images, &panels.forward, (results, false), scratch) };
    }

    /// Adds to `sum [k · k · C, N]` the gradient of the kernel, from that of the results.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    ///
    /// # Panics
    /// Buffers of other sizes.
    #[inline(always)]
    pub unsafe fn kernel_gradient<S: Simd>(
        &self,
        images: &[f32],
        gradient: &[f32],
        sum: &mut [f32],
        scratch: &mut Buffer,
    ) {
        let (wide, depth) = (2 * S::LANES, self.depth());
        let n = self.count(images.len(), gradient.len());
        assert_eq!(sum.len(), self.weights(), "numbers of the kernel");
        let (patches, panel) = self.room::<S>(scratch);
        for tile in self.tiles(n) {
            // SAFETY: patches and panel have room for a tile; sizes of all buffers are checked above.
            unsafe {
                self.gather::<S>(images, tile.clone(), patches);
                for first in (0..self.outputs).step_by(wide) {
                    let columns = wide.min(self.outputs - first);
                    for (row, pixel) in tile.clone().enumerate() {
                        let from = gradient.as_ptr().add(pixel * self.outputs + first);
                        pack_row::<S>(from, columns, panel.add(row * wide));
                    }
                    product::<S>(&Operands {
                        rows: depth,
                        k: tile.len(),
                        a: patches,
                        a_row: 1,
                        a_k: depth,
                        b: panel,
                        c: sum.as_mut_ptr().add(first),
                        c_row: self.outputs,
                        columns,
                        add: true,
                    });
                }
            }
        }
    }

    /// Adds to `sum [n, H, W, C]` the gradient of the images, from that of the results.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`, with which the panels were packed.
    ///
    /// # Panics
    /// Buffers of other sizes; panels without the transposed kernel.
    #[inline(always)]
    pub unsafe fn input_gradient<S: Simd>(
        &self,
        gradient: &[f32],
        panels: &Panels,
        sum: &mut [f32],
        scratch: &mut Buffer,
    ) {
        if self.is_flat() {
            // SAFETY: as the caller's.
            return unsafe { self.turned().convolve::<S>(gradient, &panels.backward, (sum, true), scratch) };
        }
        let (wide, depth, outputs) = (2 * S::LANES, self.depth(), self.outputs);
        let n = self.count(sum.len(), gradient.len());
        assert_eq!(
            panels.backward.len(),
            depth.div_ceil(wide) * outputs * wide,
            "numbers of the transposed panels"
        );
        let (patches, _) = self.room::<S>(scratch);
        for tile in self.tiles(n) {
            // SAFETY: the patches have room for a tile; sizes of all buffers are checked above.
            unsafe {
                for (panel, first) in (0..depth).step_by(wide).enumerate() {
                    product::<S>(&Operands {
                        rows: tile.len(),
                        k: outputs,
                        a: gradient.as_ptr().add(tile.start * outputs),
                        a_row: outputs,
                        a_k: 1,
                        b: panels.backward.as_ptr().add(panel * outputs * wide),
                        c: patches.add(first),
                        c_row: depth,
                        columns: wide.min(depth - first),
                        add: false,
                    });
                }
                self.scatter::<S>(patches, tile, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;
    use crate::simd::Kernel;
    use rand::RngExt;

    /// All three, of the same numbers.
    struct All<'a> {
        of: Convolution,
        images: &'a [f32],
        kernel: &'a [f32],
        gradient: &'a [f32],
        found: &'a mut [Vec<f32>; 3],
    }

    impl Kernel for All<'_> {
        #[inline(always)]
        unsafe fn run<S: Simd>(self) {
            let Self { of, images, kernel, gradient, found: [results, dkernel, dimages] } = self;
            let (mut panels, mut scratch) = (Panels::default(), Buffer::default());
            // SAFETY: `Isa::run` vouches for the instruction set, and the buffers have the sizes of `of`.
            unsafe {
                panels.pack::<S>(&of, kernel, true);
                of.forward::<S>(images, &panels, results, &mut scratch);
                of.kernel_gradient::<S>(images, gradient, dkernel, &mut scratch);
                of.input_gradient::<S>(gradient, &panels, dimages, &mut scratch);
            }
        }
    }

    /// The definition, in f64: results, and what they say of kernel and images.
    fn loops(of: &Convolution, images: &[f32], kernel: &[f32], gradient: &[f32]) -> [Vec<f64>; 3] {
        let (n, padding) = (images.len() / of.in_len(), of.side / 2);
        let mut results = vec![0.0; n * of.out_len()];
        let (mut dkernel, mut dimages) = (vec![0.0; kernel.len()], vec![0.0; images.len()]);
        for (at, result) in results.iter_mut().enumerate() {
            let (pixel, output) = (at / of.outputs, at % of.outputs);
            let (image, pixel) = (pixel / of.pixels(), pixel % of.pixels());
            let (top, left) = (pixel / of.out_width() * of.stride, pixel % of.out_width() * of.stride);
            for i in 0..of.side {
                for j in 0..of.side {
                    let (y, x) = ((top + i).wrapping_sub(padding), (left + j).wrapping_sub(padding));
                    if y >= of.height || x >= of.width {
                        continue;
                    }
                    for c in 0..of.channels {
                        let from = ((image * of.height + y) * of.width + x) * of.channels + c;
                        let weight = ((i * of.side + j) * of.channels + c) * of.outputs + output;
                        *result += f64::from(images[from]) * f64::from(kernel[weight]);
                        dkernel[weight] += f64::from(images[from]) * f64::from(gradient[at]);
                        dimages[from] += f64::from(kernel[weight]) * f64::from(gradient[at]);
                    }
                }
            }
        }
        [results, dkernel, dimages]
    }

    #[test]
    fn convolutions_are_their_definition_on_every_instruction_set() {
        let sizes = [
            // Even and odd sides, a stride that does and does not meet the edge, one pixel, more patches than a tile has.
            (2, 12, 10, 3, 16, 3, 2),
            (1, 7, 9, 16, 16, 3, 1),
            (3, 5, 4, 20, 33, 3, 2),
            (2, 6, 5, 8, 5, 1, 2),
            (1, 1, 1, 16, 16, 3, 2),
            (1, 30, 28, 2, 3, 5, 1),
            (2, 9, 8, 64, 48, 3, 1),
        ];
        for (n, height, width, channels, outputs, side, stride) in sizes {
            let of = Convolution { height, width, channels, outputs, side, stride };
            let mut draws = stream(3, "convolution");
            let mut draw =
                |count: usize| -> Vec<f32> { (0..count).map(|_| draws.random_range(-1.0..1.0)).collect() };
            let (images, kernel, gradient) =
                (draw(n * of.in_len()), draw(of.weights()), draw(n * of.out_len()));
            let expected = loops(&of, &images, &kernel, &gradient);
            for isa in Isa::available() {
                let mut found = expected.each_ref().map(|values| vec![0.0_f32; values.len()]);
                isa.run(All { of, images: &images, kernel: &kernel, gradient: &gradient, found: &mut found });
                for (part, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    // Sums of at most 840 products of numbers below 1.
                    let worst = found
                        .iter()
                        .zip(expected)
                        .map(|(a, b)| (f64::from(*a) - b).abs())
                        .fold(0.0, f64::max);
                    assert!(worst < 840.0 * f64::from(f32::EPSILON), "{of:?} {isa:?} {part}: {worst}");
                }
            }
        }
    }
}
