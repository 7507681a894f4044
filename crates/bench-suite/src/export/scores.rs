//! How a model scored, and how models scored that were trained alike: on other folds, on groups held back.

use crate::record::{CellRecord, FINAL, Plan, PlannedCell, PredictionRow, cell_folder, has_class};
use crate::record_files::read_json;
use crate::stats::{self, Fold, Outcomes};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A score on clips that were not trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// Whether this very model was tested; else models that were trained alike on the folds of a protocol.
    pub of_this_model: bool,
    /// Protocol of the split.
    pub protocol: String,
    /// `accuracy` or `map`.
    pub metric: String,
    /// Mean over folds.
    pub value: f64,
    /// 95 % interval; none where there is a single group, or no prediction was kept.
    pub interval: Option<(f64, f64)>,
    /// Folds.
    pub folds: usize,
    /// Test clips of all folds.
    pub test_clips: usize,
}

/// The model's own score where it has one, then those of the run's finished cells that differ in protocol, fold and seed
/// alone: all of a run's cells of a model do.
pub(super) fn scores(run_dir: &Path, plan: &Plan, cell: &PlannedCell) -> Result<Vec<Score>> {
    let folder = |cell: &PlannedCell| cell_folder(run_dir, &cell.id());
    let mut alike: BTreeMap<&str, Vec<(PathBuf, &PlannedCell)>> = BTreeMap::new();
    for peer in plan.cells.iter().filter(|peer| peer.model == cell.model && peer.protocol != FINAL) {
        if folder(peer).join("cell.json").is_file() {
            alike.entry(&peer.protocol).or_default().push((folder(peer), peer));
        }
    }
    let mut all = Vec::new();
    if cell.protocol != FINAL {
        all.push(score(plan, &[(folder(cell), cell)], true)?);
    }
    for cells in alike.values() {
        if cells.iter().any(|(_, peer)| peer.id() != cell.id()) {
            all.push(score(plan, cells, false)?);
        }
    }
    Ok(all)
}

fn score(plan: &Plan, cells: &[(PathBuf, &PlannedCell)], of_this_model: bool) -> Result<Score> {
    let mut values: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    let mut tested: BTreeMap<usize, Fold> = BTreeMap::new();
    let (mut test_clips, mut complete) = (BTreeMap::new(), true);
    for (folder, cell) in cells {
        let record: CellRecord = read_json(&folder.join("cell.json"))?;
        values.entry(cell.fold).or_default().push(record.value);
        test_clips.insert(cell.fold, record.test_clips);
        match predictions(&folder.join("predictions.csv"))? {
            Some(rows) => {
                let groups = rows.iter().map(|row| row.group.clone()).collect();
                let groups = stats::drawn_groups(&cell.protocol, groups);
                let fold = tested.entry(cell.fold).or_insert_with(|| Fold { seeds: BTreeMap::new(), groups });
                fold.seeds.insert(cell.seed, outcomes(plan, &rows)?);
            }
            None => complete = false,
        }
    }
    let means: Vec<f64> = values.values().filter_map(|values| stats::mean(values)).collect();
    let first = cells[0].1;
    let folds: Vec<Fold> = tested.into_values().collect();
    let purpose = format!("{}/{}/{}", first.model, first.protocol, first.recipe);
    let interval = complete.then(|| stats::interval(&folds, &purpose)).flatten();
    Ok(Score {
        of_this_model,
        protocol: first.protocol.clone(),
        metric: plan.metric.clone(),
        value: stats::mean(&means).unwrap_or_default(),
        interval: interval.map(|interval| (interval.low, interval.high)),
        folds: means.len(),
        test_clips: test_clips.into_values().sum(),
    })
}

fn predictions(path: &Path) -> Result<Option<Vec<PredictionRow>>> {
    if !path.is_file() {
        return Ok(None);
    }
    let mut reader =
        csv::Reader::from_path(path).with_context(|| format!("cannot read {}", path.display()))?;
    let rows: Result<Vec<PredictionRow>, _> = reader.deserialize().collect();
    Ok(Some(rows.with_context(|| path.display().to_string())?))
}

fn outcomes(plan: &Plan, rows: &[PredictionRow]) -> Result<Outcomes> {
    if plan.metric != "map" {
        return Ok(Outcomes::accuracy(rows.iter().map(|row| row.label == row.predicted).collect()));
    }
    let mut scores = Vec::with_capacity(rows.len());
    for PredictionRow { clip, probabilities, .. } in rows {
        let of_clip: Result<Vec<f64>, _> = probabilities.split(';').map(str::parse).collect();
        match of_clip {
            Ok(of_clip) if of_clip.len() == plan.classes.len() => scores.push(of_clip),
            _ => bail!(
                "predictions.csv: {clip:?} has no probability for each of {} classes",
                plan.classes.len()
            ),
        }
    }
    let of_row = |row: &PredictionRow| {
        (0..plan.classes.len()).filter(|k| has_class(&row.label, &plan.classes[*k])).collect()
    };
    let labels: Vec<Vec<usize>> = rows.iter().map(of_row).collect();
    Ok(Outcomes::map(&scores, &labels, plan.classes.len()))
}
