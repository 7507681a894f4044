//! Rows of a batch, as kernels are given them.

use super::check;
use crate::{Error, Result};

/// A batch of input rows `[n, M]`, row-major.
#[derive(Debug, Clone, Copy)]
pub enum Rows<'a> {
    /// Pixels 0 to 255.
    U8(&'a [u8]),
    /// Any numbers.
    F32(&'a [f32]),
    /// Pixels, every row where it lies.
    Apart(Apart<'a>),
}

/// One row `[M]`, or a part of one.
#[derive(Debug, Clone, Copy)]
pub enum Row<'a> {
    /// Pixels 0 to 255.
    U8(&'a [u8]),
    /// Any numbers.
    F32(&'a [f32]),
}

/// Rows of bytes that lie apart in one memory, such as frames in a store.
#[derive(Debug, Clone, Copy)]
pub struct Apart<'a> {
    memory: &'a [u8],
    starts: &'a [usize],
    width: usize,
}

/// Rows of bytes, one after the other or apart.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ByteRows<'a> {
    Together(&'a [u8], usize),
    Apart(Apart<'a>),
}

impl<'a> Apart<'a> {
    /// Rows of `width` bytes that begin at `starts`.
    ///
    /// # Errors
    /// [`Error::Size`] if one does not lie inside the memory.
    pub fn new(memory: &'a [u8], starts: &'a [usize], width: usize) -> Result<Self> {
        let last = memory.len().checked_sub(width);
        match starts.iter().find(|start| last.is_none_or(|last| **start > last)) {
            None => Ok(Self { memory, starts, width }),
            Some(start) => Err(Error::Size {
                what: "a memory of rows",
                expected: format!("at least {} bytes", start.saturating_add(width)),
                found: memory.len().to_string(),
            }),
        }
    }

    pub(crate) fn row(&self, at: usize) -> &'a [u8] {
        &self.memory[self.starts[at]..][..self.width]
    }

    fn rows(&self, start: usize, count: usize) -> Self {
        Self { starts: &self.starts[start..start + count], ..*self }
    }
}

impl<'a> Rows<'a> {
    /// Numbers in all rows together.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::Apart(rows) => rows.starts.len() * rows.width,
        }
    }

    /// Whether there is no number at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `count` rows of `width` numbers, from row `start` on.
    #[must_use]
    pub fn rows(&self, start: usize, count: usize, width: usize) -> Self {
        match self {
            Self::U8(values) => Self::U8(&values[start * width..][..count * width]),
            Self::F32(values) => Self::F32(&values[start * width..][..count * width]),
            Self::Apart(rows) => Self::Apart(rows.rows(start, count)),
        }
    }

    /// Row `at` of rows of `width` numbers.
    pub fn row(&self, at: usize, width: usize) -> Row<'a> {
        match self {
            Self::U8(values) => Row::U8(&values[at * width..][..width]),
            Self::F32(values) => Row::F32(&values[at * width..][..width]),
            Self::Apart(rows) => Row::U8(rows.row(at)),
        }
    }

    /// The rows, of `width` numbers, where they are bytes.
    pub(crate) fn bytes(&self, width: usize) -> Option<ByteRows<'a>> {
        match self {
            Self::U8(values) => Some(ByteRows::Together(values, width)),
            Self::F32(_) => None,
            Self::Apart(rows) => Some(ByteRows::Apart(*rows)),
        }
    }

    /// How many rows of `width` numbers.
    ///
    /// # Errors
    /// [`Error::Size`] if they are no such rows, or none.
    pub fn count(&self, width: usize) -> Result<usize> {
        if let Self::Apart(rows) = self {
            check("numbers of a row", rows.width, width)?;
        }
        super::row_count(self.len(), width)
    }
}

impl<'a> Row<'a> {
    /// How many numbers.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers from `start` on, `len` of them.
    #[must_use]
    pub fn range(&self, start: usize, len: usize) -> Row<'a> {
        match self {
            Self::U8(values) => Self::U8(&values[start..start + len]),
            Self::F32(values) => Self::F32(&values[start..start + len]),
        }
    }
}

impl<'a> From<Row<'a>> for Rows<'a> {
    fn from(row: Row<'a>) -> Self {
        match row {
            Row::U8(values) => Self::U8(values),
            Row::F32(values) => Self::F32(values),
        }
    }
}

impl<'a> ByteRows<'a> {
    pub(crate) fn count(&self) -> usize {
        match self {
            Self::Together(bytes, width) => bytes.len() / width,
            Self::Apart(rows) => rows.starts.len(),
        }
    }

    pub(crate) fn row(&self, at: usize) -> &'a [u8] {
        match self {
            Self::Together(bytes, width) => &bytes[at * width..][..*width],
            Self::Apart(rows) => rows.row(at),
        }
    }

    pub(crate) fn rows(&self, start: usize, count: usize) -> Self {
        match self {
            Self::Together(bytes, width) => Self::Together(&bytes[start * width..][..count * width], *width),
            Self::Apart(rows) => Self::Apart(rows.rows(start, count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_apart_are_found_where_they_lie() {
        let memory: Vec<u8> = (0..20).collect();
        let starts = [16, 0, 0, 5];
        let rows = Rows::Apart(Apart::new(&memory, &starts, 4).unwrap());
        assert_eq!((rows.len(), rows.count(4).unwrap()), (16, 4));
        let row = |rows: &Rows<'_>, at| match rows.row(at, 4) {
            Row::U8(bytes) => bytes.to_vec(),
            Row::F32(_) => Vec::new(),
        };
        assert_eq!(
            (row(&rows, 0), row(&rows, 2), row(&rows, 3)),
            (vec![16, 17, 18, 19], vec![0, 1, 2, 3], vec![5, 6, 7, 8])
        );
        assert_eq!(row(&rows.rows(3, 1, 4), 0), [5, 6, 7, 8]);
        let bytes = rows.bytes(4).unwrap();
        assert_eq!((bytes.count(), bytes.rows(2, 2).row(1)), (4, &memory[5..9]));
        assert!(rows.count(8).is_err(), "two rows are no row of twice the width");
    }

    #[test]
    fn a_row_beyond_the_memory_is_refused() {
        assert!(Apart::new(&[0; 20], &[3, 17], 4).unwrap_err().to_string().contains("21 bytes"));
        assert!(Apart::new(&[0; 3], &[0], 4).is_err());
        assert!(Apart::new(&[0; 3], &[usize::MAX], 4).is_err());
        assert!(Apart::new(&[0; 3], &[], 4).is_ok());
    }
}
