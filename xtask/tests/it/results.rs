//! Runs after runs: none deletes another's records or mixes with them, and only `results remove` removes one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use bench_suite::device::DeviceName;
use bench_suite::record::{CellRecord, Plan};

use crate::fake::{Fake, stderr};

const RUN_A: &str = "results/ucf11-sample/runs/scaled-cpu-0123abcd";
const RUN_B: &str = "results/ucf11-sample/runs/scaled-cpu-4567cdef";

/// Every file below a folder with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            all.extend(
                files(&entry.path()).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else {
            all.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    all
}

fn succeeds(fake: &Fake, line: &str) -> String {
    let output: Output = fake.xtask(line);
    let text = stderr(&output);
    assert!(output.status.success(), "{line}: {text}");
    text
}

/// The cells of the page's table: model, protocol, recipe, and whatever the columns say.
fn rows(fake: &Fake, name: &str) -> Vec<String> {
    let text = fake.read(&format!("results/ucf11-sample/{name}"));
    text.lines().skip(1).map(str::to_owned).collect()
}

/// Gives the engine another run to plan.
fn other_run(fake: &Fake, digest: &str, change: impl FnOnce(&mut Plan)) {
    fake.replan(|plan| {
        plan.run_digest = digest.into();
        change(plan);
    });
}

#[test]
fn other_data_keeps_the_first_run_and_mixes_with_nothing() {
    let fake = Fake::new();
    succeeds(&fake, "reproduce ucf11");
    let before = files(&fake.path(RUN_A));
    let table = fake.read("results/ucf11-sample/table.csv");
    other_run(&fake, "4567cdef00", |plan| {
        plan.data_digest = "other".into();
        plan.data = "two clips".into();
        plan.cells.truncate(1);
    });
    let text = succeeds(&fake, "reproduce ucf11");
    assert_eq!(files(&fake.path(RUN_A)), before);
    assert_eq!(
        fake.read("results/ucf11-sample/table.csv"),
        table,
        "the page shows the data of the most cells"
    );
    assert!(
        text.contains("not on the page, other data: gru/clips/scaled 0.500, 1 folds, 1 epochs"),
        "{text}"
    );
    assert!(fake.read(&format!("{RUN_B}/run.toml")).contains("data = \"two clips\""));
    let report = fake.read("results/ucf11-sample/report.md");
    assert!(
        report.contains("scaled-cpu-0123abcd") && report.contains("scaled-cpu-4567cdef"),
        "both are listed"
    );
}

#[test]
fn a_part_after_the_whole_keeps_the_whole() {
    let fake = Fake::new();
    succeeds(&fake, "reproduce ucf11");
    let before = files(&fake.path(RUN_A));
    let table = fake.read("results/ucf11-sample/table.csv");
    other_run(&fake, "4567cdef00", |plan| {
        plan.cells.retain(|cell| cell.model == "gru" && cell.fold == 0);
        plan.cells.iter_mut().for_each(|cell| cell.epochs = 20);
    });
    fake.recompute("gru.clips.scaled.f0.s0", |cell| cell.epochs = 20);
    let text = succeeds(&fake, "reproduce ucf11 --models gru --folds 0 --epochs 20");
    assert_eq!(files(&fake.path(RUN_A)), before);
    assert_eq!(fake.read("results/ucf11-sample/table.csv"), table);
    assert!(
        text.contains("not on the page, fewer folds: gru/clips/scaled 0.500, 1 folds, 20 epochs"),
        "{text}"
    );
}

#[test]
fn rows_of_another_device_stand_beside_and_never_in_one_row() {
    let fake = Fake::new();
    succeeds(&fake, "reproduce ucf11");
    let before = files(&fake.path(RUN_A));
    other_run(&fake, "4567cdef00", |plan| {
        plan.device = DeviceName::Cuda(0);
        plan.cells.retain(|cell| cell.model == "gru" && cell.fold == 1);
    });
    fake.recompute("gru.clips.scaled.f1.s0", |cell| cell.epoch_s = Some(0.125));
    succeeds(&fake, "reproduce ucf11");
    assert_eq!(files(&fake.path(RUN_A)), before);
    assert!(fake.path("results/ucf11-sample/runs/scaled-cuda-4567cdef/run.toml").is_file());
    let gru = rows(&fake, "table.csv").into_iter().find(|row| row.starts_with("gru,")).unwrap();
    assert!(gru.contains(",0.25,"), "seconds of the CPU alone: {gru}");
}

#[test]
fn a_cell_that_is_trained_again_stands_in_a_folder_of_its_own() {
    let fake = Fake::new();
    succeeds(&fake, "reproduce ucf11");
    let before = files(&fake.path(RUN_A));
    fs::remove_dir_all(fake.path("data")).unwrap();
    fake.recompute("gru.clips.scaled.f1.s0", |cell| cell.epoch_s = Some(0.125));
    succeeds(&fake, "reproduce ucf11");
    assert_eq!(files(&fake.path(RUN_A)), before);
    assert!(fake.path(&format!("{RUN_A}-2/run.toml")).is_file());
}

