//! Intel's tile registers, by inline assembly: stable Rust has no intrinsics for them.
//!
//! Tested and timed on a Sapphire Rapids core under Linux (`docs/performance.md`).
//!
//! One block of assembly does all products of a column of digits; nothing is left in a tile register between two blocks,
//! since nothing would keep a compiler from using them. Linux saves tiles when it switches threads.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::OnceLock;

use super::emulated::CONFIG;
use super::{Column, End, Line, Ring, Sums, TILE, TileSums, Tiles};

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
        if !super::wide::is_here() {
            return Some("the processor has tile registers without the AVX-512 that goes with them");
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
    /// All tiles; the last [`DELAY`] are left.
    fn multiply(&mut self, column: &Column, first: usize, ring: &mut Ring) -> Range<usize> {
        let (steps, tiles) = (column.bytes.steps(), column.bytes.tiles());
        assert!(
            first == 0
                && tiles > 0
                && steps > 0
                && column.digits.len() == steps * 48
                && column.end.places.len() == column.bytes.rows()
        );
        let (ahead, lines) = column.ahead.lines();
        let mut work = Work {
            start: column.start.as_ptr(),
            digits: column.digits.as_ptr(),
            steps,
            tiles,
            waiting: DELAY,
            rows: TILE.div_ceil(steps),
            ahead,
            lines: lines.div_ceil(tiles * steps),
            ring: [(&raw mut ring.0).cast(), (&raw mut ring.0).wrapping_add(1).cast()],
            weights: [256.0, 65_536.0],
            columns: u64::MAX >> (64 - column.end.columns),
        };
        // SAFETY: tiles are configured as 16 rows of 64 bytes. The bytes of `tiles` tiles and the digits of `steps` steps
        // are there; there are as many places as rows, and who made the column vouches for what lies behind them.
        unsafe {
            if column.end.add {
                multiply::<true>(column, &mut work);
            } else {
                multiply::<false>(column, &mut work);
            }
        }
        tiles.saturating_sub(DELAY)..tiles
    }
}

/// Tiles between the products of one and its end: it is stored beside the products of the next, and what was stored is
/// read two tiles later.
const DELAY: usize = 3;

/// What assembly keeps in memory.
#[derive(Debug)]
#[repr(C)]
struct Work {
    start: *const Sums,
    digits: *const Line,
    steps: usize,
    /// That are left.
    tiles: usize,
    /// Tiles until the first comes to its end.
    waiting: usize,
    /// Rows that come to their end with every step.
    rows: usize,
    /// What to ask for, and how many lines of it with every step.
    ahead: *const u8,
    lines: usize,
    /// Bounds of the ring.
    ring: [*mut u8; 2],
    /// Of the two higher digits.
    weights: [f32; 2],
    /// A bit for each column that there is.
    columns: u64,
}
const _: () = assert!(
    offset_of!(Work, digits) == 8
        && offset_of!(Work, steps) == 16
        && offset_of!(Work, tiles) == 24
        && offset_of!(Work, waiting) == 32
        && offset_of!(Work, rows) == 40
        && offset_of!(Work, ahead) == 48
        && offset_of!(Work, lines) == 56
        && offset_of!(Work, ring) == 64
        && offset_of!(Work, weights) == 80
        && offset_of!(Work, columns) == 88
        && size_of::<(TileSums, Sums)>() == 3136
);

/// The place of the next tile in the ring, so many bytes behind, or the first.
#[rustfmt::skip]
macro_rules! next {
    ($at:literal, $behind:literal) => {
        concat!(
            "add ", $at, ", ", $behind, "\n",
            "cmp ", $at, ", [{work} + 72]\n",
            "cmove ", $at, ", [{work} + 64]\n",
        )
    };
}

