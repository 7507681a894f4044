//! `paired.csv`: a TT model minus its dense twin, another format minus the train, and how each of the two was trained.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::paper;
use crate::results::records::Records;
use crate::results::rows::{FoldRow, OfCell};
use crate::results::scores::{AllTested, by_fold, tidy};
use crate::spec::format_of;
use crate::stats;

/// Header of `paired.csv`.
pub(crate) const PAIRED_HEADER: &str = "model,baseline,protocol,recipe,metric,mean_difference,std,ci_low,ci_high,\
p,folds,epochs_min,epochs_max,settled,rate,baseline_epochs_min,baseline_epochs_max,baseline_settled,baseline_rate";

/// A row of `paired.csv`: a model minus another on the folds and seeds that both have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PairedRow {
    pub(crate) model: String,
    pub(crate) baseline: String,
    pub(crate) protocol: String,
    pub(crate) recipe: String,
    pub(crate) metric: String,
    pub(crate) mean_difference: f64,
    pub(crate) std: Option<f64>,
    pub(crate) ci_low: Option<f64>,
    pub(crate) ci_high: Option<f64>,
    /// Of "no difference"; in `paired.csv` adjusted for all formats that are compared with the train under the protocol and
    /// the recipe (Holm 1979), and empty for a pair with a dense twin, whose interval says it.
    pub(crate) p: Option<f64>,
    pub(crate) folds: usize,
    /// Epochs trained: the fewest and the most of a cell.
    pub(crate) epochs_min: usize,
    pub(crate) epochs_max: usize,
    /// Trainings that ended because their loss had settled, and not at the most epochs allowed; empty where the number of
    /// epochs was fixed.
    pub(crate) settled: Option<usize>,
    /// Adam's rate and its rule; empty where the record's configuration has none.
    pub(crate) rate: String,
    pub(crate) baseline_epochs_min: usize,
    pub(crate) baseline_epochs_max: usize,
    pub(crate) baseline_settled: Option<usize>,
    pub(crate) baseline_rate: String,
    /// Trainings of a side, one a fold and seed.
    #[serde(skip)]
    pub(crate) trainings: usize,
}

/// How cells were trained.
pub(crate) struct Training {
    /// Fewest and most.
    pub(crate) epochs: (usize, usize),
    /// See [`PairedRow::settled`].
    pub(crate) settled: Option<usize>,
    rate: String,
}

/// All pairs of a table: TT models and their dense twins, then other formats and the train.
pub(crate) fn rows(records: &Records, groups: &[Vec<&FoldRow>], tested: &AllTested<'_>) -> Vec<PairedRow> {
    let twin = |rows: &Vec<&FoldRow>| {
        let (_, twin) = paper::TWINS.iter().find(|(tt, _)| *tt == rows[0].model)?;
        Some(PairedRow { p: None, ..between(records, rows, twin, tested)? })
    };
    let train = |rows: &Vec<&FoldRow>| {
        let (_, cell) = format_of(&rows[0].model).filter(|(format, _)| *format != "tt")?;
        between(records, rows, &format!("tt-{cell}"), tested)
    };
    let mut pairs: Vec<PairedRow> = groups.iter().filter_map(twin).collect();
    let mut compared: Vec<PairedRow> = groups.iter().filter_map(train).collect();
    compared.sort_by(|a, b| a.table().cmp(&b.table()));
    for table in compared.chunk_by_mut(|a, b| a.table() == b.table()) {
        let adjusted = stats::holm(&table.iter().filter_map(|row| row.p).collect::<Vec<_>>());
        for (row, p) in table.iter_mut().filter(|row| row.p.is_some()).zip(adjusted) {
            row.p = Some(tidy(p));
        }
    }
    pairs.extend(compared);
    pairs
}

