//! The records of an ablation, a row per cell, and the table that follows from them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::provenance::Provenance;
use crate::record_files::{csv_bytes, read_csv_or_none, read_toml, write_atomic, write_toml};
use crate::results::folders::{RUNS, holding, home, largest};
use crate::results::provenance::note;
use crate::results::scores::tidy;
use crate::stats::{self, Fold, Interval, Outcomes};

/// Header of `cells.csv`.
pub(crate) const CELLS_HEADER: &str = "factor,level,split,model,fold,seed,epochs,value,train_clips,test_clips,\
                                       saturated_gates,params_input,epoch_s,run,hits,groups";
/// Header of `ablation.csv`.
pub(crate) const ABLATION_HEADER: &str = "factor,level,split,model,mean,std,ci_low,ci_high,difference,\
                                        difference_low,difference_high,folds,epochs,params_input,\
                                        saturated_gates,epoch_s";

/// A finished cell of an ablation. Factor and level are empty for the base.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellRow {
    /// Name of the factor.
    pub factor: String,
    /// Name of the level.
    pub level: String,
    /// `test`, or `inner` for the inner split of the training fold.
    pub split: String,
    /// Name of the model.
    pub model: String,
    /// Number of the fold, from 0.
    pub fold: usize,
    /// Seed of initial values, order and masks.
    pub seed: u64,
    /// Epochs trained.
    pub epochs: usize,
    /// Accuracy of the final epoch.
    pub value: f64,
    /// Clips trained on.
    pub train_clips: usize,
    /// Clips scored.
    pub test_clips: usize,
    /// Share of the gates' activations below 0.01 or above 0.99 at the initial weights; none without gates.
    pub saturated_gates: Option<f64>,
    /// Weights of the input matrix.
    pub params_input: usize,
    /// Mean wall seconds of an epoch without the first; none unless the cell ran alone on all cores.
    pub epoch_s: Option<f64>,
    /// Folder under `data/runs/`.
    pub run: String,
    /// A digit per scored clip, in name order: 1 where the prediction was right.
    pub hits: String,
    /// The clips' groups in the same order, joined by `/`; empty unless the protocol keeps groups whole.
    #[serde(default)]
    pub groups: String,
}

/// A row of `ablation.csv`: a level of a factor for a model, against the default on the same folds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct AblationRow {
    pub(crate) factor: String,
    pub(crate) level: String,
    pub(crate) split: String,
    pub(crate) model: String,
    pub(crate) mean: f64,
    pub(crate) std: Option<f64>,
    pub(crate) ci_low: Option<f64>,
    pub(crate) ci_high: Option<f64>,
    /// Mean over folds of this level less the default.
    pub(crate) difference: Option<f64>,
    pub(crate) difference_low: Option<f64>,
    pub(crate) difference_high: Option<f64>,
    pub(crate) folds: usize,
    pub(crate) epochs: usize,
    pub(crate) params_input: usize,
    pub(crate) saturated_gates: Option<f64>,
    pub(crate) epoch_s: Option<f64>,
}

/// The name of the default level per factor, in the file's order.
pub(crate) type Defaults = Vec<(String, String)>;

/// What the cells of a run have in common: `run.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Name of the ablation. Records of before it was called so say `ledger`.
    #[serde(alias = "ledger")]
    pub ablation: String,
    /// Title of page and chart.
    pub title: String,
    /// Name of the protocol, which makes the folds.
    pub protocol: String,
    /// One line that says which data this is.
    pub data: String,
    /// SHA-256 over the store's manifest.
    pub data_digest: String,
    /// Clips usable.
    pub clips: usize,
    /// Frames of all usable clips.
    pub frames: usize,
    /// When the last cell was finished, UTC.
    pub finished: String,
    /// Factor and default level, in order.
    pub defaults: Defaults,
    /// Factor and what its levels are numbers of, for those that are drawn as a curve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub axes: Vec<(String, String)>,
    /// The base's configuration.
    pub config: String,
    /// What computed the cells: one entry unless they differ.
    pub provenance: Vec<Provenance>,
}

/// Reads `cells.csv`, or nothing where there is none yet.
pub(crate) fn read(dir: &Path) -> Result<Vec<CellRow>> {
    read_csv_or_none(&dir.join("cells.csv"))
}

/// Writes `cells.csv`.
fn write(dir: &Path, rows: &[CellRow]) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    write_atomic(&dir.join("cells.csv"), &csv_bytes(CELLS_HEADER, rows)?)
}

