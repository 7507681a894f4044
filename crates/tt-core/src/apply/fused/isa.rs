//! The instruction sets that the kernels exist for.

use crate::{Error, Result};

/// An instruction set of the CPU kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// x86-64 with AVX-512 F, BW, DQ and VL; tested on AMD Zen 4.
    Avx512,
    /// x86-64 with AVX2 and FMA; tested on AMD Zen 4.
    Avx2,
    /// AArch64; compiled, not tested.
    Neon,
    /// Plain Rust, for everything else.
    Scalar,
}

impl Isa {
    /// All of them, widest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Scalar];

    /// Whether this machine has it.
    pub fn available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
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
