//! Python's buffers as slices, for as long as a call lasts.
#![expect(unsafe_code, reason = "slices over memory that a buffer holds")]

use pyo3::buffer::{Element, PyBuffer};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tt_core::apply::Rows;

/// A buffer of numbers that lie one after the other. While it lives, Python neither moves nor frees them.
pub(crate) struct Numbers<T>(PyBuffer<T>);

impl<T: Element> Numbers<T> {
    /// The buffer of an array.
    ///
    /// # Errors
    /// Numbers of another type, or with gaps.
    pub(crate) fn of(array: &Bound<'_, PyAny>) -> PyResult<Self> {
        let buffer = PyBuffer::get(array)?;
        if !buffer.is_c_contiguous() {
            return Err(PyValueError::new_err("an array has gaps between its numbers"));
        }
        Ok(Self(buffer))
    }

    pub(crate) fn numbers(&self) -> &[T] {
        // SAFETY: a contiguous buffer holds that many numbers of this type, and keeps them where they are. That no other
        // thread writes into an array while a call reads it is asked of callers, as numpy asks it.
        unsafe { std::slice::from_raw_parts(self.0.buf_ptr().cast(), self.0.item_count()) }
    }

    /// # Errors
    /// An array that may not be written to.
    pub(crate) fn numbers_mut(&mut self) -> PyResult<&mut [T]> {
        if self.0.readonly() {
            return Err(PyValueError::new_err("an array for results cannot be written to"));
        }
        // SAFETY: as above; arrays for results are made by this package for the call, and are in no other argument.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0.buf_ptr().cast(), self.0.item_count()) })
    }
}

/// Rows of bytes or of f32.
pub(crate) enum AnyRows {
    Bytes(Numbers<u8>),
    Floats(Numbers<f32>),
}

impl AnyRows {
    pub(crate) fn of(array: &Bound<'_, PyAny>) -> PyResult<Self> {
        match Numbers::of(array) {
            Ok(bytes) => Ok(Self::Bytes(bytes)),
            Err(_) => Ok(Self::Floats(Numbers::of(array)?)),
        }
    }

    pub(crate) fn rows(&self) -> Rows<'_> {
        match self {
            Self::Bytes(bytes) => Rows::U8(bytes.numbers()),
            Self::Floats(floats) => Rows::F32(floats.numbers()),
        }
    }
}
