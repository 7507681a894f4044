//! The instruction sets that the kernels exist for.

use super::ftz::FlushDenormals;
#[cfg(target_arch = "x86_64")]
use super::{Avx2, Avx512, Narrow, x86};
use super::{Kernel, Scalar, Simd};
#[cfg(target_arch = "aarch64")]
use super::{Neon, neon};
use std::sync::OnceLock;

/// The kinds that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// x86-64 with AVX-512 F, BW, DQ and VL; tested on AMD Zen 4.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// The same on vectors of 256 bits: as fast on AMD Zen 4, which splits vectors of 512 bits, and with less
    /// padding.
    #[cfg(target_arch = "x86_64")]
    Narrow,
    /// x86-64 with AVX2 and FMA; tested on AMD Zen 4.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AArch64; compiled, not tested.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Plain Rust, for everything else.
    Scalar,
}

/// An instruction set of the CPU kernels, which this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Choice);

impl Isa {
    /// All that this processor has, widest first.
    pub fn available() -> Vec<Self> {
        let mut all = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 && avx512 {
                all.extend([Self(Choice::Avx512), Self(Choice::Narrow)]);
            }
            if avx2 {
                all.push(Self(Choice::Avx2));
            }
        }
        #[cfg(target_arch = "aarch64")]
        if std::arch::is_aarch64_feature_detected!("neon") {
            all.push(Self(Choice::Neon));
        }
        all.push(Self(Choice::Scalar));
        all
    }

    /// The widest that this processor has.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available()[0])
    }

    /// `avx512`, `avx512-narrow`, `avx2`, `neon` or `scalar`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Choice::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Choice::Narrow => "avx512-narrow",
            #[cfg(target_arch = "x86_64")]
            Choice::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Choice::Neon => "neon",
            Choice::Scalar => "scalar",
        }
    }

    pub(crate) fn choice(self) -> Choice {
        self.0
    }

    /// Vectors of half the width, where those of 512 bits are executed as two halves (AMD family 25: Zen 4), so that
    /// padding to 16 lanes costs twice.
    pub(crate) fn half(self) -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        if self.0 == Choice::Avx512 {
            use std::arch::x86_64::__cpuid;
            let vendor = __cpuid(0);
            let family = (__cpuid(1).eax >> 8 & 0xf) + (__cpuid(1).eax >> 20 & 0xff);
            let amd = (vendor.ebx, vendor.edx, vendor.ecx) == (0x6874_7541, 0x6974_6e65, 0x444d_4163);
            return (amd && family == 0x19).then_some(Self(Choice::Narrow));
        }
        None
    }

    /// Values in one vector.
    pub fn lanes(self) -> usize {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Choice::Avx512 => Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Choice::Narrow => Narrow::LANES,
            #[cfg(target_arch = "x86_64")]
            Choice::Avx2 => Avx2::LANES,
            #[cfg(target_arch = "aarch64")]
            Choice::Neon => Neon::LANES,
            Choice::Scalar => Scalar::LANES,
        }
    }

    /// Runs the kernel with this instruction set and denormals flushed.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) {
        let _guard = FlushDenormals::new();
        // SAFETY: an `Isa` exists only for an instruction set found by `available`.
        unsafe {
            match self.0 {
                #[cfg(target_arch = "x86_64")]
                Choice::Avx512 => x86::run_avx512::<K, Avx512>(kernel),
                #[cfg(target_arch = "x86_64")]
                Choice::Narrow => x86::run_avx512::<K, Narrow>(kernel),
                #[cfg(target_arch = "x86_64")]
                Choice::Avx2 => x86::run_avx2(kernel),
                #[cfg(target_arch = "aarch64")]
                Choice::Neon => neon::run_neon(kernel),
                Choice::Scalar => kernel.run::<Scalar>(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_is_the_first_and_scalar_code_is_always_there() {
        let all = Isa::available();
        assert_eq!(Isa::best(), all[0]);
        assert_eq!(all.last().map(|isa| isa.name()), Some("scalar"));
        assert!(all.windows(2).all(|pair| pair[0].lanes() >= pair[1].lanes()));
        assert!(all.iter().filter_map(|isa| isa.half()).all(|half| all.contains(&half)));
    }
}
