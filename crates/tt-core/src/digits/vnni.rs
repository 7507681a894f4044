//! AVX-512's products of four bytes with four digits: the panels of the tiles, 16 columns at a time.

use std::arch::x86_64::{
    __m512i, _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_set1_epi32, _mm512_store_si512,
};

use std::ops::Range;

use super::{Column, Line, Ring, TILE, TileSums, Tiles};

/// Rows done at once: with three digits 24 sums stay in registers.
const AT_ONCE: usize = 8;

/// The instructions of this processor.
#[derive(Debug)]
pub(super) struct Vnni(());

impl Vnni {
    /// Whether the processor has them.
    pub(super) fn is_here() -> bool {
        is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni")
    }

    /// # Safety
    /// The processor has them.
    pub(super) unsafe fn new() -> Self {
        Self(())
    }
}

impl Tiles for Vnni {
    fn multiply(&mut self, column: &Column, tile: usize, ring: &mut Ring) -> Range<usize> {
        // SAFETY: who called `new` vouches for the instructions.
        unsafe { multiply(column, tile, ring.tile(tile)) }
        tile..tile + 1
    }
}

/// # Safety
/// The processor has AVX-512 F and VNNI.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn multiply(column: &Column, tile: usize, to: &mut TileSums) {
    for first in (0..TILE).step_by(AT_ONCE) {
        // SAFETY: loads and stores of whole lines, of 64 bytes on a boundary of 64; a quad is four bytes of one.
        unsafe {
            let mut sums = [[_mm512_set1_epi32(0); 3]; AT_ONCE];
            for row in &mut sums {
                for (sum, start) in row.iter_mut().zip(column.start) {
                    *sum = _mm512_load_si512(start.0.as_ptr().cast());
                }
            }
            let mut left = column.quads;
            for (step, digits) in column.digits.as_chunks::<48>().0.iter().enumerate() {
                let bytes: &[Line; AT_ONCE] = match column.bytes.tile(tile, step)[first..].first_chunk() {
                    Some(bytes) => bytes,
                    None => unreachable!("a tile has 16 rows"),
                };
                for quad in 0..left.min(16) {
                    let digits: [__m512i; 3] = std::array::from_fn(|digit| {
                        _mm512_load_si512(digits[16 * digit + quad].0.as_ptr().cast())
                    });
                    for (row, sums) in bytes.iter().zip(&mut sums) {
                        let four = _mm512_set1_epi32(*std::ptr::from_ref(row).cast::<i32>().add(quad));
                        for (sum, digits) in sums.iter_mut().zip(digits) {
                            *sum = _mm512_dpbusd_epi32(*sum, four, digits);
                        }
                    }
                }
                left -= left.min(16);
            }
            for (row, sums) in sums.into_iter().enumerate() {
                for (digit, sum) in sums.into_iter().enumerate() {
                    _mm512_store_si512(to[digit * TILE + first + row].0.as_mut_ptr().cast(), sum);
                }
            }
        }
    }
}
