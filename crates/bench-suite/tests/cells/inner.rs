//! What chooses settings never sees the clips that the choice is scored on.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;

use crate::run::Run;

const SETTINGS: [&str; 2] = ["model.names=[\"gru\"]", "train.epochs.gru=2"];

/// Blackens the stored frames of clips, all but these or none but these.
fn blacken(run: &Run, clips: &BTreeSet<String>, named: bool) {
    let stores = run.dir().join("../../stores");
    let mut folders = fs::read_dir(stores).unwrap().map(|entry| entry.unwrap().path());
    let store = folders.find(|path| path.join("manifest.csv").is_file()).unwrap();
    let file = fs::OpenOptions::new().write(true).open(store.join("frames.bin")).unwrap();
    let frame = 20 * 16 * 3;
    let mut blackened = 0;
    for row in csv::Reader::from_path(store.join("manifest.csv")).unwrap().records() {
        let row = row.unwrap();
        let [frames, offset] = [&row[7], &row[8]].map(|number| number.parse::<u64>().unwrap());
        if clips.contains(&row[0]) == named {
            file.write_all_at(&vec![0; frames as usize * frame], offset * frame as u64).unwrap();
            blackened += 1;
        }
    }
    assert!(blackened > 0);
}

#[test]
fn a_cell_on_the_inner_split_is_blind_to_the_test_fold() {
    let outer = Run::new(&SETTINGS);
    let cell = &outer.cells()[0];
    outer.finish(cell, "--threads 1");
    let scored = csv::Reader::from_path(outer.folder(cell).join("predictions.csv")).unwrap();
    let test: BTreeSet<String> = scored.into_records().map(|row| row.unwrap()[0].to_owned()).collect();
    let run = Run::new(&[SETTINGS[0], SETTINGS[1], "protocol.inner=true"]);
    run.finish(cell, "--threads 1");
    let expected = run.outcome(cell);
    run.clear();
    blacken(&run, &test, true);
    run.finish(cell, "--threads 1");
    assert!(run.outcome(cell) == expected, "the test fold has been looked at");
    // The comparison sees what a cell does look at.
    run.clear();
    blacken(&run, &test, false);
    run.finish(cell, "--threads 1");
    assert!(run.outcome(cell) != expected);
}
