//! The few vector operations that the kernels need, for each instruction set.
#![expect(unsafe_code, reason = "vector intrinsics; every kernel states the memory it touches")]

/// Vectors of f32.
///
/// # Safety
/// Every operation needs the instruction set that the implementor is named after, and pointers valid for
/// the lanes it reads or writes.
pub(super) trait Simd: Copy {
    /// Numbers in a vector.
    const LANES: usize;
    /// Accumulators that fit the registers beside the operands.
    const ACCUMULATORS: usize;
    /// A vector.
    type V: Copy;

    unsafe fn zero() -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    /// Four numbers, repeated over the vector.
    unsafe fn load4(p: *const f32) -> Self::V;
    /// One number, repeated over the vector.
    unsafe fn splat(p: *const f32) -> Self::V;
    /// `a * b + c`.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n` numbers only, 0 < n < LANES.
    unsafe fn store_first(p: *mut f32, v: Self::V, n: usize);
    /// Converts `LANES` bytes.
    unsafe fn bytes(p: *const u8) -> Self::V;
    /// Asks for a cache line, which need not exist.
    unsafe fn prefetch(_: *const u8) {}
    /// Four rows of `columns` numbers to vectors of 16 (row, 4 times): `to [c, (j, a)] = rows [j, c]`. Rows
    /// are readable up to the next multiple of 16.
    #[inline(always)]
    unsafe fn spread(rows: *const f32, stride: usize, columns: usize, to: *mut f32) {
        for c in 0..columns {
            for j in 0..4 {
                // SAFETY: inside the caller's rows and vectors.
                unsafe {
                    to.add(16 * c + 4 * j).cast::<[f32; 4]>().write_unaligned([*rows.add(j * stride + c); 4]);
                }
            }
        }
    }
}

/// Plain Rust, four numbers at a time.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

