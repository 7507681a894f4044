//! Convolutions of the forward pass on the CPU: pixels are rows of channels, so that a convolution of 1×1 is one product with
//! a packed matrix and a depthwise one runs along the channels.
//!
//! Candle's depthwise convolutions loop over single numbers; these hold a few vectors of channels in registers. Every
//! result is one chain of multiply-adds in one order: frames beside it and threads change no bit.

#![expect(unsafe_code, reason = "vectors over slices whose lengths are checked where a layer is run")]

use tt_core::simd::product::{Operands, pack_row, product};
use tt_core::simd::{Isa, Kernel, Simd};

/// Rows of a product at once: with their results they stay in the second cache while all panels pass.
const ROWS: usize = 64;
/// Vectors of channels that a depthwise convolution holds at once.
const VECTORS: usize = 4;

/// Height and width of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Size {
    pub(super) fn pixels(self) -> usize {
        self.height * self.width
    }

    /// After a convolution whose padding is as `SAME` of TensorFlow.
    pub(super) fn strided(self, stride: usize) -> Self {
        Self { height: self.height.div_ceil(stride), width: self.width.div_ceil(stride) }
    }
}

/// Where a window's first tap lies before the first pixel: half of the padding that makes `out` windows fit, rounded down.
fn before(size: usize, out: usize, kernel: usize, stride: usize) -> usize {
    ((out - 1) * stride + kernel).saturating_sub(size) / 2
}

/// What follows a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) enum Then<'a> {
    /// `min(max(x, 0), 6)`
    Relu6,
    /// The rows are added.
    Add(&'a [f32]),
    /// Nothing.
    Nothing,
}

/// A product of rows of `inputs` numbers with a matrix, and a bias.
#[derive(Debug)]
pub(super) struct Pointwise {
    isa: Isa,
    inputs: usize,
    bias: Vec<f32>,
    /// `[ceil(outputs / 2L), inputs, 2L]` of L lanes.
    panels: Vec<f32>,
}

impl Pointwise {
    /// Of a matrix `[inputs, outputs]`.
    pub(super) fn new(isa: Isa, matrix: &[f32], bias: Vec<f32>) -> Self {
        let (outputs, width) = (bias.len(), 2 * isa.lanes());
        let inputs = matrix.len() / outputs;
        let mut panels = vec![0.0; outputs.div_ceil(width) * inputs * width];
        isa.run(Pack { matrix, outputs, panels: &mut panels });
        Self { isa, inputs, bias, panels }
    }

    pub(super) fn outputs(&self) -> usize {
        self.bias.len()
    }

    /// `then(x · W + b)`; `x [n, inputs]`, `out [n, outputs]`.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(super) fn run(&self, x: &[f32], then: Then<'_>, out: &mut [f32]) {
        assert_eq!(x.len() / self.inputs, out.len() / self.outputs(), "as many rows in as out");
        assert!(x.len().is_multiple_of(self.inputs) && out.len().is_multiple_of(self.outputs()));
        if let Then::Add(rows) = then {
            assert_eq!(rows.len(), out.len(), "rows to add");
        }
        self.isa.run(Product { layer: self, x, then, out });
    }
}

struct Pack<'a> {
    matrix: &'a [f32],
    outputs: usize,
    panels: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (width, inputs) = (2 * S::LANES, self.matrix.len() / self.outputs);
        for (panel, first) in (0..self.outputs).step_by(width).enumerate() {
            let columns = width.min(self.outputs - first);
            for k in 0..inputs {
                let from = &self.matrix[k * self.outputs + first..][..columns];
                let to = &mut self.panels[(panel * inputs + k) * width..][..width];
                // SAFETY: `columns` numbers to read and a panel's row to write; the caller has the instruction set.
                unsafe { pack_row::<S>(from.as_ptr(), columns, to.as_mut_ptr()) };
            }
        }
    }
}

struct Product<'a> {
    layer: &'a Pointwise,
    x: &'a [f32],
    then: Then<'a>,
    out: &'a mut [f32],
}

impl Kernel for Product<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Pointwise { inputs, bias, panels, .. } = self.layer;
        let (outputs, width) = (bias.len(), 2 * S::LANES);
        for (chunk, out) in self.out.chunks_mut(ROWS * outputs).enumerate() {
            let rows = out.len() / outputs;
            let x = &self.x[chunk * ROWS * inputs..][..rows * inputs];
            for row in out.chunks_exact_mut(outputs) {
                row.copy_from_slice(bias);
            }
            if let Then::Add(skip) = self.then {
                let skip = &skip[chunk * ROWS * outputs..][..out.len()];
                for (value, skip) in out.iter_mut().zip(skip) {
                    *value += skip;
                }
            }
            for (panel, first) in (0..outputs).step_by(width).enumerate() {
                let panel = &panels[panel * inputs * width..][..inputs * width];
                let operands = Operands {
                    rows,
                    k: *inputs,
                    a: x.as_ptr(),
                    a_row: *inputs,
                    a_k: 1,
                    b: panel.as_ptr(),
                    c: out[first..].as_mut_ptr(),
                    c_row: outputs,
                    columns: width.min(outputs - first),
                    add: true,
                };
                // SAFETY: the slices above have the rows and the panel; columns end with the row; the caller has the
                // instruction set.
                unsafe { product::<S>(&operands) };
            }
            if let Then::Relu6 = self.then {
                for value in out {
                    *value = value.clamp(0.0, 6.0);
                }
            }
        }
    }
}

