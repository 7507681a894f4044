//! Video clips to u8 frames, or files of rows to numbers: datasets, decoding in worker processes, frame store, folds and
//! batches.
//!
//! ```text
//! datasets::scan(kind, dir)            -> Dataset          what lies on disk
//! sample::ensure(layout, dir, seed, …) -> SampleInfo       the rendered default data
//! import::ensure_store(&dataset, …)    -> Store            decoded once, memory-mapped afterwards
//! split::folds_by_clips / _by_groups   -> Vec<Vec<usize>>  test clips of each fold
//! derived::Origin::ensure(&self, …)    -> Store            rows computed from its frames, such as features
//! batch::BatchLoader::new(store, …)    -> Batch            u8 or f32 [sum T_b, M], read ahead
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
//! Without feature `clips` the crate is [`files`] alone.
//!
//! Nothing in this library links FFmpeg: frames come from the program `video-worker` over pipes
//! ([`decode`]), so that whatever a clip does to libav costs that clip alone.
#![warn(clippy::undocumented_unsafe_blocks)]

#[cfg(feature = "clips")]
pub mod archive;
#[cfg(feature = "clips")]
pub mod augment;
#[cfg(feature = "clips")]
pub mod batch;
#[cfg(feature = "clips")]
pub mod damage;
#[cfg(feature = "clips")]
mod dataset;
#[cfg(feature = "clips")]
pub mod datasets;
#[cfg(feature = "clips")]
pub mod decode;
#[cfg(feature = "clips")]
pub mod derived;
#[cfg(feature = "clips")]
pub mod digest;
#[cfg(feature = "clips")]
mod error;
pub mod files;
#[cfg(feature = "clips")]
pub mod import;
#[cfg(feature = "clips")]
mod kind;
#[cfg(feature = "clips")]
pub mod name;
#[cfg(feature = "clips")]
pub mod npy;
#[cfg(feature = "clips")]
pub mod rate;
#[cfg(feature = "clips")]
pub mod sample;
#[cfg(feature = "clips")]
mod sample_info;
#[cfg(feature = "clips")]
mod seen;
#[cfg(feature = "clips")]
pub mod split;
#[cfg(feature = "clips")]
pub mod store;
#[cfg(feature = "clips")]
pub mod verify;

#[cfg(feature = "clips")]
pub use dataset::Dataset;
#[cfg(feature = "clips")]
pub use datasets::scan;
#[cfg(feature = "clips")]
pub use error::{Error, Result};
#[cfg(feature = "clips")]
pub use kind::{Content, FrameSpec, Kind};
#[cfg(feature = "clips")]
pub use store::Store;