impl Simd for Scalar {
    const LANES: usize = 4;
    const ACCUMULATORS: usize = 8;
    type V = [f32; 4];

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        [0.0; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        // SAFETY: the caller vouches for four numbers.
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load4(p: *const f32) -> Self::V {
        // SAFETY: as above.
        unsafe { Self::load(p) }
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> Self::V {
        // SAFETY: the caller vouches for one number.
        [unsafe { *p }; 4]
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        [a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]]
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        // SAFETY: the caller vouches for four numbers.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: Self::V, n: usize) {
        // SAFETY: the caller vouches for n numbers.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr(), p, n) }
    }
    #[inline(always)]
    unsafe fn bytes(p: *const u8) -> Self::V {
        // SAFETY: the caller vouches for four bytes.
        unsafe { p.cast::<[u8; 4]>().read_unaligned() }.map(f32::from)
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Avx2, Avx512, Narrow};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::{
        __m256, __m512, _MM_HINT_T0, _mm_loadl_epi64, _mm_loadu_ps, _mm_loadu_si128, _mm_prefetch,
        _mm256_broadcast_ps, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_fmadd_ps, _mm256_loadu_ps,
        _mm256_mask_storeu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_broadcast_f32x4,
        _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
        _mm512_permute_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_storeu_ps,
    };

    /// 16 lanes; tested on AMD Zen 4.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx512;

    impl Simd for Avx512 {
        const LANES: usize = 16;
        const ACCUMULATORS: usize = 24;
        type V = __m512;

        #[inline(always)]
        unsafe fn zero() -> __m512 {
            // SAFETY: the caller has the instruction set.
            unsafe { _mm512_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            // SAFETY: the caller has the instruction set and vouches for a vector to read.
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load4(p: *const f32) -> __m512 {
            // SAFETY: the caller has the instruction set and vouches for four numbers to read.
            unsafe { _mm512_broadcast_f32x4(_mm_loadu_ps(p)) }
        }
        #[inline(always)]
        unsafe fn splat(p: *const f32) -> __m512 {
            // SAFETY: the caller has the instruction set and vouches for a number to read.
            unsafe { _mm512_set1_ps(*p) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            // SAFETY: the caller has the instruction set.
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            // SAFETY: the caller has the instruction set and vouches for a vector to write.
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn store_first(p: *mut f32, v: __m512, n: usize) {
            // SAFETY: the caller has the instruction set and vouches for n numbers to write.
            unsafe { _mm512_mask_storeu_ps(p, ((1_u32 << n) - 1) as u16, v) }
        }
        #[inline(always)]
        unsafe fn bytes(p: *const u8) -> __m512 {
            // SAFETY: the caller has the instruction set and vouches for as many bytes to read.
            unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()))) }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const u8) {
            // SAFETY: the caller has the instruction set; a prefetch faults on no address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
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
    }

    /// 8 lanes; tested on AMD Zen 4.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Avx2;

    impl Simd for Avx2 {
        const LANES: usize = 8;
        const ACCUMULATORS: usize = 12;
        type V = __m256;

        #[inline(always)]
        unsafe fn zero() -> __m256 {
            // SAFETY: the caller has the instruction set.
            unsafe { _mm256_setzero_ps() }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            // SAFETY: the caller has the instruction set and vouches for a vector to read.
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load4(p: *const f32) -> __m256 {
            // SAFETY: the caller has the instruction set and vouches for four numbers to read.
            unsafe { _mm256_broadcast_ps(&_mm_loadu_ps(p)) }
        }
        #[inline(always)]
        unsafe fn splat(p: *const f32) -> __m256 {
            // SAFETY: the caller has the instruction set and vouches for a number to read.
            unsafe { _mm256_set1_ps(*p) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: the caller has the instruction set.
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            // SAFETY: the caller has the instruction set and vouches for a vector to write.
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn store_first(p: *mut f32, v: __m256, n: usize) {
            let mut lanes = [0.0_f32; 8];
            // SAFETY: the caller has the instruction set and vouches for n numbers to write.
            unsafe {
                _mm256_storeu_ps(lanes.as_mut_ptr(), v);
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
            }
        }
        #[inline(always)]
        unsafe fn bytes(p: *const u8) -> __m256 {
            // SAFETY: the caller has the instruction set and vouches for as many bytes to read.
            unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()))) }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const u8) {
            // SAFETY: the caller has the instruction set; a prefetch faults on no address.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
        }
    }

    /// 8 lanes and the 32 registers of AVX-512; tested on AMD Zen 4.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Narrow;

    impl Simd for Narrow {
        const LANES: usize = 8;
        const ACCUMULATORS: usize = 24;
        type V = __m256;

        #[inline(always)]
        unsafe fn zero() -> __m256 {
            // SAFETY: the caller has the instruction set.
            unsafe { Avx2::zero() }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            // SAFETY: the caller has the instruction set and vouches for a vector to read.
            unsafe { Avx2::load(p) }
        }
        #[inline(always)]
        unsafe fn load4(p: *const f32) -> __m256 {
            // SAFETY: the caller has the instruction set and vouches for four numbers to read.
            unsafe { Avx2::load4(p) }
        }
        #[inline(always)]
        unsafe fn splat(p: *const f32) -> __m256 {
            // SAFETY: the caller has the instruction set and vouches for a number to read.
            unsafe { Avx2::splat(p) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            // SAFETY: the caller has the instruction set.
            unsafe { Avx2::fma(a, b, c) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            // SAFETY: the caller has the instruction set and vouches for a vector to write.
            unsafe { Avx2::store(p, v) }
        }
        #[inline(always)]
        unsafe fn store_first(p: *mut f32, v: __m256, n: usize) {
            // SAFETY: the caller has the instruction set and vouches for n numbers to write.
            unsafe { _mm256_mask_storeu_ps(p, ((1_u32 << n) - 1) as u8, v) }
        }
        #[inline(always)]
        unsafe fn bytes(p: *const u8) -> __m256 {
            // SAFETY: the caller has the instruction set and vouches for as many bytes to read.
            unsafe { Avx2::bytes(p) }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const u8) {
            // SAFETY: the caller has the instruction set; a prefetch faults on no address.
            unsafe { Avx2::prefetch(p) }
        }
        #[inline(always)]
        unsafe fn spread(rows: *const f32, stride: usize, columns: usize, to: *mut f32) {
            // SAFETY: the caller has the instruction set, rows readable in whole vectors, and room in `to`.
            unsafe { Avx512::spread(rows, stride, columns, to) }
        }
    }
}

#[cfg(target_arch = "aarch64")]
pub(super) use arm::Neon;

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::Simd;
    use std::arch::aarch64::{
        float32x4_t, vcvtq_f32_u32, vdupq_n_f32, vfmaq_f32, vld1q_dup_f32, vld1q_f32, vld1q_u32, vst1q_f32,
    };

    /// 4 lanes; compiled but not tested.
    #[derive(Clone, Copy)]
    pub(in super::super) struct Neon;

    impl Simd for Neon {
        const LANES: usize = 4;
        const ACCUMULATORS: usize = 24;
        type V = float32x4_t;

        #[inline(always)]
        unsafe fn zero() -> float32x4_t {
            // SAFETY: the caller has the instruction set.
            unsafe { vdupq_n_f32(0.0) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> float32x4_t {
            // SAFETY: the caller has the instruction set and vouches for a vector to read.
            unsafe { vld1q_f32(p) }
        }
        #[inline(always)]
        unsafe fn load4(p: *const f32) -> float32x4_t {
            // SAFETY: the caller has the instruction set and vouches for four numbers to read.
            unsafe { vld1q_f32(p) }
        }
        #[inline(always)]
        unsafe fn splat(p: *const f32) -> float32x4_t {
            // SAFETY: the caller has the instruction set and vouches for a number to read.
            unsafe { vld1q_dup_f32(p) }
        }
        #[inline(always)]
        unsafe fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
            // SAFETY: the caller has the instruction set.
            unsafe { vfmaq_f32(c, a, b) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: float32x4_t) {
            // SAFETY: the caller has the instruction set and vouches for a vector to write.
            unsafe { vst1q_f32(p, v) }
        }
        #[inline(always)]
        unsafe fn store_first(p: *mut f32, v: float32x4_t, n: usize) {
            let mut lanes = [0.0_f32; 4];
            // SAFETY: the caller has the instruction set and vouches for n numbers to write.
            unsafe {
                vst1q_f32(lanes.as_mut_ptr(), v);
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
            }
        }
        #[inline(always)]
        unsafe fn bytes(p: *const u8) -> float32x4_t {
            // SAFETY: the caller has the instruction set and vouches for as many bytes to read.
            unsafe {
                let lanes = p.cast::<[u8; 4]>().read_unaligned().map(u32::from);
                vcvtq_f32_u32(vld1q_u32(lanes.as_ptr()))
            }
        }
    }
}
