//! The tile instructions in plain Rust, as Intel's manual defines them: the specification of the other units.

use std::ops::Range;

use super::{Column, Ring, STEP, Sums, TILE, Tiles};

/// Rows of a tile and bytes of its row that palette 1 allows, and how many tiles there are.
const MOST_ROWS: u8 = 16;
const MOST_BYTES: u8 = STEP as u8;
const TILES: usize = 8;

/// What `ldtilecfg` reads: rows and bytes of a row of each tile.
pub(super) const CONFIG: [u8; 64] = config([(16, 64); TILES]);

/// The 64 bytes of a configuration of palette 1.
pub(super) const fn config(tiles: [(u8, u8); TILES]) -> [u8; 64] {
    let mut bytes = [0; 64];
    bytes[0] = 1;
    let mut tile = 0;
    while tile < TILES {
        bytes[16 + 2 * tile] = tiles[tile].1;
        bytes[48 + tile] = tiles[tile].0;
        tile += 1;
    }
    bytes
}

#[derive(Debug, Clone, Copy)]
struct Tile {
    rows: usize,
    /// Bytes of a row.
    width: usize,
    data: [[u8; STEP]; MOST_ROWS as usize],
}

/// Eight tile registers.
#[derive(Debug)]
pub(super) struct Registers([Tile; TILES]);

impl Registers {
    /// `ldtilecfg`: the sizes of all tiles; their contents become zero.
    ///
    /// # Panics
    /// On what a processor refuses: another palette, reserved bytes that are not zero, more than palette 1 allows.
    pub(super) fn configured(config: &[u8; 64]) -> Self {
        assert_eq!(config[0], 1, "palette");
        let reserved = [&config[2..16], &config[32..48], &config[56..]].concat();
        assert!(reserved.iter().all(|byte| *byte == 0), "reserved bytes");
        Self(std::array::from_fn(|tile| {
            let (rows, width) = (config[48 + tile], config[16 + 2 * tile]);
            assert!(rows <= MOST_ROWS && width <= MOST_BYTES && config[17 + 2 * tile] == 0, "tile {tile}");
            // A tile without rows or columns is not there at all.
            assert_eq!(rows == 0, width == 0, "tile {tile}");
            Tile { rows: rows.into(), width: width.into(), data: [[0; STEP]; MOST_ROWS as usize] }
        }))
    }

    /// `tileloadd tile, [from + stride*1]`: what lies beyond the tile's rows and columns becomes zero.
    fn load(&mut self, tile: usize, from: &[u8], stride: usize) {
        let tile = &mut self.0[tile];
        tile.data = [[0; STEP]; MOST_ROWS as usize];
        for (row, to) in tile.data[..tile.rows].iter_mut().enumerate() {
            to[..tile.width].copy_from_slice(&from[row * stride..][..tile.width]);
        }
    }

    /// `tilestored [to + 64*1], tile`
    fn store(&self, tile: usize, to: &mut [Sums]) {
        let tile = &self.0[tile];
        for (row, to) in tile.data[..tile.rows].iter().zip(to) {
            let words = row[..tile.width].as_chunks().0.iter().map(|word| i32::from_le_bytes(*word));
            to.0.iter_mut().zip(words).for_each(|(to, word)| *to = word);
        }
    }

    /// `tdpbusd c, a, b`: bytes of a without sign times bytes of b with, four products to each sum, which wraps.
    ///
    /// # Panics
    /// On what a processor refuses: sizes that do not fit.
    fn dpbusd(&mut self, c: usize, a: usize, b: usize) {
        let (a, b) = (self.0[a], self.0[b]);
        let c = &mut self.0[c];
        assert!(a.width.is_multiple_of(4) && b.width.is_multiple_of(4) && c.width.is_multiple_of(4));
        assert!(c.rows == a.rows && a.width / 4 == b.rows && c.width == b.width, "sizes");
        for (row, to) in a.data[..a.rows].iter().zip(&mut c.data) {
            let mut sums = [0; STEP / 4];
            for (sum, word) in sums.iter_mut().zip(to.as_chunks().0) {
                *sum = i32::from_le_bytes(*word);
            }
            for (bytes, digits) in row[..a.width].as_chunks::<4>().0.iter().zip(&b.data) {
                for (sum, digits) in sums.iter_mut().zip(digits.as_chunks::<4>().0) {
                    for (byte, digit) in bytes.iter().zip(digits) {
                        *sum = sum.wrapping_add(i32::from(*byte) * i32::from(*digit as i8));
                    }
                }
            }
            *to = [0; STEP];
            for (word, sum) in to[..c.width].as_chunks_mut().0.iter_mut().zip(sums) {
                *word = sum.to_le_bytes();
            }
        }
        c.data[c.rows..].fill([0; STEP]);
    }
}

