//! From the cells of a run to an experiment's records, beside the rows that stay.

use std::path::Path;

use anyhow::Result;
use bench_suite::record::{CellRecord, ParamsRow, Plan, PlannedCell, PredictionRow};

use super::{
    CellMeta, ClipRow, CurveRow, FoldRow, Machine, OfCell, Records, Run, RunFile, date_utc, machine,
    read_csv, read_json,
};
use crate::repo::Repo;

/// Reads the finished cells of a plan.
pub(crate) fn collect(repo: &Repo, run_dir: &Path, plan: &Plan, params: Vec<ParamsRow>) -> Result<Records> {
    let (commit, dirty) = machine::commit(repo);
    let mut records = Records {
        run_file: RunFile {
            experiment: plan.experiment.clone(),
            dataset: plan.dataset.clone(),
            data: plan.data.clone(),
            data_kind: plan.data_kind,
            data_digest: plan.data_digest.clone(),
            metric: plan.metric.clone(),
            clips: plan.clips,
            frames: plan.frames,
            classes: plan.classes.clone(),
            left_out: plan.left_out.clone(),
            runs: Vec::new(),
        },
        folds: Vec::new(),
        curves: Vec::new(),
        predictions: Vec::new(),
        params,
    };
    let mut run = Run {
        digest: plan.run_digest.clone(),
        date: date_utc(),
        commit,
        dirty,
        commands: Vec::new(),
        config: plan.config.clone(),
        machine: Machine::here(),
        versions: machine::versions(repo),
        cells: Vec::new(),
    };
    for cell in &plan.cells {
        read_cell(&run_dir.join("cells").join(cell.id()), cell, &mut records, &mut run.cells)?;
    }
    records.run_file.runs.push(run);
    records.sort();
    Ok(records)
}

fn read_cell(
    dir: &Path,
    planned: &PlannedCell,
    records: &mut Records,
    metas: &mut Vec<CellMeta>,
) -> Result<()> {
    let cell: CellRecord = read_json(&dir.join("cell.json"))?;
    let PlannedCell { model, protocol, recipe, fold, seed, .. } = planned.clone();
    metas.push(CellMeta {
        model: model.clone(),
        protocol: protocol.clone(),
        recipe: recipe.clone(),
        fold,
        seed,
        split_digest: cell.split_digest,
        params_input: cell.params_input,
        params_total: cell.params_total,
        peak_rss_bytes: cell.peak_rss_bytes,
        card: cell.card,
    });
    records.curves.extend(cell.curve.into_iter().map(|point| CurveRow {
        model: model.clone(),
        protocol: protocol.clone(),
        recipe: recipe.clone(),
        fold,
        seed,
        epoch: point.epoch,
        train_loss: point.train_loss,
        train_value: point.train_value,
        test_value: point.test_value,
        wall_s: point.wall_s,
    }));
    let predictions: Vec<PredictionRow> = read_csv(&dir.join("predictions.csv"))?;
    records.predictions.extend(predictions.into_iter().map(|row| ClipRow {
        model: model.clone(),
        protocol: protocol.clone(),
        recipe: recipe.clone(),
        fold,
        seed,
        clip: row.clip,
        label: row.label,
        predicted: row.predicted,
        probabilities: short(&row.probabilities),
        group: row.group,
    }));
    records.folds.push(FoldRow {
        model,
        protocol,
        recipe,
        fold,
        seed,
        metric: cell.metric,
        value: cell.value,
        epochs: cell.epochs,
        train_clips: cell.train_clips,
        test_clips: cell.test_clips,
        epoch_s: cell.epoch_s,
    });
    Ok(())
}

/// Probabilities with five significant digits; what is no number stays as it is.
fn short(probabilities: &str) -> String {
    let five = |text: &str| match format!("{:.4e}", text.parse::<f64>().ok()?).parse::<f64>() {
        Ok(value) if value != 0.0 && value < 1e-4 => Some(format!("{value:e}")),
        Ok(value) => Some(value.to_string()),
        Err(_) => None,
    };
    let all = probabilities.split(';').map(|text| five(text).unwrap_or_else(|| text.to_owned()));
    all.collect::<Vec<_>>().join(";")
}

