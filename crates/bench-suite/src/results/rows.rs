//! The rows of a run's records, and the cell that each of them belongs to.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::spec::MODEL_NAMES;

/// A row of `folds.csv`: one finished cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FoldRow {
    /// Name of the model.
    pub model: String,
    /// Name of the protocol, which makes the folds.
    pub protocol: String,
    /// Name of the recipe.
    pub recipe: String,
    /// Number of the fold, from 0.
    pub fold: usize,
    /// Seed of initial values, order and masks.
    pub seed: u64,
    /// `accuracy` or `map`.
    pub metric: String,
    /// Score of the final epoch, in [0, 1].
    pub value: f64,
    /// Epochs trained.
    pub epochs: usize,
    /// Clips trained on.
    pub train_clips: usize,
    /// Clips scored.
    pub test_clips: usize,
    /// Mean wall seconds of an epoch without the first; none unless the cell ran alone on all cores.
    pub epoch_s: Option<f64>,
}

/// A row of `curves.csv`: one epoch of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurveRow {
    /// Name of the model.
    pub model: String,
    /// Name of the protocol, which makes the folds.
    pub protocol: String,
    /// Name of the recipe.
    pub recipe: String,
    /// Number of the fold, from 0.
    pub fold: usize,
    /// Seed of initial values, order and masks.
    pub seed: u64,
    /// Number of the epoch, from 1.
    pub epoch: usize,
    /// Mean cross-entropy per training clip.
    pub train_loss: f64,
    /// Score on the training clips as seen while training.
    pub train_value: f64,
    /// Score on the test clips, where the epoch was evaluated.
    pub test_value: Option<f64>,
    /// Wall seconds of the epoch's training part.
    pub wall_s: f64,
}

/// A row of `predictions.csv`: one test clip of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClipRow {
    /// Name of the model.
    pub model: String,
    /// Name of the protocol, which makes the folds.
    pub protocol: String,
    /// Name of the recipe.
    pub recipe: String,
    /// Number of the fold, from 0.
    pub fold: usize,
    /// Seed of initial values, order and masks.
    pub seed: u64,
    /// Path of the clip below the dataset.
    pub clip: String,
    /// Class names, joined by `;`.
    pub label: String,
    /// Class names, joined by `;`.
    pub predicted: String,
    /// Of every class in label order, joined by `;`; five significant digits.
    pub probabilities: String,
    /// Empty where nothing is known, and in records of before it was kept.
    #[serde(default)]
    pub group: String,
}

/// Header of `folds.csv`.
pub const FOLDS_HEADER: &str =
    "model,protocol,recipe,fold,seed,metric,value,epochs,train_clips,test_clips,epoch_s";
/// Header of `curves.csv`.
pub const CURVES_HEADER: &str =
    "model,protocol,recipe,fold,seed,epoch,train_loss,train_value,test_value,wall_s";
/// Header of `predictions.csv`.
pub const PREDICTIONS_HEADER: &str =
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
