//! Panels by AVX-512: what plain Rust does in the other files, to the same bytes, some times faster.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_cvtps_epi32, _mm512_maskz_loadu_epi8, _mm512_maskz_loadu_ps, _mm512_mul_ps, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_slli_epi32, _mm512_srli_epi32,
    _mm512_store_si512, _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi8,
    _mm512_unpacklo_epi8, _mm512_xor_si512,
};
use std::sync::OnceLock;

use super::{COLUMNS, Line, ROWS, STEP};

/// Whether this processor has the instructions.
pub(super) fn is_here() -> bool {
    static HERE: OnceLock<bool> = OnceLock::new();
    *HERE.get_or_init(|| {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vnni")
    })
}

/// The lowest `count` bits.
fn mask(count: usize) -> u64 {
    if count < 64 { (1 << count) - 1 } else { u64::MAX }
}

/// A row of bytes to its lines, [`ROWS`] apart, zero beyond the last byte.
///
/// # Safety
/// [`is_here`].
///
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn take_row(row: &[u8], lines: &mut [Line]) {
    let (whole, rest) = row.as_chunks::<STEP>();
    let mut lines = lines.iter_mut().step_by(ROWS);
    // SAFETY: only bytes of the row are read, and a line is 64 bytes on a boundary of 64.
    unsafe {
        for (from, line) in whole.iter().zip(&mut lines) {
            _mm512_store_si512(line.0.as_mut_ptr().cast(), _mm512_loadu_si512(from.as_ptr().cast()));
        }
        if let Some(line) = lines.next().filter(|_| !rest.is_empty()) {
            let rest = _mm512_maskz_loadu_epi8(mask(rest.len()), rest.as_ptr().cast());
            _mm512_store_si512(line.0.as_mut_ptr().cast(), rest);
        }
    }
}

/// Up to 64 rows of up to 64 bytes, transposed: a line has a byte of every row, zero where there is no row; lines of the
/// first 32 columns, and of the others if they are wanted.
///
/// # Safety
/// [`is_here`].
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) unsafe fn transpose(
    rows: &[&[u8]; STEP],
    first: &mut [Line; ROWS],
    others: Option<&mut [Line; ROWS]>,
) {
    let mut unwanted = [Line::ZERO; ROWS];
    let halves = [first, others.unwrap_or(&mut unwanted)];
    // SAFETY: rows are read up to their ends, lines are written whole.
    unsafe {
        // By block of 16 rows and column of a lane: in lane L the bytes of column 16 L + c.
        let mut turned = [[_mm512_setzero_si512(); 16]; 4];
        for (block, turned) in rows.chunks(16).zip(&mut turned) {
            for (row, to) in block.iter().zip(turned.iter_mut()) {
                *to = _mm512_maskz_loadu_epi8(mask(row.len()), row.as_ptr().cast());
            }
            // Interleaving the first half with the second moves the highest bit of (row, column) of a lane to the
            // lowest place: four times exchange both.
            for _ in 0..4 {
                let from = *turned;
                for at in 0..8 {
                    turned[2 * at] = _mm512_unpacklo_epi8(from[at], from[at + 8]);
                    turned[2 * at + 1] = _mm512_unpackhi_epi8(from[at], from[at + 8]);
                }
            }
        }
        for column in 0..16 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|block: usize| turned[block][column]);
            // Lanes 0 and 2, and 1 and 3, of two blocks each.
            let (even, odd) = (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
            let (even2, odd2) = (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
            for (lane, line) in [
                _mm512_shuffle_i32x4::<0x88>(even, even2),
                _mm512_shuffle_i32x4::<0x88>(odd, odd2),
                _mm512_shuffle_i32x4::<0xdd>(even, even2),
                _mm512_shuffle_i32x4::<0xdd>(odd, odd2),
            ]
            .into_iter()
            .enumerate()
            {
                let to = &mut halves[lane / 2][lane % 2 * 16 + column];
                _mm512_store_si512(to.0.as_mut_ptr().cast(), line);
            }
        }
    }
}

/// Digits of f32 rows `[depth, stride]`, up to 16 columns of them, times `factors`, rounded to the nearest whole number;
/// and the sums of all digits of a column, the highest first. `lines` are whole steps, zero beyond the last row.
///
/// # Safety
/// [`is_here`]; `depth` rows of `columns` numbers may be read, `stride` apart.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
pub(super) unsafe fn digits(
    (rows, stride, depth): (*const f32, usize, usize),
    columns: usize,
    factors: &[f32; COLUMNS],
    lines: &mut [Line],
) -> [[i32; COLUMNS]; 3] {
    // SAFETY: only rows below `depth` are read, and of them `columns` numbers; lines are written whole.
    unsafe {
        let factors = _mm512_loadu_ps(factors.as_ptr());
        let (bias, flip) = (_mm512_set1_epi32(0x80_8080), _mm512_set1_epi32(0x8080_8080_u32.cast_signed()));
        let (even, low) = (_mm512_set1_epi32(0x00ff_00ff), _mm512_set1_epi32(0xffff));
        let ones = _mm512_set1_epi8(1);
        let columns = mask(columns) as u16;
        let mut totals = [_mm512_setzero_si512(); 3];
        // Where a bit of the mask is set the first, else the second.
        let select = |mask: __m512i, a: __m512i, b: __m512i| _mm512_ternarylogic_epi32::<0xca>(mask, a, b);
        for (step, lines) in lines.chunks_exact_mut(48).enumerate() {
            for quad in 0..16 {
                let first = 64 * step + 4 * quad;
                // Plus 2^7 + 2^15 + 2^23: the bytes are the digits plus 2^7.
                let [a, b, c, d] = [0, 1, 2, 3].map(|at: usize| {
                    let mask = if first + at < depth { columns } else { 0 };
                    let row = _mm512_maskz_loadu_ps(mask, rows.wrapping_add((first + at) * stride));
                    let row = _mm512_mul_ps(row, factors);
                    _mm512_add_epi32(_mm512_mask_cvtps_epi32(_mm512_setzero_si512(), mask, row), bias)
                });
                let (even_ab, even_cd) =
                    (select(even, a, _mm512_slli_epi32::<8>(b)), select(even, c, _mm512_slli_epi32::<8>(d)));
                let (odd_ab, odd_cd) =
                    (select(even, _mm512_srli_epi32::<8>(a), b), select(even, _mm512_srli_epi32::<8>(c), d));
                let found = [
                    select(low, _mm512_srli_epi32::<16>(even_ab), even_cd),
                    select(low, odd_ab, _mm512_slli_epi32::<16>(odd_cd)),
                    select(low, even_ab, _mm512_slli_epi32::<16>(even_cd)),
                ];
                for (digit, (found, total)) in found.into_iter().zip(&mut totals).enumerate() {
                    let found = _mm512_xor_si512(found, flip);
                    *total = _mm512_dpbusd_epi32(*total, ones, found);
                    _mm512_store_si512(lines[16 * digit + quad].0.as_mut_ptr().cast(), found);
                }
            }
        }
        totals.map(|total| {
            let mut numbers = [0; COLUMNS];
            _mm512_storeu_si512(numbers.as_mut_ptr().cast(), total);
            numbers
        })
    }
}
