//! Gradients as the optimiser reads them: a piece at a time.

use crate::error::{Result, check_size};
use rayon::prelude::*;
use std::fmt;
use tt_core::simd::Buffer;

/// A gradient that is computed as it is read, so that it never exists as a whole.
///
/// That of a dense GRU's input matrix has 177 MB. A piece of it is still in the cache of the core that computed it when
/// the same core updates the weights with it.
pub trait Pieces: Sync {
    /// Values of all pieces together.
    fn values(&self) -> usize;

    /// Values of a piece; the last may have fewer. Fixed, so that nothing depends on the threads.
    fn piece(&self) -> usize;

    /// Overwrites `piece` with the one of this index.
    fn compute(&self, index: usize, piece: &mut [f32]);
}

/// A gradient: its values, or how to come by them.
#[derive(Clone, Copy)]
pub enum Gradient<'a> {
    /// As they lie in memory.
    Values(&'a [f32]),
    /// To be computed.
    Pieces(&'a dyn Pieces),
}

impl fmt::Debug for Gradient<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = if matches!(self, Self::Values(_)) { "Values" } else { "Pieces" };
        write!(f, "{form}({})", self.values())
    }
}

impl Gradient<'_> {
    /// Values of a piece where all of them are there.
    pub(crate) const PIECE: usize = 1 << 15;

    pub(crate) fn values(&self) -> usize {
        match self {
            Self::Values(values) => values.len(),
            Self::Pieces(pieces) => pieces.values(),
        }
    }

    /// Values of a piece; the last may have fewer.
    pub(crate) fn piece(&self) -> usize {
        match self {
            Self::Values(_) => Self::PIECE,
            Self::Pieces(pieces) => pieces.piece(),
        }
    }

    /// The piece of this index, `len` values; computed in `place` where it must be.
    pub(crate) fn read<'a>(&'a self, index: usize, len: usize, place: &'a mut Buffer) -> &'a [f32] {
        match self {
            Self::Values(values) => &values[index * Self::PIECE..][..len],
            Self::Pieces(pieces) => {
                place.resize(len);
                pieces.compute(index, place);
                place
            }
        }
    }
}

/// Overwrites `to` with all pieces.
pub(crate) fn write(pieces: &dyn Pieces, to: &mut [f32]) -> Result<()> {
    check_size("gradient", pieces.values(), to.len())?;
    let parts = to.par_chunks_mut(pieces.piece()).enumerate();
    parts.for_each(|(index, part)| pieces.compute(index, part));
    Ok(())
}

/// Adds all pieces to `to`.
pub(crate) fn add(pieces: &dyn Pieces, to: &mut [f32]) -> Result<()> {
    check_size("gradient", pieces.values(), to.len())?;
    let parts = to.par_chunks_mut(pieces.piece()).enumerate();
    parts.for_each_init(Buffer::default, |place, (index, part)| {
        place.resize(part.len());
        pieces.compute(index, place);
        part.iter_mut().zip(&place[..]).for_each(|(sum, more)| *sum += more);
    });
    Ok(())
}