/// Puts new records beside old ones and says what happened to rows that go.
///
/// A (model, protocol, recipe) that the new run computed replaces the old rows of it, unless both come from
/// the same configuration: then only the same fold and seed are replaced. Other rows stay, unless they were
/// computed on other data, which no table may mix.
pub(crate) fn merge(old: Records, mut new: Records) -> (Records, Option<String>) {
    let other_data = (&old.run_file.data_digest, &old.run_file.metric)
        != (&new.run_file.data_digest, &new.run_file.metric);
    if other_data {
        let rows = old.folds.len();
        return (new, Some(format!("{rows} rows computed on other data are replaced")));
    }
    let digest = new.run_file.runs.first().map(|r| r.digest.clone()).unwrap_or_default();
    let same_config: Vec<CellMeta> =
        old.run_file.runs.iter().filter(|r| r.digest == digest).flat_map(|r| r.cells.clone()).collect();
    // Cells that were recorded before keep the commit and the day of that record.
    let nothing_new = new.folds.iter().all(|f| old.folds.contains(f));
    let stays = |key: super::CellKey<'_>| {
        let group = (key.0, key.1, key.2);
        let group_of = |k: super::CellKey<'_>| (k.0, k.1, k.2) == group;
        let recomputed = new.folds.iter().any(|f| group_of(f.key()));
        !recomputed
            || (same_config.iter().any(|c| c.key() == key) && !new.folds.iter().any(|f| f.key() == key))
    };
    let before = old.folds.len();
    let folds: Vec<FoldRow> = old.folds.iter().filter(|r| stays(r.key())).cloned().collect();
    let curves: Vec<CurveRow> = old.curves.iter().filter(|r| stays(r.key())).cloned().collect();
    let predictions: Vec<ClipRow> = old.predictions.iter().filter(|r| stays(r.key())).cloned().collect();
    let mut runs = Vec::new();
    for mut run in old.run_file.runs {
        run.cells.retain(|c| stays(c.key()));
        if run.digest == digest
            && let Some(own) = new.run_file.runs.first_mut()
        {
            own.cells.extend(run.cells);
            own.commands.extend(run.commands.iter().cloned());
            own.commands.sort();
            own.commands.dedup();
            if nothing_new {
                run.cells = std::mem::take(&mut own.cells);
                *own = run;
            }
        } else if !run.cells.is_empty() {
            runs.push(run);
        }
    }
    let replaced = before - folds.len();
    let note = (before > 0).then(|| format!("{replaced} of {before} rows in the records are replaced"));
    new.folds.extend(folds);
    new.curves.extend(curves);
    new.predictions.extend(predictions);
    new.run_file.runs.extend(runs);
    new.sort();
    (new, note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn keys(records: &Records) -> Vec<String> {
        records.folds.iter().map(|f| format!("{}/{}/{} {}", f.model, f.protocol, f.fold, f.value)).collect()
    }

    #[test]
    fn another_protocol_stays_and_the_same_model_is_replaced() {
        let old = fixture::records("a", &[("tt-gru", "clips", &[0, 1], 0.5), ("gru", "clips", &[0], 0.25)]);
        let new = fixture::records("b", &[("tt-gru", "clips", &[0], 0.75), ("tt-gru", "groups", &[0], 0.5)]);
        let (merged, note) = merge(old, new);
        assert_eq!(keys(&merged), ["gru/clips/0 0.25", "tt-gru/clips/0 0.75", "tt-gru/groups/0 0.5"]);
        assert_eq!(note.unwrap(), "2 of 3 rows in the records are replaced");
        let cells: Vec<usize> = merged.run_file.runs.iter().map(|r| r.cells.len()).collect();
        assert_eq!(cells, [1, 2], "every row has exactly one run");
        assert!(merged.curves.iter().all(|c| merged.folds.iter().any(|f| f.key() == c.key())));
        assert!(merged.predictions.iter().all(|c| merged.folds.iter().any(|f| f.key() == c.key())));
    }

    #[test]
    fn folds_of_one_configuration_come_together() {
        let old = fixture::records("a", &[("tt-gru", "clips", &[0, 1], 0.5)]);
        let new = fixture::records("a", &[("tt-gru", "clips", &[1, 2], 0.75)]);
        let (merged, _) = merge(old, new);
        assert_eq!(keys(&merged), ["tt-gru/clips/0 0.5", "tt-gru/clips/1 0.75", "tt-gru/clips/2 0.75"]);
        assert_eq!(merged.run_file.runs.len(), 1);
        assert_eq!(merged.run_file.runs[0].cells.len(), 3);
    }

    #[test]
    fn probabilities_are_kept_with_five_digits() {
        assert_eq!(
            short("0.1129326637847697;0.9999999;0.00012345678;1.23456789e-7;0"),
            "0.11293;1;0.00012346;1.2346e-7;0"
        );
        assert_eq!(short("0.5;x"), "0.5;x");
    }

    #[test]
    fn collecting_the_same_cells_again_changes_nothing() {
        let old = fixture::records("a", &[("tt-gru", "clips", &[0, 1], 0.5)]);
        let mut new = fixture::records("a", &[("tt-gru", "clips", &[0, 1], 0.5)]);
        new.run_file.runs[0].commit = None;
        new.run_file.runs[0].date = "2027-01-01".into();
        assert_eq!(merge(old.clone(), new.clone()).0, old);
        new.folds[0].value = 0.25;
        assert_eq!(merge(old, new).0.run_file.runs[0].date, "2027-01-01");
    }

    #[test]
    fn other_data_is_never_mixed() {
        let mut old = fixture::records("a", &[("gru", "clips", &[0], 0.5)]);
        old.run_file.data_digest = "other".into();
        let new = fixture::records("b", &[("tt-gru", "clips", &[0], 0.75)]);
        let (merged, note) = merge(old, new);
        assert_eq!(keys(&merged), ["tt-gru/clips/0 0.75"]);
        assert_eq!(note.unwrap(), "1 rows computed on other data are replaced");
    }

    #[test]
    fn records_survive_their_files() {
        let mut records = fixture::records("a", &[("tt-gru", "clips", &[0, 1], 0.5)]);
        records.run_file.left_out.push(bench_suite::record::LeftOut {
            clip: "walk/a \"b\"\n\u{1b}[31m.mpg".into(),
            reason: "no video stream".into(),
        });
        let dir = tempfile::tempdir().unwrap();
        records.write(dir.path()).unwrap();
        assert_eq!(Records::read(dir.path()).unwrap(), records);
    }
}
