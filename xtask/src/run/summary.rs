//! What a run would do, and what it found, as tables on standard output.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use bench_suite::record::{Plan, PlannedCell};

use crate::results::read_csv;
use crate::results::tables::TableRow;
use crate::run::cost::Cost;
use crate::text::{bytes, score, seconds, thousands};

/// Prints the cells of a plan, one row per model, protocol and recipe, with totals.
pub(crate) fn print(plan: &Plan, jobs: usize) -> Result<()> {
    out(&plan_text(plan, jobs))
}

/// Prints `table.csv` of a results folder for people.
pub(crate) fn print_table(dir: &Path) -> Result<()> {
    let rows: Vec<TableRow> = read_csv(&dir.join("table.csv"))?;
    out(&results_text(&rows))
}

/// The answer of a command goes to standard output, everything else to standard error.
fn out(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    write!(stdout, "{text}")?;
    Ok(stdout.flush()?)
}

fn plan_text(plan: &Plan, jobs: usize) -> String {
    let mut rows = vec![
        [
            "model",
            "protocol",
            "recipe",
            "cells",
            "epochs",
            "frames/epoch",
            "params input",
            "params total",
            "Mflop/frame",
            "memory",
            "time",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let mut groups: Vec<Vec<&PlannedCell>> = Vec::new();
    for cell in &plan.cells {
        let key = |c: &PlannedCell| (c.model.clone(), c.protocol.clone(), c.recipe.clone());
        match groups.iter_mut().find(|g| key(g[0]) == key(cell)) {
            Some(group) => group.push(cell),
            None => groups.push(vec![cell]),
        }
    }
    for group in &groups {
        let first = group[0];
        rows.push(vec![
            first.model.clone(),
            first.protocol.clone(),
            first.recipe.clone(),
            group.len().to_string(),
            first.epochs.to_string(),
            thousands(group.iter().map(|c| c.train_frames).max().unwrap_or_default()),
            thousands(first.params_input),
            thousands(first.params_total),
            format!("{:.2}", 2e-6 * first.macs_per_frame as f64),
            bytes(group.iter().map(|c| c.expected_rss_bytes).max().unwrap_or_default()),
            seconds(group.iter().map(|c| c.expected_s).sum()),
        ]);
    }
    let cost = Cost::of(&plan.cells, jobs);
    format!(
        "{}\n{} clips of {} classes, {} frames ({} in the frame store); {} cells, {} at a time: \
         expected memory {}, time {}\n",
        columns(&rows, 3),
        thousands(plan.clips),
        plan.classes.len(),
        thousands(plan.frames),
        bytes((plan.frames * plan.frame_bytes) as u64),
        plan.cells.len(),
        jobs,
        bytes(cost.bytes),
        seconds(cost.seconds),
    )
}

fn results_text(rows: &[TableRow]) -> String {
    let mut lines = vec![
        [
            "model",
            "protocol",
            "recipe",
            "score",
            "95 % interval",
            "folds",
            "epochs",
            "params input",
            "s/epoch",
            "memory",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for row in rows {
        let spread = row.std.map_or_else(String::new, |s| format!(" ± {}", score(s)));
        let interval = row.ci_low.zip(row.ci_high);
        lines.push(vec![
            row.model.clone(),
            row.protocol.clone(),
            row.recipe.clone(),
            format!("{}{spread}", score(row.mean)),
            interval.map_or_else(String::new, |(l, h)| format!("{}–{}", score(l), score(h))),
            row.folds.to_string(),
            row.epochs.to_string(),
            thousands(row.params_input),
            row.epoch_s.map_or_else(String::new, |s| format!("{s:.2}")),
            bytes(row.peak_rss_bytes),
        ]);
    }
    columns(&lines, 3)
}

/// Rows as aligned columns, the first `left` of them to the left.
fn columns(rows: &[Vec<String>], left: usize) -> String {
    let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(i, (cell, &w))| if i < left { format!("{cell:<w$}") } else { format!("{cell:>w$}") })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::fixture;
    use crate::results::tables::Tables;
    use bench_suite::record::DataKind;

    #[test]
    fn plan_snapshot() {
        let cell = |model: &str, fold, params_input| PlannedCell {
            model: model.into(),
            protocol: "clips".into(),
            recipe: "scaled".into(),
            fold,
            seed: 0,
            epochs: 20,
            train_clips: 293,
            test_clips: 147,
            train_frames: 7032,
            params_input,
            params_total: params_input + 200_203,
            macs_per_frame: 2_000_000,
            expected_rss_bytes: 1_200_000_000,
            expected_s: 75.4,
        };
        let plan = Plan {
            experiment: "ucf11-sample".into(),
            data: "rendered sample, not UCF11".into(),
            data_kind: DataKind::Sample,
            dataset: "ucf11".into(),
            store: "s".into(),
            metric: "accuracy".into(),
            classes: vec!["a".into(), "b".into()],
            run_digest: "r".into(),
            data_digest: "d".into(),
            clips: 440,
            frames: 10_560,
            frame_bytes: 57_600,
            left_out: Vec::new(),
            with_errors: 0,
            copies: Vec::new(),
            cells: vec![cell("gru", 0, 44_236_800), cell("tt-gru", 0, 3232), cell("tt-gru", 1, 3232)],
            config: String::new(),
            device: bench_suite::device::DeviceName::Cpu,
            precision: bench_suite::device::Precision::F32,
            code: bench_suite::provenance::Code::default(),
        };
        insta::assert_snapshot!(plan_text(&plan, 2));
    }

    #[test]
    fn results_snapshot() {
        let tables = Tables::derive(&fixture::five_models()).unwrap();
        insta::assert_snapshot!(results_text(&tables.table));
    }
}
