//! The records of a search: a row per trained draw, per choice, and per cell scored with the choice.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::paper;
use crate::provenance::Provenance;
use crate::record_files::{csv_bytes, read_csv_or_none, write_atomic};
use crate::results::ablation::{CellRow, summary};
use crate::stats;

const TRIALS_HEADER: &str = "model,fold,rung,draw,settings,epochs,value,best_epoch,train_s,run";
const CHOICES_HEADER: &str = "model,fold,draw,settings,epochs,value";
const FINALS_HEADER: &str = "model,fold,seed,draw,settings,epochs,value,train_clips,test_clips,params_input,\
                             train_s,run,hits,groups";
/// Header of `tuning.csv`.
pub(crate) const TUNING_HEADER: &str = "model,mean,std,ci_low,ci_high,difference,\
                                       difference_low,difference_high,inner_mean,folds,search_s,final_s,\
                                       params_input";

/// A draw that was trained on the inner split of a fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialRow {
    /// Name of the model.
    pub model: String,
    /// Number of the fold, from 0.
    pub fold: usize,
    /// Step of the halving, from 0.
    pub rung: usize,
    /// Number of the draw, from 0.
    pub draw: usize,
    /// The draw's settings, separated by blanks.
    pub settings: String,
    /// Epochs trained.
    pub epochs: usize,
    /// Best score of an evaluated epoch on the inner split.
    pub value: f64,
    /// The first epoch with that score.
    pub best_epoch: usize,
    /// Seconds of training.
    pub train_s: f64,
    /// Folder under `data/runs/`.
    pub run: String,
}

/// What a fold chose for a model, before its test clips were opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChoiceRow {
    /// Name of the model.
    pub model: String,
    /// Number of the fold, from 0.
    pub fold: usize,
    /// Number of the draw, from 0.
    pub draw: usize,
    /// The draw's settings, separated by blanks.
    pub settings: String,
    /// Epochs that the final training runs.
    pub epochs: usize,
    /// Score on the inner split that it was chosen by.
    pub value: f64,
}

/// A cell that was trained as its fold chose, and scored on the test fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FinalRow {
    /// Name of the model.
    pub model: String,
    /// Number of the fold, from 0.
    pub fold: usize,
    /// Seed of initial values, order and masks.
    pub seed: u64,
    /// Number of the draw, from 0.
    pub draw: usize,
    /// The draw's settings, separated by blanks.
    pub settings: String,
    /// Epochs trained, as chosen.
    pub epochs: usize,
    /// Accuracy of the final epoch.
    pub value: f64,
    /// Clips trained on.
    pub train_clips: usize,
    /// Clips scored.
    pub test_clips: usize,
    /// Weights of the input matrix.
    pub params_input: usize,
    /// Seconds of training.
    pub train_s: f64,
    /// Folder under `data/runs/`.
    pub run: String,
    /// A digit per test clip, in name order: 1 where the prediction was right.
    pub hits: String,
    /// Their groups in the same order, joined by `/`; empty unless the protocol keeps groups whole.
    pub groups: String,
}

impl FinalRow {
    /// The row as an ablation has it.
    fn cell(&self) -> CellRow {
        CellRow {
            factor: "tuned".into(),
            level: "tuned".into(),
            split: "test".into(),
            model: self.model.clone(),
            fold: self.fold,
            seed: self.seed,
            epochs: self.epochs,
            value: self.value,
            train_clips: self.train_clips,
            test_clips: self.test_clips,
            saturated_gates: None,
            params_input: self.params_input,
            epoch_s: None,
            run: self.run.clone(),
            hits: self.hits.clone(),
            groups: self.groups.clone(),
        }
    }
}

/// A row of `tuning.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TuningRow {
    pub(crate) model: String,
    /// Over folds, on the test clips.
    pub(crate) mean: f64,
    pub(crate) std: Option<f64>,
    pub(crate) ci_low: Option<f64>,
    pub(crate) ci_high: Option<f64>,
    /// Of a TT model less its dense twin on the folds that both have.
    pub(crate) difference: Option<f64>,
    pub(crate) difference_low: Option<f64>,
    pub(crate) difference_high: Option<f64>,
    /// What the choices scored on the inner split: too high, since they were chosen by it.
    pub(crate) inner_mean: f64,
    pub(crate) folds: usize,
    /// Seconds of training that were spent on choosing, all folds.
    pub(crate) search_s: f64,
    /// Seconds of training with what was chosen, all folds.
    pub(crate) final_s: f64,
    pub(crate) params_input: usize,
}

