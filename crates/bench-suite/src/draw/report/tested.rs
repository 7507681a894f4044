//! What happened to the test clips: per class, in confusion matrices, and clip by clip where a model was sure and wrong.

use anyhow::Result;

use crate::draw::report::blocks::{
    Block, LookedAt, Matrix, MatrixCell, MatrixRow, MistakenClip, Section, words,
};
use crate::draw::report::table;
use crate::record::class_of;
use crate::results::classes::{self, ClassRow, ConfusionRow};
use crate::results::{ClipRow, Records};
use crate::text::score;

/// Most classes for which a matrix can be read.
const MATRIX: usize = 16;
/// Confusions listed where there are too many classes for a matrix.
const LISTED: usize = 20;

/// A model under a protocol and a recipe.
fn name(model: &str, protocol: &str, recipe: &str) -> String {
    format!("{model}, {protocol}, {recipe}")
}

/// A table of scores per class, then the confusion matrices.
pub(super) fn classes(records: &Records) -> Result<Option<Section>> {
    let rows = classes::classes(records)?;
    if rows.is_empty() {
        return Ok(None);
    }
    let mut names: Vec<String> = Vec::new();
    for row in &rows {
        let name = name(&row.model, &row.protocol, &row.recipe);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let of_class = |k: usize, class: &String| {
        // Every group has a row for each class, in the same order.
        let of_class: Vec<&ClassRow> = rows.iter().skip(k).step_by(records.run_file.classes.len()).collect();
        let clips = of_class.iter().map(|row| row.clips).max().unwrap_or_default();
        let values = of_class.iter().map(|row| row.value.map_or_else(String::new, score));
        [class.clone(), clips.to_string()].into_iter().chain(values).collect::<Vec<_>>()
    };
    let table_rows =
        records.run_file.classes.iter().enumerate().map(|(k, class)| of_class(k, class)).collect();
    let metric = if records.run_file.metric == "map" { "Average precision" } else { "Accuracy" };
    let text = format!("{metric} per class on the test clips (`classes.csv`).");
    let head: Vec<&str> =
        ["class", "test clips"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let mut blocks = vec![Block::Text { text: words(&text) }, table(&head, 1, table_rows)];
    blocks.extend(confusion(records));
    Ok(Some(Section::new(2, "classes", "Class by class", blocks)))
}

fn confusion(records: &Records) -> Vec<Block> {
    let rows = classes::confusion(records);
    if rows.is_empty() {
        return Vec::new();
    }
    let classes = &records.run_file.classes;
    if classes.len() > MATRIX {
        return commonest(rows);
    }
    let matrix = |of_group: &[ConfusionRow]| {
        let count = |label: &String, predicted: &String| {
            let row = of_group.iter().find(|row| row.label == *label && row.predicted == *predicted);
            row.map_or(0, |row| row.clips)
        };
        let row = |label: &String| {
            let all: usize = of_group.iter().filter(|row| row.label == *label).map(|row| row.clips).sum();
            let cell = |predicted: &String| {
                let clips = count(label, predicted);
                MatrixCell { clips, share: clips * 100 / all.max(1) }
            };
            MatrixRow { class: label.clone(), cells: classes.iter().map(cell).collect() }
        };
        let first = &of_group[0];
        Matrix {
            title: name(&first.model, &first.protocol, &first.recipe),
            rows: classes.iter().map(row).collect(),
        }
    };
    let text = "Confusions, test clips over all folds and seeds, are in `confusion.csv`, and in `report.html` as a row per \
                true class and a column per predicted class.";
    let groups = rows.chunk_by(same_group);
    vec![Block::Text { text: words(text) }, Block::Matrices { matrices: groups.map(matrix).collect() }]
}

fn same_group(a: &ConfusionRow, b: &ConfusionRow) -> bool {
    (&a.model, &a.protocol, &a.recipe) == (&b.model, &b.protocol, &b.recipe)
}

/// The commonest confusions, where a matrix would be too large.
fn commonest(mut rows: Vec<ConfusionRow>) -> Vec<Block> {
    rows.retain(|row| row.label != row.predicted);
    rows.sort_by_key(|row| std::cmp::Reverse(row.clips));
    rows.truncate(LISTED);
    let row = |row: ConfusionRow| {
        let by = name(&row.model, &row.protocol, &row.recipe);
        vec![row.label, row.predicted, by, row.clips.to_string()]
    };
    let text = "The commonest confusions, over all folds and seeds; all of them are in `confusion.csv`.";
    let rows = rows.into_iter().map(row).collect();
    vec![Block::Text { text: words(text) }, table(&["class", "taken for", "by", "clips"], 3, rows)]
}

/// The clips about which the models were surest and wrong; frames of them only where they may be shown.
pub(super) fn mistakes(records: &Records) -> Option<Section> {
    let all = classes::mistakes(records);
    if all.is_empty() {
        return None;
    }
    let may_show = records.run_file.may_show_frames();
    let pictures = may_show && !records.strips.is_empty();
    let mut clips = Vec::new();
    for mistake in all {
        let row = mistake.row;
        let picture = picture(records, &row.clip).filter(|_| pictures).unwrap_or_default();
        clips.push(MistakenClip {
            clip: row.clip.clone(),
            label: labels(row),
            predicted: class_of(&row.predicted),
            probability: score(mistake.probability),
            by: format!("{}, fold {}", name(&row.model, &row.protocol, &row.recipe), row.fold),
            wrong: format!("{} of {} cells", mistake.wrong, mistake.tested),
            picture,
        });
    }
    let mut text = "The test clips about which a model was surest and wrong, each once; the rest are in \
                    `predictions.csv`."
        .to_owned();
    if !may_show {
        text.push_str(" Their frames are not shown: the clips may not be redistributed.");
    }
    let blocks = vec![Block::Text { text: words(&text) }, Block::Mistakes { clips, pictures }];
    Some(Section::new(2, "mistakes", "Sure and wrong", blocks))
}

/// Where a model looks in some test clips, if it chooses that and their frames may be shown.
pub(super) fn looks(records: &Records) -> Option<Section> {
    let looked_at = |row: &ClipRow| {
        Some(LookedAt {
            clip: row.clip.clone(),
            label: labels(row),
            predicted: class_of(&row.predicted),
            picture: picture(records, &row.clip)?,
        })
    };
    let clips: Vec<LookedAt> = classes::looked_at(records).into_iter().filter_map(looked_at).collect();
    if clips.is_empty() || !records.run_file.may_show_frames() {
        return None;
    }
    let text = "A test clip of each class as `attention-lstm` reads it, in `report.html`: six frames, and below each where the \
                model looks. The lighter a place, the larger its share of what was read, beside the largest of the clip.";
    Some(Section::new(
        2,
        "looks",
        "Where it looks",
        vec![Block::Text { text: words(text) }, Block::Looks { clips }],
    ))
}

/// The classes of a clip, in words.
fn labels(row: &ClipRow) -> String {
    row.label.split(';').map(class_of).collect::<Vec<_>>().join(", ")
}

/// The strip of a clip as a `data:` URI.
fn picture(records: &Records, clip: &str) -> Option<String> {
    let strip = records.strips.iter().find(|strip| strip.clip == clip)?;
    Some(format!("data:image/jpeg;base64,{}", strip.jpeg))
}