#[test]
fn a_write_that_was_cut_off_leaves_the_other_run_whole_and_is_made_good() {
    let fake = Fake::new();
    succeeds(&fake, "reproduce ucf11");
    let first = files(&fake.path(RUN_A));
    // What a kill leaves that came between the tables and run.toml, the last to be written.
    fs::create_dir_all(fake.path(RUN_B)).unwrap();
    fake.write(&format!("{RUN_B}/folds.csv"), &first["folds.csv"]);
    fake.write(&format!("{RUN_B}/curves.csv.7.tmp"), b"half");
    succeeds(&fake, "figures ucf11-sample");
    other_run(&fake, "4567cdef00", |plan| plan.cells.truncate(1));
    succeeds(&fake, "reproduce ucf11");
    assert_eq!(files(&fake.path(RUN_A)), first);
    let second = files(&fake.path(RUN_B));
    assert_eq!(second.keys().collect::<Vec<_>>(), first.keys().collect::<Vec<_>>());
    assert_eq!(String::from_utf8_lossy(&second["folds.csv"]).lines().count(), 2);
}

#[test]
fn two_comparisons_of_a_day_are_two() {
    let fake = Fake::new();
    succeeds(&fake, "compare ucf11 --devices cpu");
    let before = files(&fake.path("results/devices"));
    succeeds(&fake, "compare ucf11 --devices cpu");
    let after = files(&fake.path("results/devices"));
    assert_eq!(after.keys().filter(|name| name.ends_with("table.csv")).count(), 2, "{:?}", after.keys());
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
}

#[test]
fn what_computed_a_cell_comes_from_the_cell() {
    let fake = Fake::new();
    let computed = |commit: &str| {
        serde_json::from_value(serde_json::json!({
            "finished": "2026-01-02T03:04:05Z",
            "by": { "commit": commit, "dirty": false, "program": "fedc",
                "machine": { "cpu": "Trainer", "cores": 8, "memory_bytes": null, "os": "x" },
                "versions": { "libav": "59" } }
        }))
        .unwrap()
    };
    for (fold, commit) in [(0, "aaaa"), (1, "bbbb")] {
        for model in ["gru", "tt-gru"] {
            let cell = format!("{model}.clips.scaled.f{fold}.s0");
            fake.recompute(&cell, |cell: &mut CellRecord| cell.computed = computed(commit));
        }
    }
    succeeds(&fake, "reproduce ucf11");
    let run: toml::Table = toml::from_str(&fake.read(&format!("{RUN_A}/run.toml"))).unwrap();
    let run = &run["run"][0];
    let commits: Vec<&str> =
        run["provenance"].as_array().unwrap().iter().map(|p| p["commit"].as_str().unwrap()).collect();
    assert_eq!(commits, ["aaaa", "bbbb"]);
    let of: Vec<i64> =
        run["cell"].as_array().unwrap().iter().map(|cell| cell["provenance"].as_integer().unwrap()).collect();
    assert_eq!(of, [0, 1, 0, 1]);
    let report = fake.read("results/ucf11-sample/report.md");
    assert!(report.contains("Trainer, 8 cores") && report.contains("2 cells: trained at commit"), "{report}");
}

#[test]
fn a_run_is_removed_only_by_its_name_and_a_yes() {
    let fake = Fake::new();
    succeeds(&fake, "reproduce ucf11");
    other_run(&fake, "4567cdef00", |plan| plan.cells.truncate(1));
    succeeds(&fake, "reproduce ucf11");
    let list = String::from_utf8(fake.xtask("results list ucf11-sample").stdout).unwrap();
    assert!(list.contains("scaled-cpu-4567cdef  finished ") && list.contains("1 cells, 0 shown"), "{list}");
    for (line, words) in [
        ("results remove ucf11-sample scaled-cpu-4567cdef", "give --yes to remove it"),
        ("results remove ucf11-sample nothing --yes", "there are: scaled-cpu-0123abcd, scaled-cpu-4567cdef"),
        ("results remove ucf11-sample ../runs --yes", "holds no run"),
    ] {
        let output = fake.xtask(line);
        assert!(!output.status.success() && stderr(&output).contains(words), "{}", stderr(&output));
        assert!(fake.path(RUN_B).is_dir());
    }
    succeeds(&fake, "results remove ucf11-sample scaled-cpu-4567cdef --yes");
    assert!(!fake.path(RUN_B).exists() && fake.path(RUN_A).is_dir());
    assert!(!fake.read("results/ucf11-sample/report.md").contains("4567cdef"));
    fs::create_dir_all(fake.path("results/ucf11-sample/notes")).unwrap();
    fake.write("results/ucf11-sample/notes/mine.txt", b"a year of work");
    succeeds(&fake, "results remove ucf11-sample scaled-cpu-0123abcd --yes");
    let left: Vec<_> = fs::read_dir(fake.path("results/ucf11-sample")).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "no page without a run, and nothing but it removed: {left:?}");
    assert_eq!(fake.read("results/ucf11-sample/notes/mine.txt"), "a year of work");
    fs::remove_dir_all(fake.path("results/ucf11-sample/notes")).unwrap();
    succeeds(&fake, "reproduce ucf11");
    succeeds(&fake, "results remove ucf11-sample scaled-cpu-4567cdef --yes");
    assert!(!fake.path("results/ucf11-sample").exists(), "a folder with nothing in it goes");
}

#[test]
fn records_of_an_older_layout_are_left_alone_and_named() {
    let fake = Fake::new();
    fs::create_dir_all(fake.path("results/ucf11-sample")).unwrap();
    fake.write("results/ucf11-sample/folds.csv", b"old");
    for line in ["figures ucf11-sample", "reproduce ucf11"] {
        let output = fake.xtask(line);
        assert!(!output.status.success());
        assert!(
            stderr(&output).contains("of before every run had a folder of its own"),
            "{}",
            stderr(&output)
        );
        assert_eq!(fake.read("results/ucf11-sample/folds.csv"), "old");
    }
}
