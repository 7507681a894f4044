//! Tables that follow from the records: `table.csv`, `paired.csv`, `sota.csv`.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::paper;
use crate::record::DataKind;
use crate::results::paired::{self, PairedRow};
use crate::results::records::Records;
use crate::results::rows::{FoldRow, OfCell};
use crate::results::run_file::{CellMeta, Run};
use crate::results::scores::{AllTested, by_fold, tested, tidy};
use crate::stats;

/// Header of `table.csv`.
pub(crate) const TABLE_HEADER: &str = "model,protocol,recipe,metric,mean,std,ci_low,ci_high,folds,seeds,epochs_min,epochs,\
settled,params_input,params_total,epoch_s,peak_rss_bytes,paper_mean,paper_std,paper_params_input,paper_epoch_s";
/// Header of `sota.csv`.
pub(crate) const SOTA_HEADER: &str = "dataset,figure,method,year,metric,value,source";

/// A row of `table.csv`: a model under a protocol and a recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableRow {
    /// Name of the model.
    pub model: String,
    /// Name of the protocol, which makes the folds.
    pub protocol: String,
    /// Name of the recipe.
    pub recipe: String,
    /// `accuracy` or `map`.
    pub metric: String,
    /// Mean score over folds and seeds.
    pub mean: f64,
    /// Sample standard deviation over folds; none with one fold.
    pub std: Option<f64>,
    /// Lower end of the 95 % interval.
    pub ci_low: Option<f64>,
    /// Upper end of the 95 % interval.
    pub ci_high: Option<f64>,
    /// Folds scored.
    pub folds: usize,
    /// Seeds per fold.
    pub seeds: usize,
    /// Epochs trained: the fewest of a cell.
    pub epochs_min: usize,
    /// The most.
    pub epochs: usize,
    /// Cells whose training ended because its loss had settled, and not at the most epochs allowed; none where the number
    /// of epochs was fixed.
    pub settled: Option<usize>,
    /// Cells of the row, one a fold and seed.
    #[serde(skip)]
    pub cells: usize,
    /// Weights of the input matrix.
    pub params_input: usize,
    /// Weights of the model.
    pub params_total: usize,
    /// Mean wall seconds of an epoch without the first; none unless the cell ran alone on all cores.
    pub epoch_s: Option<f64>,
    /// Peak resident memory, in bytes.
    pub peak_rss_bytes: u64,
    /// The paper's mean score.
    pub paper_mean: Option<f64>,
    /// The paper's standard deviation.
    pub paper_std: Option<f64>,
    /// The paper's weights of the input matrix.
    pub paper_params_input: Option<usize>,
    /// The paper's seconds per epoch.
    pub paper_epoch_s: Option<f64>,
}

impl TableRow {
    /// Epochs for people, `26 to 30`.
    pub(crate) fn epochs(&self) -> String {
        paired::range(self.epochs_min, self.epochs)
    }

    /// How many of the cells had settled, `3 of 5`; nothing where none was to.
    pub(crate) fn settled(&self) -> String {
        self.settled.map_or_else(String::new, |settled| format!("{settled} of {}", self.cells))
    }
}

/// A row of `sota.csv`: a bar of Figures 3, 5, 7, or one of ours on the official data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SotaCsvRow {
    pub(crate) dataset: String,
    pub(crate) figure: usize,
    pub(crate) method: String,
    pub(crate) year: u16,
    pub(crate) metric: String,
    pub(crate) value: f64,
    pub(crate) source: String,
}

/// Source of a bar that this repository measured.
pub(crate) const OURS: &str = "this repository, table.csv";

/// Everything that follows from the records.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tables {
    pub(crate) table: Vec<TableRow>,
    pub(crate) paired: Vec<PairedRow>,
    pub(crate) sota: Vec<SotaCsvRow>,
}

impl Tables {
    /// Derives all tables.
    ///
    /// # Errors
    /// When `folds.csv` and `predictions.csv` disagree.
    pub(crate) fn derive(records: &Records) -> Result<Self> {
        let tested = tested(records)?;
        let groups = groups(records);
        let table = groups.iter().map(|rows| table_row(records, rows, &tested)).collect::<Vec<_>>();
        let paired = paired::rows(records, &groups, &tested);
        let sota = sota_rows(records, &table);
        Ok(Self { table, paired, sota })
    }

    /// The difference of any two models under a protocol and a recipe, over the folds and seeds that both have.
    ///
    /// # Errors
    /// As [`derive`](Self::derive).
    pub(crate) fn difference(
        records: &Records,
        (model, baseline): (&str, &str),
        protocol: &str,
        recipe: &str,
    ) -> Result<Option<PairedRow>> {
        let tested = tested(records)?;
        let wanted = (model, protocol, recipe);
        let rows: Vec<&FoldRow> = records
            .folds
            .iter()
            .filter(|row| (row.model.as_str(), row.protocol.as_str(), row.recipe.as_str()) == wanted)
            .collect();
        Ok((!rows.is_empty()).then(|| paired::between(records, &rows, baseline, &tested)).flatten())
    }
}

