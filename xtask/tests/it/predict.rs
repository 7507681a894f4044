//! What a trained model says of files, with the real engine.

use std::fs;
use std::io::Write as _;

use crate::fake::{Fake, stderr};

/// A repository with the engines that cargo built; none where they are not built yet, which is said aloud.
pub(crate) fn with_engine() -> Option<Fake> {
    let fake = Fake::new();
    if fake.use_real_engine() {
        return Some(fake);
    }
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    // Written past the test harness, which swallows the output of tests that pass.
    let line = format!("SKIPPED {name}: bench-suite and video-worker are not built\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    None
}

#[test]
fn predictions_are_those_of_the_record_and_a_damaged_clip_is_named() {
    let Some(fake) = with_engine() else { return };
    let output = fake.xtask("reproduce folder-sample --models tt-gru,tt-mlp --folds 0 --epochs 2");
    assert!(output.status.success(), "{}", stderr(&output));
    fake.write("damaged.avi", b"RIFF of something else");
    for model in ["tt-gru", "tt-mlp"] {
        let rows = fake.record("folder-sample", "predictions.csv");
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

/// Trained on all clips, kept under a name, used where nothing but its file is; its page says that it has no score.
#[test]
fn a_final_model_is_used_by_its_file_alone() {
    let Some(fake) = with_engine() else { return };
    let output = fake.xtask("reproduce folder-sample --final --epochs 2");
    assert!(output.status.success(), "{}", stderr(&output));
    let models: Vec<_> = fs::read_dir(fake.path("data/models")).unwrap().flatten().collect();
    let [model] = &models[..] else { panic!("one model: {models:?}") };
    let name = model.file_name().into_string().unwrap();
    assert!(name.starts_with("folder-sample-tt-gru-s0-") && name.ends_with(".safetensors"), "{name}");
    let page = fake.read("results/folder-sample/report.md");
    assert!(page.contains("so they have no score") && page.contains(&name), "{page}");
    assert_eq!(fake.read("results/folder-sample/table.csv").lines().count(), 1, "no row, only the header");

    fs::rename(model.path(), fake.path("model.safetensors")).unwrap();
    fs::remove_dir_all(fake.path("data/runs")).unwrap();
    let clip = fs::read_dir(fake.path("data/folder-sample/left/scene_1")).unwrap().next().unwrap().unwrap();
    let line = format!("predict --model-file model.safetensors --json {}", clip.path().display());
    let output = fake.xtask(&line);
    assert!(output.status.success(), "{}", stderr(&output));
    let answers: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers[0]["classes"].as_array().unwrap().len(), 4, "{answers}");

    let output = fake.xtask("reproduce folder-sample --models tt-gru --folds 0 --epochs 2");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fake.read("results/folder-sample/table.csv").lines().count(), 2);
    assert!(fake.read("results/folder-sample/report.md").contains(&name), "the record of the model stays");
}

/// Frames of clips that may be shown are a record: they do not come from `data/` a second time.
#[test]
fn a_page_with_frames_is_the_same_without_data() {
    let Some(fake) = with_engine() else { return };
    let output = fake.xtask("reproduce folder-sample --models tt-gru --folds 0 --epochs 1");
    assert!(output.status.success(), "{}", stderr(&output));
    let page = || fake.read("results/folder-sample/report.html");
    let before = page();
    assert!(before.contains("data:image/jpeg;base64,"), "no frames are shown");
    fs::remove_dir_all(fake.path("data")).unwrap();
    fs::remove_file(fake.path("results/folder-sample/report.html")).unwrap();
    fs::remove_file(fake.path("target/release/bench-suite")).unwrap();
    let output = fake.xtask("figures folder-sample");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(page() == before, "the page is another without data/");
}
