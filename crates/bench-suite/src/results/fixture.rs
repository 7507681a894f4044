//! Synthetic records for tests.

use std::collections::BTreeMap;

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::device::{DeviceName, Precision};
use crate::paper;
use crate::provenance::{Machine, Provenance};
use crate::record::{CellRecord, DataKind, ParamsRow};
use crate::results::tuning::{About, ChoiceRow, FinalRow, Rows, TrialRow};
use crate::results::{CellMeta, ClipRow, CurveRow, FinalModel, FoldRow, Records, Run, RunFile};

/// Test clips of a fold.
const CLIPS: usize = 20;

/// The root of this repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A model of all clips, after two epochs.
pub(crate) fn final_model(model: &str) -> FinalModel {
    FinalModel {
        model: model.into(),
        recipe: "scaled".into(),
        seed: 0,
        clips: 100,
        params_total: 203_435,
        peak_rss_bytes: 300_000_000,
        file: format!("data/models/{model}.safetensors"),
        sha256: "fedcba9876543210".repeat(4),
        finished: "2026-01-31".into(),
        provenance: 0,
        train_loss: vec![2.0, 0.1],
        train_value: vec![0.0, 0.95],
    }
}

/// A finished cell of no epoch.
pub(crate) fn cell_record(model: &str) -> CellRecord {
    CellRecord {
        model: model.to_owned(),
        protocol: "clips".into(),
        recipe: "scaled".into(),
        fold: 0,
        seed: 0,
        metric: "accuracy".into(),
        value: 0.5,
        epochs: 2,
        train_clips: 8,
        test_clips: 2,
        epoch_s: Some(1.0),
        peak_rss_bytes: 90_000_000,
        params_input: 1,
        params_total: 1,
        saturated_gates: None,
        standard: None,
        frames_wait: None,
        system: None,
        split_digest: "s".into(),
        curve: Vec::new(),
        origin: None,
        computed: None,
        card: None,
    }
}

/// Records of one run: model, protocol, folds and a base score for each; everything else follows from them.
pub(crate) fn records(digest: &str, groups: &[(&str, &str, &[usize], f64)]) -> Records {
    let mut records = empty();
    let mut cells = Vec::new();
    for &(model, protocol, folds, score) in groups {
        for &fold in folds {
            cells.push(add_cell(&mut records, (model, protocol), fold, score));
        }
    }
    records.run_file.runs.push(Run {
        digest: digest.into(),
        device: DeviceName::Cpu,
        precision: Precision::F32,
        commands: vec!["cargo xtask reproduce ucf11-sample".into()],
        config: "name = \"ucf11-sample\"\nrecipe = \"scaled\"\n\n[train]\nbatch = 16\n".into(),
        provenance: vec![provenance()],
        missing: Vec::new(),
        strips: None,
        cells,
        finals: Vec::new(),
    });
    records.sort();
    records
}

fn provenance() -> Provenance {
    Provenance {
        commit: Some("0123456789abcdef0123456789abcdef01234567".into()),
        dirty: false,
        program: Some("fedc".into()),
        of_collecting: false,
        machine: Machine {
            cpu: "Example CPU @ 2.00GHz".into(),
            cores: 2,
            memory_bytes: Some(16 << 30),
            os: "Example OS, x86_64".into(),
        },
        versions: BTreeMap::from([("rustc".into(), "1.95.0".into())]),
    }
}

/// The five models, three folds by clips and three by groups, in the order of the paper's scores.
pub(crate) fn five_models() -> Records {
    let folds: &[usize] = &[0, 1, 2];
    records(
        "0a1b2c",
        &[
            ("tt-mlp", "clips", folds, 0.30),
            ("gru", "clips", folds, 0.15),
            ("lstm", "clips", folds, 0.10),
            ("tt-gru", "clips", folds, 0.70),
            ("tt-lstm", "clips", folds, 0.65),
            ("gru", "groups", folds, 0.10),
            ("tt-gru", "groups", folds, 0.55),
        ],
    )
}

fn empty() -> Records {
    let params = paper::RANK_TABLE.iter().flat_map(|(rank, counts)| {
        paper::RANK_LAYERS.iter().zip(counts).map(|(layer, &params)| ParamsRow {
            rank: *rank,
            layer: (*layer).into(),
            params,
        })
    });
    Records {
        run_file: RunFile {
            experiment: "ucf11-sample".into(),
            dataset: "ucf11".into(),
            data: "rendered sample, not UCF11: 100 clips, 2 classes".into(),
            data_kind: DataKind::Sample,
            data_digest: "d1".into(),
            metric: "accuracy".into(),
            clips: 100,
            frames: 2400,
            classes: vec!["walking".into(), "biking".into()],
            left_out: Vec::new(),
            with_errors: 0,
            copies: Vec::new(),
            runs: Vec::new(),
        },
        folds: Vec::new(),
        curves: Vec::new(),
        predictions: Vec::new(),
        params: params.collect(),
        strips: Vec::new(),
    }
}