/// Puts cells into the folder of a run; where a cell is there with other numbers, into a folder of their own.
pub fn keep(dir: &Path, run: &str, rows: Vec<CellRow>, about: &About) -> Result<()> {
    let folder = home(&dir.join(RUNS), run, |folder| {
        let known = read(folder)?;
        Ok(rows.iter().all(|row| known.iter().all(|old| !same_cell(old, row) || old == row)))
    })?;
    let mut all = read(&folder)?;
    let new: Vec<CellRow> = rows.into_iter().filter(|row| !all.contains(row)).collect();
    all.extend(new);
    write(&folder, &all)?;
    let path = folder.join("run.toml");
    let mut whole = if path.is_file() { read_toml(&path)? } else { about.clone() };
    for provenance in &about.provenance {
        whole.add(&about.finished, provenance);
    }
    write_toml(&path, &whole)
}

fn same_cell(a: &CellRow, b: &CellRow) -> bool {
    (&a.factor, &a.level, &a.split, &a.model, a.fold, a.seed)
        == (&b.factor, &b.level, &b.split, &b.model, b.fold, b.seed)
}

impl About {
    /// Notes what computed a cell, and when.
    pub fn add(&mut self, finished: &str, by: &Provenance) {
        if self.finished.as_str() < finished {
            finished.clone_into(&mut self.finished);
        }
        note(&mut self.provenance, by);
    }

    /// The base's recipe.
    pub(crate) fn recipe(&self) -> String {
        let config: Option<toml::Table> = toml::from_str(&self.config).ok();
        config.and_then(|config| Some(config.get("recipe")?.as_str()?.to_owned())).unwrap_or_default()
    }
}

/// What the page of a folder shows.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) about: About,
    pub(crate) table: Vec<AblationRow>,
    /// Names of the run and of the others.
    pub(crate) run: String,
    pub(crate) others: Vec<String>,
}

/// The run with the most cells.
pub(crate) fn shown(dir: &Path) -> Result<Shown> {
    let runs = dir.join(RUNS);
    let about = |folder: &Path| read_toml::<About>(&folder.join("run.toml"));
    let run = largest(&runs, |folder| Ok((read(folder)?.len(), about(folder)?.finished)))?;
    let run = run.with_context(|| format!("{} holds no runs", dir.display()))?;
    let about = about(&runs.join(&run))?;
    let table = table(&read(&runs.join(&run))?, &about.defaults);
    let others = holding(&runs, "run.toml")?.into_iter().filter(|name| *name != run).collect();
    Ok(Shown { about, table, run, others })
}

/// The table: per factor the default, then its levels in the order in which they were recorded.
pub(crate) fn table(rows: &[CellRow], defaults: &Defaults) -> Vec<AblationRow> {
    let mut table = Vec::new();
    for (factor, default) in defaults {
        let mut groups: Vec<(&str, &str, &str)> = Vec::new();
        for row in rows.iter().filter(|row| row.factor == *factor) {
            let key = (row.split.as_str(), row.model.as_str(), row.level.as_str());
            if !groups.contains(&key) {
                groups.push(key);
            }
        }
        groups.sort_by_key(|(split, model, _)| (std::cmp::Reverse(*split), order(model)));
        let mut last = None;
        for (split, model, level) in groups {
            let of = |factor: &str, level: &str| -> Vec<&CellRow> {
                let mut cells: Vec<&CellRow> = rows
                    .iter()
                    .filter(|r| {
                        r.factor == factor && r.level == level && r.split == split && r.model == model
                    })
                    .collect();
                cells.sort_by_key(|r| (r.fold, r.seed));
                cells
            };
            let base = of("", "");
            if last != Some((split, model)) {
                table.extend(summary(factor, default, &base, None));
                last = Some((split, model));
            }
            table.extend(summary(factor, level, &of(factor, level), Some(&base)));
        }
    }
    table
}

fn order(model: &str) -> usize {
    crate::spec::MODEL_NAMES.iter().position(|name| *name == model).unwrap_or(usize::MAX)
}

/// The row of some cells of one model, beside those of a base.
pub(crate) fn summary(
    factor: &str,
    level: &str,
    cells: &[&CellRow],
    base: Option<&[&CellRow]>,
) -> Option<AblationRow> {
    let first = cells.first()?;
    let (values, folds) = by_fold(cells);
    // The draws of an interval have kept the name that they had first: another one would change every record.
    let purpose = format!("ledger/{factor}/{level}/{}/{}", first.split, first.model);
    let interval = stats::interval(&folds, &purpose);
    let difference = base.and_then(|base| paired(cells, base, &purpose));
    let some = |values: Vec<f64>| stats::mean(&values);
    Some(AblationRow {
        factor: factor.to_owned(),
        level: level.to_owned(),
        split: first.split.clone(),
        model: first.model.clone(),
        mean: tidy(stats::mean(&values)?),
        std: stats::sample_std(&values).map(tidy),
        ci_low: interval.map(|i| tidy(i.low)),
        ci_high: interval.map(|i| tidy(i.high)),
        difference: difference.map(|(mean, _)| tidy(mean)),
        difference_low: difference.and_then(|(_, i)| i).map(|i| tidy(i.low)),
        difference_high: difference.and_then(|(_, i)| i).map(|i| tidy(i.high)),
        folds: values.len(),
        epochs: first.epochs,
        params_input: first.params_input,
        saturated_gates: some(cells.iter().filter_map(|c| c.saturated_gates).collect()).map(tidy),
        epoch_s: some(cells.iter().filter_map(|c| c.epoch_s).collect()).map(tidy),
    })
}