impl Tiles for Registers {
    /// The products of `amx.rs`, in their order.
    fn multiply(&mut self, column: &Column, tile: usize, ring: &mut Ring) -> Range<usize> {
        let flat = |lines: &[super::Line]| lines.iter().flat_map(|line| line.0).collect::<Vec<u8>>();
        let first = tile % 2 * 3;
        for (digit, start) in column.start.iter().enumerate() {
            let mut row = [0; STEP];
            row.as_chunks_mut().0.iter_mut().zip(start.0).for_each(|(to, sum)| *to = sum.to_le_bytes());
            self.load(first + digit, &row, 0);
        }
        for (step, digits) in column.digits.chunks_exact(48).enumerate() {
            self.load(6, &flat(column.bytes.tile(tile, step)), STEP);
            for (digit, digits) in digits.chunks_exact(16).enumerate() {
                self.load(7, &flat(digits), STEP);
                self.dpbusd(first + digit, 6, 7);
            }
        }
        for (digit, sums) in ring.tile(tile).chunks_exact_mut(TILE).enumerate() {
            self.store(first + digit, sums);
        }
        tile..tile + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(tiles: [(u8, u8); 8]) -> Registers {
        Registers::configured(&config(tiles))
    }

    #[test]
    fn a_load_clears_what_lies_beyond_the_tile() {
        let mut registers = registers([(3, 8), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]);
        registers.0[0].data = [[9; STEP]; 16];
        let from: Vec<u8> = (0..30).collect();
        registers.load(0, &from, 10);
        for (row, data) in registers.0[0].data.iter().enumerate() {
            for (at, byte) in data.iter().enumerate() {
                let expected = if row < 3 && at < 8 { 10 * row + at } else { 0 };
                assert_eq!(usize::from(*byte), expected, "row {row} byte {at}");
            }
        }
    }

    #[test]
    fn products_are_of_bytes_without_and_digits_with_sign() {
        // c [2 rows, 1 sum] = a [2 rows, 4 bytes] · b [1 row, 4 digits]
        let none = (0, 0);
        let mut registers = registers([(2, 4), (2, 4), (1, 4), none, none, none, none, none]);
        registers.0[0].data = [[1; STEP]; 16];
        registers.load(1, &[255, 1, 2, 3, 0, 0, 0, 255], 4);
        registers.load(2, &[0x80, 1, 2, 0xff], 4);
        registers.dpbusd(0, 1, 2);
        let mut sums = [Sums([7; 16]); 16];
        registers.store(0, &mut sums);
        let start = 0x0101_0101;
        assert_eq!([sums[0].0[0], sums[1].0[0]], [start - 255 * 128 + 1 + 4 - 3, start - 255]);
        assert_eq!([sums[0].0[1], sums[2].0[0]], [7, 7], "nothing beyond the tile is stored");
        assert!(registers.0[0].data[2..].iter().flatten().all(|byte| *byte == 0), "rows beyond are zero");
        assert!(registers.0[0].data[..2].iter().all(|row| row[4..].iter().all(|byte| *byte == 0)));
    }

    #[test]
    fn sums_wrap() {
        let mut registers = registers([(1, 4), (1, 4), (1, 4), (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]);
        registers.load(0, &i32::MAX.to_le_bytes(), 4);
        registers.load(1, &[1; 4], 4);
        registers.load(2, &[1; 4], 4);
        registers.dpbusd(0, 1, 2);
        assert_eq!(registers.0[0].data[0][..4], (i32::MIN + 3).to_le_bytes());
    }

    #[test]
    fn what_a_processor_refuses_is_refused() {
        let refused = |change: fn(&mut [u8; 64])| {
            let mut config = CONFIG;
            change(&mut config);
            std::panic::catch_unwind(|| Registers::configured(&config)).is_err()
        };
        assert!(!refused(|_| ()));
        assert!(refused(|config| config[0] = 2), "palette");
        assert!(refused(|config| config[48] = 17), "rows");
        assert!(refused(|config| config[16] = 68), "bytes of a row");
        assert!(refused(|config| config[17] = 1), "256 bytes and more");
        assert!(refused(|config| config[40] = 1), "reserved");
        assert!(refused(|config| config[50] = 0), "a row of no bytes");
    }
}
