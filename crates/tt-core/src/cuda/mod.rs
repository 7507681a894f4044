//! CUDA kernels as source text, how they are launched, and an emulation that runs them on the CPU.
//!
//! Kernels are written against `device.h`, compiled at run time by NVRTC (feature `cuda`), and in tests by the
//! system's C++ compiler together with an emulator: what runs in a test without a GPU is the source that a GPU
//! gets, with the grid that a GPU gets.

pub mod emulation;
#[cfg(feature = "cuda")]
pub mod launch;
#[cfg(unix)]
pub mod nvrtc;

use crate::precision::Precision;
use std::fmt::{self, Write as _};
use std::hash::{Hash, Hasher};

/// What kernels may use: goes before every source.
const DEVICE: &str = include_str!("device.h");

/// The kernels of the TT layer; `apply::halves` defines its sizes.
pub(crate) const TT: &str =
    concat!(include_str!("tt.cu"), include_str!("tt_forward.cu"), include_str!("tt_backward.cu"));

/// The forward pass of the TT layer by digits, for compute capability 9.0.
pub(crate) const TT_DIGITS: &str =
    concat!(include_str!("hopper.h"), include_str!("tt.cu"), include_str!("tt_digits.cu"));

impl Precision {
    /// Numbers of f16 that stand for one of f32 in products of tensor cores: two have 22 bits, and errors like those of
    /// f32; one has the 11 bits of TF32, and serves bf16 too, because f16 costs no more.
    #[doc(hidden)]
    pub const fn terms(self) -> usize {
        match self {
            Self::F32 => 2,
            Self::Tf32 | Self::Bf16 => 1,
        }
    }
}

/// CUDA source of some kernels, without what [`Source::text`] puts before it. Name and macros identify it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Name of the file, for messages.
    pub name: &'static str,
    /// The file.
    pub body: &'static str,
    /// Macros defined before it, the sizes that the compiler should know.
    pub defines: Vec<(&'static str, usize)>,
}

/// Every launch looks its kernel up: hashing thousands of lines would take longer than the launch.
impl Hash for Source {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.name, &self.defines).hash(state);
    }
}

impl Source {
    /// A source without macros.
    pub const fn new(name: &'static str, body: &'static str) -> Self {
        Self { name, body, defines: Vec::new() }
    }

    /// The same with one more macro.
    #[must_use]
    pub fn define(mut self, name: &'static str, value: usize) -> Self {
        self.defines.push((name, value));
        self
    }

    /// NVRTC's options for an architecture such as `sm_90`.
    #[cfg(any(unix, feature = "cuda"))]
    pub(crate) fn options(architecture: &str) -> Vec<String> {
        vec![format!("--gpu-architecture={architecture}"), "-default-device".into(), "-std=c++17".into()]
    }

    /// The whole text, for NVRTC or for the emulation.
    pub fn text(&self) -> String {
        // Writing to a string cannot fail.
        let mut text = String::new();
        for (name, value) in &self.defines {
            let _ = writeln!(text, "#define {name} {value}");
        }
        text.push_str(DEVICE);
        let _ = writeln!(text, "#line 1 \"{}\"", self.name);
        text.push_str(self.body);
        text
    }
}

/// NVRTC's name of a card's architecture, with the instructions that only this one has (`a`): machine code is for one card.
#[cfg(feature = "cuda")]
fn architecture((major, minor): (i32, i32)) -> String {
    let only = if (major, minor) == (9, 0) { "a" } else { "" };
    format!("sm_{major}{minor}{only}")
}

/// One launch of a kernel: a GPU and the emulation get the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Name of the kernel.
    pub kernel: &'static str,
    /// Blocks along x, y, z.
    pub grid: [usize; 3],
    /// Threads of a block along x, y, z.
    pub block: [usize; 3],
    /// Bytes of dynamic shared memory of a block.
    pub shared_bytes: usize,
    /// Whether all blocks must run at the same time.
    pub cooperative: bool,
    /// Blocks of a cluster, which the kernel is compiled for; 1 without clusters.
    pub cluster: usize,
}

impl Launch {
    /// A launch of `blocks` blocks of `threads` threads along x.
    pub const fn new(kernel: &'static str, blocks: usize, threads: usize, shared_bytes: usize) -> Self {
        Self {
            kernel,
            grid: [blocks, 1, 1],
            block: [threads, 1, 1],
            shared_bytes,
            cooperative: false,
            cluster: 1,
        }
    }

    /// The same with all blocks running at the same time.
    #[must_use]
    pub const fn cooperative(mut self) -> Self {
        self.cooperative = true;
        self
    }

    /// The same in clusters of so many blocks.
    #[must_use]
    pub const fn in_clusters(mut self, blocks: usize) -> Self {
        self.cluster = blocks;
        self
    }
}

/// Where a kernel gave up waiting for another block; `give_up` in `device.h` leaves it in a word of the host's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// The block that waited.
    pub block: u32,
    /// What it calls the step that it was in.
    pub step: u32,
}

impl Stall {
    /// The stall that a word tells of; none from the 0 that it begins with.
    pub const fn from_word(word: u64) -> Option<Self> {
        if word >> 63 == 0 {
            return None;
        }
        Some(Self { block: (word >> 32) as u32 & 0x7fff_ffff, step: word as u32 })
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} waited in vain in step {}", self.block, self.step)
    }
}