/// Mean difference to the base over the folds that both have, and its interval.
fn paired(cells: &[&CellRow], base: &[&CellRow], purpose: &str) -> Option<(f64, Option<Interval>)> {
    let twin = |cell: &CellRow| base.iter().find(|b| (b.fold, b.seed) == (cell.fold, cell.seed)).copied();
    let pairs: Vec<(&CellRow, &CellRow)> = cells.iter().filter_map(|c| Some((*c, twin(c)?))).collect();
    let (ours, theirs): (Vec<&CellRow>, Vec<&CellRow>) = pairs.into_iter().unzip();
    let ((a, a_folds), (b, b_folds)) = (by_fold(&ours), by_fold(&theirs));
    let differences: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
    let same = ours.iter().zip(&theirs).all(|(a, b)| a.hits.len() == b.hits.len());
    let apart = same.then(|| stats::paired(&a_folds, &b_folds, &format!("{purpose}/paired"))).flatten();
    Some((stats::mean(&differences)?, apart.map(|difference| difference.interval)))
}

/// Scores and outcomes fold by fold.
fn by_fold(cells: &[&CellRow]) -> (Vec<f64>, Vec<Fold>) {
    let mut folds: BTreeMap<usize, Vec<&CellRow>> = BTreeMap::new();
    for cell in cells {
        folds.entry(cell.fold).or_default().push(cell);
    }
    folds
        .into_values()
        .filter_map(|cells| {
            let values: Vec<f64> = cells.iter().map(|c| c.value).collect();
            let outcomes = |c: &&CellRow| Outcomes::accuracy(c.hits.bytes().map(|b| b == b'1').collect());
            let seeds = cells.iter().map(|c| (c.seed, outcomes(c))).collect();
            let groups = cells.first().map(|c| c.groups.as_str()).filter(|groups| !groups.is_empty());
            let groups = groups.map(|groups| groups.split('/').map(str::to_owned).collect());
            Some((stats::mean(&values)?, Fold { seeds, groups }))
        })
        .unzip()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn cell(factor: &str, level: &str, fold: usize, hits: &str) -> CellRow {
        let right = hits.bytes().filter(|b| *b == b'1').count();
        CellRow {
            factor: factor.into(),
            level: level.into(),
            split: "test".into(),
            model: "tt-gru".into(),
            fold,
            seed: 0,
            epochs: 3,
            value: right as f64 / hits.len() as f64,
            train_clips: 8,
            test_clips: hits.len(),
            saturated_gates: Some(0.5),
            params_input: 7,
            epoch_s: None,
            run: "abc".into(),
            hits: hits.into(),
            groups: String::new(),
        }
    }

    #[test]
    fn a_level_is_compared_with_the_default_on_the_same_folds_only() {
        let rows = [
            cell("", "", 0, "1100"),
            cell("", "", 1, "1111"),
            cell("rank", "8", 0, "1110"),
            cell("unused", "x", 0, "0000"),
        ];
        let table = table(&rows, &vec![("rank".into(), "4".into())]);
        assert_eq!(table.len(), 2);
        assert_eq!((table[0].level.as_str(), table[0].mean, table[0].folds), ("4", 0.75, 2));
        assert_eq!((table[1].level.as_str(), table[1].mean), ("8", 0.75));
        assert_eq!(table[1].difference, Some(0.25), "fold 0 alone");
        let (low, high) = (table[1].difference_low.unwrap(), table[1].difference_high.unwrap());
        assert!(low <= 0.25 && high >= 0.25, "{low} {high}");
    }

    #[test]
    fn whole_groups_are_drawn_where_they_are_known() {
        let width = |groups: &str| {
            let row = CellRow { groups: groups.into(), ..cell("", "", 0, "111100001111") };
            let level = CellRow { factor: "rank".into(), level: "8".into(), ..row.clone() };
            let first = table(&[row, level], &vec![("rank".into(), "4".into())]).remove(0);
            first.ci_high.unwrap() - first.ci_low.unwrap()
        };
        assert!(width("a/a/a/a/b/b/b/b/c/c/c/c") > 1.3 * width(""));
    }
}
