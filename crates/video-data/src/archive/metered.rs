//! A tar stream whose headers cost no more than a cap.
//!
//! Long names and PAX attributes are read into memory by the `tar` crate before it hands out their entry, at the length
//! that the archive declares. So what may be read between two entries is counted here.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

/// Bytes that the headers of one entry may take: names, attributes, sparse maps.
const HEADERS: u64 = 1 << 20;

/// How far a stream has been read, shared with the reader below the `tar` crate.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter {
    read: Rc<Cell<u64>>,
    stop: Rc<Cell<u64>>,
    zeros: Rc<Cell<u64>>,
}

impl Meter {
    /// Bytes read so far.
    pub(super) fn read(&self) -> u64 {
        self.read.get()
    }

    /// Allows `content` bytes to be skipped, and one entry's headers to be read.
    pub(super) fn expect_headers(&self, content: u64) {
        self.stop.set(self.read().saturating_add(content).saturating_add(HEADERS));
    }

    /// Lifts the limit.
    pub(super) fn expect_content(&self) {
        self.stop.set(u64::MAX);
    }

    /// Whether the stream ended as a whole archive does, with an empty block.
    pub(super) fn is_whole(&self) -> bool {
        self.zeros.get() >= 512
    }
}

/// The reader that a [`Meter`] watches.
#[derive(Debug)]
pub(super) struct Metered<R> {
    pub(super) inner: R,
    pub(super) meter: Meter,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.meter.stop.get().saturating_sub(self.meter.read());
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other(format!("an entry's headers take more than {HEADERS} bytes")));
        }
        let length = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = self.inner.read(&mut buffer[..length])?;
        self.meter.read.set(self.meter.read() + n as u64);
        let zeros = buffer[..n].iter().rev().take_while(|byte| **byte == 0).count();
        self.meter.zeros.set(if zeros == n { self.meter.zeros.get() + n as u64 } else { zeros as u64 });
        Ok(n)
    }
}
