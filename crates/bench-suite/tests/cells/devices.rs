//! What runs on cards, as far as a machine without one can run it.

use std::process::Command;

use crate::run::{Run, stderr};

#[test]
fn a_cell_by_candles_operators_learns_what_the_kernels_learn() {
    for model in ["tt-gru", "lstm", "tt-mlp"] {
        let names = format!("model.names=[\"{model}\"]");
        let [kernels, operators] = ["fused", "ops"].map(|backend| {
            let run = Run::new(&[&names, &format!("model.backend=\"{backend}\"")]);
            let cell = run.cells().remove(0);
            run.finish(&cell, "");
            run.outcome(&cell).losses()
        });
        assert!(kernels.len() > 1 && kernels.len() == operators.len());
        for (epoch, (a, b)) in kernels.iter().zip(&operators).enumerate() {
            // Adam divides rounding by rounding where a gradient is nearly zero.
            assert!((a - b).abs() < 2e-3 * a.abs(), "{model}, epoch {}: {a} not {b}", epoch + 1);
        }
    }
}

#[test]
fn a_cell_goes_to_the_kind_of_device_that_it_was_planned_for() {
    let run = Run::new(&[]);
    let output = run.command(&run.cells()[0], "--device cuda").output().unwrap();
    assert!(!output.status.success());
    assert!(stderr(&output).contains("planned for cpu, not cuda"), "{}", stderr(&output));
}

#[test]
fn the_measurement_of_cards_works_without_one() {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bench-suite"))
        .args(["bench-gpu", "--device", "cpu", "--quick", "--rounds", "1", "--case-limit", "600", "--out"])
        .arg(dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let checks = read("checks.csv");
    assert!(checks.lines().count() > 60 && !checks.contains("false"), "{checks}");
    let rows = read("gpu.csv");
    for section in ["layer,forward,", "step,tt-gru ", "step,gru ", "epoch,\"tt-gru,", "epoch,\"gru,"] {
        assert!(rows.contains(section), "{section} is not in {rows}");
    }
    assert!(read("limits.csv").contains("f32 product"));
}