/// What a search's rows have in common: `run.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Name of the search.
    pub search: String,
    /// Name of the protocol, which makes the folds.
    pub protocol: String,
    /// The models searched.
    pub models: Vec<String>,
    /// Draws and epochs of each step of the halving.
    pub rungs: Vec<(usize, usize)>,
    /// Title of page and chart.
    pub title: String,
    /// One line that says which data this is.
    pub data: String,
    /// SHA-256 over the store's manifest.
    pub data_digest: String,
    /// Clips usable.
    pub clips: usize,
    /// Frames of all usable clips.
    pub frames: usize,
    /// Configuration of the first draw.
    pub config: String,
    /// What computed the cells: one entry unless they differ.
    pub provenance: Vec<Provenance>,
}

/// The records of a search as they grow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    /// `trials.csv`.
    pub trials: Vec<TrialRow>,
    /// `choices.csv`.
    pub choices: Vec<ChoiceRow>,
    /// `finals.csv`.
    pub finals: Vec<FinalRow>,
}

impl Rows {
    /// What is in a folder; nothing where there is none yet.
    pub fn read(dir: &Path) -> Result<Self> {
        Ok(Self {
            trials: read_csv_or_none(&dir.join("trials.csv"))?,
            choices: read_csv_or_none(&dir.join("choices.csv"))?,
            finals: read_csv_or_none(&dir.join("finals.csv"))?,
        })
    }

    /// Writes all three files.
    pub fn write(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        write_atomic(&dir.join("trials.csv"), &csv_bytes(TRIALS_HEADER, &self.trials)?)?;
        write_atomic(&dir.join("choices.csv"), &csv_bytes(CHOICES_HEADER, &self.choices)?)?;
        write_atomic(&dir.join("finals.csv"), &csv_bytes(FINALS_HEADER, &self.finals)?)
    }

    /// The rows with these in the place of what there is of these models and folds.
    #[must_use]
    pub fn with(mut self, rows: &Self, models: &[String], folds: &[usize]) -> Self {
        let other = |model: &String, fold: &usize| !(models.contains(model) && folds.contains(fold));
        self.trials.retain(|row| other(&row.model, &row.fold));
        self.choices.retain(|row| other(&row.model, &row.fold));
        self.finals.retain(|row| other(&row.model, &row.fold));
        self.trials.extend_from_slice(&rows.trials);
        self.choices.extend_from_slice(&rows.choices);
        self.finals.extend_from_slice(&rows.finals);
        self
    }

    /// The trials of a step for a model and fold, best first; of equals the one drawn first.
    pub fn ranked(&self, model: &str, fold: usize, rung: usize) -> Vec<&TrialRow> {
        let mut trials: Vec<&TrialRow> = self
            .trials
            .iter()
            .filter(|t| (t.model.as_str(), t.fold, t.rung) == (model, fold, rung))
            .collect();
        trials.sort_by(|a, b| b.value.total_cmp(&a.value).then(a.draw.cmp(&b.draw)));
        trials
    }

    /// The table: a row per model with finished folds, in the order of the search.
    pub(crate) fn table(&self, models: &[String]) -> Vec<TuningRow> {
        models.iter().filter_map(|model| self.row(model)).collect()
    }

    fn cells(&self, model: &str) -> Vec<CellRow> {
        self.finals.iter().filter(|row| row.model == model).map(FinalRow::cell).collect()
    }

    fn row(&self, model: &str) -> Option<TuningRow> {
        let cells = self.cells(model);
        let dense = paper::TWINS.iter().find(|(tt, _)| *tt == model).map(|(_, dense)| *dense);
        let twin = self.cells(dense.unwrap_or_default());
        let (cells, twin): (Vec<&CellRow>, Vec<&CellRow>) = (cells.iter().collect(), twin.iter().collect());
        let row = summary("tuned", "tuned", &cells, (!twin.is_empty()).then_some(&twin[..]))?;
        let folds: Vec<usize> = cells.iter().map(|cell| cell.fold).collect();
        let finals = self.finals.iter().filter(|row| row.model == model);
        let chosen = self.choices.iter().filter(|c| c.model == model && folds.contains(&c.fold));
        let searched = self.trials.iter().filter(|t| t.model == model && folds.contains(&t.fold));
        Some(TuningRow {
            model: model.to_owned(),
            mean: row.mean,
            std: row.std,
            ci_low: row.ci_low,
            ci_high: row.ci_high,
            difference: row.difference,
            difference_low: row.difference_low,
            difference_high: row.difference_high,
            inner_mean: stats::mean(&chosen.map(|choice| choice.value).collect::<Vec<_>>())?,
            folds: row.folds,
            search_s: searched.map(|trial| trial.train_s).sum(),
            final_s: finals.map(|row| row.train_s).sum(),
            params_input: row.params_input,
        })
    }

