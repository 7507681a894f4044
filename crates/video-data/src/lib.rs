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
//! ```no_run
//! use std::path::Path;
//! use video_data::{Kind, import, sample, scan};
//!
//! # fn main() -> video_data::Result<()> {
//! let data = Path::new("data");
//! let dir = data.join("ucf11-sample");
//! sample::ensure(sample::Layout::Ucf11, &dir, 1, 0, None, &mut |done, all| eprintln!("{done}/{all}"))?;
//! let dataset = scan(Kind::Ucf11, &dir)?;
//! dataset.require_complete()?; // skip with --allow-partial
//! let options = import::Options::default();
//! let store = import::ensure_store(&dataset, &dataset.kind.frame_spec(), data, &options, &|clip| {
//!     eprintln!("{}/{} {}", clip.done, clip.total, clip.row.clip);
//! })?;
//! assert_eq!(store.frames(0).len(), store.clips()[0].frames * store.frame_bytes());
//! # Ok(())
//! # }
//! ```
//!
//! Nothing in this library links FFmpeg: frames come from the program `video-worker` over pipes
//! ([`decode`]), so that whatever a clip does to libav costs that clip alone.

pub mod archive;
pub mod batch;
pub mod damage;
mod dataset;
pub mod datasets;
pub mod decode;
pub mod digest;
mod error;
pub mod import;
mod kind;
pub mod name;
pub mod rate;
pub mod sample;
mod seen;
pub mod split;
pub mod store;
pub mod verify;

pub use dataset::Dataset;
pub use datasets::scan;
pub use error::{Error, Result};
pub use kind::{FrameSpec, Kind};
pub use store::Store;