/// A convolution of every channel by itself, with a bias, then ReLU6.
#[derive(Debug)]
pub(super) struct Depthwise {
    isa: Isa,
    kernel: usize,
    stride: usize,
    bias: Vec<f32>,
    /// `[kernel, kernel, channels]`
    taps: Vec<f32>,
}

impl Depthwise {
    /// Of taps `[kernel, kernel, channels]`; channels are a multiple of every vector's lanes.
    pub(super) fn new(isa: Isa, (kernel, stride): (usize, usize), taps: Vec<f32>, bias: Vec<f32>) -> Self {
        assert!(taps.len() == kernel * kernel * bias.len() && bias.len().is_multiple_of(isa.lanes()));
        Self { isa, kernel, stride, bias, taps }
    }

    /// The size of the result.
    pub(super) fn size(&self, size: Size) -> Size {
        size.strided(self.stride)
    }

    /// Of maps of this size one after the other: `x [n, H, W, channels]`, `out` with the strided size.
    ///
    /// # Panics
    /// If the sizes do not fit.
    pub(super) fn run(&self, x: &[f32], size: Size, out: &mut [f32]) {
        let (map, out_map) = (size.pixels() * self.bias.len(), self.size(size).pixels() * self.bias.len());
        assert_eq!(x.len() / map, out.len() / out_map, "as many maps in as out");
        for (x, out) in x.chunks_exact(map).zip(out.chunks_exact_mut(out_map)) {
            self.isa.run(Window { layer: self, x, size, out });
        }
    }
}

struct Window<'a> {
    layer: &'a Depthwise,
    x: &'a [f32],
    size: Size,
    out: &'a mut [f32],
}

impl Kernel for Window<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Depthwise { kernel, stride, ref bias, .. } = *self.layer;
        let (size, out_size, channels) = (self.size, self.layer.size(self.size), bias.len());
        let top = before(size.height, out_size.height, kernel, stride);
        let left = before(size.width, out_size.width, kernel, stride);
        for y in 0..out_size.height {
            let rows = top.saturating_sub(y * stride)..kernel.min(size.height + top - y * stride);
            for x in 0..out_size.width {
                let columns = left.saturating_sub(x * stride)..kernel.min(size.width + left - x * stride);
                // The window's taps lie at `pixel + (row, column)` in the map: none of those below is before it.
                let pixel = Pixel {
                    rows: (rows.start, rows.end),
                    columns: (columns.start, columns.end),
                    y: y * stride + rows.start - top,
                    x: x * stride + columns.start - left,
                };
                let out = &mut self.out[(y * out_size.width + x) * channels..][..channels];
                let mut from = 0;
                // SAFETY: `from` stays below the channels, of which whole vectors are left; the pixel's taps are inside the
                // map; the caller has the instruction set.
                unsafe {
                    while from + VECTORS * S::LANES <= channels {
                        window::<S, VECTORS>(self.layer, self.x, size.width, &pixel, from, out);
                        from += VECTORS * S::LANES;
                    }
                    while from < channels {
                        window::<S, 1>(self.layer, self.x, size.width, &pixel, from, out);
                        from += S::LANES;
                    }
                }
            }
        }
    }
}

/// The part of a window that is inside the map.
struct Pixel {
    /// First tap and the one after the last.
    rows: (usize, usize),
    columns: (usize, usize),
    /// Where the first tap lies.
    y: usize,
    x: usize,
}

/// `R` vectors of channels of a pixel.
#[inline(always)]
unsafe fn window<S: Simd, const R: usize>(
    layer: &Depthwise,
    x: &[f32],
    width: usize,
    pixel: &Pixel,
    from: usize,
    out: &mut [f32],
) {
    let channels = layer.bias.len();
    // SAFETY: the caller vouches for `R` vectors of channels from `from`, for taps inside the map, and for the
    // instruction set.
    unsafe {
        let mut sums = [S::splat(0.0); R];
        for (r, sum) in sums.iter_mut().enumerate() {
            *sum = S::load(layer.bias.as_ptr().add(from + r * S::LANES));
        }
        for row in pixel.rows.0..pixel.rows.1 {
            let line = (pixel.y + row - pixel.rows.0) * width + pixel.x;
            for column in pixel.columns.0..pixel.columns.1 {
                let at = (line + column - pixel.columns.0) * channels + from;
                let tap = (row * layer.kernel + column) * channels + from;
                let (x, tap) = (x.as_ptr().add(at), layer.taps.as_ptr().add(tap));
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = S::fma(S::load(x.add(r * S::LANES)), S::load(tap.add(r * S::LANES)), *sum);
                }
            }
        }
        for (r, sum) in sums.iter().enumerate() {
            let squashed = S::min(S::splat(6.0), S::max(S::splat(0.0), *sum));
            S::store(out.as_mut_ptr().add(from + r * S::LANES), squashed);
        }
    }
}

