//! Class by class: `confusion.csv`, `classes.csv`, and the mistakes that the models were surest of.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::record::{class_of, has_class};
use crate::results::records::Records;
use crate::results::rows::{ClipRow, OfCell};
use crate::results::scores::{scores, tidy};
use crate::spec::ATTENTION;
use crate::stats;

/// Header of `confusion.csv`.
pub(crate) const CONFUSION_HEADER: &str = "model,protocol,recipe,label,predicted,clips";
/// Header of `classes.csv`.
pub(crate) const CLASSES_HEADER: &str = "model,protocol,recipe,class,metric,value,clips";

/// Mistakes shown per protocol and recipe.
const MISTAKES: usize = 12;
/// Clips at most that show where a model looks.
const LOOKS: usize = 12;

/// A row of `confusion.csv`: how many test clips of one class were taken for another (or for what they are), over all
/// folds and seeds. Pairs that never occurred have no row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConfusionRow {
    pub(crate) model: String,
    pub(crate) protocol: String,
    pub(crate) recipe: String,
    pub(crate) label: String,
    pub(crate) predicted: String,
    pub(crate) clips: usize,
}

/// A row of `classes.csv`: accuracy on the test clips of a class over all folds and seeds, or its average precision,
/// mean over folds and seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ClassRow {
    pub(crate) model: String,
    pub(crate) protocol: String,
    pub(crate) recipe: String,
    pub(crate) class: String,
    pub(crate) metric: String,
    pub(crate) value: Option<f64>,
    pub(crate) clips: usize,
}

/// A test clip that a model was sure about, and wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Mistake<'a> {
    pub(crate) row: &'a ClipRow,
    /// Probability of the predicted class.
    pub(crate) probability: f64,
    /// Cells that got the clip wrong, of those that were tested on it.
    pub(crate) wrong: usize,
    pub(crate) tested: usize,
}

/// Predictions by model, protocol and recipe, in the order of the records.
fn groups(records: &Records) -> Vec<Vec<&ClipRow>> {
    records
        .predictions
        .chunk_by(|a, b| {
            let group = |row: &ClipRow| (row.model.clone(), row.protocol.clone(), row.recipe.clone());
            group(a) == group(b)
        })
        .map(|rows| rows.iter().collect())
        .collect()
}

/// The rows of `confusion.csv`; none where a clip can have several labels.
pub(crate) fn confusion(records: &Records) -> Vec<ConfusionRow> {
    if records.run_file.metric == "map" {
        return Vec::new();
    }
    let classes = &records.run_file.classes;
    let at = |name: &str| classes.iter().position(|class| class == name).unwrap_or(usize::MAX);
    let of_group = |rows: Vec<&ClipRow>| {
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for row in &rows {
            let (label, predicted) = (class_of(&row.label), class_of(&row.predicted));
            *counts.entry((at(&label), at(&predicted), label, predicted)).or_default() += 1;
        }
        let row = |((.., label, predicted), clips): ((usize, usize, String, String), usize)| ConfusionRow {
            model: rows[0].model.clone(),
            protocol: rows[0].protocol.clone(),
            recipe: rows[0].recipe.clone(),
            label,
            predicted,
            clips,
        };
        counts.into_iter().map(row).collect::<Vec<_>>()
    };
    groups(records).into_iter().flat_map(of_group).collect()
}

/// The rows of `classes.csv`.
///
/// # Errors
/// Probabilities that cannot be read.
pub(crate) fn classes(records: &Records) -> Result<Vec<ClassRow>> {
    let mut all = Vec::new();
    for rows in groups(records) {
        let seeds = rows.iter().map(|row| row.seed).collect::<BTreeSet<_>>().len();
        for (k, class) in records.run_file.classes.iter().enumerate() {
            let of_class: Vec<&&ClipRow> = rows.iter().filter(|row| has_class(&row.label, class)).collect();
            let (metric, value) = if records.run_file.metric == "map" {
                ("average precision", mean_precision(records, &rows, k, class)?)
            } else {
                let right = of_class.iter().filter(|row| class_of(&row.predicted) == *class).count();
                let share = right as f64 / of_class.len() as f64;
                ("accuracy", (!of_class.is_empty()).then_some(share))
            };
            all.push(ClassRow {
                model: rows[0].model.clone(),
                protocol: rows[0].protocol.clone(),
                recipe: rows[0].recipe.clone(),
                class: class.clone(),
                metric: metric.to_owned(),
                value: value.map(tidy),
                clips: of_class.len() / seeds.max(1),
            });
        }
    }
    Ok(all)
}

