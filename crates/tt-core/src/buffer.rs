//! f32 memory that starts on a cache line, so that no vector load crosses one.
#![expect(unsafe_code, reason = "a slice of lines seen as a slice of numbers")]

use std::ops::{Deref, DerefMut};

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A growing f32 buffer on 64-byte boundaries.
#[derive(Debug, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// Makes room for `len` values; new room is zero, old contents stay. Never shrinks the memory.
    pub fn resize(&mut self, len: usize) {
        if self.lines.len() * 16 < len {
            self.lines.resize(len.div_ceil(16), Line([0.0; 16]));
        }
        self.len = len;
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is sixteen f32 without padding, and `resize` keeps `len <= 16 * lines`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::Buffer;

    #[test]
    fn is_aligned_and_keeps_its_contents() {
        let mut b = Buffer::default();
        for len in [1, 17, 1000] {
            b.resize(len);
            assert_eq!(b.len(), len);
            assert_eq!(b.as_ptr() as usize % 64, 0);
            b[0] += 1.0;
        }
        assert_eq!(b[0], 3.0);
        assert_eq!(b[999], 0.0);
    }
}
