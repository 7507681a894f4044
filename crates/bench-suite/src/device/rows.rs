//! The frames of a batch from where they lie: the kernel that gathers them in a card's memory, with its launch, for a card and
//! for the emulation, and the copy from the memory of a store.

use rayon::iter::{IndexedParallelIterator as _, ParallelIterator as _};
use rayon::slice::ParallelSliceMut as _;
use tt_core::cuda::{Launch, Source};

/// Bytes of the longest words that rows of so many bytes are made of; a row's address must be a multiple too.
pub(super) fn word(width: usize) -> usize {
    [16, 8, 4].into_iter().find(|word| width.is_multiple_of(*word)).unwrap_or(1)
}

/// The kernel for rows of so many bytes.
pub(super) fn source(width: usize) -> Source {
    Source::new("rows.cu", include_str!("rows.cu")).define("WIDTH", width).define("WORD", word(width))
}

/// Eight blocks on each multiprocessor.
pub(super) fn launch(rows: usize, multiprocessors: usize) -> Launch {
    Launch::new("gather_rows", rows.min(8 * multiprocessors), 256, 0)
}

/// Copies the rows that begin at `starts`, by all threads, since one is slower than a card takes them.
pub(super) fn copy(memory: &[u8], starts: &[usize], to: &mut [u8]) {
    let width = to.len() / starts.len();
    to.par_chunks_exact_mut(width)
        .zip(starts)
        .for_each(|(row, start)| row.copy_from_slice(&memory[*start..][..width]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use tt_core::cuda::emulation::{Argument, available, emulate};

    #[test]
    fn rows_are_gathered_in_words_of_any_length() {
        if !available() {
            eprintln!("skipped: no C++ compiler for the emulation of CUDA kernels");
            return;
        }
        // Words of 16, 8, 4 and 1 bytes; the longest row takes several turns.
        for width in [16 * 1100, 24, 20, 7] {
            let mut frames: Vec<u8> = (0..9 * width).map(|k| (k * 31 % 251) as u8).collect();
            let picked = [8_usize, 0, 3, 3, 4];
            let offsets = picked.iter().flat_map(|row| ((row * width) as i64).to_ne_bytes());
            let mut offsets: Vec<u8> = offsets.collect();
            let mut found = vec![0_u8; picked.len() * width];
            let (from, table) = (Argument::U8(&mut frames), Argument::U8(&mut offsets));
            let arguments = &mut [from, table, Argument::U8(&mut found), Argument::Int(picked.len() as i32)];
            emulate(&source(width), &launch(2, 1), arguments).unwrap();
            let expected: Vec<u8> =
                picked.iter().flat_map(|row| &frames[row * width..][..width]).copied().collect();
            assert_eq!(found, expected, "{width}");
        }
    }

    #[test]
    fn rows_of_a_store_are_copied() {
        let memory: Vec<u8> = (0..60).collect();
        let mut found = vec![0; 12];
        copy(&memory, &[50, 0, 7], &mut found);
        assert_eq!(found, [50, 51, 52, 53, 0, 1, 2, 3, 7, 8, 9, 10]);
    }

    #[cfg(unix)]
    #[test]
    fn the_kernel_compiles_for_gpus() {
        let Some(library) = std::env::var_os("TT_NVRTC") else {
            eprintln!("skipped: gathering frames is not compiled for GPUs (TT_NVRTC names no libnvrtc.so)");
            return;
        };
        let nvrtc = tt_core::cuda::nvrtc::Nvrtc::open(library.as_ref()).unwrap();
        for architecture in ["sm_80", "sm_90"] {
            let (binary, log) = nvrtc.compile(&source(57_600), architecture).unwrap();
            assert!(binary.starts_with(b"\x7fELF"));
            assert_eq!(log, "", "{architecture}");
        }
    }
}
