//! Sequences of rows: what is left out, learned, standardized, and not exported.

use std::fs;
use std::path::Path;

use bench_suite::record::CellRecord;
use rand::RngExt;
use tt_core::rng::stream;

use crate::run::{Run, stderr};

/// Numbers of a row.
const WIDTH: usize = 8;

/// An `.npy` file of rows of f32.
fn npy(path: &Path, width: usize, values: &[f32]) {
    let rows = values.len() / width;
    let literal = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {width}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((literal.len() as u16).to_le_bytes());
    bytes.extend(literal.as_bytes());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Two classes of 20 files, in which number 0 rises or falls, by little beside what it is; number 1 is noise that drowns it,
/// number 7 always 3. Files that `louder` names are a hundred times as loud.
pub(crate) fn write_rows(dir: &Path, louder: &dyn Fn(&str) -> bool) {
    for (class, sign) in [("falling", -1.0), ("rising", 1.0)] {
        for clip in 0..20 {
            let mut random = stream(1, &format!("{class}{clip}"));
            let length = random.random_range(6..=12);
            let name = format!("{class}/speaker{}/{clip:02}.npy", clip % 4);
            let factor = if louder(&name) { 100.0 } else { 1.0 };
            let row = |step: usize| -> [f32; WIDTH] {
                let noise = random.random_range(-0.05..0.05_f32);
                std::array::from_fn(|at| match at {
                    0 => factor * (1000.0 + sign * step as f32 + noise),
                    1 => factor * 1e4 * noise,
                    7 => 3.0,
                    _ => factor * noise,
                })
            };
            let values: Vec<f32> = (0..length).flat_map(row).collect();
            npy(&dir.join(name), WIDTH, &values);
        }
    }
}

fn record(run: &Run, cell: &str) -> CellRecord {
    serde_json::from_slice(&fs::read(run.folder(cell).join("cell.json")).unwrap()).unwrap()
}

#[test]
fn rows_are_learned_and_damaged_files_are_left_out() {
    let files = |dir: &Path| {
        write_rows(dir, &|_| false);
        npy(&dir.join("rising/speaker0/nan.npy"), WIDTH, &[f32::NAN; WIDTH]);
        npy(&dir.join("rising/speaker0/wide.npy"), WIDTH + 1, &[0.0; WIDTH + 1]);
        fs::write(
            dir.join("falling/cut.npy"),
            &fs::read(dir.join("falling/speaker0/00.npy")).unwrap()[..200],
        )
        .unwrap();
    };
    let settings = ["model.names=[\"tt-gru\", \"mean-frame\"]", "train.batch=4", "train.epochs.tt-gru=60"];
    let run = Run::rows(&files, &settings);
    let plan = run.plan();
    assert_eq!(
        (plan.clips, plan.classes.as_slice()),
        (40, ["falling", "rising"].map(String::from).as_slice())
    );
    assert!(
        plan.config.contains("\nwidth = 8\n") && plan.config.contains("element = \"f32\""),
        "{}",
        plan.config
    );
    let said: Vec<&str> = plan.left_out.iter().map(|out| out.reason.as_str()).collect();
    let expected =
        ["truncated: 200 bytes", "row 0 holds NaN", "rows of 9 numbers, where those of this dataset have 8"];
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said.iter().zip(expected).all(|(said, expected)| said.contains(expected)), "{said:?}");

    for cell in run.cells() {
        run.finish(&cell, "--threads 2");
        let record = record(&run, &cell);
        let standard = record.standard.unwrap();
        assert_eq!((standard.by.as_str(), standard.mean, standard.constant), ("feature", None, 1));
        if cell.starts_with("tt-gru") {
            assert!(record.value > 0.9, "{cell}: {}", record.value);
        }
        let output = run.export_command(&cell, &run.dir().join("model")).output().unwrap();
        assert!(!output.status.success());
        assert!(stderr(&output).contains("was trained on rows of numbers"), "{}", stderr(&output));
    }
}

#[test]
fn the_test_fold_has_no_part_in_the_standardization() {
    let fitted = |by: &str, louder: &dyn Fn(&str) -> bool| {
        let by = format!("train.standardize={by}");
        let run =
            Run::rows(&|dir| write_rows(dir, louder), &["model.names=[\"gru\"]", "train.epochs.gru=1", &by]);
        let cell = &run.cells()[0];
        run.finish(cell, "");
        let tested = fs::read_to_string(run.folder(cell).join("predictions.csv")).unwrap();
        (record(&run, cell).standard.unwrap(), tested)
    };
    for by in ["all", "feature"] {
        let (quiet, tested) = fitted(by, &|_| false);
        assert_eq!(fitted(by, &|name| tested.contains(name)).0, quiet, "{by}");
        assert_ne!(fitted(by, &|name| !tested.contains(name)).0, quiet, "{by}");
        if let (Some(mean), Some(scale)) = (quiet.mean, quiet.scale) {
            assert!((115.0..135.0).contains(&mean) && (0.0025..0.0035).contains(&scale), "{mean} {scale}");
        }
    }
}
