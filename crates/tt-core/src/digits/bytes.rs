//! Rows of bytes as tiles: the left factor of a product.

#[cfg(target_arch = "x86_64")]
use super::wide;
use super::{Line, ROWS, STEP, TILE};

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
        let lines = rows.div_ceil(ROWS) * self.steps() * ROWS;
        if self.lines.len() < lines {
            self.lines.resize(lines, Line::ZERO);
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn steps(&self) -> usize {
        self.depth.div_ceil(STEP)
    }

    pub(crate) fn tiles(&self) -> usize {
        self.rows.div_ceil(TILE)
    }

    pub(crate) fn first(&self) -> *const Line {
        self.lines.as_ptr()
    }

    /// The lines of a step of a tile of 16 rows.
    pub(crate) fn tile(&self, tile: usize, step: usize) -> &[Line] {
        &self.lines[(tile / 2 * self.steps() + step) * ROWS + tile % 2 * TILE..][..TILE]
    }

    /// Takes so many rows of `depth` bytes.
    pub(crate) fn take_rows<'a>(&mut self, count: usize, depth: usize, x: impl Iterator<Item = &'a [u8]>) {
        self.resize(count, depth);
        let each = self.steps() * ROWS;
        for (row, x) in x.take(count).enumerate() {
            take_row(x, &mut self.lines[row / ROWS * each + row % ROWS..]);
        }
    }

    /// Takes the columns of so many rows of `width` bytes.
    pub(crate) fn take_columns<'a>(
        &mut self,
        count: usize,
        width: usize,
        mut x: impl Iterator<Item = &'a [u8]>,
    ) {
        self.resize(width, count);
        let steps = self.steps();
        for step in 0..steps {
            let rows: [&[u8]; STEP] = std::array::from_fn(|_| x.next().unwrap_or_default());
            for first in (0..width).step_by(STEP) {
                let rows = rows.map(|row| &row[first.min(row.len())..row.len().min(first + STEP)]);
                let lines = &mut self.lines[(first / ROWS * steps + step) * ROWS..];
                let Some((pair, rest)) = lines.split_first_chunk_mut() else {
                    unreachable!("a pair of tiles")
                };
                let next = rest.get_mut((steps - 1) * ROWS..).filter(|_| first + ROWS < width);
                transpose(&rows, pair, next.and_then(|lines| lines.first_chunk_mut()));
            }
        }
    }
}

/// A row of bytes to its lines, [`ROWS`] apart, zero beyond the last byte.
fn take_row(row: &[u8], lines: &mut [Line]) {
    #[cfg(target_arch = "x86_64")]
    if wide::is_here() {
        // SAFETY: the instructions are here.
        return unsafe { wide::take_row(row, lines) };
    }
    plain::take_row(row, lines);
}

/// Up to 64 rows of up to 64 bytes, transposed: a line has a byte of every row, zero where there is no row; lines of the
/// first 32 columns, and of the others if they are wanted.
fn transpose(rows: &[&[u8]; STEP], first: &mut [Line; ROWS], others: Option<&mut [Line; ROWS]>) {
    #[cfg(target_arch = "x86_64")]
    if wide::is_here() {
        // SAFETY: the instructions are here.
        return unsafe { wide::transpose(rows, first, others) };
    }
    plain::transpose(rows, first, others);
}

/// Without vectors.
mod plain {
    use super::{Line, ROWS, STEP};

    pub(super) fn take_row(row: &[u8], lines: &mut [Line]) {
        for (from, line) in row.chunks(STEP).zip(lines.iter_mut().step_by(ROWS)) {
            *line = Line::ZERO;
            line.0[..from.len()].copy_from_slice(from);
        }
    }

    pub(super) fn transpose(
        rows: &[&[u8]; STEP],
        first: &mut [Line; ROWS],
        others: Option<&mut [Line; ROWS]>,
    ) {
        let lines = first.iter_mut().chain(others.into_iter().flatten());
        for (column, line) in lines.enumerate() {
            for (byte, row) in line.0.iter_mut().zip(rows) {
                *byte = row.get(column).copied().unwrap_or(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_columns_lie_where_tiles_read_them() {
        let mut bytes = Bytes::default();
        for (count, width) in [(1, 1), (33, 70), (80, 64), (47, 129), (16, 16), (160, 40)] {
            let x: Vec<u8> = (0..count * width).map(|at| (at * at / 7 + at) as u8).collect();
            bytes.take_rows(count, width, x.chunks(width));
            assert_eq!((bytes.tiles(), bytes.steps()), (count.div_ceil(16), width.div_ceil(64)));
            let find =
                |bytes: &Bytes, row: usize, at: usize| bytes.tile(row / 16, at / 64)[row % 16].0[at % 64];
            for (at, byte) in x.iter().enumerate() {
                assert_eq!(find(&bytes, at / width, at % width), *byte, "{count} {width} {at}");
            }
            bytes.take_columns(count, width, x.chunks(width));
            assert_eq!((bytes.tiles(), bytes.steps()), (width.div_ceil(16), count.div_ceil(64)));
            for (at, byte) in x.iter().enumerate() {
                assert_eq!(find(&bytes, at % width, at / width), *byte, "{count} {width} {at} column");
            }
        }
    }

    #[test]
    fn vectors_do_what_plain_code_does() {
        let x: Vec<u8> = (0..64 * 64).map(|at| (at * at / 11) as u8).collect();
        for (count, width) in [(64, 64), (64, 40), (17, 64), (1, 1), (50, 33)] {
            let rows: [&[u8]; STEP] =
                std::array::from_fn(|row| if row < count { &x[64 * row..][..width] } else { &[] });
            let mut found = [[Line([9; 64]); ROWS]; 4];
            let [ours, others, plain, plain_others] = &mut found;
            transpose(&rows, ours, Some(others));
            plain::transpose(&rows, plain, Some(plain_others));
            assert!(ours == plain && others == plain_others, "{count} {width}");
            let mut lines = [[Line([9; 64]); 3 * ROWS]; 2];
            take_row(&x[..width + 70], &mut lines[0]);
            plain::take_row(&x[..width + 70], &mut lines[1]);
            assert!(lines[0] == lines[1]);
        }
    }
}
