//! Flushes denormal numbers to zero for as long as the guard lives.
//!
//! With a loss on the last state, vanishing gradients turn denormal in long sequences, and a denormal
//! operand costs a hundred cycles.

/// Guard: results and operands that are denormal count as zero on this thread; dropping it restores the old state.
#[derive(Debug)]
pub(crate) struct FlushDenormals {
    old: u64,
}

#[cfg(target_arch = "x86_64")]
mod control {
    use std::arch::asm;
    /// FTZ (bit 15) and DAZ (bit 6).
    pub(super) const FLUSH: u64 = (1 << 15) | (1 << 6);

    pub(super) fn read() -> u64 {
        let mut word = 0u32;
        // SAFETY: stores MXCSR into a live u32.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
        u64::from(word)
    }

    pub(super) fn write(word: u64) {
        let word = word as u32;
        // SAFETY: the word is MXCSR as read, with the two flush bits possibly set: no exception is unmasked. Rust lets nobody
        // rely on arithmetic with these bits; what runs under the guard are kernels of vector instructions, and a number that
        // is flushed earlier or later than written is as good.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags, readonly)) };
    }
}

#[cfg(target_arch = "aarch64")]
mod control {
    use std::arch::asm;
    /// FZ.
    pub(super) const FLUSH: u64 = 1 << 24;

    pub(super) fn read() -> u64 {
        let word: u64;
        // SAFETY: reads FPCR.
        unsafe { asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
        word
    }

    pub(super) fn write(word: u64) {
        // SAFETY: the word is FPCR as read, with the flush bit possibly set.
        unsafe { asm!("msr fpcr, {}", in(reg) word, options(nomem, nostack, preserves_flags)) };
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod control {
    pub(super) const FLUSH: u64 = 0;
    pub(super) fn read() -> u64 {
        0
    }
    pub(super) fn write(_: u64) {}
}

impl FlushDenormals {
    pub(crate) fn new() -> Self {
        let old = control::read();
        control::write(old | control::FLUSH);
        Self { old }
    }
}

impl Drop for FlushDenormals {
    fn drop(&mut self) {
        control::write(self.old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;

    #[test]
    #[cfg_attr(not(any(target_arch = "x86_64", target_arch = "aarch64")), expect(unused))]
    fn denormals_vanish_only_inside() {
        let half = || black_box(f32::MIN_POSITIVE) * black_box(0.5);
        assert!(half() > 0.0);
        {
            let _guard = FlushDenormals::new();
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            assert_eq!(half(), 0.0);
        }
        assert!(half() > 0.0);
    }
}
