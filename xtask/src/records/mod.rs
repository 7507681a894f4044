//! The committed records of an experiment: everything else in its folder is derived from them.
//!
//! Every run has a folder of its own below `runs/`, with `folds.csv`, `curves.csv`, `predictions.csv`, `params.csv` and
//! `run.toml`. The page above it (tables, charts and report) is derived: [`Page`] decides which run it shows where.

mod collect;
mod csv_file;
mod folders;
mod join;
mod json;
mod page;
mod run_file;
mod strips;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};
use bench_suite::deck;
use bench_suite::record::ParamsRow;
use bench_suite::spec::MODEL_NAMES;
use serde::{Deserialize, Serialize};

pub(crate) use collect::collect;
pub(crate) use csv_file::{csv_bytes, read_csv, write_atomic};
pub(crate) use folders::{RUNS, fresh, hold, holding, home, largest, machines, shown_line};
pub(crate) use json::{read_json, read_lines, write_lines};
pub(crate) use page::{Listed, Page};
pub(crate) use run_file::{CellMeta, FinalModel, Run, RunFile};
pub(crate) use strips::Strip;

/// A row of `folds.csv`: one finished cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FoldRow {
    pub(crate) model: String,
    pub(crate) protocol: String,
    pub(crate) recipe: String,
    pub(crate) fold: usize,
    pub(crate) seed: u64,
    pub(crate) metric: String,
    pub(crate) value: f64,
    pub(crate) epochs: usize,
    pub(crate) train_clips: usize,
    pub(crate) test_clips: usize,
    pub(crate) epoch_s: Option<f64>,
}

/// A row of `curves.csv`: one epoch of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CurveRow {
    pub(crate) model: String,
    pub(crate) protocol: String,
    pub(crate) recipe: String,
    pub(crate) fold: usize,
    pub(crate) seed: u64,
    pub(crate) epoch: usize,
    pub(crate) train_loss: f64,
    pub(crate) train_value: f64,
    pub(crate) test_value: Option<f64>,
    pub(crate) wall_s: f64,
}

/// A row of `predictions.csv`: one test clip of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClipRow {
    pub(crate) model: String,
    pub(crate) protocol: String,
    pub(crate) recipe: String,
    pub(crate) fold: usize,
    pub(crate) seed: u64,
    pub(crate) clip: String,
    pub(crate) label: String,
    pub(crate) predicted: String,
    pub(crate) probabilities: String,
    /// Empty where nothing is known, and in records of before it was kept.
    #[serde(default)]
    pub(crate) group: String,
}

/// Header of `folds.csv`.
pub(crate) const FOLDS_HEADER: &str =
    "model,protocol,recipe,fold,seed,metric,value,epochs,train_clips,test_clips,epoch_s";
/// Header of `curves.csv`.
pub(crate) const CURVES_HEADER: &str =
    "model,protocol,recipe,fold,seed,epoch,train_loss,train_value,test_value,wall_s";
/// Header of `predictions.csv`.
pub(crate) const PREDICTIONS_HEADER: &str =
    "model,protocol,recipe,fold,seed,clip,label,predicted,probabilities,group";
/// Header of `params.csv`.
pub(crate) const PARAMS_HEADER: &str = "rank,layer,params";

/// Model, protocol, recipe, fold, seed: the identity of a cell.
pub(crate) type CellKey<'a> = (&'a str, &'a str, &'a str, usize, u64);

/// What belongs to a cell.
pub(crate) trait OfCell {
    /// The cell.
    fn key(&self) -> CellKey<'_>;
}

macro_rules! of_cell {
    ($($row:ty),*) => {
        $(impl OfCell for $row {
            fn key(&self) -> CellKey<'_> {
                (&self.model, &self.protocol, &self.recipe, self.fold, self.seed)
            }
        })*
    };
}
of_cell!(FoldRow, CurveRow, ClipRow, CellMeta);

/// Order of the tables: protocol, recipe, model in the deck's order, fold, seed.
pub(crate) fn cell_order(a: CellKey<'_>, b: CellKey<'_>) -> Ordering {
    let order = |k: CellKey<'_>| {
        let model = MODEL_NAMES.iter().position(|m| *m == k.0).unwrap_or(usize::MAX);
        (k.1.to_owned(), k.2.to_owned(), model, k.0.to_owned(), k.3, k.4)
    };
    order(a).cmp(&order(b))
}

/// All records of a run, or the cells of several that a page shows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Records {
    pub(crate) run_file: RunFile,
    pub(crate) folds: Vec<FoldRow>,
    pub(crate) curves: Vec<CurveRow>,
    pub(crate) predictions: Vec<ClipRow>,
    pub(crate) params: Vec<ParamsRow>,
    /// Frames of the clips that it got wrong, where they may be shown.
    pub(crate) strips: Vec<Strip>,
}

impl Records {
    /// Whether a folder holds records.
    pub(crate) fn are_in(dir: &Path) -> bool {
        dir.join("run.toml").is_file() && dir.join("folds.csv").is_file()
    }

    /// Reads the records of a run's folder: the cells that `run.toml`, which is written last, names.
    pub(crate) fn read(dir: &Path) -> Result<Self> {
        let run_file = RunFile::read(&dir.join("run.toml"))?;
        let mut records = Self {
            folds: read_csv(&dir.join("folds.csv"))?,
            curves: read_csv(&dir.join("curves.csv"))?,
            predictions: read_csv(&dir.join("predictions.csv"))?,
            params: read_csv(&dir.join("params.csv"))?,
            strips: strips::read(dir, run_file.runs.iter().find_map(|run| run.strips.as_deref()))?,
            run_file: run_file.clone(),
        };
        let cells: BTreeSet<CellKey<'_>> =
            run_file.runs.iter().flat_map(|run| &run.cells).map(OfCell::key).collect();
        records.folds.retain(|row| cells.contains(&row.key()));
        records.curves.retain(|row| cells.contains(&row.key()));
        records.predictions.retain(|row| cells.contains(&row.key()));
        if records.folds.len() != cells.len() {
            bail!("{}: folds.csv lacks cells that run.toml names", dir.display());
        }
        Ok(records)
    }

    /// Puts every table into its order, so that the same cells give the same bytes.
    pub(crate) fn sort(&mut self) {
        self.folds.sort_by(|a, b| cell_order(a.key(), b.key()));
        self.curves.sort_by(|a, b| cell_order(a.key(), b.key()).then(a.epoch.cmp(&b.epoch)));
        self.predictions.sort_by(|a, b| cell_order(a.key(), b.key()).then_with(|| a.clip.cmp(&b.clip)));
        self.params
            .sort_by_key(|p| (p.rank, deck::RANK_LAYERS.iter().position(|l| *l == p.layer), p.layer.clone()));
        self.run_file.sort();
    }

    /// Writes the records; each file is complete or unchanged.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let mut run_file = self.run_file.clone();
        let strips = strips::write(dir, &self.strips)?;
        run_file.runs.iter_mut().for_each(|run| run.strips.clone_from(&strips));
        for (name, bytes) in [
            ("folds.csv", csv_bytes(FOLDS_HEADER, &self.folds)?),
            ("curves.csv", csv_bytes(CURVES_HEADER, &self.curves)?),
            ("predictions.csv", csv_bytes(PREDICTIONS_HEADER, &self.predictions)?),
            ("params.csv", csv_bytes(PARAMS_HEADER, &self.params)?),
            ("run.toml", run_file.to_toml()?.into_bytes()),
        ] {
            write_atomic(&dir.join(name), &bytes)?;
        }
        strips::sweep(dir, strips.as_deref())
    }
}
