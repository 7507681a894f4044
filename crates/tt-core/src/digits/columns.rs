//! Columns of numbers in three digits: the right factor of a product.

#[cfg(target_arch = "x86_64")]
use super::wide;
use super::{COLUMNS, LONGEST, Line, Sums};
use crate::simd::{Kernel, Simd};

/// Largest whole number of three balanced digits: 127 · (65,536 + 256 + 1).
const LARGEST: f64 = 8_355_711.0;
/// Added to a number below 2^51, this leaves the nearest whole number in the lowest bits.
const ROUND: f64 = 1.5 * (1_u64 << 52) as f64;
/// The same of a number below 2^22, in f32.
const ROUND_F32: f32 = 1.5 * (1_u32 << 23) as f32;
/// Units within these bounds, and what is computed with them, are normal numbers in f32.
const UNITS: std::ops::RangeInclusive<f32> = 1e-30..=1e30;

/// [`Digits::take_rows`] with an instruction set.
pub(crate) struct TakeRows<'a> {
    pub(crate) digits: &'a mut Digits,
    pub(crate) rows: &'a [f32],
    pub(crate) columns: usize,
    pub(crate) centre: u8,
}

impl Kernel for TakeRows<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        self.digits.take_rows(self.rows, self.columns, self.centre);
    }
}

/// Columns `[tile of 16][step][digit 3][quad 16]`, each scaled by itself.
#[derive(Debug, Default)]
pub(crate) struct Digits {
    lines: Vec<Line>,
    start: Vec<[Sums; 3]>,
    /// By tile and column: the unit of the last digit, and what is added to a sum.
    pub(super) units: Vec<[f32; COLUMNS]>,
    pub(super) constants: Vec<[f32; COLUMNS]>,
    /// By tile and column: the sum of its whole numbers.
    totals: Vec<[f64; COLUMNS]>,
    largest: Vec<u32>,
    depth: usize,
    columns: usize,
}

