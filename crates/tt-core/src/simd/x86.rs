//! AVX-512, the same on vectors of 256 bits, and AVX2 with FMA.

use super::{Kernel, Simd, operations};
#[cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "sixty intrinsics"))]
use std::arch::x86_64::*;

/// 16 lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512;
/// 8 lanes and the 32 registers of AVX-512.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Narrow;
/// 8 lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2;

/// # Safety
/// The processor has AVX-512 F, BW, DQ and VL.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn run_avx512<K: Kernel, S: Simd>(kernel: K) {
    // SAFETY: passed on from the caller.
    unsafe { kernel.run::<S>() }
}

/// # Safety
/// The processor has AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn run_avx2<K: Kernel>(kernel: K) {
    // SAFETY: passed on from the caller.
    unsafe { kernel.run::<Avx2>() }
}

const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const MR: usize = 8;
    const ACCUMULATORS: usize = 24;

    operations! {
        fn splat(x: f32) -> __m512 { _mm512_set1_ps(x) }
        fn load(p: *const f32) -> __m512 { _mm512_loadu_ps(p) }
        fn load4(p: *const f32) -> __m512 { _mm512_broadcast_f32x4(_mm_loadu_ps(p)) }
        fn store(p: *mut f32, v: __m512) { _mm512_storeu_ps(p, v) }
        fn load_partial(p: *const f32, n: usize) -> __m512 { _mm512_maskz_loadu_ps(0xFFFF >> (16 - n), p) }
        fn store_partial(p: *mut f32, v: __m512, n: usize) { _mm512_mask_storeu_ps(p, 0xFFFF >> (16 - n), v) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn fma(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn sqrt(a: __m512) -> __m512 { _mm512_sqrt_ps(a) }
        fn abs(a: __m512) -> __m512 { _mm512_abs_ps(a) }
        fn copysign(a: __m512, b: __m512) -> __m512 {
            let sign = _mm512_set1_epi32(i32::MIN);
            // Bitwise: where the sign mask is set take b, else a.
            let (a, b) = (_mm512_castps_si512(a), _mm512_castps_si512(b));
            _mm512_castsi512_ps(_mm512_ternarylogic_epi32::<0xB8>(a, sign, b))
        }
        fn round(a: __m512) -> __m512 { _mm512_roundscale_ps::<NEAREST>(a) }
        fn exp2_int(n: __m512) -> __m512 {
            let n = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n))
        }
        fn select_lt(a: __m512, b: __m512, yes: __m512, no: __m512) -> __m512 {
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), no, yes)
        }
        fn load_i32(p: *const i32) -> __m512 { _mm512_cvtepi32_ps(_mm512_loadu_si512(p.cast())) }
        fn load_u8(p: *const u8) -> __m512 {
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())))
        }
        fn prefetch<T>(p: *const T) { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        fn prefetch_near<T>(p: *const T) { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        fn spread(rows: *const f32, stride: usize, columns: usize, to: *mut f32) {
            spread(rows, stride, columns, to);
        }
    }
}

/// [`Simd::spread`] on vectors of 512 bits.
///
/// # Safety
/// The processor has AVX-512 F; rows are readable in whole vectors, and `to` has room.
#[inline(always)]
unsafe fn spread(rows: *const f32, stride: usize, columns: usize, to: *mut f32) {
    // SAFETY: the caller has the instruction set, rows readable in whole vectors, and room in `to`.
    unsafe {
        for start in (0..columns).step_by(16) {
            let row = |j: usize| _mm512_loadu_ps(rows.add(j * stride + start));
            let (r0, r1, r2, r3) = (row(0), row(1), row(2), row(3));
            // Blocks of four numbers: [row, block] to [block, row].
            let (a, b) = (_mm512_shuffle_f32x4::<0x88>(r0, r1), _mm512_shuffle_f32x4::<0x88>(r2, r3));
            let (c, d) = (_mm512_shuffle_f32x4::<0xdd>(r0, r1), _mm512_shuffle_f32x4::<0xdd>(r2, r3));
            let blocks = [
                _mm512_shuffle_f32x4::<0x88>(a, b),
                _mm512_shuffle_f32x4::<0x88>(c, d),
                _mm512_shuffle_f32x4::<0xdd>(a, b),
                _mm512_shuffle_f32x4::<0xdd>(c, d),
            ];
            for (g, block) in blocks.into_iter().enumerate() {
                let at = start + 4 * g;
                if at + 4 <= columns {
                    let to = to.add(16 * at);
                    _mm512_storeu_ps(to, _mm512_permute_ps::<0x00>(block));
                    _mm512_storeu_ps(to.add(16), _mm512_permute_ps::<0x55>(block));
                    _mm512_storeu_ps(to.add(32), _mm512_permute_ps::<0xaa>(block));
                    _mm512_storeu_ps(to.add(48), _mm512_permute_ps::<0xff>(block));
                }
            }
        }
    }
}

