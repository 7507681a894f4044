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
    assert!(calls.starts_with("prepare --experiment ucf11-sample --models gru,tt-gru --epochs 1\nplan "));
    let cells =
        calls.lines().filter(|call| call.starts_with("cell ")).map(|call| call.split(' ').nth(4).unwrap());
    let cheapest_first = ["tt-gru", "tt-gru", "gru", "gru"];
    assert!(cells.map(|id| id.split('.').next().unwrap()).eq(cheapest_first), "{calls}");
    assert!(
        text.contains(
            "4 cells to train, 1 at a time, cheapest first: expected time 0.6 s, memory 100 MB of "
        )
    );
    let leftovers = walk(&fake.path("results"))
        .into_iter()
        .filter(|p| Path::new(p).extension().is_some_and(|e| e == "tmp"))
        .count();
    assert_eq!(leftovers, 0);
}

/// Clips that are here are used, a link to clips that are gone is no sample, and `--sample` is one in any case.
#[test]
fn the_sample_takes_the_place_of_clips_only_where_it_may() {
    let fake = Fake::new();
    fs::create_dir_all(fake.path("data")).unwrap();
    std::os::unix::fs::symlink("gone", fake.path("data/ucf11")).unwrap();
    let text = stderr(&fake.xtask("reproduce ucf11 --dry-run"));
    assert!(text.contains("data/ucf11/ is a broken link or not a folder"), "{text}");
    fs::create_dir_all(fake.path("data/gone")).unwrap();
    for (line, experiment) in [("", "ucf11"), (" --sample", "ucf11-sample")] {
        let output = fake.xtask(&format!("reproduce ucf11 --dry-run{line}"));
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(fake.read("fake/calls").contains(&format!("plan --experiment {experiment} --dry-run\n")));
    }
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
fn failed_cells_are_named_keep_nothing_out_and_a_later_run_goes_on() {
    let fake = Fake::new();
    fake.write("fake/fail", b"");
    let output = fake.xtask("reproduce ucf11 --jobs 2");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("2 of 4 cells failed") && text.contains("cell gru.clips.scaled.f1.s0"), "{text}");
    assert!(text.contains("    out of luck"), "{text}");
    let finished = || fake.read(&format!("{RUN}/folds.csv")).lines().count() - 1;
    assert_eq!(finished(), 2, "what is finished is in the tables");
    let page = fake.read("results/ucf11-sample/report.md");
    let says =
        "Partial: 2 planned cells are not finished: gru.clips.scaled.f1.s0, tt-gru.clips.scaled.f1.s0.";
    assert!(page.contains(says), "{page}");
    fs::remove_file(fake.path("fake/fail")).unwrap();
    let output = fake.xtask("reproduce ucf11");
    assert!(output.status.success());
    assert!(stderr(&output).contains("2 of 4 cells are finished already"));
    assert_eq!(finished(), 4);
    assert!(!fake.read("results/ucf11-sample/report.md").contains("Partial"));
}

/// The engine looks whether the tables have the first cell when the second is computed.
#[test]
fn tables_come_after_every_cell() {
    let fake = Fake::new();
    let engine = fake.read("target/release/bench-suite");
    let look =
        "  cell)\n    cat results/ucf11-sample/runs/*/folds.csv 2>/dev/null | wc -l >> \"$FAKE/seen\"\n";
    fake.write("target/release/bench-suite", engine.replace("  cell)\n", look).as_bytes());
    assert!(fake.xtask("reproduce ucf11").status.success());
    let seen = fake.read("fake/seen");
    assert_eq!(
        seen.split_whitespace().collect::<Vec<_>>(),
        ["0", "2", "3", "4"],
        "a header and a line a cell"
    );
}

#[test]
fn more_memory_than_there_is_is_refused_before_a_cell_starts() {
    let fake = Fake::new();
    let plan = fake.read("fake/plan.json").replace("100000000", "900000000000000");
    fake.write("fake/plan.json", plan.as_bytes());
    let output = fake.xtask("reproduce ucf11 --jobs 2");
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("memory 1800000.0 GB of ") && text.contains("--force"), "{text}");
    assert!(!fake.read("fake/calls").contains("cell "));
    assert!(fake.xtask("reproduce ucf11 --jobs 2 --force").status.success());
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
