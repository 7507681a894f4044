//! What two runs left, file by file, but for times and memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bench_suite::events;
use bench_suite::record::CellRecord;
use bench_suite::results::collect::collect;
use bench_suite::results::{CURVES_HEADER, FOLDS_HEADER, PREDICTIONS_HEADER, csv_bytes, write_atomic};

use crate::dev::stress::Root;

/// Writes `folds.csv`, `curves.csv` and `predictions.csv` as `reproduce` would, their columns of seconds empty.
pub(super) fn write_tables(root: &Root) -> Result<()> {
    let (run_dir, plan) = root.plan()?;
    let mut records = collect(&run_dir, &plan, Vec::new())?;
    records.folds.iter_mut().for_each(|row| row.epoch_s = None);
    records.curves.iter_mut().for_each(|row| row.wall_s = 0.0);
    let dir = root.path.join("results");
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    write_atomic(&dir.join("folds.csv"), &csv_bytes(FOLDS_HEADER, &records.folds)?)?;
    write_atomic(&dir.join("curves.csv"), &csv_bytes(CURVES_HEADER, &records.curves)?)?;
    write_atomic(&dir.join("predictions.csv"), &csv_bytes(PREDICTIONS_HEADER, &records.predictions)?)
}

/// The files that one of the roots lacks, or whose bytes differ: clips, frame store, plan, weights, tables, and
/// whatever a kill left lying about.
pub(super) fn differing(reference: &Path, killed: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let (ours, theirs) = (files(reference)?, files(killed)?);
    for name in ours.union(&theirs) {
        if !theirs.contains(name) {
            lines.push(format!("{name} is missing"));
        } else if !ours.contains(name) {
            lines.push(format!("{name} was left behind"));
        } else if content(&reference.join(name))? != content(&killed.join(name))? {
            lines.push(format!("{name} differs"));
        }
    }
    Ok(lines)
}

/// Names of all files below `data/` and `results/`, but for what remembers inodes and times of a folder's clips, which
/// no two folders share.
fn files(root: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut folders = vec![root.join("data"), root.join("results")];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(name) = path.strip_prefix(root)
                && path.extension().is_none_or(|ending| ending != "seen")
            {
                names.insert(name.display().to_string());
            }
        }
    }
    Ok(names)
}

/// The bytes of a file; of a cell's record and events without times and memory, of its lock none.
fn content(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
    if path.ends_with(events::FILE) {
        return Ok(events::without_times(&bytes));
    }
    if path.ends_with("lock") {
        return Ok(Vec::new());
    }
    if !path.ends_with("cell.json") {
        return Ok(bytes);
    }
    let mut cell: CellRecord =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
    cell.epoch_s = None;
    cell.peak_rss_bytes = 0;
    (cell.frames_wait, cell.system, cell.origin, cell.computed) = (None, None, None, None);
    cell.curve.iter_mut().for_each(|point| point.wall_s = 0.0);
    Ok(serde_json::to_vec(&cell)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for root in [&one, &two] {
            fs::create_dir_all(root.join("data/runs/x")).unwrap();
            fs::create_dir_all(root.join("results")).unwrap();
            fs::write(root.join("data/runs/x/weights.safetensors"), "same").unwrap();
        }
        assert!(differing(&one, &two).unwrap().is_empty());
        fs::write(two.join("data/runs/x/checkpoint.tmp"), "").unwrap();
        fs::write(two.join("data/runs/x/weights.safetensors"), "sane").unwrap();
        fs::write(one.join("results/folds.csv"), "").unwrap();
        assert_eq!(
            differing(&one, &two).unwrap(),
            [
                "data/runs/x/checkpoint.tmp was left behind",
                "data/runs/x/weights.safetensors differs",
                "results/folds.csv is missing"
            ]
        );
    }

    #[test]
    fn times_and_memory_may_differ_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let text = |value: f64, seconds: f64, bytes: u64| {
            format!(
                r#"{{"model":"gru","protocol":"clips","recipe":"scaled","fold":0,"seed":0,"metric":"accuracy",
                "value":{value},"epochs":1,"train_clips":2,"test_clips":1,"epoch_s":{seconds},
                "peak_rss_bytes":{bytes},"params_input":1,"params_total":2,"split_digest":"","curve":[
                {{"epoch":1,"train_loss":1.5,"train_value":0.5,"test_value":0.5,"wall_s":{seconds}}}]}}"#
            )
        };
        let read = |text: String| {
            let path = dir.path().join("cell.json");
            fs::write(&path, text).unwrap();
            content(&path).unwrap()
        };
        assert_eq!(read(text(0.5, 1.0, 10)), read(text(0.5, 2.0, 20)));
        assert_ne!(read(text(0.5, 1.0, 10)), read(text(0.25, 1.0, 10)));
    }
}
