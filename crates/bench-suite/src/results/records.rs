//! All records of a run, read and written together.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::paper;
use crate::record::ParamsRow;
use crate::record_files::{csv_bytes, read_csv, write_atomic};
use crate::results::rows::{
    CURVES_HEADER, CellKey, ClipRow, CurveRow, FOLDS_HEADER, FoldRow, OfCell, PARAMS_HEADER,
    PREDICTIONS_HEADER, cell_order,
};
use crate::results::run_file::RunFile;
use crate::results::strips::{self, Strip};

/// All records of a run, or the cells of several that a page shows.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    /// `run.toml`.
    pub run_file: RunFile,
    /// `folds.csv`.
    pub folds: Vec<FoldRow>,
    /// `curves.csv`.
    pub curves: Vec<CurveRow>,
    /// `predictions.csv`.
    pub predictions: Vec<ClipRow>,
    /// `params.csv`: Figure 1's counts.
    pub params: Vec<ParamsRow>,
    /// Frames of the clips that it got wrong, where they may be shown.
    pub strips: Vec<Strip>,
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
        self.params.sort_by_key(|p| {
            (p.rank, paper::RANK_LAYERS.iter().position(|l| *l == p.layer), p.layer.clone())
        });
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
