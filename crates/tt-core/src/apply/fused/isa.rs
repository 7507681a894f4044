//! The instruction sets that the kernels exist for.

use crate::{Error, Result};

/// An instruction set of the CPU kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, DQ and VL; tested on AMD Zen 4.
    Avx512,
    /// The same on vectors of 256 bits: as fast on AMD Zen 4, which splits vectors of 512 bits, and with less
    /// padding.
    Avx512Narrow,
    /// x86-64 with AVX2 and FMA; tested on AMD Zen 4.
    Avx2,
    /// AArch64; compiled, not tested.
    Neon,
    /// Plain Rust, for everything else.
    Scalar,
}

impl Isa {
    /// All of them, widest first.
    pub const ALL: [Self; 5] = [Self::Avx512, Self::Avx512Narrow, Self::Avx2, Self::Neon, Self::Scalar];

    /// Whether this machine has it.
    pub fn available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 | Self::Avx512Narrow => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Self::Avx2.available()
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            other => other == Self::Scalar,
        }
    }

    /// The widest that this machine has.
    pub fn detect() -> Self {
        Self::ALL.into_iter().find(|isa| isa.available()).unwrap_or(Self::Scalar)
    }

    /// Whether vectors of 512 bits are executed as two halves (AMD family 25: Zen 4), so that padding to 16
    /// lanes costs twice.
    pub(super) fn splits_512() -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::x86_64::__cpuid;
            let vendor = __cpuid(0);
            let family = (__cpuid(1).eax >> 8 & 0xf) + (__cpuid(1).eax >> 20 & 0xff);
            Self::Avx512.available()
                && (vendor.ebx, vendor.edx, vendor.ecx) == (0x6874_7541, 0x6974_6e65, 0x444d_4163)
                && family == 0x19
        }
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Refuses what this machine does not have.
    pub(super) fn require(self) -> Result<Self> {
        if self.available() { Ok(self) } else { Err(Error::Unavailable(format!("{self:?} instructions"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detected_set_is_the_first_available() {
        let first = Isa::ALL.into_iter().find(|isa| isa.available()).unwrap();
        assert_eq!(Isa::detect(), first);
        assert!(Isa::Scalar.available());
        assert!(!(Isa::Neon.available() && Isa::Avx2.available()));
    }

    #[test]
    fn what_is_missing_is_refused() {
        for isa in Isa::ALL {
            assert_eq!(isa.require().is_ok(), isa.available());
        }
    }
}
