//! Intel's tile registers, by inline assembly: stable Rust has no intrinsics for them.
//!
//! **Never run on a processor that has them.** The loop as it is assembled ran in Bochs, an emulator of whole machines, with
//! the sums of its definition (`docs/performance.md`); asking Linux for tiles was not executed.
//!
//! One block of assembly loads tiles, multiplies and stores the sums; nothing is left in a tile register between two
//! blocks, since nothing would keep a compiler from using them. Linux saves tiles when it switches threads.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::emulated::CONFIG;
use super::{Block, Tiles};

/// A configuration where `ldtilecfg` finds it.
#[repr(C, align(64))]
struct Aligned([u8; 64]);
static CONFIGURATION: Aligned = Aligned(CONFIG);

/// Bits of XCR0: the system saves what a configuration and tiles are (17, 18).
const TILE_STATE: u64 = 3 << 17;

/// Why this process may not use tiles of bytes; none where it may. Asked once: the permission holds for the process.
pub(super) fn refusal() -> Option<&'static str> {
    static REFUSAL: OnceLock<Option<&str>> = OnceLock::new();
    *REFUSAL.get_or_init(|| {
        if __cpuid(0).eax < 0x1d || [24, 25].iter().any(|bit| __cpuid_count(7, 0).edx >> bit & 1 == 0) {
            return Some("the processor has no tile registers for bytes (amx-tile, amx-int8)");
        }
        let palette = __cpuid_count(0x1d, 1);
        if (palette.ebx, palette.ecx & 0xffff) != (8 << 16 | 64, 16) {
            return Some("the processor's tiles are not eight of 16 rows of 64 bytes");
        }
        // SAFETY: where the bit of XSAVE's use by the system is set, XCR0 can be read.
        if __cpuid(1).ecx >> 27 & 1 == 0 || unsafe { xcr0() } & TILE_STATE != TILE_STATE {
            return Some("the operating system does not save tile registers");
        }
        if !permitted() {
            return Some("the operating system permits no use of tile registers (arch_prctl)");
        }
        None
    })
}

#[target_feature(enable = "xsave")]
fn xcr0() -> u64 {
    // SAFETY: the caller has XSAVE; register 0 exists.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the state of tiles (`ARCH_REQ_XCOMP_PERM`, component 18), for all threads of the process.
#[cfg(target_os = "linux")]
fn permitted() -> bool {
    // SAFETY: no memory is passed.
    unsafe { libc::syscall(libc::SYS_arch_prctl, 0x1023, 18) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn permitted() -> bool {
    false
}

/// The tiles of this thread, configured until this is dropped.
#[derive(Debug)]
pub(super) struct Configured(PhantomData<*const ()>);

impl Configured {
    /// # Safety
    /// Nothing refuses tiles of bytes to this process ([`refusal`]).
    pub(super) unsafe fn new() -> Self {
        let configuration = &raw const CONFIGURATION;
        // SAFETY: the process may use tiles, and the configuration is one of palette 1.
        unsafe { asm!("ldtilecfg [{}]", in(reg) configuration, options(nostack, readonly, preserves_flags)) }
        Self(PhantomData)
    }
}

impl Drop for Configured {
    /// Tiles that are not configured are not saved when threads are switched.
    fn drop(&mut self) {
        // SAFETY: the process may use tiles; nobody else on this thread does.
        unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) }
    }
}

impl Tiles for Configured {
    fn multiply(&mut self, block: &mut Block) {
        let steps = block.steps();
        // SAFETY: tiles are configured as 16 rows of 64 bytes. A step reads 2 tiles of bytes and 3 of digits, one after
        // the other, and `steps` checked that so many are there; `sums` has room for 6 tiles.
        unsafe { multiply(block, steps) }
    }
}

/// # Safety
/// All eight tiles are configured as 16 rows of 64 bytes on this thread; the block holds `steps > 0` steps.
unsafe fn multiply(block: &mut Block, steps: usize) {
    // SAFETY: passed on to the caller. A stride of 0 loads the same row 16 times.
    unsafe {
        asm!(
            "tileloadd tmm0, [{start} + {zero}*1]",
            "tileloadd tmm1, [{start} + {zero}*1 + 64]",
            "tileloadd tmm2, [{start} + {zero}*1 + 128]",
            "tileloadd tmm3, [{start} + {zero}*1]",
            "tileloadd tmm4, [{start} + {zero}*1 + 64]",
            "tileloadd tmm5, [{start} + {zero}*1 + 128]",
            "2:",
            "tileloadd tmm6, [{bytes} + {line}*1]",
            "tileloadd tmm7, [{digits} + {line}*1]",
            "tdpbusd tmm0, tmm6, tmm7",
            "tileloadd tmm7, [{digits} + {line}*1 + 1024]",
            "tdpbusd tmm1, tmm6, tmm7",
            "tileloadd tmm7, [{digits} + {line}*1 + 2048]",
            "tdpbusd tmm2, tmm6, tmm7",
            "tileloadd tmm6, [{bytes} + {line}*1 + 1024]",
            "tdpbusd tmm5, tmm6, tmm7",
            "tileloadd tmm7, [{digits} + {line}*1 + 1024]",
            "tdpbusd tmm4, tmm6, tmm7",
            "tileloadd tmm7, [{digits} + {line}*1]",
            "tdpbusd tmm3, tmm6, tmm7",
            "add {bytes}, 2048",
            "add {digits}, 3072",
            "dec {steps}",
            "jnz 2b",
            "tilestored [{sums} + {line}*1], tmm0",
            "tilestored [{sums} + {line}*1 + 1024], tmm1",
            "tilestored [{sums} + {line}*1 + 2048], tmm2",
            "tilestored [{sums} + {line}*1 + 3072], tmm3",
            "tilestored [{sums} + {line}*1 + 4096], tmm4",
            "tilestored [{sums} + {line}*1 + 5120], tmm5",
            start = in(reg) block.start.as_ptr(),
            bytes = inout(reg) block.bytes.as_ptr() => _,
            digits = inout(reg) block.digits.as_ptr() => _,
            sums = in(reg) block.sums.as_mut_ptr(),
            steps = inout(reg) steps => _,
            line = in(reg) 64_usize,
            zero = in(reg) 0_usize,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack)
        );
    }
}
