//! What a forward pass launches, whichever kernel does it.

use crate::cuda::{Launch, Source};

/// A forward pass of some frames: `prepare` makes of both halves what the kernel reads, then the kernel runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Both kernels.
    pub source: Source,
    /// Takes `right [M_R, r N_R]` and `left [r, N_L, M_L]` in f32 and writes words.
    pub prepare: Launch,
    /// Words that it writes.
    pub halves: usize,
    /// Takes frames, those words, `y [parts, n, N]`, T `[n, N_R, r, M_L]` or null, and the number of frames.
    pub launch: Launch,
    /// Whether it waits for what it copies, and takes last a word where it reports that it waited in vain.
    pub waits: bool,
    /// Parts that y comes in, to be added where there are several.
    pub parts: usize,
    /// Bytes that the address of the frames must be a multiple of.
    pub alignment: usize,
}
