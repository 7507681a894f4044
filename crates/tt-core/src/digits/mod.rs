//! Products of bytes with numbers in three digits of base 256, exact in integers: for pixels, as accurate as products
//! in f32 and several times faster where a processor multiplies tiles of bytes.
//!
//! A column of weights is scaled to whole numbers of 24 bits and cut into three balanced digits (-128 to 127). A byte
//! times a digit, summed up in i32, is exact for up to [`LONGEST`] products, so these sums do not depend on their order,
//! nor on what computed them; only their combination to f32 rounds, in one fixed order.
//!
//! Three units do the products, all from the same panels ([`Bytes`], [`Digits`]) and with the same integers: Intel's
//! tile registers ([`Unit::Amx`]), the byte products of AVX-512 ([`Unit::Vnni`]), and plain Rust ([`Unit::Emulated`]),
//! which carries out the tile instructions one by one, so that a machine without them tests what a machine with them
//! runs.
#![expect(unsafe_code, reason = "vectors, tiles and cache lines seen as numbers")]

#[cfg(target_arch = "x86_64")]
mod amx;
mod bytes;
mod columns;
mod emulated;
mod product;
mod unit;
#[cfg(target_arch = "x86_64")]
mod vnni;
#[cfg(target_arch = "x86_64")]
mod wide;

pub(crate) use bytes::Bytes;
pub(crate) use columns::{Digits, TakeRows};
pub(crate) use product::{Ahead, End, Product, Ring, Scratch};
pub(crate) use unit::Ready;
pub use unit::Unit;

use std::ops::Range;

/// Bytes of a row of a tile.
pub(crate) const STEP: usize = 64;
/// Rows of a tile.
pub(crate) const TILE: usize = 16;
/// Rows of a pair of tiles.
pub(crate) const ROWS: usize = 32;
/// Columns of a tile: the 32-bit numbers in a row of a tile.
pub(crate) const COLUMNS: usize = 16;
/// Products that a sum in i32 holds for certain: 255 · 128 · 65,793 < 2^31.
pub(crate) const LONGEST: usize = 65_793;

/// A row of a tile: 64 bytes, or 16 columns of 4 digits.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; STEP]);

/// A row of a tile of sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub(crate) struct Sums(pub(crate) [i32; COLUMNS]);

impl Line {
    pub(crate) const ZERO: Self = Self([0; STEP]);
}

impl Sums {
    pub(crate) const ZERO: Self = Self([0; COLUMNS]);
}

/// The sums of a tile of rows: `[digit 3][row 16]`, the highest digit first.
pub(crate) type TileSums = [Sums; 3 * TILE];

/// The work of a unit: all rows of bytes times 16 columns of three digits.
pub(crate) struct Column<'a> {
    pub(crate) bytes: &'a Bytes,
    /// `[step][digit 3][quad 16]`: four products of each column in a line, zero beyond the last.
    pub(crate) digits: &'a [Line],
    /// What the sums of a digit begin with in every row.
    pub(crate) start: &'a [Sums; 3],
    /// Quads of products up to the last that is not zero: a unit may do more, up to whole steps.
    pub(crate) quads: usize,
    /// How sums become numbers, and where.
    pub(crate) end: End<'a>,
    /// What will be read next, and so may be asked for meanwhile.
    pub(crate) ahead: Ahead<'a>,
}

/// A unit ready for work on this thread.
pub(crate) trait Tiles {
    /// `sums = start + bytes · digits` of some tiles of rows from `first` on, and their end, but for the tiles that are
    /// returned: their sums are in the ring. The tiles that follow them are not multiplied yet.
    fn multiply(&mut self, column: &Column, first: usize, ring: &mut Ring) -> Range<usize>;
}