    /// The expected best score on the inner split after 1, 2, … draws, mean over the folds that chose.
    ///
    /// # Paper
    /// Dodge et al. 2019, "Show your work", section 3.1: the expectation of the largest of n scores, drawn with
    /// replacement from those of all draws. A draw that was stopped early stands with the score it had then.
    pub(crate) fn expected_best(&self, model: &str) -> Vec<f64> {
        let folds = self.choices.iter().filter(|choice| choice.model == model).map(|choice| choice.fold);
        let curves: Vec<Vec<f64>> =
            folds.map(|fold| expected_largest(&self.best_by_draw(model, fold))).collect();
        let count = curves.iter().map(Vec::len).min().unwrap_or(0);
        (0..count)
            .filter_map(|n| stats::mean(&curves.iter().map(|curve| curve[n]).collect::<Vec<_>>()))
            .collect()
    }

    fn best_by_draw(&self, model: &str, fold: usize) -> Vec<f64> {
        let mut best: Vec<f64> = Vec::new();
        for trial in self.trials.iter().filter(|t| t.model == model && t.fold == fold) {
            best.resize(best.len().max(trial.draw + 1), 0.0);
            best[trial.draw] = best[trial.draw].max(trial.value);
        }
        best
    }
}

/// Expected largest of 1, 2, … N of these numbers, drawn with replacement.
fn expected_largest(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let count = sorted.len() as f64;
    let at_most = |i: usize, n: i32| (i as f64 / count).powi(n);
    (1..=sorted.len() as i32)
        .map(|n| sorted.iter().enumerate().map(|(i, v)| v * (at_most(i + 1, n) - at_most(i, n))).sum())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(rung: usize, draw: usize, value: f64) -> TrialRow {
        TrialRow {
            model: "gru".into(),
            fold: 0,
            rung,
            draw,
            settings: String::new(),
            epochs: 2,
            value,
            best_epoch: 2,
            train_s: 1.5,
            run: "r".into(),
        }
    }

    #[test]
    fn the_expected_best_of_n_draws_is_the_mean_over_all_ways_to_draw_them() {
        let values = [0.2, 0.5, 0.9];
        let found = expected_largest(&values);
        let (mut pairs, mut triples) = (0.0, 0.0);
        for a in values {
            for b in values {
                pairs += a.max(b) / 9.0;
                triples += values.iter().map(|c| a.max(b).max(*c)).sum::<f64>() / 27.0;
            }
        }
        for (found, expected) in found.iter().zip([1.6 / 3.0, pairs, triples]) {
            assert!((found - expected).abs() < 1e-12, "{found} not {expected}");
        }
    }

    #[test]
    fn draws_are_ranked_within_their_step_and_keep_their_best_score() {
        let rows = Rows {
            trials: vec![
                trial(0, 0, 0.4),
                trial(0, 1, 0.6),
                trial(0, 2, 0.6),
                trial(1, 1, 0.7),
                trial(1, 2, 0.5),
            ],
            ..Rows::default()
        };
        let order: Vec<usize> = rows.ranked("gru", 0, 0).iter().map(|t| t.draw).collect();
        assert_eq!(order, [1, 2, 0], "of equals the first");
        assert_eq!(rows.best_by_draw("gru", 0), [0.4, 0.7, 0.6]);
        assert!(rows.ranked("gru", 1, 0).is_empty() && rows.table(&["gru".into()]).is_empty());
    }

    #[test]
    fn a_narrower_search_keeps_what_others_found() {
        let (_, before) = crate::results::fixture::search();
        let none = Rows::default();
        assert_eq!(before.clone().with(&none, &["gru".into()], &[1]), before);
        let rows = before.clone().with(&none, &["gru".into()], &[0, 1]);
        assert!(rows.finals.iter().all(|row| row.model == "tt-gru") && rows.trials.len() == 3);
        let again = rows.with(&before, &["gru".into(), "tt-gru".into()], &[0]);
        assert_eq!(again, before, "the same rows once more are there once");
    }
}