/// Average precision of class `k`, mean over the cells that have a positive test clip.
fn mean_precision(records: &Records, rows: &[&ClipRow], k: usize, class: &str) -> Result<Option<f64>> {
    let mut values = Vec::new();
    for cell in rows.chunk_by(|a, b| a.key() == b.key()) {
        let scores = scores(&records.run_file.classes, cell)?;
        let scores: Vec<f64> = scores.iter().map(|row| row[k]).collect();
        let truth: Vec<bool> = cell.iter().map(|row| has_class(&row.label, class)).collect();
        values.extend(stats::average_precision(&scores, &truth));
    }
    Ok(stats::mean(&values))
}

/// Per protocol and recipe the clips with the surest wrong prediction, the surest first; each clip once.
pub(crate) fn mistakes(records: &Records) -> Vec<Mistake<'_>> {
    let classes = &records.run_file.classes;
    let mut by_split: BTreeMap<(&str, &str), BTreeMap<&str, Mistake<'_>>> = BTreeMap::new();
    for row in &records.predictions {
        let clips = by_split.entry((&row.protocol, &row.recipe)).or_default();
        let predicted = class_of(&row.predicted);
        let probability = classes
            .iter()
            .position(|class| *class == predicted)
            .and_then(|k| row.probabilities.split(';').nth(k)?.parse().ok())
            .unwrap_or(0.0);
        let wrong = usize::from(!has_class(&row.label, &predicted));
        let new = Mistake { row, probability, wrong: 0, tested: 0 };
        let clip = clips.entry(&row.clip).or_insert_with(|| new.clone());
        let surer = probability > clip.probability || clip.wrong == 0;
        if wrong == 1 && surer {
            *clip = Mistake { wrong: clip.wrong, tested: clip.tested, ..new };
        }
        clip.wrong += wrong;
        clip.tested += 1;
    }
    by_split.into_values().flat_map(surest).collect()
}

/// Names of the clips of `mistakes`, each once.
pub fn shown_clips(records: &Records) -> BTreeSet<&str> {
    let mistaken = mistakes(records).into_iter().map(|mistake| mistake.row);
    mistaken.chain(looked_at(records)).map(|row| row.clip.as_str()).collect()
}

/// What shows where a model looks that chooses it: of every class the first test clip that it recognized, if there is one.
pub(crate) fn looked_at(records: &Records) -> Vec<&ClipRow> {
    let rows = || records.predictions.iter().filter(|row| row.model == ATTENTION);
    let of_class = |class: &String| {
        let own = || rows().filter(|row| has_class(&row.label, class));
        own().find(|row| class_of(&row.predicted) == *class).or_else(|| own().next())
    };
    let mut found: Vec<&ClipRow> = records.run_file.classes.iter().filter_map(of_class).collect();
    let mut seen = BTreeSet::new();
    found.retain(|row| seen.insert(&row.clip));
    found.truncate(LOOKS);
    found
}

