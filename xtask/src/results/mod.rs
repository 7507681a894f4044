//! The committed records of an experiment: everything else in its folder is derived from them.
//!
//! Every run has a folder of its own below `runs/`, with `folds.csv`, `curves.csv`, `predictions.csv`, `params.csv` and
//! `run.toml`. The page above it (tables, charts and report) is derived: [`Page`] decides which run it shows where.

pub(crate) mod ablation;
pub(crate) mod classes;
pub(crate) mod compression;
pub(crate) mod devices;
pub(crate) mod file;
#[cfg(test)]
pub(crate) mod fixture;
pub(crate) mod folders;
mod join;
mod page;
pub(crate) mod paired;
pub(crate) mod provenance;
pub(crate) mod rates;
mod records;
mod rows;
mod run_file;
mod scores;
mod strips;
pub(crate) mod tables;
pub(crate) mod tuning;

pub(crate) use file::{
    csv_bytes, read_csv, read_json, read_lines, read_toml, write_atomic, write_lines, write_toml,
};
pub(crate) use folders::{RUNS, fresh, hold, holding, shown_line};
pub(crate) use page::{Listed, Page};
pub(crate) use provenance::machines;
pub(crate) use records::Records;
pub(crate) use rows::{CURVES_HEADER, ClipRow, CurveRow, FOLDS_HEADER, FoldRow, PREDICTIONS_HEADER};
pub(crate) use run_file::{CellMeta, FinalModel, Run, RunFile};
pub(crate) use strips::Strip;
