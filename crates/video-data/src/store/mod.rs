//! The frame store: all frames of a dataset as u8 in one memory-mapped file, with a manifest.
//!
//! ```text
//! <name>-<digest12>/frames.bin    u8 [sum T, H, W, C], clips in manifest order
//!                   manifest.csv  a row per clip, left-out ones too
//!                   store.json    what the frames are; written last, so it marks a complete store
//! ```
//! Opening only maps the file: it takes no time and no memory, whatever the size.

mod disk;
mod format;
mod manifest;
mod places;
mod reader;
mod writer;

pub(crate) use disk::{free_bytes, lock, temporary, write_whole};
pub use format::{Derived, FORMAT, StoreInfo, StoredClip};
pub(crate) use manifest::class_names;
pub use manifest::{COLUMNS, Row, read as parse_manifest};
pub use places::{find_store, store_dirs, store_files};
pub use reader::Store;
pub use writer::Writer;
