//! Products of panels by a unit, and the combination of the digits' sums to numbers.

use super::{Bytes, COLUMNS, Column, Digits, Sums, TILE, TileSums, Tiles};
use crate::simd::{Kernel, Simd};

/// Tiles of sums between their products and their end.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Ring(pub(super) [(TileSums, Sums); Ring::TILES]);

impl Ring {
    pub(super) const TILES: usize = 4;

    /// The place of a tile. A line lies between two of them, so that they are no multiple of a page apart: a processor
    /// takes a load for one of the store before it when only the upper bits of their addresses differ.
    pub(super) fn tile(&mut self, tile: usize) -> &mut TileSums {
        &mut self.0[tile % Self::TILES].0
    }
}

/// Memory for the sums of a worker.
#[derive(Debug)]
pub(crate) struct Scratch(Box<Ring>);

impl Default for Scratch {
    fn default() -> Self {
        Self(Box::new(Ring([([Sums::ZERO; 3 * TILE], Sums::ZERO); Ring::TILES])))
    }
}

/// `to[places[r]..][..columns] = constants + bytes[r] · digits`, or adds to what is there.
pub(crate) struct Product<'a> {
    pub(crate) unit: &'a mut dyn Tiles,
    pub(crate) bytes: &'a Bytes,
    pub(crate) digits: &'a Digits,
    /// Where each row of the result begins.
    pub(crate) places: &'a [usize],
    pub(crate) to: &'a mut [f32],
    pub(crate) add: bool,
    /// What will be read next, and so may be asked for meanwhile.
    pub(crate) ahead: &'a [&'a [u8]],
    pub(crate) scratch: &'a mut Scratch,
}

impl Kernel for Product<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { unit, bytes, digits, places, to, add, ahead, scratch } = self;
        assert_eq!(bytes.steps(), digits.steps(), "steps of bytes and digits");
        assert_eq!(bytes.rows(), places.len(), "rows and their places");
        assert!(places.iter().all(|place| place + digits.columns() <= to.len()), "places");
        for tile in 0..digits.tiles() {
            let (lines, start) = digits.tile(tile);
            let end = End {
                unit: &digits.units[tile],
                constant: &digits.constants[tile],
                places,
                to: to[tile * COLUMNS..].as_mut_ptr(),
                columns: COLUMNS.min(digits.columns() - tile * COLUMNS),
                add,
            };
            let ahead = Ahead { rows: ahead, part: tile, parts: digits.tiles() };
            let column = Column { bytes, digits: lines, start, quads: digits.quads(), end, ahead };
            let mut next = 0;
            while next < bytes.tiles() {
                let left = unit.multiply(&column, next, &mut scratch.0);
                for tile in left.clone() {
                    // SAFETY: the caller vouches for the instruction set; `places` were checked above.
                    unsafe { column.end.combine::<S>(tile, scratch.0.tile(tile)) }
                }
                next = left.end;
            }
        }
    }
}

/// How the sums of 16 columns become numbers, and where.
pub(crate) struct End<'a> {
    /// By column: the unit of the last digit, and what is added to a sum.
    pub(super) unit: &'a [f32; COLUMNS],
    pub(super) constant: &'a [f32; COLUMNS],
    /// Where each row of the result begins, behind `to`: `columns` numbers that may be written, or added to.
    pub(super) places: &'a [usize],
    pub(super) to: *mut f32,
    pub(super) columns: usize,
    pub(super) add: bool,
}

impl End<'_> {
    /// # Safety
    /// The processor has the instruction set of `S`; `columns` numbers at each place behind `to` may be written.
    #[inline(always)]
    unsafe fn combine<S: Simd>(&self, tile: usize, sums: &TileSums) {
        let places = &self.places[tile * TILE..self.places.len().min((tile + 1) * TILE)];
        // SAFETY: vectors within 16 numbers of a line; places as the caller promises.
        unsafe {
            for first in (0..self.columns).step_by(S::LANES) {
                let lanes = S::LANES.min(self.columns - first);
                let low = S::load(self.unit.as_ptr().add(first));
                let (middle, high) = (S::mul(low, S::splat(256.0)), S::mul(low, S::splat(65_536.0)));
                let constant = S::load(self.constant.as_ptr().add(first));
                for (row, place) in places.iter().enumerate() {
                    let sums = |digit: usize| S::load_i32(sums[digit * TILE + row].0.as_ptr().add(first));
                    let sum = S::fma(sums(2), low, constant);
                    let sum = S::fma(sums(0), high, S::fma(sums(1), middle, sum));
                    let to = self.to.add(place + first);
                    match (lanes == S::LANES, self.add) {
                        (true, false) => S::store(to, sum),
                        (true, true) => S::store(to, S::add(S::load(to), sum)),
                        (false, false) => S::store_partial(to, sum, lanes),
                        (false, true) => {
                            S::store_partial(to, S::add(S::load_partial(to, lanes), sum), lanes);
                        }
                    }
                }
            }
        }
    }
}

/// A part of the rows that will be read next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead<'a> {
    rows: &'a [&'a [u8]],
    part: usize,
    parts: usize,
}

impl Ahead<'_> {
    /// Where to begin, and how many lines of memory. A hint: at the end of a row other memory may follow than its next.
    pub(super) fn lines(self) -> (*const u8, usize) {
        let Some(width) = self.rows.first().map(|row| row.len()) else { return (std::ptr::null(), 0) };
        let each = (self.rows.len() * width).div_ceil(self.parts);
        let (row, at) = (self.part * each / width, self.part * each % width);
        self.rows.get(row).map_or((std::ptr::null(), 0), |row| (row[at..].as_ptr(), each.div_ceil(64)))
    }
}