/// The windows of the first convolution, 3×3 with stride 2, of frames one after the other: `out [n, H/2, W/2, 27]`, `pixel`
/// of each byte of `frames [n, H, W, 3]`, zeros around them.
pub(super) fn windows(frames: &[u8], size: Size, pixel: impl Fn(u8) -> f32, out: &mut Vec<f32>) {
    let strided = size.strided(2);
    let top = before(size.height, strided.height, 3, 2);
    let left = before(size.width, strided.width, 3, 2);
    let table: Vec<f32> = (0..=255).map(pixel).collect();
    out.clear();
    for frame in frames.chunks_exact(3 * size.pixels()) {
        for (y, x) in (0..strided.height).flat_map(|y| (0..strided.width).map(move |x| (y, x))) {
            for (row, column) in (0..3).flat_map(|row| (0..3).map(move |column| (row, column))) {
                let (y, x) = ((2 * y + row).wrapping_sub(top), (2 * x + column).wrapping_sub(left));
                if y < size.height && x < size.width {
                    let at = 3 * (y * size.width + x);
                    out.extend(frame[at..at + 3].iter().map(|byte| table[usize::from(*byte)]));
                } else {
                    out.extend([0.0; 3]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * 37 % 23) as f32 - 11.0).collect()
    }

    /// Whole numbers: every order of summation is exact.
    #[test]
    fn products_are_those_of_plain_loops() {
        for (rows, inputs, outputs) in [(1, 27, 32), (65, 16, 24), (130, 5, 81)] {
            let (x, w, bias) = (numbers(rows * inputs), numbers(inputs * outputs), numbers(outputs));
            let dot = |i: usize, j: usize| -> f32 {
                bias[j] + (0..inputs).map(|k| x[i * inputs + k] * w[k * outputs + j]).sum::<f32>()
            };
            let plain: Vec<f32> = (0..rows * outputs).map(|at| dot(at / outputs, at % outputs)).collect();
            let skip = numbers(rows * outputs);
            for isa in Isa::available() {
                let layer = Pointwise::new(isa, &w, bias.clone());
                let mut out = vec![f32::NAN; rows * outputs];
                layer.run(&x, Then::Nothing, &mut out);
                assert_eq!(out, plain, "{}", isa.name());
                layer.run(&x, Then::Relu6, &mut out);
                let squashed: Vec<f32> = plain.iter().map(|v| v.clamp(0.0, 6.0)).collect();
                assert_eq!(out, squashed, "{}", isa.name());
                layer.run(&x, Then::Add(&skip), &mut out);
                let added: Vec<f32> = plain.iter().zip(&skip).map(|(a, b)| a + b).collect();
                assert_eq!(out, added, "{}", isa.name());
            }
        }
    }

    /// Whole numbers again; maps smaller than the window too.
    #[test]
    fn depthwise_convolutions_are_those_of_plain_loops() {
        for (kernel, stride, height, width, channels) in
            [(3, 1, 5, 4, 96), (3, 2, 7, 6, 32), (5, 2, 8, 3, 144), (5, 1, 1, 2, 16)]
        {
            let size = Size { height, width };
            let out_size = size.strided(stride);
            let x: Vec<f32> = numbers(2 * size.pixels() * channels).iter().map(|v| v / 64.0).collect();
            let (taps, bias) = (numbers(kernel * kernel * channels), numbers(channels));
            let pad = |size: usize, out: usize| ((out - 1) * stride + kernel).saturating_sub(size) / 2;
            let (top, left) = (pad(height, out_size.height), pad(width, out_size.width));
            let mut plain = Vec::new();
            for map in x.chunks(size.pixels() * channels) {
                for at in 0..out_size.pixels() * channels {
                    let (y, x, c) =
                        (at / channels / out_size.width, at / channels % out_size.width, at % channels);
                    let mut sum = bias[c];
                    for (row, column) in (0..kernel).flat_map(|r| (0..kernel).map(move |c| (r, c))) {
                        let (y, x) = (y * stride + row, x * stride + column);
                        if (top..top + height).contains(&y) && (left..left + width).contains(&x) {
                            let value = map[((y - top) * width + x - left) * channels + c];
                            sum += value * taps[(row * kernel + column) * channels + c];
                        }
                    }
                    plain.push(sum.clamp(0.0, 6.0));
                }
            }
            for isa in Isa::available() {
                let layer = Depthwise::new(isa, (kernel, stride), taps.clone(), bias.clone());
                let mut out = vec![f32::NAN; plain.len()];
                layer.run(&x, size, &mut out);
                assert_eq!(out, plain, "{} {kernel} {stride}", isa.name());
            }
        }
    }
}
