//! One row times a matrix: the product of a model that is given frame by frame.
//!
//! It reads the matrix once, in order, and that is what its time is: a product of many rows would first copy the matrix
//! into panels.

#![expect(unsafe_code, reason = "vectors over slices whose lengths are checked where a product is made")]

use tt_core::apply::{Affine, Row};
use tt_core::simd::{Kernel, Simd};

/// Rows of the matrix at once: so many reads for each read and write of the sum.
const AT_ONCE: usize = 8;

/// `out += (scale · row + shift) · W`, of some columns of `W`.
#[derive(Debug)]
pub(crate) struct RowProduct<'a> {
    row: Row<'a>,
    affine: Affine,
    /// From the first of the columns on.
    matrix: &'a [f32],
    /// Numbers of a row of the matrix.
    width: usize,
    out: &'a mut [f32],
}

impl<'a> RowProduct<'a> {
    /// The product with columns `first..first + out.len()` of a matrix with rows of `width`.
    ///
    /// # Panics
    /// If the matrix has fewer rows than the row has numbers, or fewer columns.
    pub(crate) fn new(
        (row, affine): (Row<'a>, Affine),
        (matrix, width): (&'a [f32], usize),
        first: usize,
        out: &'a mut [f32],
    ) -> Self {
        assert!(
            matrix.len() >= row.len() * width && first + out.len() <= width,
            "a matrix that fits the row"
        );
        Self { row, affine, matrix: &matrix[first..], width, out }
    }

    /// The product with numbers as they are.
    pub(crate) fn of(row: &'a [f32], matrix: (&'a [f32], usize), first: usize, out: &'a mut [f32]) -> Self {
        Self::new((Row::F32(row), Affine::IDENTITY), matrix, first, out)
    }

    /// Adds `R` rows of the matrix, the first of them `from`. Loops and no closures: a closure would be compiled without the
    /// instruction set.
    #[inline(always)]
    unsafe fn block<S: Simd, const R: usize>(&mut self, from: usize) {
        let Affine { scale, shift } = self.affine;
        let columns = self.out.len();
        // SAFETY: `new` has checked that rows `from..from + R` have the columns; the caller has the instruction set.
        unsafe {
            let mut factors = [S::splat(0.0); R];
            for (r, factor) in factors.iter_mut().enumerate() {
                let value = match self.row {
                    Row::F32(row) => row[from + r],
                    Row::U8(row) => f32::from(row[from + r]),
                };
                *factor = S::splat(value * scale + shift);
            }
            let matrix = self.matrix.as_ptr().add(from * self.width);
            let out = self.out.as_mut_ptr();
            let whole = columns - columns % S::LANES;
            let mut j = 0;
            while j < whole {
                let mut sum = S::load(out.add(j));
                for (r, factor) in factors.iter().enumerate() {
                    sum = S::fma(*factor, S::load(matrix.add(r * self.width + j)), sum);
                }
                S::store(out.add(j), sum);
                j += S::LANES;
            }
            if whole < columns {
                let rest = columns - whole;
                let mut sum = S::load_partial(out.add(whole), rest);
                for (r, factor) in factors.iter().enumerate() {
                    let weights = S::load_partial(matrix.add(r * self.width + whole), rest);
                    sum = S::fma(*factor, weights, sum);
                }
                S::store_partial(out.add(whole), sum, rest);
            }
        }
    }
}

impl Kernel for RowProduct<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let count = self.row.len();
        let mut from = 0;
        // SAFETY: the blocks are inside the row; the caller has the instruction set.
        unsafe {
            while from + AT_ONCE <= count {
                self.block::<S, AT_ONCE>(from);
                from += AT_ONCE;
            }
            while from < count {
                self.block::<S, 1>(from);
                from += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tt_core::simd::Isa;

    /// Whole numbers, so that every order of summation is exact.
    #[test]
    fn the_product_is_that_of_plain_loops_on_every_instruction_set() {
        for (rows, width, first, columns) in [(1, 1, 0, 1), (8, 32, 0, 32), (19, 70, 3, 61), (7, 16, 5, 2)] {
            let matrix: Vec<f32> = (0..rows * width).map(|i| (i * 7 % 23) as f32 - 11.0).collect();
            let bytes: Vec<u8> = (0..rows).map(|i| (i * 37 % 256) as u8).collect();
            let numbers: Vec<f32> = bytes.iter().map(|byte| 2.0 * f32::from(*byte) - 3.0).collect();
            let expected: Vec<f32> = (0..columns)
                .map(|j| 1.0 + (0..rows).map(|i| numbers[i] * matrix[i * width + first + j]).sum::<f32>())
                .collect();
            for isa in Isa::available() {
                let mut out = vec![1.0; columns];
                isa.run(RowProduct::of(&numbers, (&matrix, width), first, &mut out));
                assert_eq!(out, expected, "{}", isa.name());
                let affine = Affine { scale: 2.0, shift: -3.0 };
                out.fill(1.0);
                isa.run(RowProduct::new((Row::U8(&bytes), affine), (&matrix, width), first, &mut out));
                assert_eq!(out, expected, "{}", isa.name());
            }
        }
    }
}
