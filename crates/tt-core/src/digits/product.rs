//! Products of panels by a unit, and the combination of the digits' sums to numbers.

use super::{BlockSums, Bytes, COLUMNS, Digits, ROWS, Sums, Tiles};
use crate::simd::{Kernel, Simd};

/// Sums of two blocks: one is combined while a unit works on the next.
#[derive(Debug)]
pub(crate) struct Scratch(Box<[BlockSums; 2]>);

impl Default for Scratch {
    fn default() -> Self {
        Self(Box::new([[Sums::ZERO; 96]; 2]))
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
    pub(crate) scratch: &'a mut Scratch,
}

impl Kernel for Product<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { unit, bytes, digits, places, to, add, scratch } = self;
        assert_eq!(bytes.steps(), digits.steps(), "steps of bytes and digits");
        assert_eq!(bytes.rows(), places.len(), "rows and their places");
        assert!(places.iter().all(|place| place + digits.columns() <= to.len()), "places");
        let blocks = digits.tiles() * bytes.pairs();
        for block in 0..=blocks {
            if block < blocks {
                let (tile, pair) = (block / bytes.pairs(), block % bytes.pairs());
                let (lines, start) = digits.tile(tile);
                unit.multiply(&mut super::Block {
                    bytes: bytes.pair(pair),
                    digits: lines,
                    start,
                    sums: &mut scratch.0[block % 2],
                    quads: digits.quads(),
                });
            }
            if let Some(done) = block.checked_sub(1) {
                let (tile, pair) = (done / bytes.pairs(), done % bytes.pairs());
                let first = pair * ROWS;
                let combine = Combine {
                    sums: &scratch.0[done % 2],
                    unit: &digits.units[tile],
                    constant: &digits.constants[tile],
                    places: &places[first..places.len().min(first + ROWS)],
                    to: to[tile * COLUMNS..].as_mut_ptr(),
                    columns: COLUMNS.min(digits.columns() - tile * COLUMNS),
                    add,
                };
                // SAFETY: the caller vouches for the instruction set; `places` were checked above.
                unsafe { combine.run::<S>() }
            }
        }
    }
}

/// The end of a block.
struct Combine<'a> {
    sums: &'a BlockSums,
    unit: &'a [f32; COLUMNS],
    constant: &'a [f32; COLUMNS],
    places: &'a [usize],
    to: *mut f32,
    columns: usize,
    add: bool,
}

impl Combine<'_> {
    /// # Safety
    /// The processor has the instruction set of `S`; `columns` numbers at each place behind `to` may be written.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: vectors within 16 numbers of a line; places as the caller promises.
        unsafe {
            for first in (0..self.columns).step_by(S::LANES) {
                let lanes = S::LANES.min(self.columns - first);
                let low = S::load(self.unit.as_ptr().add(first));
                let (middle, high) = (S::mul(low, S::splat(256.0)), S::mul(low, S::splat(65_536.0)));
                let constant = S::load(self.constant.as_ptr().add(first));
                for (row, place) in self.places.iter().enumerate() {
                    let sums = |digit: usize| {
                        let line = &self.sums[(row / 16 * 3 + digit) * 16 + row % 16];
                        S::load_i32(line.0.as_ptr().add(first))
                    };
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
