//! Vectors of four plain f32: the fallback without a supported instruction set.

use super::{Simd, operations};

/// 4 lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scalar;

type V = [f32; 4];

macro_rules! lanes {
    (|$i:ident| $e:expr) => {{
        let mut out = [0.0f32; 4];
        let mut $i = 0;
        while $i < 4 {
            out[$i] = $e;
            $i += 1;
        }
        out
    }};
}

impl Simd for Scalar {
    type V = V;
    const LANES: usize = 4;
    const MR: usize = 4;
    const ACCUMULATORS: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> V {
        [x; 4]
    }
    operations! {
        fn load(p: *const f32) -> V { p.cast::<V>().read_unaligned() }
        fn load4(p: *const f32) -> V { Self::load(p) }
        fn store(p: *mut f32, v: V) { p.cast::<V>().write_unaligned(v) }
        fn load_partial(p: *const f32, n: usize) -> V { lanes!(|i| if i < n { *p.add(i) } else { 0.0 }) }
        fn store_partial(p: *mut f32, v: V, n: usize) { std::ptr::copy_nonoverlapping(v.as_ptr(), p, n) }
        fn load_i32(p: *const i32) -> V { p.cast::<[i32; 4]>().read_unaligned().map(|x| x as f32) }
        fn load_u8(p: *const u8) -> V { p.cast::<[u8; 4]>().read_unaligned().map(f32::from) }
    }
    #[inline(always)]
    unsafe fn add(a: V, b: V) -> V {
        lanes!(|i| a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: V, b: V) -> V {
        lanes!(|i| a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: V, b: V) -> V {
        lanes!(|i| a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: V, b: V) -> V {
        lanes!(|i| a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: V, b: V, c: V) -> V {
        lanes!(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn min(a: V, b: V) -> V {
        lanes!(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn max(a: V, b: V) -> V {
        lanes!(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn sqrt(a: V) -> V {
        lanes!(|i| a[i].sqrt())
    }
    #[inline(always)]
    unsafe fn abs(a: V) -> V {
        lanes!(|i| a[i].abs())
    }
    #[inline(always)]
    unsafe fn copysign(a: V, b: V) -> V {
        lanes!(|i| a[i].copysign(b[i]))
    }
    #[inline(always)]
    unsafe fn round(a: V) -> V {
        // Adding 1.5·2^23 leaves no fraction bits.
        const SHIFT: f32 = 12_582_912.0;
        lanes!(|i| (a[i] + SHIFT) - SHIFT)
    }
    #[inline(always)]
    unsafe fn exp2_int(n: V) -> V {
        lanes!(|i| f32::from_bits((((n[i] as i32) + 127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn select_lt(a: V, b: V, yes: V, no: V) -> V {
        lanes!(|i| if a[i] < b[i] { yes[i] } else { no[i] })
    }
}
