//! Rows of bytes as tiles: the left factor of a product.

use super::{Line, ROWS, STEP};

/// Rows of bytes, or the columns of such rows: `[pair of tiles][step][row 32]`.
///
/// What lies beyond the last row or the last byte of a row is whatever was there: the digits there are zero, and the sums
/// there are not used.
#[derive(Debug, Default)]
pub(crate) struct Bytes {
    lines: Vec<Line>,
    rows: usize,
    /// Bytes of a row.
    depth: usize,
}

impl Bytes {
    fn resize(&mut self, rows: usize, depth: usize) {
        (self.rows, self.depth) = (rows, depth);
        let lines = self.pairs() * self.steps() * ROWS;
        if self.lines.len() < lines {
            self.lines.resize(lines, Line::ZERO);
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn pairs(&self) -> usize {
        self.rows.div_ceil(ROWS)
    }

    pub(crate) fn steps(&self) -> usize {
        self.depth.div_ceil(STEP)
    }

    /// The lines of two tiles of rows.
    pub(crate) fn pair(&self, pair: usize) -> &[Line] {
        let each = self.steps() * ROWS;
        &self.lines[pair * each..][..each]
    }

    /// Takes so many rows of `depth` bytes.
    pub(crate) fn take_rows<'a>(&mut self, count: usize, depth: usize, x: impl Fn(usize) -> &'a [u8]) {
        self.resize(count, depth);
        let steps = self.steps();
        for row in 0..count {
            let lines = &mut self.lines[row / ROWS * steps * ROWS + row % ROWS..];
            let (whole, rest) = x(row).as_chunks::<STEP>();
            for (line, from) in lines.iter_mut().step_by(ROWS).zip(whole) {
                line.0 = *from;
            }
            if !rest.is_empty() {
                lines[whole.len() * ROWS].0[..rest.len()].copy_from_slice(rest);
            }
        }
    }

    /// Takes the columns of so many rows of `width` bytes.
    pub(crate) fn take_columns<'a>(&mut self, count: usize, width: usize, x: impl Fn(usize) -> &'a [u8]) {
        self.resize(width, count);
        let steps = self.steps();
        for block in 0..count.div_ceil(16) {
            let (step, at) = (block / 4, block % 4 * 16);
            let rows: [&[u8]; 16] =
                std::array::from_fn(|row| if 16 * block + row < count { x(16 * block + row) } else { &[] });
            for first in (0..width).step_by(16) {
                let lines = &mut self.lines[(first / ROWS * steps + step) * ROWS + first % ROWS..][..16];
                if 16 * (block + 1) <= count && first + 16 <= width {
                    let from: [[u8; 16]; 16] = std::array::from_fn(|row| {
                        *rows[row][first..].as_chunks().0.first().unwrap_or(&[0; 16])
                    });
                    for (line, column) in lines.iter_mut().zip(transposed(from)) {
                        line.0[at..at + 16].copy_from_slice(&column);
                    }
                } else {
                    for (row, from) in rows.iter().take(count - 16 * block).enumerate() {
                        for (line, byte) in lines.iter_mut().zip(&from[first..]) {
                            line.0[at + row] = *byte;
                        }
                    }
                }
            }
        }
    }
}

/// 16 rows of 16 bytes, transposed.
#[cfg(target_arch = "x86_64")]
fn transposed(rows: [[u8; 16]; 16]) -> [[u8; 16]; 16] {
    use std::arch::x86_64::{__m128i, _mm_unpackhi_epi8, _mm_unpacklo_epi8};
    // SAFETY: both are 256 bytes of any value.
    let mut v: [__m128i; 16] = unsafe { std::mem::transmute(rows) };
    // Interleaving the first half with the second moves the highest bit of (row, column) to the lowest place: four times
    // exchange both.
    for _ in 0..4 {
        v = std::array::from_fn(|at| {
            let (a, b) = (v[at / 2], v[at / 2 + 8]);
            // SAFETY: every x86-64 has SSE2.
            unsafe { if at % 2 == 0 { _mm_unpacklo_epi8(a, b) } else { _mm_unpackhi_epi8(a, b) } }
        });
    }
    // SAFETY: as above.
    unsafe { std::mem::transmute(v) }
}

/// 16 rows of 16 bytes, transposed.
#[cfg(not(target_arch = "x86_64"))]
fn transposed(rows: [[u8; 16]; 16]) -> [[u8; 16]; 16] {
    std::array::from_fn(|column| std::array::from_fn(|row| rows[row][column]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_transpose() {
        let rows = std::array::from_fn(|row| std::array::from_fn(|column| (16 * row + column) as u8));
        for (column, bytes) in transposed(rows).into_iter().enumerate() {
            assert_eq!(bytes, std::array::from_fn(|row| (16 * row + column) as u8));
        }
    }

    #[test]
    fn rows_and_columns_lie_where_tiles_read_them() {
        let mut bytes = Bytes::default();
        for (count, width) in [(1, 1), (33, 70), (80, 64), (47, 129), (16, 16), (160, 40)] {
            let x: Vec<u8> = (0..count * width).map(|at| (at * at / 7 + at) as u8).collect();
            let row = |at: usize| &x[at * width..][..width];
            bytes.take_rows(count, width, row);
            assert_eq!((bytes.pairs(), bytes.steps()), (count.div_ceil(32), width.div_ceil(64)));
            let find = |bytes: &Bytes, row: usize, at: usize| {
                bytes.pair(row / 32)[at / 64 * 32 + row % 32].0[at % 64]
            };
            for (at, byte) in x.iter().enumerate() {
                assert_eq!(find(&bytes, at / width, at % width), *byte, "{count} {width} {at}");
            }
            bytes.take_columns(count, width, row);
            assert_eq!((bytes.pairs(), bytes.steps()), (width.div_ceil(32), count.div_ceil(64)));
            for (at, byte) in x.iter().enumerate() {
                assert_eq!(find(&bytes, at % width, at / width), *byte, "{count} {width} {at} column");
            }
        }
    }
}