/// The paper's protocol on a dataset.
fn paper_protocol(dataset: &str) -> &'static str {
    if dataset == "hollywood2" { "official" } else { "clips" }
}

/// Rows of `folds.csv` by model, protocol and recipe, in the file's order.
fn groups(records: &Records) -> Vec<Vec<&FoldRow>> {
    let mut groups: Vec<Vec<&FoldRow>> = Vec::new();
    for row in &records.folds {
        match groups.iter_mut().find(|g| {
            let key = g[0].key();
            (key.0, key.1, key.2) == (&row.model, &row.protocol, &row.recipe)
        }) {
            Some(group) => group.push(row),
            None => groups.push(vec![row]),
        }
    }
    groups
}

fn table_row(records: &Records, rows: &[&FoldRow], tested: &AllTested<'_>) -> TableRow {
    let first = rows[0];
    let (values, clips) = by_fold(rows, tested);
    let purpose = format!("{}/{}/{}", first.model, first.protocol, first.recipe);
    let interval = clips.and_then(|folds| stats::interval(&folds, &purpose));
    let metas: Vec<&CellMeta> = records
        .run_file
        .runs
        .iter()
        .flat_map(|run| &run.cells)
        .filter(|c| rows.iter().any(|r| r.key() == c.key()))
        .collect();
    let seconds: Vec<f64> = rows.iter().filter_map(|r| r.epoch_s).collect();
    let trained = paired::training(records, rows);
    let paper = paper::result(&records.run_file.dataset, &first.model);
    let scores = paper.filter(|_| first.protocol == paper_protocol(&records.run_file.dataset));
    TableRow {
        model: first.model.clone(),
        protocol: first.protocol.clone(),
        recipe: first.recipe.clone(),
        metric: first.metric.clone(),
        mean: tidy(stats::mean(&values).unwrap_or_default()),
        std: stats::sample_std(&values).map(tidy),
        ci_low: interval.map(|i| tidy(i.low)),
        ci_high: interval.map(|i| tidy(i.high)),
        folds: values.len(),
        seeds: rows.iter().map(|r| r.seed).collect::<BTreeSet<_>>().len(),
        epochs_min: trained.epochs.0,
        epochs: trained.epochs.1,
        settled: trained.settled,
        cells: rows.len(),
        params_input: metas.first().map_or(0, |m| m.params_input),
        params_total: metas.first().map_or(0, |m| m.params_total),
        epoch_s: stats::mean(&seconds).map(tidy),
        peak_rss_bytes: metas.iter().map(|m| m.peak_rss_bytes).max().unwrap_or_default(),
        paper_mean: scores.map(|p| p.mean),
        paper_std: scores.and_then(|p| p.std),
        paper_params_input: paper.map(|p| p.params_input),
        paper_epoch_s: paper.map(|p| p.epoch_s),
    }
}

