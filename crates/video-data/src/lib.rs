//! Video clips to u8 frames: datasets, decoding in worker processes, frame store, folds and batches.
//!
//! ```text
//! datasets::scan(kind, dir)            -> Dataset          what lies on disk
//! sample::ensure(layout, dir, seed, …) -> SampleInfo       the rendered default data
//! import::ensure_store(&dataset, …)    -> Store            decoded once, memory-mapped afterwards
//! split::folds_by_clips / _by_groups   -> Vec<Vec<usize>>  test clips of each fold
//! batch::BatchLoader::new(store, …)    -> Batch            u8 [sum T_b, M], read ahead
//! ```
//!
//! Nothing in this library links FFmpeg: frames come from the program `video-worker` over pipes
//! ([`decode`]), so that whatever a clip does to libav costs that clip alone.

pub mod batch;
pub mod datasets;
pub mod decode;
pub mod digest;
mod error;
pub mod import;
pub mod name;
pub mod rate;
pub mod sample;
pub mod split;
pub mod store;

pub use datasets::{Dataset, FrameSpec, Kind, scan};
pub use error::{Error, Result};
pub use store::Store;
