//! Scores of cells and the test clips behind them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};

use crate::record::{DataKind, has_class};
use crate::results::records::Records;
use crate::results::rows::{CellKey, ClipRow, FoldRow, OfCell};
use crate::stats::{self, Fold, Outcomes};

/// Takes off the last digits, which are noise of the arithmetic: 0.35 instead of 0.3499999999999999.
pub(crate) fn tidy(value: f64) -> f64 {
    (value * 1e12).round() / 1e12
}

/// The test clips of a cell.
#[derive(Debug, Clone)]
pub(crate) struct Tested {
    outcomes: Outcomes,
    groups: Option<Vec<String>>,
}

/// The test clips of every cell that has predictions.
pub(crate) type AllTested<'a> = BTreeMap<CellKey<'a>, Tested>;

/// Finds them.
///
/// # Errors
/// When `folds.csv` and `predictions.csv` disagree.
pub(crate) fn tested(records: &Records) -> Result<AllTested<'_>> {
    let mut clips: BTreeMap<CellKey<'_>, Vec<&ClipRow>> = BTreeMap::new();
    for row in &records.predictions {
        clips.entry(row.key()).or_default().push(row);
    }
    let mut tested = BTreeMap::new();
    for (key, rows) in clips {
        let probabilities = scores(&records.run_file.classes, &rows)?;
        let outcomes = if records.run_file.metric == "map" {
            map_outcomes(&records.run_file.classes, &rows, &probabilities)
        } else {
            Outcomes::accuracy(rows.iter().map(|r| r.label == r.predicted).collect())
        };
        if let Some(fold) = records.folds.iter().find(|fold| fold.key() == key) {
            let (model, protocol, recipe, number, seed) = key;
            let cell = format!("{model} {protocol} {recipe} fold {number} seed {seed}");
            let names: BTreeSet<&str> = rows.iter().map(|row| row.clip.as_str()).collect();
            if names.len() != fold.test_clips || rows.len() != fold.test_clips {
                bail!(
                    "folds.csv says {} test clips for {cell}, predictions.csv has {} of {} clips",
                    fold.test_clips,
                    rows.len(),
                    names.len()
                );
            }
            if !is_score(&records.run_file.metric, fold.value, &outcomes) {
                let found = outcomes.score().unwrap_or(f64::NAN);
                bail!("folds.csv says {} for {cell}, predictions.csv gives {found}", fold.value);
            }
        }
        tested.insert(key, Tested { outcomes, groups: drawn(records, &rows) });
    }
    Ok(tested)
}

/// Whether a cell's score is that of its predictions; of a mean average precision, for which these are rounded, whether it is a
/// number.
pub(crate) fn is_score(metric: &str, value: f64, outcomes: &Outcomes) -> bool {
    let is_near = |score: f64| (score - value).abs() <= 1e-6;
    value.is_finite() && (metric != "accuracy" || outcomes.score().is_some_and(is_near))
}

fn drawn(records: &Records, rows: &[&ClipRow]) -> Option<Vec<String>> {
    let groups = rows.iter().map(|row| group(records, row)).collect();
    stats::drawn_groups(&rows.first()?.protocol, groups)
}

/// The group of a clip; records of before it was kept have it in the clip's path, `<class>/<group>/<clip>`. Empty
/// where it is not known.
fn group(records: &Records, row: &ClipRow) -> String {
    let path: Vec<&str> = row.clip.split('/').collect();
    match (row.group.as_str(), records.run_file.data_kind, path.as_slice()) {
        ("", DataKind::Folder, [_, group, _]) => (*group).to_owned(),
        (group, ..) => group.to_owned(),
    }
}

/// Probabilities of clips in class order, `[clips][K]`.
pub(crate) fn scores(classes: &[String], rows: &[&ClipRow]) -> Result<Vec<Vec<f64>>> {
    let mut scores: Vec<Vec<f64>> = Vec::with_capacity(rows.len());
    for row in rows {
        let probabilities: Result<Vec<f64>, _> = row.probabilities.split(';').map(str::parse).collect();
        match probabilities {
            Ok(p) if p.len() == classes.len() && p.iter().all(|p| p.is_finite()) => scores.push(p),
            _ => bail!(
                "predictions.csv: {:?} has no probability for each of {} classes",
                row.clip,
                classes.len()
            ),
        }
    }
    Ok(scores)
}

fn map_outcomes(classes: &[String], rows: &[&ClipRow], probabilities: &[Vec<f64>]) -> Outcomes {
    let labels: Vec<Vec<usize>> = rows
        .iter()
        .map(|row| {
            let has = |k: &usize| has_class(&row.label, &classes[*k]);
            (0..classes.len()).filter(has).collect()
        })
        .collect();
    Outcomes::map(probabilities, &labels, classes.len())
}

/// Scores and test clips fold by fold; no clips where a cell has no predictions.
pub(crate) fn by_fold(rows: &[&FoldRow], tested: &AllTested<'_>) -> (Vec<f64>, Option<Vec<Fold>>) {
    let folds: BTreeSet<usize> = rows.iter().map(|r| r.fold).collect();
    let mut values = Vec::new();
    let mut all = Some(Vec::new());
    for fold in folds {
        let of_fold: Vec<&&FoldRow> = rows.iter().filter(|r| r.fold == fold).collect();
        let scores: Vec<f64> = of_fold.iter().map(|r| r.value).collect();
        values.extend(stats::mean(&scores));
        let seeds: Option<Vec<(u64, &Tested)>> =
            of_fold.iter().map(|r| Some((r.seed, tested.get(&r.key())?))).collect();
        all = all.zip(seeds).map(|(mut all, seeds)| {
            let groups = seeds.first().and_then(|(_, tested)| tested.groups.clone());
            let seeds = seeds.into_iter().map(|(seed, tested)| (seed, tested.outcomes.clone())).collect();
            all.push(Fold { seeds, groups });
            all
        });
    }
    (values, all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture;

    #[test]
    fn map_follows_from_the_probabilities() {
        let mut records = fixture::five_models();
        records.run_file.metric = "map".into();
        let row = |label: &str, probabilities: &str| ClipRow {
            label: label.into(),
            probabilities: probabilities.into(),
            ..records.predictions[0].clone()
        };
        let rows = [row("walking;biking", "0.9;0.8"), row("biking", "0.2;0.9"), row("", "0.1;0.1")];
        let refs: Vec<&ClipRow> = rows.iter().collect();
        let classes = &records.run_file.classes;
        let probabilities = scores(classes, &refs).unwrap();
        assert_eq!(map_outcomes(classes, &refs, &probabilities).score(), Some(1.0));
        for wrong in ["0.1", "0.1;NaN", "0.1;x", "0.1;0.2;0.7"] {
            assert!(scores(classes, &[&row("", wrong)]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_score_that_is_no_number_is_refused() {
        let mut records = fixture::five_models();
        assert!(tested(&records).is_ok());
        records.folds[0].value = f64::NAN;
        let error = tested(&records).map(drop).unwrap_err().to_string();
        assert!(error.contains("folds.csv says NaN"), "{error}");
    }
}
