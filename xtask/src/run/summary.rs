//! What a run would do, and what it found, as tables on standard output.

use std::path::Path;

use anyhow::Result;
use bench_suite::draw::summary;
use bench_suite::record::{Plan, PlannedCell};
use bench_suite::results::read_csv;
use bench_suite::results::tables::TableRow;

use crate::run::cost::Cost;
use crate::text::{self, bytes, columns, seconds, thousands};

/// Prints the cells of a plan, one row per model, protocol and recipe, with totals.
pub(crate) fn print(plan: &Plan, jobs: usize) -> Result<()> {
    text::print(&plan_text(plan, jobs))
}

/// Prints `table.csv` of a results folder for people.
pub(crate) fn print_table(dir: &Path) -> Result<()> {
    let rows: Vec<TableRow> = read_csv(&dir.join("table.csv"))?;
    text::print(&summary::text(&rows))
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

#[cfg(test)]
mod tests {
    use super::*;
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
            other_names: Vec::new(),
        };
        insta::assert_snapshot!(plan_text(&plan, 2));
    }
}
