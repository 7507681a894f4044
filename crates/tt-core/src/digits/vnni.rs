//! AVX-512's products of four bytes with four digits: the panels of the tiles, 16 columns at a time.

use std::arch::x86_64::{
    __m512i, _mm512_dpbusd_epi32, _mm512_load_si512, _mm512_set1_epi32, _mm512_store_si512,
};

use super::{Block, ROWS, Tiles};

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
    fn multiply(&mut self, block: &mut Block) {
        block.steps();
        // SAFETY: who called `new` vouches for the instructions, and `steps` checked the lengths.
        unsafe { multiply(block) }
    }
}

/// # Safety
/// The processor has AVX-512 F and VNNI; the block's lines are as many as its quads ask for.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn multiply(block: &mut Block) {
    for first in (0..ROWS).step_by(AT_ONCE) {
        // SAFETY: line `16 (3 s + d) + q` of the digits and `32 s + row` of the bytes exist for every quad `16 s + q`
        // below `quads`; a line is 64 bytes on a boundary of 64.
        unsafe {
            let mut sums = [[_mm512_set1_epi32(0); 3]; AT_ONCE];
            for row in &mut sums {
                for (sum, start) in row.iter_mut().zip(block.start) {
                    *sum = _mm512_load_si512(start.0.as_ptr().cast());
                }
            }
            let (mut bytes, mut digits) = (block.bytes.as_ptr().add(first), block.digits.as_ptr());
            let mut left = block.quads;
            while left > 0 {
                for quad in 0..left.min(16) {
                    let digits: [__m512i; 3] =
                        std::array::from_fn(|digit| _mm512_load_si512(digits.add(16 * digit + quad).cast()));
                    for (row, sums) in sums.iter_mut().enumerate() {
                        let four = _mm512_set1_epi32(*bytes.add(row).cast::<i32>().add(quad));
                        for (sum, digits) in sums.iter_mut().zip(digits) {
                            *sum = _mm512_dpbusd_epi32(*sum, four, digits);
                        }
                    }
                }
                left -= left.min(16);
                (bytes, digits) = (bytes.wrapping_add(ROWS), digits.wrapping_add(48));
            }
            for (row, row_sums) in sums.into_iter().enumerate() {
                let row = first + row;
                for (digit, sum) in row_sums.into_iter().enumerate() {
                    let to = &mut block.sums[(row / 16 * 3 + digit) * 16 + row % 16];
                    _mm512_store_si512(to.0.as_mut_ptr().cast(), sum);
                }
            }
        }
    }
}
