//! Clips as people have them: classes of any name, folders of a split, copies.

use std::fs;

use bench_suite::record::{PredictionRow, class_of, has_class};

use crate::run::{Run, stderr};

#[test]
fn a_class_of_any_name_keeps_its_right_predictions() {
    let folders = ["sit;stand", "<b>|a,\"q\"", "new\nline;", r"back\slash"];
    let run = Run::of(folders, &["model.names=[\"tt-gru\"]", "train.epochs.tt-gru=3"]);
    let cell = &run.cells()[0];
    run.finish(cell, "--threads 1");
    let text = fs::read(run.folder(cell).join("predictions.csv")).unwrap();
    let rows: Vec<PredictionRow> =
        csv::Reader::from_reader(text.as_slice()).deserialize().collect::<Result<_, _>>().unwrap();
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(run.folder(cell).join("cell.json")).unwrap()).unwrap();
    let right = |row: &&PredictionRow| has_class(&row.label, &class_of(&row.predicted));
    let share = rows.iter().filter(right).count() as f64 / rows.len() as f64;
    assert_eq!(Some(share), record["value"].as_f64());
    assert!(share > 0.0, "nothing is right: the shades of the classes differ");
    let of_class = |class: &String| rows.iter().filter(|row| has_class(&row.label, class)).count();
    assert_eq!(run.classes().iter().map(of_class).sum::<usize>(), rows.len());
    assert!(run.classes().iter().all(|class| of_class(class) > 0), "{:?}", run.classes());
}

#[test]
fn folders_of_a_split_are_the_protocol_unless_another_is_asked_for() {
    let folders = ["train/a", "train/b", "test/a", "test/b"];
    let run = Run::of(folders, &["model.names=[\"tt-gru\"]"]);
    assert_eq!((run.protocol(), run.classes().len()), ("official", 2));
    let run = Run::of(folders, &["model.names=[\"tt-gru\"]", "protocol.kind=clips"]);
    assert_eq!(run.protocol(), "clips");
    assert_eq!(Run::new(&["model.names=[\"tt-gru\"]"]).protocol(), "clips");
}

#[test]
fn copies_on_both_sides_of_a_fold_are_warned_of() {
    let run = Run::of(["a", "b", "c", "copy"], &["model.names=[\"tt-gru\"]"]);
    let said = stderr(&run.plan_command(&[]).output().unwrap());
    assert!(said.contains("test clips are copies of training clips, as copy/"), "{said}");
    let said = stderr(&Run::new(&[]).plan_command(&[]).output().unwrap());
    assert!(!said.contains("copies"), "{said}");
}
