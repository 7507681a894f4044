//! What a trained model says of files, with the real engine.

use std::fs;
use std::io::Write as _;

use crate::fake::{Fake, stderr};

#[test]
fn predictions_are_those_of_the_record_and_a_damaged_clip_is_named() {
    let fake = Fake::new();
    if !fake.use_real_engine() {
        // Written past the test harness, which swallows the output of tests that pass.
        writeln!(std::io::stderr(), "SKIPPED predict: bench-suite and video-worker are not built").unwrap();
        return;
    }
    let output = fake.xtask("reproduce folder-sample --models tt-gru,tt-mlp --folds 0 --epochs 2");
    assert!(output.status.success(), "{}", stderr(&output));
    fake.write("damaged.avi", b"RIFF of something else");
    for model in ["tt-gru", "tt-mlp"] {
        let rows = fake.read("results/folder-sample/predictions.csv");
        let row = rows.lines().find(|row| row.starts_with(&format!("{model},"))).unwrap();
        let cells: Vec<&str> = row.split(',').collect();
        let clip = format!("data/folder-sample/{}", cells[5]);
        let line = format!("predict folder-sample --model {model} --json --top 2 {clip} damaged.avi {clip}");
        let output = fake.xtask(&line);
        assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
        assert!(stderr(&output).contains("damaged.avi: not a readable video"), "{}", stderr(&output));
        let answers: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(answers[1]["error"].as_str().unwrap().contains("not a readable video"));
        for answer in [&answers[0], &answers[2]] {
            assert_eq!(answer["clip"], clip);
            assert_eq!(answer["classes"].as_array().unwrap().len(), 2);
            assert_eq!(answer["classes"][0]["class"], cells[7]);
            let recorded = cells[8].split(';').map(|p| p.parse::<f64>().unwrap()).fold(0.0, f64::max);
            let predicted = answer["classes"][0]["probability"].as_f64().unwrap();
            // The record has five digits.
            assert!((predicted - recorded).abs() < 1e-4 * recorded, "{predicted} {recorded}");
        }
    }
    let clip = fs::read_dir(fake.path("data/folder-sample/left/scene_1")).unwrap().next().unwrap().unwrap();
    let output = fake.xtask(&format!("predict folder-sample {}", clip.path().display()));
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains(" %  ")).count(), 4, "{text}");
}