/// The pair of a model's rows with those of any other; none where they share no fold and seed.
pub(crate) fn between(
    records: &Records,
    rows: &[&FoldRow],
    baseline: &str,
    tested: &AllTested<'_>,
) -> Option<PairedRow> {
    let first = rows[0];
    let twin_of = |row: &FoldRow| {
        let key = (baseline, row.protocol.as_str(), row.recipe.as_str(), row.fold, row.seed);
        let twin = records.folds.iter().find(|f| f.key() == key)?;
        // A page may take the two from two runs, whose folds need not be the same.
        (split(records, row) == split(records, twin)).then_some(twin)
    };
    let pairs: Vec<(&FoldRow, &FoldRow)> = rows.iter().filter_map(|r| Some((*r, twin_of(r)?))).collect();
    let (ours, twins): (Vec<&FoldRow>, Vec<&FoldRow>) = pairs.into_iter().unzip();
    let (values, clips) = by_fold(&ours, tested);
    let (twin_values, twin_clips) = by_fold(&twins, tested);
    let differences: Vec<f64> = values.iter().zip(&twin_values).map(|(a, b)| a - b).collect();
    let purpose = format!("{}-{baseline}/{}/{}", first.model, first.protocol, first.recipe);
    let apart = clips.zip(twin_clips).and_then(|(a, b)| stats::paired(&a, &b, &purpose));
    let mean_difference = tidy(stats::mean(&differences)?);
    let (own, twin) = (training(records, &ours), training(records, &twins));
    Some(PairedRow {
        model: first.model.clone(),
        baseline: baseline.to_owned(),
        protocol: first.protocol.clone(),
        recipe: first.recipe.clone(),
        metric: first.metric.clone(),
        mean_difference,
        std: stats::sample_std(&differences).map(tidy),
        ci_low: apart.map(|d| tidy(d.interval.low)),
        ci_high: apart.map(|d| tidy(d.interval.high)),
        p: apart.map(|d| d.p),
        folds: differences.len(),
        epochs_min: own.epochs.0,
        epochs_max: own.epochs.1,
        settled: own.settled,
        rate: own.rate,
        baseline_epochs_min: twin.epochs.0,
        baseline_epochs_max: twin.epochs.1,
        baseline_settled: twin.settled,
        baseline_rate: twin.rate,
        trainings: ours.len(),
    })
}

/// The digest of a cell's fold.
pub(crate) fn split<'a>(records: &'a Records, row: &impl OfCell) -> Option<&'a str> {
    let mut cells = records.run_file.runs.iter().flat_map(|run| &run.cells);
    cells.find(|cell| cell.key() == row.key()).map(|cell| cell.split_digest.as_str())
}

pub(crate) fn training(records: &Records, rows: &[&FoldRow]) -> Training {
    let configs: Vec<toml::Table> = rows.iter().map(|row| settings(records, row)).collect();
    let rates: BTreeSet<String> =
        rows.iter().zip(&configs).filter_map(|(row, train)| rate(train, &row.model)).collect();
    let settled = |row: &FoldRow, train: &toml::Table| {
        let share = number(train, "settled").filter(|share| *share > 0.0)?;
        let curve = records.curves.iter().filter(|point| point.key() == row.key());
        Some(stats::has_settled(&curve.map(|point| point.train_loss).collect::<Vec<_>>(), share))
    };
    let settled: Option<Vec<bool>> =
        rows.iter().zip(&configs).map(|(row, train)| settled(row, train)).collect();
    Training {
        epochs: (
            rows.iter().map(|row| row.epochs).min().unwrap_or_default(),
            rows.iter().map(|row| row.epochs).max().unwrap_or_default(),
        ),
        settled: settled.map(|all| all.into_iter().filter(|settled| *settled).count()),
        rate: rates.into_iter().collect::<Vec<_>>().join(" or "),
    }
}

/// The table `train` of the configuration that a cell was computed with; empty where it is not known.
fn settings(records: &Records, row: &FoldRow) -> toml::Table {
    let run = records.run_file.runs.iter().find(|run| run.cells.iter().any(|cell| cell.key() == row.key()));
    let config: Option<toml::Table> = run.and_then(|run| toml::from_str(&run.config).ok());
    config.and_then(|config| config.get("train")?.as_table().cloned()).unwrap_or_default()
}

