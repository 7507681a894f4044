//! The committed records of an experiment: everything else in its folder is derived from them.
//!
//! Every run has a folder of its own below `runs/`, with `folds.csv`, `curves.csv`, `predictions.csv`, `params.csv` and
//! `run.toml`. The page above it (tables, charts and report) is derived: [`Page`] decides which run it shows where.

pub mod ablation;
pub mod cells;
pub mod classes;
pub mod collect;
pub mod compression;
pub mod devices;
#[cfg(test)]
pub(crate) mod fixture;
pub mod folders;
pub mod formats;
pub mod inference;
mod join;
mod page;
pub(crate) mod paired;
pub mod peers;
pub mod provenance;
pub mod rates;
mod records;
mod rows;
mod run_file;
mod scores;
mod strips;
pub mod tables;
pub mod tuning;

pub use crate::record_files::{
    csv_bytes, csv_of, read_csv, read_json, read_lines, read_toml, write_atomic, write_lines, write_toml,
};
pub use folders::{RUNS, fresh, hold, holding, shown_line};
pub use page::{Listed, Page};
pub use provenance::machines;
pub use records::Records;
pub use rows::{CURVES_HEADER, ClipRow, CurveRow, FOLDS_HEADER, FoldRow, PREDICTIONS_HEADER};
pub use run_file::{CellMeta, FinalModel, Run, RunFile};
pub use strips::Strip;
