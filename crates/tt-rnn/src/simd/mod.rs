//! One vector type per instruction set, chosen at run time, and what every kernel of this crate shares:
//! exp/tanh/sigmoid, the register-blocked product, aligned memory, flushing of denormals.
//!
//! A kernel is written once, generic over `Simd`, and compiled once per instruction set by `Isa::run`.
//! Results are the same for any number of threads on one instruction set; between instruction sets they
//! differ in rounding (scalar code has no fused multiply-add, and the width of a block may differ).

#![expect(unsafe_code, reason = "intrinsics, and the control register of the floating-point unit")]

mod ftz;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod product;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use ftz::FlushDenormals;
pub(crate) use tt_core::buffer::Buffer;

/// A vector of f32 in registers.
///
/// # Safety
/// Every method needs the instruction set of the implementing type; `Isa::run` is where that is checked.
/// Loads and stores touch `LANES` values from the pointer, the partial ones `n` (`1..=LANES`).
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// The vector.
    type V: Copy;
    /// Values in one vector.
    const LANES: usize;
    /// Rows of the register block of a product: `MR × 2` vectors stay in registers.
    const MR: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The missing lanes are zero.
    unsafe fn load_partial(p: *const f32, n: usize) -> Self::V;
    unsafe fn store_partial(p: *mut f32, v: Self::V, n: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The smaller; `b` where one of the two is NaN (on NEON the NaN, whichever it is).
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// The larger, with NaN as in `min`.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    unsafe fn abs(a: Self::V) -> Self::V;
    /// The magnitude of `a` with the sign of `b`.
    unsafe fn copysign(a: Self::V, b: Self::V) -> Self::V;
    /// To the nearest integer, ties to even (|a| < 2^22).
    unsafe fn round(a: Self::V) -> Self::V;
    /// 2^n for an integer `n` in -126..=127.
    unsafe fn exp2_int(n: Self::V) -> Self::V;
    /// `yes` where a < b, else `no`.
    unsafe fn select_lt(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// `LANES` bytes as f32.
    unsafe fn load_u8(p: *const u8) -> Self::V;
    /// Asks for a cache line that will be needed; any address is allowed.
    unsafe fn prefetch<T>(p: *const T);
}

/// Work that is compiled for every instruction set. Implementations mark `run` `#[inline(always)]`.
pub(crate) trait Kernel {
    /// Does the work.
    ///
    /// # Safety
    /// The processor has the instruction set of `S`.
    unsafe fn run<S: Simd>(self);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Scalar,
}

/// An instruction set that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

impl Isa {
    /// All that this processor has, best first.
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512dq") {
                all.push(Self(Kind::Avx512));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self(Kind::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            all.push(Self(Kind::Neon));
        }
        all.push(Self(Kind::Scalar));
        all
    }

    /// The best one.
    pub fn best() -> Self {
        static BEST: std::sync::OnceLock<Isa> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }

    /// `avx512`, `avx2`, `neon` or `scalar`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            Kind::Scalar => "scalar",
        }
    }

    /// Values in one vector.
    pub(crate) fn lanes(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => x86::Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => x86::Avx2::LANES,
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => neon::Neon::LANES,
            Kind::Scalar => scalar::Scalar::LANES,
        }
    }

    /// Runs the kernel with this instruction set and denormals flushed.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) {
        let _guard = FlushDenormals::new();
        // SAFETY: an `Isa` exists only for an instruction set found by `available`.
        unsafe {
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                Kind::Avx512 => x86::run_avx512(kernel),
                #[cfg(target_arch = "x86_64")]
                Kind::Avx2 => x86::run_avx2(kernel),
                #[cfg(target_arch = "aarch64")]
                Kind::Neon => neon::run_neon(kernel),
                Kind::Scalar => kernel.run::<scalar::Scalar>(),
            }
        }
    }
}