/// A model's rate and the rule by which its weights have it. Until November 2026 there were two rates, one for models
/// with a train and one for dense ones, and each was that of all weights.
fn rate(train: &toml::Table, model: &str) -> Option<String> {
    let own = train.get("model_lr").and_then(|rates| number(rates.as_table()?, model));
    let of_kind = if model.starts_with("tt-") { "lr_tt" } else { "lr_dense" };
    let lr = own.or_else(|| number(train, "lr")).or_else(|| number(train, of_kind))?;
    let factor = number(train, "input_lr_factor").filter(|factor| *factor != 1.0);
    let factor = factor.map_or_else(String::new, |factor| format!(", input times {factor}"));
    let rule = train.get("lr_rule").and_then(toml::Value::as_str).unwrap_or("single");
    Some(format!("{lr:e} {rule}{factor}"))
}

fn number(table: &toml::Table, key: &str) -> Option<f64> {
    table.get(key)?.as_float()
}

impl PairedRow {
    /// Whether it is of a dense twin, and not of a format and the train.
    pub(crate) fn of_twins(&self) -> bool {
        paper::TWINS.iter().any(|(tt, dense)| (*tt, *dense) == (self.model.as_str(), self.baseline.as_str()))
    }

    /// The comparisons among which it is one.
    fn table(&self) -> (&str, &str) {
        (&self.protocol, &self.recipe)
    }

    /// Epochs of both sides, `30 against 8`.
    pub(crate) fn epochs(&self) -> String {
        let (ours, theirs) = self.both_epochs();
        format!("{ours} against {theirs}")
    }

    /// Rates of both sides.
    pub(crate) fn rates(&self) -> String {
        let (ours, theirs) = (spelled(&self.rate), spelled(&self.baseline_rate));
        if ours == theirs { ours } else { format!("{ours} against {theirs}") }
    }

    /// What must be said where the two sides were not trained alike, or not to their end.
    pub(crate) fn caveat(&self) -> Option<String> {
        let (ours, theirs) = self.both_epochs();
        let same_rate = self.rate == self.baseline_rate;
        let which = format!("{} − {} ({}, {})", self.model, self.baseline, self.protocol, self.recipe);
        let both = self.settled.zip(self.baseline_settled).filter(|_| same_rate);
        if let Some((settled, baseline_settled)) = both {
            let all = self.trainings;
            if ours == theirs && settled.min(baseline_settled) == all {
                return None;
            }
            return Some(format!(
                "{which}: both sides were trained until the training loss had settled, or for as many epochs as were \
                 allowed: {} for {ours} epochs, settled in {settled} of {all} trainings; {} for {theirs}, settled in \
                 {baseline_settled}.",
                self.model, self.baseline
            ));
        }
        if same_rate && ours == theirs {
            return None;
        }
        let at = |rate: &str| match spelled(rate) {
            rate if rate.is_empty() => rate,
            rate => format!(" at the rate {rate}"),
        };
        Some(format!(
            "{which}: the two sides were not trained alike: {} for {ours} epochs{}, {} for {theirs}{}. The difference \
             is one of two trainings, and does not tell what the models can do.",
            self.model,
            at(&self.rate),
            self.baseline,
            at(&self.baseline_rate)
        ))
    }

    fn both_epochs(&self) -> (String, String) {
        (range(self.epochs_min, self.epochs_max), range(self.baseline_epochs_min, self.baseline_epochs_max))
    }
}

/// Both ends for people, `26 to 30`.
pub(crate) fn range(min: usize, max: usize) -> String {
    if min == max { max.to_string() } else { format!("{min} to {max}") }
}

