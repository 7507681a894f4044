//! Whole runs with a fake engine.

use std::fs;
use std::path::Path;

use crate::fake::{Fake, stderr};

/// Where the records go.
const RUN: &str = "results/ucf11-sample/runs/scaled-cpu-0123abcd";

#[test]
fn reproduce_goes_from_the_plan_to_the_report() {
    let fake = Fake::new();
    let output = fake.xtask("reproduce ucf11 --models gru,tt-gru --epochs 1");
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    let first = text.lines().next().unwrap();
    assert_eq!(first, "data: rendered sample, not UCF11 (no --data DIR, and no data/ucf11/)");
    let last = text.lines().last().unwrap();
    assert_eq!(last, "data: rendered sample, not UCF11 (four clips); results in results/ucf11-sample");
    assert!(text.contains("left out: bad\\n.mpg (no stream)"), "{text}");
    assert!(text.contains("epoch 1/1 loss 2.0"), "{text}");
    assert!(!fake.path("results/ucf11").exists(), "sample results never go to results/ucf11");
    for name in ["folds.csv", "curves.csv", "predictions.csv", "params.csv", "run.toml"] {
        assert!(fake.path(RUN).join(name).is_file(), "{name}");
    }
    for name in ["table.csv", "sota.csv", "report.md"] {
        assert!(fake.path("results/ucf11-sample").join(name).is_file(), "{name}");
    }
    let table = fake.read("results/ucf11-sample/table.csv");
    assert!(table.contains("\ntt-gru,clips,scaled,accuracy,0.5,0.0,"), "{table}");
    let run = fake.read(&format!("{RUN}/run.toml"));
    assert!(!run.contains(&fake.path("").display().to_string()), "no absolute path: {run}");
    let calls = fake.read("fake/calls");
    assert!(calls.starts_with("prepare --experiment ucf11 --models gru,tt-gru --epochs 1\nplan "));
    let leftovers = walk(&fake.path("results"))
        .into_iter()
        .filter(|p| Path::new(p).extension().is_some_and(|e| e == "tmp"))
        .count();
    assert_eq!(leftovers, 0);
}

#[test]
fn a_second_run_starts_no_finished_cell_and_changes_no_byte() {
    let fake = Fake::new();
    assert!(fake.xtask("reproduce ucf11").status.success());
    let before = fake.read("results/ucf11-sample/report.md");
    fs::remove_file(fake.path("fake/calls")).unwrap();
    let output = fake.xtask("reproduce ucf11");
    assert!(stderr(&output).contains("4 of 4 cells are finished already and kept"), "{}", stderr(&output));
    assert!(!fake.read("fake/calls").contains("cell "));
    assert_eq!(fake.read("results/ucf11-sample/report.md"), before);
}

#[test]
fn failed_cells_are_named_and_a_later_run_goes_on() {
    let fake = Fake::new();
    fake.write("fake/fail", b"");
    let output = fake.xtask("reproduce ucf11 --jobs 2");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("2 of 4 cells failed") && text.contains("cell gru.clips.scaled.f1.s0"), "{text}");
    assert!(text.contains("    out of luck"), "{text}");
    assert!(!fake.path("results/ucf11-sample/table.csv").exists());
    fs::remove_file(fake.path("fake/fail")).unwrap();
    let output = fake.xtask("reproduce ucf11");
    assert!(output.status.success());
    assert!(stderr(&output).contains("2 of 4 cells are finished already"));
}

#[test]
fn dry_run_touches_nothing() {
    let fake = Fake::new();
    let output = fake.xtask("reproduce ucf11 --dry-run");
    assert!(output.status.success(), "{}", stderr(&output));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(table.contains("tt-gru  clips     scaled") && table.contains("203,435"), "{table}");
    for made in ["data", "results"] {
        assert!(!fake.path(made).exists(), "{made}");
    }
    assert!(!fake.read("fake/calls").contains("prepare"));
}

#[test]
fn results_that_cannot_be_written_lose_nothing() {
    let fake = Fake::new();
    fs::create_dir_all(fake.path(RUN).join("folds.csv")).unwrap();
    let output = fake.xtask("reproduce ucf11");
    let text = stderr(&output);
    assert!(!output.status.success());
    assert!(text.contains("nothing is lost") && text.contains("data/runs/0123abcd"), "{text}");
    assert!(text.contains("folds.csv"), "{text}");
}

#[test]
fn compare_measures_anew_and_leaves_a_table_and_a_chart() {
    let fake = Fake::new();
    let output = fake.xtask("compare ucf11 --devices cpu");
    assert!(output.status.success(), "{}", stderr(&output));
    let files = walk(&fake.path("results/devices"));
    let table = files.iter().find(|f| f.ends_with("table.csv")).unwrap();
    let text = fs::read_to_string(table).unwrap();
    let header = "data,device,card,precision,model,epochs,epoch_s,frames_wait,peak_rss_bytes,peak_card_bytes,energy_j,\
                  metric,value,loss_difference\n";
    assert!(text.starts_with(header), "{text}");
    assert!(text.contains("rendered sample, not UCF11"), "{text}");
    assert!(text.contains(",cpu,,f32,gru,1,0.25,,90000000,,,accuracy,0.5,\n"), "{text}");
    assert!(files.iter().any(|f| f.ends_with("devices.svg")));
    assert!(walk(&fake.path("data/runs")).iter().all(|f| f.ends_with("plan.json")), "no cell is kept");
    assert!(fake.read("fake/calls").contains("--models tt-mlp,gru,lstm,tt-gru,tt-lstm --folds 0 --epochs 3"));
}

fn walk(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .flat_map(|e| if e.path().is_dir() { walk(&e.path()) } else { vec![e.path().display().to_string()] })
        .collect()
}