fn add_cell(records: &mut Records, (model, protocol): (&str, &str), fold: usize, score: f64) -> CellMeta {
    let (m, p, r) = (model.to_owned(), protocol.to_owned(), "scaled".to_owned());
    let dense = !model.starts_with("tt-");
    let epochs = if dense { 8 } else { 20 };
    let correct = ((score * CLIPS as f64) as usize + fold).min(CLIPS);
    let value = if digest_only(score) { score } else { correct as f64 / CLIPS as f64 };
    for clip in 0..CLIPS {
        let hit = clip < correct;
        records.predictions.push(ClipRow {
            model: m.clone(),
            protocol: p.clone(),
            recipe: r.clone(),
            fold,
            seed: 0,
            clip: format!("walking/v_{fold:02}/{clip:02}.mpg"),
            label: "walking".into(),
            predicted: if hit { "walking" } else { "biking" }.into(),
            probabilities: if hit { "0.75;0.25" } else { "0.375;0.625" }.into(),
            group: format!("{fold}.{}", clip / 5),
        });
    }
    for epoch in 1..=epochs {
        let share = 1.0 - (-4.0 * epoch as f64 / epochs as f64).exp();
        records.curves.push(CurveRow {
            model: m.clone(),
            protocol: p.clone(),
            recipe: r.clone(),
            fold,
            seed: 0,
            epoch,
            train_loss: 2.4 - share,
            train_value: (value + 0.1).min(1.0) * share,
            test_value: Some(value * share),
            wall_s: if dense { 20.0 } else { 2.0 },
        });
    }
    records.folds.push(FoldRow {
        model: m.clone(),
        protocol: p.clone(),
        recipe: r.clone(),
        fold,
        seed: 0,
        metric: "accuracy".into(),
        value,
        epochs,
        train_clips: 80,
        test_clips: CLIPS,
        epoch_s: Some(if dense { 20.5 } else { 1.75 + fold as f64 / 8.0 }),
    });
    let paper = paper::result("ucf11", model).map_or(0, |row| row.params_input);
    CellMeta {
        model: m,
        protocol: p,
        recipe: r,
        fold,
        seed: 0,
        split_digest: format!("split-{protocol}-{fold}"),
        params_input: paper,
        params_total: paper + 200_000,
        macs_per_frame: 0,
        peak_rss_bytes: if dense { 1_500_000_000 } else { 300_000_000 },
        finished: "2026-01-31".into(),
        provenance: Some(0),
        card: None,
    }
}

/// Scores that tests of joining compare exactly.
fn digest_only(score: f64) -> bool {
    (score * 4.0).fract() == 0.0
}

/// A search of two draws for two models.
pub(crate) fn search() -> (About, Rows) {
    let about = About {
        search: "words".into(),
        protocol: "clips".into(),
        models: vec!["tt-gru".into(), "gru".into()],
        rungs: vec![(2, 5), (1, 10)],
        title: "words".into(),
        data: "data: twenty clips".into(),
        data_digest: "d".into(),
        clips: 20,
        frames: 200,
        config: String::new(),
        provenance: Vec::new(),
    };
    let mut rows = Rows::default();
    for (model, good) in [("tt-gru", 0.9), ("gru", 0.8)] {
        for (rung, draw, value) in [(0, 0, 0.3), (0, 1, 0.6), (1, 1, good)] {
            rows.trials.push(TrialRow {
                model: model.into(),
                fold: 0,
                rung,
                draw,
                settings: format!("train.lr={draw}e-3"),
                epochs: 5 * (rung + 1),
                value,
                best_epoch: 5,
                train_s: 60.0,
                run: "r".into(),
            });
        }
        let settings = "train.lr=1e-3".to_owned();
        let choice = ChoiceRow { model: model.into(), fold: 0, draw: 1, settings, epochs: 5, value: good };
        let hits = if model == "gru" { "1110" } else { "1111" };
        rows.finals.push(FinalRow {
            model: model.into(),
            fold: 0,
            seed: 0,
            draw: 1,
            settings: choice.settings.clone(),
            epochs: 5,
            value: hits.bytes().filter(|hit| *hit == b'1').count() as f64 / 4.0,
            train_clips: 16,
            test_clips: 4,
            params_input: 7,
            train_s: 90.0,
            run: "r".into(),
            hits: hits.into(),
            groups: String::new(),
        });
        rows.choices.push(choice);
    }
    (about, rows)
}

impl Records {
    /// Keeps them without frames.
    pub(crate) fn keep_alone(self, dir: &Path) -> Result<PathBuf> {
        self.keep(dir, &|_| Ok(Vec::new()))
    }
}
