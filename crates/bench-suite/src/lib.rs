//! Runs the models of the paper on its datasets, cell by cell; from the scores to records, tables and charts.
//!
//! Without features only the schema is built: specification, records, the paper's numbers. Feature `report` adds what
//! follows from records, `catalog` the datasets on this machine, `engine` the training. `xtask` links the schema and the
//! report, the programs that it starts the schema and the rest.
#![warn(clippy::undocumented_unsafe_blocks)]

#[cfg(feature = "engine")]
pub mod bench;
#[cfg(feature = "engine")]
pub mod build;
#[cfg(feature = "catalog")]
pub mod catalog;
#[cfg(feature = "engine")]
pub mod cell;
#[cfg(feature = "engine")]
pub mod compress;
#[cfg(feature = "engine")]
pub mod data;
pub mod device;
mod device_name;
#[cfg(feature = "report")]
pub mod draw;
#[cfg(feature = "catalog")]
pub mod duplicates;
pub mod events;
pub use video_data::files;
#[cfg(feature = "engine")]
pub mod export;
#[cfg(feature = "engine")]
pub mod features;
#[cfg(feature = "engine")]
pub mod lease;
#[cfg(feature = "engine")]
pub mod live;
#[cfg(feature = "engine")]
pub mod metrics;
#[cfg(feature = "engine")]
pub mod model_file;
#[cfg(feature = "engine")]
pub mod pace;
pub mod paper;
#[cfg(feature = "catalog")]
pub mod places;
#[cfg(feature = "engine")]
pub mod plan;
#[cfg(feature = "engine")]
pub mod predict;
pub mod pretrained;
#[cfg(feature = "catalog")]
pub mod progress;
pub mod provenance;
pub mod record;
#[cfg(any(feature = "catalog", feature = "report"))]
pub mod record_files;
#[cfg(feature = "engine")]
pub mod resolve;
#[cfg(feature = "report")]
pub mod results;
#[cfg(feature = "engine")]
mod sound;
pub mod spec;
#[cfg(feature = "engine")]
pub mod standard;
#[cfg(feature = "engine")]
pub mod state;
pub mod stats;
#[cfg(feature = "engine")]
pub mod stop;
#[cfg(feature = "engine")]
pub mod straddling;
#[cfg(feature = "engine")]
pub mod strips;
pub mod text;
#[cfg(feature = "engine")]
pub mod train;
#[cfg(feature = "engine")]
pub mod usage;