/// The wrong ones among the clips of a split, the surest first.
fn surest<'a>(clips: BTreeMap<&'a str, Mistake<'a>>) -> Vec<Mistake<'a>> {
    let mut wrong: Vec<Mistake<'_>> = clips.into_values().filter(|clip| clip.wrong > 0).collect();
    wrong.sort_by(|a, b| b.probability.total_cmp(&a.probability).then_with(|| a.row.clip.cmp(&b.row.clip)));
    wrong.truncate(MISTAKES);
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::csv_bytes;
    use crate::results::fixture;

    fn clip(model: &str, fold: usize, clip: &str, label: &str, predicted: &str, scores: &str) -> ClipRow {
        ClipRow {
            model: model.into(),
            protocol: "clips".into(),
            recipe: "scaled".into(),
            fold,
            seed: 0,
            clip: clip.into(),
            label: label.into(),
            predicted: predicted.into(),
            probabilities: scores.into(),
            group: String::new(),
        }
    }

    fn records(metric: &str, rows: Vec<ClipRow>) -> Records {
        let mut records = fixture::five_models();
        records.run_file.metric = metric.into();
        records.predictions = rows;
        records
    }

    #[test]
    fn clips_are_counted_over_folds() {
        let records = records(
            "accuracy",
            vec![
                clip("gru", 0, "a", "walking", "walking", "0.9;0.1"),
                clip("gru", 0, "b", "walking", "biking", "0.4;0.6"),
                clip("gru", 1, "c", "walking", "biking", "0.2;0.8"),
                clip("tt-gru", 0, "a", "walking", "walking", "0.7;0.3"),
                clip("tt-gru", 0, "b", "walking", "biking", "0.45;0.55"),
            ],
        );
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(csv_bytes(CONFUSION_HEADER, &confusion(&records)).unwrap()),
            "model,protocol,recipe,label,predicted,clips\n\
             gru,clips,scaled,walking,walking,1\ngru,clips,scaled,walking,biking,2\n\
             tt-gru,clips,scaled,walking,walking,1\ntt-gru,clips,scaled,walking,biking,1\n"
        );
        assert_eq!(
            text(csv_bytes(CLASSES_HEADER, &classes(&records).unwrap()).unwrap()),
            "model,protocol,recipe,class,metric,value,clips\n\
             gru,clips,scaled,walking,accuracy,0.333333333333,3\ngru,clips,scaled,biking,accuracy,,0\n\
             tt-gru,clips,scaled,walking,accuracy,0.5,2\ntt-gru,clips,scaled,biking,accuracy,,0\n"
        );
        let surest: Vec<_> = mistakes(&records)
            .into_iter()
            .map(|m| (m.row.clip.as_str(), m.row.model.as_str(), m.probability, m.wrong, m.tested))
            .collect();
        assert_eq!(surest, [("c", "gru", 0.8, 1, 1), ("b", "gru", 0.6, 2, 2)]);
    }

    #[test]
    fn a_class_of_any_name_has_its_clips() {
        let mut records = records(
            "accuracy",
            vec![
                clip("gru", 0, "a", r"sit\x3Bstand", r"sit\x3Bstand", "0.9;0.1"),
                clip("gru", 0, "b", r"sit\x3Bstand", r#"<b>|,"q""#, "0.2;0.8"),
            ],
        );
        records.run_file.classes = vec!["sit;stand".into(), r#"<b>|,"q""#.into()];
        let rows = classes(&records).unwrap();
        assert_eq!(
            rows.iter().map(|row| (row.class.as_str(), row.clips, row.value)).collect::<Vec<_>>(),
            [("sit;stand", 2, Some(0.5)), (r#"<b>|,"q""#, 0, None)]
        );
        let text = String::from_utf8(csv_bytes(CONFUSION_HEADER, &confusion(&records)).unwrap()).unwrap();
        assert_eq!(
            text.lines().skip(1).collect::<Vec<_>>(),
            ["gru,clips,scaled,sit;stand,sit;stand,1", r#"gru,clips,scaled,sit;stand,"<b>|,""q""",1"#]
        );
        let surest: Vec<_> =
            mistakes(&records).into_iter().map(|m| (m.row.clip.as_str(), m.probability)).collect();
        assert_eq!(surest, [("b", 0.8)]);
    }

    #[test]
    fn several_labels_have_a_precision_per_class_and_no_confusion() {
        let records = records(
            "map",
            vec![
                clip("gru", 0, "a", "walking;biking", "biking", "0.4;0.6"),
                clip("gru", 0, "b", "biking", "walking", "0.5;0.3"),
            ],
        );
        assert!(confusion(&records).is_empty());
        let values: Vec<Option<f64>> = classes(&records).unwrap().iter().map(|row| row.value).collect();
        assert_eq!(values, [Some(0.5), Some(1.0)]);
        assert_eq!(mistakes(&records).len(), 1);
    }

    #[test]
    fn confusions_add_up_to_the_test_clips() {
        let records = fixture::five_models();
        let all: usize = confusion(&records).iter().map(|row| row.clips).sum();
        assert_eq!(all, records.predictions.len());
        assert!(mistakes(&records).len() <= 2 * MISTAKES);
    }
}