impl Digits {
    pub(crate) fn tiles(&self) -> usize {
        self.columns.div_ceil(COLUMNS)
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn quads(&self) -> usize {
        self.depth.div_ceil(4)
    }

    pub(crate) fn steps(&self) -> usize {
        self.quads().div_ceil(16)
    }

    /// The lines of 16 columns, and what their sums begin with.
    pub(crate) fn tile(&self, tile: usize) -> (&[Line], &[Sums; 3]) {
        let each = self.steps() * 48;
        (&self.lines[tile * each..][..each], &self.start[tile])
    }

    fn resize(&mut self, depth: usize, columns: usize) {
        assert!(depth <= LONGEST, "sums of {depth} products may not fit i32");
        (self.depth, self.columns) = (depth, columns);
        let tiles = self.tiles();
        self.lines.resize(tiles * self.steps() * 48, Line::ZERO);
        self.start.resize(tiles, [Sums::ZERO; 3]);
        self.units.resize(tiles, [0.0; COLUMNS]);
        self.constants.resize(tiles, [0.0; COLUMNS]);
        self.totals.resize(tiles, [0.0; COLUMNS]);
    }

    /// Takes weights `[depth, stride]`, whose first `columns` count, and what is added to each column's sums. Bytes will
    /// count from `centre` on. Refuses numbers whose sums are no normal numbers in f32.
    ///
    /// # Panics
    /// If the buffers are too short, or the depth is beyond [`LONGEST`].
    #[inline(always)]
    pub(crate) fn take_weights(
        &mut self,
        weights: &[f64],
        stride: usize,
        columns: usize,
        centre: u8,
        constants: &[f64],
    ) -> bool {
        self.resize(weights.len() / stride, columns);
        // Magnitudes as whole numbers: in the order of their size, what is not finite above all others.
        let mut largest = vec![0_u64; stride];
        for row in weights.chunks_exact(stride) {
            for (largest, value) in largest.iter_mut().zip(row) {
                *largest = (*largest).max(value.abs().to_bits());
            }
        }
        for tile in 0..self.tiles() {
            let columns = COLUMNS.min(columns - tile * COLUMNS);
            let mut factors = [0.0; COLUMNS];
            for (column, factor) in factors[..columns].iter_mut().enumerate() {
                let at = tile * COLUMNS + column;
                let constant = constants[at] as f32;
                // Not below, so that the largest number stays within three digits.
                let unit = ((f64::from_bits(largest[at]) / LARGEST) as f32).next_up();
                let zero = largest[at] == 0;
                if !constant.is_finite() || !(zero || UNITS.contains(&unit)) {
                    return false;
                }
                self.constants[tile][column] = constant;
                self.units[tile][column] = if zero { 0.0 } else { unit };
                *factor = if zero { 0.0 } else { f64::from(unit).recip() };
            }
            self.fill(tile, centre, |row| {
                let mut values = [0.0; COLUMNS];
                values[..columns].copy_from_slice(&weights[row * stride + tile * COLUMNS..][..columns]);
                std::array::from_fn(|at| (values[at] * factors[at] + ROUND).to_bits() as u32)
            });
        }
        true
    }

    /// Takes f32 rows `[depth, columns]`. Bytes will count from `centre` on. Sums of a column with a number that is not
    /// finite are NaN.
    ///
    /// # Panics
    /// If the depth is beyond [`LONGEST`].
    #[inline(always)]
    pub(crate) fn take_rows(&mut self, rows: &[f32], columns: usize, centre: u8) {
        self.resize(rows.len() / columns, columns);
        // As in `take_weights`, of whole rows as they lie in memory.
        self.largest.clear();
        self.largest.resize(self.tiles() * COLUMNS, 0);
        for row in rows.chunks_exact(columns) {
            for (largest, value) in self.largest.iter_mut().zip(row) {
                *largest = (*largest).max(value.abs().to_bits());
            }
        }
        for tile in 0..self.tiles() {
            let first = tile * COLUMNS;
            let here = COLUMNS.min(columns - first);
            let mut factors = [0.0_f32; COLUMNS];
            for (column, factor) in factors.iter_mut().enumerate() {
                let largest = self.largest[first + column];
                let exponent = (largest >> 23).cast_signed();
                // The power of two below the largest becomes 2^21; below 2^-100 digits are lost.
                let unit = (exponent.max(27) - 21).cast_unsigned();
                self.units[tile][column] = match exponent {
                    255 => f32::NAN,
                    _ => f32::from_bits(unit << 23),
                };
                self.constants[tile][column] = 0.0;
                *factor = if exponent == 255 { 0.0 } else { self.units[tile][column].recip() };
            }
            // Powers of two: the products are exact, below 2^22.
            #[cfg(target_arch = "x86_64")]
            if wide::is_here() {
                let each = self.steps() * 48;
                let lines = &mut self.lines[tile * each..][..each];
                let rows = (rows[first..].as_ptr(), columns, self.depth);
                // SAFETY: the instructions are here, and there are so many rows.
                let totals = unsafe { wide::digits(rows, here, &factors, lines) };
                self.finish(tile, centre, totals);
                continue;
            }
            self.fill(tile, centre, |row| {
                let row = &rows[row * columns + first..];
                let mut values = [0.0; COLUMNS];
                match row.first_chunk() {
                    Some(whole) if here == COLUMNS => values = *whole,
                    _ => values[..here].copy_from_slice(&row[..here]),
                }
                std::array::from_fn(|at| {
                    (values[at] * factors[at] + ROUND_F32).to_bits().wrapping_sub(ROUND_F32.to_bits())
                })
            });
        }
    }

    /// Turns products with bytes `x` into those with `scale · x + shift`. Whether all columns are finite, and far below the
    /// largest numbers.
    pub(crate) fn scale(&mut self, scale: f32, shift: f32) -> bool {
        let tiles = self.units.iter_mut().zip(&mut self.constants).zip(&self.totals);
        for ((units, constants), totals) in tiles {
            for ((unit, constant), total) in units.iter_mut().zip(constants).zip(totals) {
                *constant = (f64::from(shift) * f64::from(*unit) * total) as f32;
                *unit *= scale;
            }
        }
        self.units.iter().flatten().all(|unit| unit.abs() <= *UNITS.end())
            && self.constants.iter().flatten().all(|constant| constant.is_finite())
    }

    /// Digits of a tile from its rows, which `take` makes whole numbers.
    #[inline(always)]
    fn fill(&mut self, tile: usize, centre: u8, take: impl Fn(usize) -> [u32; COLUMNS]) {
        let (depth, steps) = (self.depth, self.steps());
        let lines = &mut self.lines[tile * steps * 48..][..steps * 48];
        let mut totals = [[0_i32; COLUMNS]; 3];
        for quad in 0..16 * steps {
            // Numbers plus 2^7 + 2^15 + 2^23: their bytes are the digits plus 2^7.
            let mut biased = [[0x80_8080_u32; COLUMNS]; 4];
            for (at, biased) in biased.iter_mut().enumerate() {
                if 4 * quad + at < depth {
                    for (biased, number) in biased.iter_mut().zip(take(4 * quad + at)) {
                        *biased = biased.wrapping_add(number);
                    }
                }
            }
            for digit in 0..3 {
                let mut words = [0; COLUMNS];
                for (column, word) in words.iter_mut().enumerate() {
                    let byte = |row: usize| biased[row][column] >> (16 - 8 * digit) & 0xff;
                    let (b0, b1, b2, b3) = (byte(0), byte(1), byte(2), byte(3));
                    totals[digit][column] += (b0 + b1 + b2 + b3).cast_signed() - 4 * 128;
                    *word = (b0 | b1 << 8 | b2 << 16 | b3 << 24) ^ 0x8080_8080;
                }
                let line = &mut lines[quad / 16 * 48 + digit * 16 + quad % 16].0;
                for (to, word) in line.as_chunks_mut().0.iter_mut().zip(words) {
                    *to = word.to_le_bytes();
                }
            }
        }
        self.finish(tile, centre, totals);
    }

    /// What follows from the sums of all digits of a column, the highest first.
    fn finish(&mut self, tile: usize, centre: u8, totals: [[i32; COLUMNS]; 3]) {
        let [high, middle, low] = totals.map(|totals| totals.map(f64::from));
        self.totals[tile] =
            std::array::from_fn(|column| 65_536.0 * high[column] + 256.0 * middle[column] + low[column]);
        for (start, total) in self.start[tile].iter_mut().zip(totals) {
            start.0 = total.map(|total| -i32::from(centre) * total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers that a tile's digits stand for, in units.
    fn read(digits: &Digits, tile: usize, row: usize, column: usize) -> i64 {
        let (lines, _) = digits.tile(tile);
        let quad = row / 4;
        [65_536, 256, 1]
            .into_iter()
            .enumerate()
            .map(|(digit, weight)| {
                let line = lines[quad / 16 * 48 + digit * 16 + quad % 16].0;
                weight * i64::from(line[4 * column + row % 4] as i8)
            })
            .sum()
    }

    #[test]
    fn weights_are_within_half_a_unit() {
        let (depth, stride, columns) = (70, 24, 19);
        let mut weights: Vec<f64> = (0..depth * stride)
            .map(|at| ((at * 7919 % 1013) as f64 - 506.0) * f64::from(at as u32 % 24))
            .collect();
        // The largest in size, of either sign; column 0 is zero.
        weights[5 * stride + 1] = 1e6;
        weights[6 * stride + 2] = -1e6;
        let constants: Vec<f64> = (0..columns).map(|column| column as f64 / 3.0).collect();
        let mut digits = Digits::default();
        assert!(digits.take_weights(&weights, stride, columns, 3, &constants));
        for column in 0..columns {
            let (tile, at) = (column / 16, column % 16);
            let unit = f64::from(digits.units[tile][at]);
            let mut totals = [0; 3];
            for row in 0..depth {
                let found = read(&digits, tile, row, at) as f64 * unit;
                let weight = weights[row * stride + column];
                assert!((found - weight).abs() <= 0.5001 * unit, "{row} {column}: {found} {weight}");
                let quad = row / 4;
                for (digit, total) in totals.iter_mut().enumerate() {
                    let line = digits.tile(tile).0[quad / 16 * 48 + digit * 16 + quad % 16].0;
                    *total -= 3 * i32::from(line[4 * at + row % 4] as i8);
                }
            }
            assert_eq!(digits.tile(tile).1.map(|start| start.0[at]), totals);
            assert_eq!(digits.constants[tile][at], constants[column] as f32);
        }
        assert!(digits.tile(1).0[48 + 2..48 + 16].iter().all(|line| line.0 == [0; 64]), "beyond the rows");
    }

    #[test]
    fn weights_that_f32_does_not_hold_are_refused() {
        let mut digits = Digits::default();
        for bad in [f64::NAN, f64::INFINITY, 1e38, 1e-35] {
            assert!(!digits.take_weights(&[bad, 0.0, bad, bad / 2.0], 1, 1, 0, &[0.0]), "{bad}");
        }
        assert!(digits.take_weights(&[0.0; 9], 3, 3, 0, &[0.0; 3]));
    }

    #[test]
    fn rows_are_within_a_part_in_four_million_of_their_columns_largest() {
        let columns = [1.0_f32, 1e-20, 3.3e38, 0.0, 1e-29, 1e-45, f32::NAN, f32::INFINITY];
        let rows: Vec<f32> =
            (0..32 * 8).map(|at| ((at * 31 % 97) as f32 / 96.0 - 0.5) * columns[at % 8]).collect();
        let mut digits = Digits::default();
        digits.take_rows(&rows, 8, 0);
        for (column, size) in columns.into_iter().enumerate() {
            let unit = digits.units[0][column];
            if !size.is_finite() {
                assert!(unit.is_nan());
                continue;
            }
            for row in 0..32 {
                let found = read(&digits, 0, row, column) as f64 * f64::from(unit);
                let error = (found - f64::from(rows[row * 8 + column])).abs();
                assert!(error <= f64::from(size.max(1e-30)) / f64::from(1 << 22), "{size} {row}: {error}");
            }
        }
    }
}