/// What both types of 256 bits share.
macro_rules! operations_of_256_bits {
    () => {
        operations! {
            fn splat(x: f32) -> __m256 { _mm256_set1_ps(x) }
            fn load(p: *const f32) -> __m256 { _mm256_loadu_ps(p) }
            fn load4(p: *const f32) -> __m256 { _mm256_broadcast_ps(&_mm_loadu_ps(p)) }
            fn store(p: *mut f32, v: __m256) { _mm256_storeu_ps(p, v) }
            fn add(a: __m256, b: __m256) -> __m256 { _mm256_add_ps(a, b) }
            fn sub(a: __m256, b: __m256) -> __m256 { _mm256_sub_ps(a, b) }
            fn mul(a: __m256, b: __m256) -> __m256 { _mm256_mul_ps(a, b) }
            fn div(a: __m256, b: __m256) -> __m256 { _mm256_div_ps(a, b) }
            fn fma(a: __m256, b: __m256, c: __m256) -> __m256 { _mm256_fmadd_ps(a, b, c) }
            fn min(a: __m256, b: __m256) -> __m256 { _mm256_min_ps(a, b) }
            fn max(a: __m256, b: __m256) -> __m256 { _mm256_max_ps(a, b) }
            fn sqrt(a: __m256) -> __m256 { _mm256_sqrt_ps(a) }
            fn abs(a: __m256) -> __m256 { _mm256_andnot_ps(_mm256_set1_ps(-0.0), a) }
            fn copysign(a: __m256, b: __m256) -> __m256 {
                let sign = _mm256_set1_ps(-0.0);
                _mm256_or_ps(_mm256_and_ps(sign, b), _mm256_andnot_ps(sign, a))
            }
            fn round(a: __m256) -> __m256 { _mm256_round_ps::<NEAREST>(a) }
            fn exp2_int(n: __m256) -> __m256 {
                let n = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
            }
            fn select_lt(a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
                _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b))
            }
            fn load_i32(p: *const i32) -> __m256 { _mm256_cvtepi32_ps(_mm256_loadu_si256(p.cast())) }
            fn load_u8(p: *const u8) -> __m256 {
                _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())))
            }
            fn prefetch<T>(p: *const T) { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
            fn prefetch_near<T>(p: *const T) { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
    };
}

impl Simd for Narrow {
    type V = __m256;
    const LANES: usize = 8;
    const MR: usize = 8;
    const ACCUMULATORS: usize = 24;

    operations_of_256_bits!();
    operations! {
        fn load_partial(p: *const f32, n: usize) -> __m256 { _mm256_maskz_loadu_ps(0xFF >> (8 - n), p) }
        fn store_partial(p: *mut f32, v: __m256, n: usize) { _mm256_mask_storeu_ps(p, 0xFF >> (8 - n), v) }
        fn spread(rows: *const f32, stride: usize, columns: usize, to: *mut f32) {
            spread(rows, stride, columns, to);
        }
    }
}

/// A mask with the first `n` of eight lanes set.
#[inline(always)]
unsafe fn mask(n: usize) -> __m256i {
    static ONES: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: eight numbers from place `8 - n` on, and `1 <= n <= 8`.
    unsafe { _mm256_loadu_si256(ONES.as_ptr().add(8 - n).cast()) }
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const MR: usize = 6;
    const ACCUMULATORS: usize = 12;

    operations_of_256_bits!();
    operations! {
        fn load_partial(p: *const f32, n: usize) -> __m256 { _mm256_maskload_ps(p, mask(n)) }
        fn store_partial(p: *mut f32, v: __m256, n: usize) { _mm256_maskstore_ps(p, mask(n), v) }
    }
}
