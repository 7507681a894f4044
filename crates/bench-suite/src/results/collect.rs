//! From the finished cells of a plan to the records of a run.

use std::fs;
use std::path::Path;
use std::time::UNIX_EPOCH;

use crate::files;
use crate::provenance::utc;
use crate::record::{
    CellRecord, FinalRecord, ParamsRow, Plan, PlannedCell, PredictionRow, WEIGHTS, cell_folder,
};
use crate::results::{
    CellMeta, ClipRow, CurveRow, FinalModel, FoldRow, Records, Run, RunFile, read_csv, read_json,
};
use anyhow::{Context, Result, bail};

use crate::results::cells::{final_file, is_done, is_final};
use crate::results::scores::is_score;
use crate::stats::Outcomes;

/// Reads the finished cells of a plan, and names the others.
pub fn collect(run_dir: &Path, plan: &Plan, params: Vec<ParamsRow>) -> Result<Records> {
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
            with_errors: plan.with_errors,
            copies: plan.copies.clone(),
            runs: Vec::new(),
        },
        folds: Vec::new(),
        curves: Vec::new(),
        predictions: Vec::new(),
        params,
        strips: Vec::new(),
    };
    let missing = plan.cells.iter().filter(|cell| !is_done(run_dir, cell)).map(PlannedCell::id);
    let mut run = Run {
        digest: plan.run_digest.clone(),
        device: plan.device,
        precision: plan.precision,
        commands: Vec::new(),
        config: plan.config.clone(),
        provenance: Vec::new(),
        missing: missing.collect(),
        strips: None,
        cells: Vec::new(),
        finals: Vec::new(),
    };
    for cell in plan.cells.iter().filter(|cell| is_done(run_dir, cell)) {
        let dir = cell_folder(run_dir, &cell.id());
        if is_final(cell) {
            let model = read_final(&dir, plan, cell, &mut run)?;
            run.finals.push(model);
        } else {
            read_cell(&dir, cell, &mut records, &mut run)?;
        }
    }
    records.run_file.runs.push(run);
    records.sort();
    Ok(records)
}

/// Refuses a score that is not that of the predictions, before it is in `results/`.
fn check_score(dir: &Path, (metric, value): (&str, f64), predictions: &[PredictionRow]) -> Result<()> {
    let outcomes = Outcomes::accuracy(predictions.iter().map(|row| row.label == row.predicted).collect());
    if is_score(metric, value, &outcomes) {
        return Ok(());
    }
    bail!(
        "{}: cell.json says {value}, which is not the {metric} of predictions.csv: remove this folder, and the same command \
         trains the cell again",
        dir.display()
    )
}

fn read_cell(dir: &Path, planned: &PlannedCell, records: &mut Records, run: &mut Run) -> Result<()> {
    let path = dir.join("cell.json");
    let cell: CellRecord = read_json(&path)?;
    let PlannedCell { model, protocol, recipe, fold, seed, macs_per_frame, .. } = planned.clone();
    let (finished, provenance) = match &cell.computed {
        Some(computed) => (computed.finished.clone(), Some(run.place(&computed.by))),
        // A cell of before it was kept: only the file says when it was finished.
        None => (written(&path)?, None),
    };
    run.cells.push(CellMeta {
        model: model.clone(),
        protocol: protocol.clone(),
        recipe: recipe.clone(),
        fold,
        seed,
        split_digest: cell.split_digest,
        params_input: cell.params_input,
        params_total: cell.params_total,
        macs_per_frame,
        peak_rss_bytes: cell.peak_rss_bytes,
        finished,
        provenance,
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
    if predictions.len() != cell.test_clips {
        bail!(
            "{}: predictions.csv has {} of {} test clips: remove this folder, and the same command trains the cell again",
            dir.display(),
            predictions.len(),
            cell.test_clips
        );
    }
    check_score(dir, (&cell.metric, cell.value), &predictions)?;
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

fn read_final(dir: &Path, plan: &Plan, planned: &PlannedCell, run: &mut Run) -> Result<FinalModel> {
    let cell: FinalRecord = read_json(&dir.join("cell.json"))?;
    let weights = dir.join(WEIGHTS);
    let digest = files::digest(&weights).with_context(|| format!("{} cannot be read", weights.display()))?;
    Ok(FinalModel {
        model: cell.model,
        recipe: cell.recipe,
        seed: cell.seed,
        clips: cell.clips,
        params_total: cell.params_total,
        peak_rss_bytes: cell.peak_rss_bytes,
        file: final_file(plan, planned),
        sha256: digest,
        finished: cell.computed.finished,
        provenance: run.place(&cell.computed.by),
        train_loss: cell.curve.iter().map(|point| point.train_loss).collect(),
        train_value: cell.curve.iter().map(|point| point.train_value).collect(),
    })
}

/// When a file was written, UTC.
fn written(path: &Path) -> Result<String> {
    let time = fs::metadata(path).and_then(|meta| meta.modified());
    let time = time.with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(utc(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_kept_with_five_digits() {
        assert_eq!(
            short("0.1129326637847697;0.9999999;0.00012345678;1.23456789e-7;0"),
            "0.11293;1;0.00012346;1.2346e-7;0"
        );
        assert_eq!(short("0.5;x"), "0.5;x");
    }
}
