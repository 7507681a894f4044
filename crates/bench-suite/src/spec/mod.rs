//! Experiments: TOML to a checked, complete specification.
//!
//! A specification is put together from four layers, each overriding the one before: the recipe file
//! (`experiments/recipes/<recipe>.toml`), its `[dataset.<name>]` table, the experiment's own tables with its
//! `[recipe.<recipe>]` table, and `--set key=value`. Every key must exist after that; a key that no field
//! reads is an error that names the nearest valid one.

mod check;
mod error;
mod fields;
mod layers;
mod load;
mod names;

pub use error::{Result, SpecError, nearest_or};
pub use fields::{DataSpec, DecodeSpec, ModelSpec, Overrides, ProtocolSpec, Spec, TrainSpec};
pub use load::stems;
pub use names::{
    ATTENTION, CROP, FORMAT_NAMES, FORMAT_PREFIXES, MIRROR, MODEL_NAMES, ON_FEATURES, format_of,
};
