//! The rows of a run's records, and the cell that each of them belongs to.

use std::cmp::Ordering;

use bench_suite::spec::MODEL_NAMES;
use serde::{Deserialize, Serialize};

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
of_cell!(FoldRow, CurveRow, ClipRow);

/// Order of the tables: protocol, recipe, model in the paper's order, fold, seed.
pub(crate) fn cell_order(a: CellKey<'_>, b: CellKey<'_>) -> Ordering {
    let order = |k: CellKey<'_>| {
        let model = MODEL_NAMES.iter().position(|m| *m == k.0).unwrap_or(usize::MAX);
        (k.1.to_owned(), k.2.to_owned(), model, k.0.to_owned(), k.3, k.4)
    };
    order(a).cmp(&order(b))
}
