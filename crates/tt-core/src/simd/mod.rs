//! What the CPU kernels share: one vector type per instruction set, chosen at run time, register-blocked products,
//! convolutions, exp, tanh and sigmoid, bytes as numbers, flushing of denormals, and memory that is reused.
//!
//! A kernel is written once, generic over [`Simd`], and compiled once per instruction set. Results are the same for any
//! number of threads on one instruction set; between instruction sets they differ in rounding (scalar code has no fused
//! multiply-add, and the width of a block may differ).
#![expect(unsafe_code, reason = "intrinsics, and the control register of the floating-point unit")]

mod buffer;
pub mod convolution;
mod ftz;
mod isa;
pub mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod product;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use buffer::{Buffer, Pool};
pub(crate) use isa::Choice;
pub use isa::Isa;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use scalar::Scalar;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, Narrow};

/// A vector of f32 in registers.
///
/// # Safety
/// Every method needs the instruction set of the implementing type; `Isa::run` is where that is checked.
/// Loads and stores touch `LANES` values from the pointer, the partial ones `n` (`1..=LANES`).
pub trait Simd: Copy + Send + Sync + 'static {
    /// The vector.
    type V: Copy;
    /// Values in one vector.
    const LANES: usize;
    /// Rows of the register block of [`product::product`]: `MR × 2` vectors stay in registers.
    const MR: usize;
    /// Accumulators that fit the registers beside the operands of a product.
    const ACCUMULATORS: usize;

    /// One number, repeated over the vector.
    unsafe fn splat(x: f32) -> Self::V;
    /// A vector from memory.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Four numbers, repeated over the vector.
    unsafe fn load4(p: *const f32) -> Self::V;
    /// A vector to memory.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The missing lanes are zero.
    unsafe fn load_partial(p: *const f32, n: usize) -> Self::V;
    /// The first `n` lanes.
    unsafe fn store_partial(p: *mut f32, v: Self::V, n: usize);
    /// `a + b`
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The smaller; `b` where one of the two is NaN (on NEON the NaN, whichever it is).
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// The larger, with NaN as in `min`.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The square root.
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// The magnitude.
    unsafe fn abs(a: Self::V) -> Self::V;
    /// The magnitude of `a` with the sign of `b`.
    unsafe fn copysign(a: Self::V, b: Self::V) -> Self::V;
    /// To the nearest integer, ties to even (|a| < 2^22).
    unsafe fn round(a: Self::V) -> Self::V;
    /// 2^n for an integer `n` in -126..=127.
    unsafe fn exp2_int(n: Self::V) -> Self::V;
    /// `yes` where a < b, else `no`.
    unsafe fn select_lt(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `LANES` whole numbers as f32.
    unsafe fn load_i32(p: *const i32) -> Self::V;
    /// `LANES` bytes as f32.
    unsafe fn load_u8(p: *const u8) -> Self::V;
    /// Asks for a cache line that will be needed soon; any address is allowed.
    unsafe fn prefetch<T>(_: *const T) {}
    /// Asks for a cache line that will be needed at once; any address is allowed.
    unsafe fn prefetch_near<T>(_: *const T) {}
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

/// Work that is compiled for every instruction set. Implementations mark `run` `#[inline(always)]`.
pub trait Kernel {
    /// Does the work.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    unsafe fn run<S: Simd>(self);
}

/// `len` bytes as f32.
///
/// # Safety
/// `from` holds `len` bytes and `to` has room for `len` numbers; the processor has the instruction set of `S`.
#[inline(always)]
pub unsafe fn bytes<S: Simd>(from: *const u8, to: *mut f32, len: usize) {
    // SAFETY: whole vectors inside the caller's `len` bytes and numbers.
    unsafe {
        let whole = len / S::LANES * S::LANES;
        for k in (0..whole).step_by(S::LANES) {
            S::store(to.add(k), S::load_u8(from.add(k)));
        }
        if whole == len {
            return;
        }
        if len >= S::LANES {
            // The last vector overlaps the one before.
            let k = len - S::LANES;
            S::store(to.add(k), S::load_u8(from.add(k)));
            return;
        }
        for k in 0..len {
            *to.add(k) = f32::from(*from.add(k));
        }
    }
}

/// Operations of a vector type, a line each.
macro_rules! operations {
    ($(fn $name:ident $(<$generic:ident>)? ($($argument:ident: $type:ty),*) $(-> $result:ty)? $body:block)*) => {$(
        #[inline(always)]
        unsafe fn $name $(<$generic>)? ($($argument: $type),*) $(-> $result)? {
            // SAFETY: the caller has the instruction set, and vouches for the values behind every pointer.
            unsafe { $body }
        }
    )*};
}
use operations;