/// The published bars of the dataset, and ours beside them: the paper's model on all folds of the paper's protocol and on
/// the complete official data. Which row that is was settled before any was computed, not by the test folds.
fn sota_rows(records: &Records, table: &[TableRow]) -> Vec<SotaCsvRow> {
    let Some(dataset) = paper::dataset(&records.run_file.dataset) else { return Vec::new() };
    let row = |method: String, year, value, source| SotaCsvRow {
        dataset: dataset.name.to_owned(),
        figure: dataset.sota_figure,
        method,
        year,
        metric: dataset.metric.to_owned(),
        value,
        source,
    };
    let mut rows: Vec<SotaCsvRow> = paper::sota_rows(dataset.name)
        .map(|s| row(s.method.to_owned(), s.year, s.value, paper::sota_source(dataset)))
        .collect();
    if records.run_file.data_kind == DataKind::Official {
        let days = records.run_file.runs.iter().map(Run::finished).max().unwrap_or_default();
        let year = days.get(..4).and_then(|y| y.parse().ok()).unwrap_or_default();
        let headline = |r: &&TableRow| {
            r.model == dataset.headline
                && r.protocol == paper_protocol(dataset.name)
                && r.folds == dataset.folds
        };
        let ours = table.iter().filter(headline);
        rows.extend(
            ours.map(|r| row(format!("ours, {}, {}", r.model, r.recipe), year, r.mean, OURS.to_owned())),
        );
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::csv_bytes;
    use crate::results::fixture;
    use crate::results::paired::PAIRED_HEADER;
    use crate::results::rows::ClipRow;

    #[test]
    fn table_of_the_fixture() {
        let tables = Tables::derive(&fixture::five_models()).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        insta::assert_snapshot!("table_csv", text(csv_bytes(TABLE_HEADER, &tables.table).unwrap()));
        insta::assert_snapshot!("paired_csv", text(csv_bytes(PAIRED_HEADER, &tables.paired).unwrap()));
        insta::assert_snapshot!("sota_csv", text(csv_bytes(SOTA_HEADER, &tables.sota).unwrap()));
    }

    fn by_name<T: Serialize>(rows: &[T]) -> Vec<u8> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        for row in rows {
            writer.serialize(row).unwrap();
        }
        writer.into_inner().unwrap()
    }

    #[test]
    fn headers_are_the_fields() {
        let tables = Tables::derive(&fixture::five_models()).unwrap();
        assert_eq!(csv_bytes(TABLE_HEADER, &tables.table).unwrap(), by_name(&tables.table));
        assert_eq!(csv_bytes(PAIRED_HEADER, &tables.paired).unwrap(), by_name(&tables.paired));
        assert_eq!(csv_bytes(SOTA_HEADER, &tables.sota).unwrap(), by_name(&tables.sota));
    }

    #[test]
    fn our_bar_needs_the_official_data_and_all_folds() {
        let folds: &[usize] = &[0, 1, 2, 3, 4];
        let models = [("tt-gru", "clips", folds, 0.7), ("tt-lstm", "clips", folds, 0.9)];
        let mut records = fixture::records("a", &models);
        let ours = |r: &Records| -> Vec<String> {
            let rows = Tables::derive(r).unwrap().sota.into_iter();
            rows.filter(|s| s.source == OURS).map(|s| s.method).collect()
        };
        for kind in [DataKind::Sample, DataKind::Folder, DataKind::Partial] {
            records.run_file.data_kind = kind;
            assert!(ours(&records).is_empty(), "{kind:?}");
        }
        records.run_file.data_kind = DataKind::Official;
        assert_eq!(ours(&records), ["ours, tt-gru, scaled"], "not the row that is best on the test folds");
        records.folds.retain(|row| row.fold < 4);
        assert!(ours(&records).is_empty(), "four of five folds");
        records.run_file.dataset = "folder".into();
        assert!(Tables::derive(&records).unwrap().sota.is_empty());
    }

    #[test]
    fn groups_are_drawn_where_the_protocol_keeps_them_whole() {
        let width = |records: &Records, protocol: &str| {
            let row = Tables::derive(records).unwrap().table.into_iter().find(|r| r.protocol == protocol);
            row.and_then(|r| Some(r.ci_high? - r.ci_low?))
        };
        let mut records = fixture::five_models();
        let (clips, groups) = (width(&records, "clips").unwrap(), width(&records, "groups").unwrap());
        // Whole groups of five are right or wrong in the fixture.
        assert!(groups > 1.5 * width_of_clips(&records), "{groups} {clips}");
        for row in &mut records.predictions {
            row.group = String::new();
        }
        assert_eq!(width(&records, "groups"), None, "groups that are not known give no interval");
        assert_eq!(width(&records, "clips"), Some(clips));
        // Records of before the column have the group in the clip's path.
        records.run_file.data_kind = DataKind::Folder;
        for row in &mut records.predictions {
            let clip: usize = row.clip[row.clip.len() - 6..row.clip.len() - 4].parse().unwrap();
            row.clip = format!("walking/{}.{}/{clip:02}.mpg", row.fold, clip / 5);
        }
        assert_eq!(width(&records, "groups"), Some(groups));
    }

    /// The interval of the fixture's groups, were its clips drawn.
    fn width_of_clips(records: &Records) -> f64 {
        let mut records = records.clone();
        for row in &mut records.predictions {
            row.group.clone_from(&row.clip);
        }
        let row = Tables::derive(&records).unwrap().table.into_iter().find(|r| r.protocol == "groups");
        row.and_then(|r| Some(r.ci_high? - r.ci_low?)).unwrap()
    }

    #[test]
    fn only_equal_folds_are_paired() {
        let mut records = fixture::five_models();
        let folds = |records: &Records| -> Vec<usize> {
            Tables::derive(records).unwrap().paired.iter().map(|row| row.folds).collect()
        };
        let before = folds(&records);
        let cells = &mut records.run_file.runs[0].cells;
        let other = cells.iter_mut().find(|cell| cell.model == "gru" && cell.protocol == "clips").unwrap();
        other.split_digest = "other folds".into();
        let after = folds(&records);
        assert_eq!(before.iter().sum::<usize>() - after.iter().sum::<usize>(), 1, "{before:?} {after:?}");
    }

    #[test]
    fn records_that_disagree_are_refused() {
        let mut records = fixture::five_models();
        records.folds[0].value += 0.01;
        let error = Tables::derive(&records).unwrap_err().to_string();
        assert!(error.contains("predictions.csv gives"), "{error}");
        let changes: [fn(&mut Vec<ClipRow>); 2] =
            [|rows| drop(rows.pop()), |rows| rows.push(rows[0].clone())];
        for change in changes {
            let mut records = fixture::five_models();
            change(&mut records.predictions);
            let error = Tables::derive(&records).unwrap_err().to_string();
            assert!(error.contains("test clips for"), "{error}");
        }
    }
}
