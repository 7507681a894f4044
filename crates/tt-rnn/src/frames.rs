//! Rows that a layer reads: a tensor, or bytes that stay where they lie.

use crate::Result;
use crate::error::check_size;
use crate::packed;
use crate::storage::{on_cpu, rows_of};
use candle_core::{Device, Tensor, Var};
use std::fmt;
use std::sync::Arc;
use tt_core::apply::{Apart, Rows};

/// Memory that somebody keeps, such as a file mapped into it.
pub type Memory = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Packed rows `[sum T_b, M]` of clips, clip by clip.
#[derive(Debug, Clone)]
pub enum FrameRows {
    /// u8 or f32.
    Tensor(Tensor),
    /// Bytes by reference: kernels of the CPU read them without a copy.
    Stored(StoredRows),
}

/// Rows of bytes in a memory, in any order.
#[derive(Clone)]
pub struct StoredRows {
    memory: Memory,
    starts: Arc<Vec<usize>>,
    width: usize,
}

impl fmt::Debug for StoredRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rows of {} bytes in a memory", self.starts.len(), self.width)
    }
}

impl From<Tensor> for FrameRows {
    fn from(rows: Tensor) -> Self {
        Self::Tensor(rows)
    }
}

impl From<&Tensor> for FrameRows {
    fn from(rows: &Tensor) -> Self {
        Self::Tensor(rows.clone())
    }
}

impl From<&Var> for FrameRows {
    fn from(rows: &Var) -> Self {
        Self::Tensor(rows.as_tensor().clone())
    }
}

impl From<&Self> for FrameRows {
    fn from(rows: &Self) -> Self {
        rows.clone()
    }
}

impl From<StoredRows> for FrameRows {
    fn from(rows: StoredRows) -> Self {
        Self::Stored(rows)
    }
}

impl StoredRows {
    /// Rows of `width` bytes that begin at `starts`.
    ///
    /// # Errors
    /// If one does not lie inside the memory.
    pub fn new(memory: Memory, starts: Vec<usize>, width: usize) -> Result<Self> {
        Apart::new((*memory).as_ref(), &starts, width)?;
        Ok(Self { memory, starts: Arc::new(starts), width })
    }

    /// What kernels read.
    pub(crate) fn rows(&self) -> Result<Rows<'_>> {
        Ok(Rows::Apart(Apart::new((*self.memory).as_ref(), &self.starts, self.width)?))
    }

    /// A copy as a tensor on the CPU.
    fn tensor(&self) -> Result<Tensor> {
        let memory = (*self.memory).as_ref();
        let mut bytes = Vec::with_capacity(self.starts.len() * self.width);
        for start in &*self.starts {
            bytes.extend_from_slice(&memory[*start..][..self.width]);
        }
        Ok(Tensor::from_vec(bytes, (self.starts.len(), self.width), &Device::Cpu)?)
    }

    fn reversed(&self, lengths: &[usize]) -> Result<Self> {
        check_size("rows of the clips", lengths.iter().sum(), self.starts.len())?;
        let mut starts = self.starts.to_vec();
        let mut rest = &mut starts[..];
        for length in lengths {
            let (clip, after) = rest.split_at_mut(*length);
            clip.reverse();
            rest = after;
        }
        Ok(Self { starts: Arc::new(starts), ..self.clone() })
    }
}

impl FrameRows {
    /// Rows, and numbers of each.
    pub(crate) fn dims(&self) -> Result<(usize, usize)> {
        Ok(match self {
            Self::Tensor(rows) => rows.dims2()?,
            Self::Stored(rows) => (rows.starts.len(), rows.width),
        })
    }

    /// The rows as a tensor; of stored ones a copy.
    ///
    /// # Errors
    /// Of candle.
    pub fn tensor(&self) -> Result<Tensor> {
        match self {
            Self::Tensor(rows) => Ok(rows.clone()),
            Self::Stored(rows) => rows.tensor(),
        }
    }

    /// Lets `read` have them as kernels do, on the CPU.
    pub(crate) fn read<T>(&self, read: impl FnOnce(Rows<'_>) -> Result<T>) -> Result<T> {
        match self {
            Self::Tensor(rows) => {
                let (storage, layout) = rows.storage_and_layout();
                read(rows_of(on_cpu(&storage)?, layout)?)
            }
            Self::Stored(rows) => read(rows.rows()?),
        }
    }

    /// Every clip back to front.
    pub(crate) fn reversed(&self, lengths: &[usize]) -> Result<Self> {
        Ok(match self {
            Self::Tensor(rows) => Self::Tensor(packed::reverse(rows, lengths)?),
            Self::Stored(rows) => Self::Stored(rows.reversed(lengths)?),
        })
    }
}
