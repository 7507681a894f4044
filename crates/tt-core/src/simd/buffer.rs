//! Memory that is reused: f32 on cache lines, so that no vector load crosses one, and a pool of what calls borrow.
#![expect(unsafe_code, reason = "a slice of lines seen as a slice of numbers")]

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

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
    /// Makes room for `len` values; old contents stay, and what an earlier, larger size left comes back. Memory that is new is
    /// zero. Never shrinks the memory.
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

/// A pool: things that calls take, give back and reuse.
///
/// It keeps at most as many as there are threads: more would never be in use at once and would only hold memory.
#[derive(Debug, Default)]
pub struct Pool<T>(Mutex<Vec<T>>);

impl<T: Default> Pool<T> {
    /// A used thing, or a new one.
    pub fn take(&self) -> T {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Gives a thing back.
    pub fn give(&self, thing: T) {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < rayon::current_num_threads() {
            free.push(thing);
        }
    }

    /// Lends a thing for the duration of the call.
    pub fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let mut thing = self.take();
        let result = work(&mut thing);
        self.give(thing);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::{Buffer, Pool};

    #[test]
    fn a_pool_keeps_as_many_things_as_there_are_threads() {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        threads.install(|| {
            let pool = Pool::<Vec<u8>>::default();
            for number in 1..=3 {
                pool.give(vec![number]);
            }
            assert_eq!([pool.take(), pool.take(), pool.take()], [vec![2], vec![1], vec![]]);
            pool.with(|thing| thing.push(7));
            assert_eq!(pool.take(), [7]);
        });
    }

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