/// A rate for people.
fn spelled(rate: &str) -> String {
    rate.replace(" single", " for every weight").replace(" fan-in", " by fan-in")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture;
    use crate::results::tables::Tables;

    fn pair(config: &str, dense_epochs: usize) -> PairedRow {
        let mut records = fixture::five_models();
        records.run_file.runs[0].config = config.into();
        for row in records.folds.iter_mut().filter(|row| row.model == "gru") {
            row.epochs = dense_epochs;
        }
        Tables::derive(&records).unwrap().paired.remove(0)
    }

    #[test]
    fn a_pair_says_how_both_sides_were_trained() {
        let old = pair("[train]\nlr_tt = 0.001\nlr_dense = 1e-5\n", 8);
        assert_eq!((old.rate.as_str(), old.baseline_rate.as_str()), ("1e-3 single", "1e-5 single"));
        assert_eq!((old.epochs().as_str(), old.settled), ("20 against 8", None));
        let said = old.caveat().unwrap();
        assert!(
            said.contains("20 epochs at the rate 1e-3 for every weight, gru for 8 at the rate 1e-5"),
            "{said}"
        );
        let fair = "[train]\nlr = 0.001\nlr_rule = \"fan-in\"\nmodel_lr = {}\nsettled = 0.01\n";
        assert_eq!(pair(fair, 20).rates(), "1e-3 by fan-in");
        let said = pair(fair, 12).caveat().unwrap();
        assert!(
            said.contains("tt-gru for 20 epochs, settled in 0 of 3 trainings; gru for 12, settled in 0."),
            "{said}"
        );
        let loose = pair(&fair.replace("0.01", "0.02"), 20);
        assert_eq!((loose.settled, loose.baseline_settled), (Some(3), Some(0)), "of 20 epochs and of 8");
        assert!(loose.caveat().unwrap().contains("settled in 3 of 3 trainings"));
        let fixed = fair.replace("0.01", "0.0");
        assert_eq!(pair(&fixed, 20).caveat(), None);
        assert!(pair(&fixed, 12).caveat().unwrap().contains("not trained alike"));
        let own = fair.replace("{}", "{ gru = 3e-5 }");
        assert_eq!(pair(&own, 20).rates(), "1e-3 by fan-in against 3e-5 by fan-in");
        assert_eq!(pair("", 20).rates(), "");
        assert_eq!(pair("", 20).caveat(), None, "what is not known is not said to differ");
    }

    #[test]
    fn formats_are_compared_with_the_train_and_their_p_values_adjusted_for_their_number() {
        let folds: &[usize] = &[0, 1];
        let of = |models: &[(&str, &str, &[usize], f64)]| {
            let records = fixture::records("a", models);
            let pairs = Tables::derive(&records).unwrap().paired;
            pairs.into_iter().map(|row| (row.model, row.baseline, row.p)).collect::<Vec<_>>()
        };
        let train = ("tt-gru", "clips", folds, 0.45);
        let near = ("cp-gru", "clips", folds, 0.6);
        let models = [train, ("gru", "clips", folds, 0.3), near, ("ht-gru", "clips", folds, 0.8)];
        let found = of(&models);
        let named: Vec<_> = found.iter().map(|(a, b, p)| (&**a, &**b, p.is_some())).collect();
        assert_eq!(named, [("tt-gru", "gru", false), ("cp-gru", "tt-gru", true), ("ht-gru", "tt-gru", true)]);
        let alone = of(&[train, near])[0].2.unwrap();
        // The larger of two keeps its value, or has twice the smaller.
        assert!(alone > 0.0 && found[1].2.unwrap() >= alone, "{found:?}");
        assert!(found[2].2.unwrap() <= found[1].2.unwrap());
        let other = of(&[train, near, ("ht-gru", "groups", folds, 0.6), ("ht-lstm", "clips", folds, 0.6)]);
        assert_eq!(other.len(), 1, "no train under that protocol, none with that cell: {other:?}");
        assert_eq!(other[0].2, Some(alone));
    }
}
