//! NEON (compiled and run on aarch64 only).

use super::{Kernel, Simd, operations};
#[cfg_attr(not(test), expect(clippy::wildcard_imports, reason = "thirty intrinsics"))]
use std::arch::aarch64::*;

/// 4 lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon;

/// # Safety
/// The processor has NEON.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run_neon<K: Kernel>(kernel: K) {
    // SAFETY: passed on from the caller.
    unsafe { kernel.run::<Neon>() }
}

impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;
    const MR: usize = 8;
    const ACCUMULATORS: usize = 24;

    operations! {
        fn splat(x: f32) -> float32x4_t { vdupq_n_f32(x) }
        fn load(p: *const f32) -> float32x4_t { vld1q_f32(p) }
        fn load4(p: *const f32) -> float32x4_t { vld1q_f32(p) }
        fn store(p: *mut f32, v: float32x4_t) { vst1q_f32(p, v) }
        fn load_partial(p: *const f32, n: usize) -> float32x4_t {
            let mut lanes = [0.0f32; 4];
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            vld1q_f32(lanes.as_ptr())
        }
        fn store_partial(p: *mut f32, v: float32x4_t, n: usize) {
            let mut lanes = [0.0f32; 4];
            vst1q_f32(lanes.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n);
        }
        fn add(a: float32x4_t, b: float32x4_t) -> float32x4_t { vaddq_f32(a, b) }
        fn sub(a: float32x4_t, b: float32x4_t) -> float32x4_t { vsubq_f32(a, b) }
        fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmulq_f32(a, b) }
        fn div(a: float32x4_t, b: float32x4_t) -> float32x4_t { vdivq_f32(a, b) }
        fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t { vfmaq_f32(c, a, b) }
        fn min(a: float32x4_t, b: float32x4_t) -> float32x4_t { vminq_f32(a, b) }
        fn max(a: float32x4_t, b: float32x4_t) -> float32x4_t { vmaxq_f32(a, b) }
        fn sqrt(a: float32x4_t) -> float32x4_t { vsqrtq_f32(a) }
        fn abs(a: float32x4_t) -> float32x4_t { vabsq_f32(a) }
        fn copysign(a: float32x4_t, b: float32x4_t) -> float32x4_t { vbslq_f32(vdupq_n_u32(1 << 31), b, a) }
        fn round(a: float32x4_t) -> float32x4_t { vrndnq_f32(a) }
        fn exp2_int(n: float32x4_t) -> float32x4_t {
            let n = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(n))
        }
        fn select_lt(a: float32x4_t, b: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
            vbslq_f32(vcltq_f32(a, b), yes, no)
        }
        fn load_i32(p: *const i32) -> float32x4_t { vcvtq_f32_s32(vld1q_s32(p)) }
        fn load_u8(p: *const u8) -> float32x4_t {
            let bytes = p.cast::<u32>().read_unaligned();
            let wide = vmovl_u8(vcreate_u8(u64::from(bytes)));
            vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)))
        }
    }
}