/// A tile of products into `$c0, $c1, $c2`; and in the same window of instructions the storing of the tile before from
/// `$p0, $p1, $p2`, rows of an earlier tile from the ring to their places, and what is asked for ahead.
#[rustfmt::skip]
macro_rules! tile {
    ($c0:literal $c1:literal $c2:literal, $p0:literal $p1:literal $p2:literal, $add:literal) => {
        concat!(
            // Rows of the tile that comes to its end: a whole one, since the last are left to the caller.
            "xor {ending:e}, {ending:e}\n",
            "cmp qword ptr [{work} + 32], 0\n",
            "je 20f\n",
            "dec qword ptr [{work} + 32]\n",
            "jmp 21f\n",
            "20:\n",
            "mov {ending:e}, 16\n",
            next!("{from}", 2112),
            "21:\n",
            "mov {count}, [{work}]\n",
            "xor {place:e}, {place:e}\n",
            "tileloadd tmm", $c0, ", [{count} + {place}*1]\n",
            "tileloadd tmm", $c1, ", [{count} + {place}*1 + 64]\n",
            "tileloadd tmm", $c2, ", [{count} + {place}*1 + 128]\n",
            "mov {digits}, [{work} + 8]\n",
            "mov {steps}, [{work} + 16]\n",
            "22:\n",
            "tileloadd tmm6, [{bytes} + {line}*1]\n",
            "tileloadd tmm7, [{digits} + {line}*1]\n",
            "tdpbusd tmm", $c0, ", tmm6, tmm7\n",
            "tileloadd tmm7, [{digits} + {line}*1 + 1024]\n",
            "tdpbusd tmm", $c1, ", tmm6, tmm7\n",
            "tileloadd tmm7, [{digits} + {line}*1 + 2048]\n",
            "tdpbusd tmm", $c2, ", tmm6, tmm7\n",
            "add {bytes}, 2048\n",
            "add {digits}, 3072\n",
            "cmp {steps}, [{work} + 16]\n",
            "jne 23f\n",
            "tilestored [{sums} + {line}*1], tmm", $p0, "\n",
            "tilestored [{sums} + {line}*1 + 1024], tmm", $p1, "\n",
            "tilestored [{sums} + {line}*1 + 2048], tmm", $p2, "\n",
            "23:\n",
            "mov {count}, [{work} + 40]\n",
            "cmp {count}, {ending}\n",
            "cmova {count}, {ending}\n",
            "sub {ending}, {count}\n",
            "test {count}, {count}\n",
            "jz 25f\n",
            "24:\n",
            "vcvtdq2ps zmm20, [{from} + 2048]\n",
            "vfmadd213ps zmm20, zmm18, zmm19\n",
            "vcvtdq2ps zmm21, [{from} + 1024]\n",
            "vfmadd231ps zmm20, zmm21, zmm17\n",
            "vcvtdq2ps zmm22, [{from}]\n",
            "vfmadd231ps zmm20, zmm22, zmm16\n",
            "mov {place}, [{places}]\n", $add, "vmovups [{to} + {place}*4]{{k1}}, zmm20\n",
            "add {from}, 64\n",
            "add {places}, 8\n",
            "dec {count}\n",
            "jnz 24b\n",
            "25:\n",
            "mov {count}, [{work} + 56]\n",
            "test {count}, {count}\n",
            "jz 27f\n",
            "mov {place}, [{work} + 48]\n",
            "26:\n",
            "prefetcht1 [{place}]\n",
            "add {place}, 64\n",
            "dec {count}\n",
            "jnz 26b\n",
            "mov [{work} + 48], {place}\n",
            "27:\n",
            "dec {steps}\n",
            "jnz 22b\n",
            next!("{sums}", 3136),
            "dec qword ptr [{work} + 24]\n",
        )
    };
}

/// All products of a column, and its end but for the last [`DELAY`] tiles. One block of assembly: what is done between two
/// steps of products fits the window in which a processor reorders instructions, and the products hide it.
///
/// # Safety
/// All eight tiles are configured as 16 rows of 64 bytes on this thread, and AVX-512 is here; the bytes and digits that
/// `work` counts are there; `columns` numbers may be read and written at each place.
#[target_feature(enable = "avx512f")]
unsafe fn multiply<const ADD: bool>(column: &Column, work: &mut Work) {
    let End { unit, constant, places, to, .. } = &column.end;
    macro_rules! run {
        ($add:literal) => {
            asm!(
                "vmovups zmm18, [{from}]",
                "vmovups zmm19, [{ending}]",
                "vmulps zmm17, zmm18, dword ptr [{work} + 80]{{1to16}}",
                "vmulps zmm16, zmm18, dword ptr [{work} + 84]{{1to16}}",
                "kmovw k1, [{work} + 88]",
                // What is stored first is nothing, in the last place.
                "mov {sums}, [{work} + 72]",
                "sub {sums}, 3136",
                "mov {from}, [{work} + 64]",
                "sub {from}, 2112",
                "30:",
                tile!("0" "1" "2", "3" "4" "5", $add),
                // The second tile of a pair lies 16 lines behind the first.
                "mov {count}, [{work} + 16]",
                "shl {count}, 11",
                "sub {bytes}, {count}",
                "add {bytes}, 1024",
                "cmp qword ptr [{work} + 24], 0",
                "je 40f",
                tile!("3" "4" "5", "0" "1" "2", $add),
                "sub {bytes}, 1024",
                "cmp qword ptr [{work} + 24], 0",
                "jne 30b",
                "tilestored [{sums} + {line}*1], tmm3",
                "tilestored [{sums} + {line}*1 + 1024], tmm4",
                "tilestored [{sums} + {line}*1 + 2048], tmm5",
                "jmp 41f",
                "40:",
                "tilestored [{sums} + {line}*1], tmm0",
                "tilestored [{sums} + {line}*1 + 1024], tmm1",
                "tilestored [{sums} + {line}*1 + 2048], tmm2",
                "41:",
                work = in(reg) work,
                bytes = inout(reg) column.bytes.first() => _,
                digits = out(reg) _,
                steps = out(reg) _,
                ending = inout(reg) constant.as_ptr() => _,
                from = inout(reg) unit.as_ptr() => _,
                places = inout(reg) places.as_ptr() => _,
                to = in(reg) *to,
                sums = out(reg) _,
                place = out(reg) _,
                count = out(reg) _,
                line = in(reg) 64_usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                out("zmm16") _, out("zmm17") _, out("zmm18") _, out("zmm19") _,
                out("zmm20") _, out("zmm21") _, out("zmm22") _, out("k1") _,
                options(nostack)
            )
        };
    }
    // SAFETY: passed on to the caller. A stride of 0 loads the same row 16 times.
    unsafe {
        if ADD {
            run!("vaddps zmm20{{k1}}{{z}}, zmm20, [{to} + {place}*4]\n");
        } else {
            run!("");
        }
    }
}
