//! A trained dense cell, or the kernels of a CNN, in small cores.

use std::fs;
use std::process::{Command, Output};

use bench_suite::record::{CompressionCase, KernelCase, SingularValue};
use bench_suite::spec::FORMAT_NAMES;

use crate::run::{Run, stderr};

const GRU: &str = "gru.clips.scaled.f0.s0";

fn compress(run: &Run, cell: &str, form: &str, rank: &str, epochs: &str) -> Output {
    compress_to(run, "tt", (cell, form), rank, epochs)
}

/// The case of kernels, and its kernels.
pub(crate) fn of_kernels(
    run: &Run,
    cell: &str,
    (to, rank, epochs): (&str, &str, &str),
) -> (CompressionCase, Vec<KernelCase>, String) {
    let output = compress_to(run, to, (cell, "kernels"), rank, epochs);
    assert!(output.status.success(), "{to}: {}", stderr(&output));
    let folder = run.dir().join(format!("compress/{cell}.{to}-kernels.r{rank}.e{epochs}"));
    let mut rows = csv::Reader::from_path(folder.join("kernels.csv")).unwrap();
    let rows = rows.deserialize().map(Result::unwrap).collect();
    let case = serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap();
    (case, rows, stderr(&output))
}

pub(crate) fn compress_to(
    run: &Run,
    to: &str,
    (cell, form): (&str, &str),
    rank: &str,
    epochs: &str,
) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-suite"));
    command
        .arg("compress")
        .arg("--run-dir")
        .arg(run.dir())
        .args(["--cell", cell, "--to", to, "--form", form]);
    command.args(["--rank", rank, "--epochs", epochs]).env_remove("RUST_LOG").output().unwrap()
}

fn case(run: &Run, form: &str, rank: &str, epochs: &str) -> CompressionCase {
    let output = compress(run, GRU, form, rank, epochs);
    assert!(output.status.success(), "{}", stderr(&output));
    let path = run.dir().join(format!("compress/{GRU}.{form}.r{rank}.e{epochs}/case.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn at_the_largest_ranks_nothing_is_lost_and_at_small_ones_training_goes_on() {
    let run = Run::new(&[
        "model.names=[\"gru\", \"tt-gru\"]",
        "model.dense_hidden=32",
        "train.epochs.gru=6",
        "train.epochs.tt-gru=1",
    ]);
    for cell in run.cells() {
        run.finish(&cell, "");
    }
    for form in ["concatenated", "separate"] {
        let whole = case(&run, form, "100000", "0");
        assert!(whole.rel_error < 1e-4, "{form}: {}", whole.rel_error);
        assert_eq!(whole.acc_factorized.to_bits(), whole.acc_before.to_bits(), "{form}");
        let small = case(&run, form, "2", "3");
        assert!(small.rel_error > 0.1 && small.rel_error < 1.0 && small.params < whole.params, "{small:?}");
        assert_eq!((small.epochs, small.epochs_before), (3, 6));
        let again = compress(&run, GRU, form, "2", "3");
        assert!(stderr(&again).contains("done already"), "{}", stderr(&again));
        assert_eq!(case(&run, form, "2", "3"), small);
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-suite"));
    command.arg("singular-values").arg("--run-dir").arg(run.dir()).args(["--cell", GRU]);
    let output = command.env_remove("RUST_LOG").output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let mut file =
        csv::Reader::from_path(run.dir().join(format!("compress/{GRU}.unfoldings/singular_values.csv")))
            .unwrap();
    let rows: Vec<SingularValue> = file.deserialize().map(Result::unwrap).collect();
    // TT-SVD cuts one unfolding after the other: its error is at least that of any, and at most all together.
    let cut = |unfolding| {
        let of = |row: &&SingularValue| (&*row.matrix, row.unfolding, row.index) == ("trained", unfolding, 2);
        rows.iter().find(of).unwrap().rel_error
    };
    let (small, parts) = (case(&run, "concatenated", "2", "3").rel_error, [cut(1), cut(2), cut(3)]);
    assert!(parts.iter().all(|part| small > part - 1e-4), "{small} {parts:?}");
    assert!(small < parts.iter().map(|part| part * part).sum::<f64>().sqrt() + 1e-4, "{small} {parts:?}");
    let first = |matrix: &str| rows.iter().find(|row| row.matrix == matrix).unwrap().singular_value;
    assert!(first("trained") <= first("initial") + first("change") + 1e-3);
    let refused = compress(&run, "tt-gru.clips.scaled.f0.s0", "separate", "2", "1");
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("no dense input matrix"), "{}", stderr(&refused));
}

/// A trained matrix in every format: as near as it is said to be, scored, trained on.
#[test]
fn every_format_takes_the_place_of_a_trained_matrix() {
    let run = Run::new(&["model.names=[\"gru\"]", "model.dense_hidden=32", "train.epochs.gru=2"]);
    for cell in run.cells() {
        run.finish(&cell, "");
    }
    let case = |to: &str, form: &str, rank: &str| -> CompressionCase {
        let output = compress_to(&run, to, (GRU, form), rank, "1");
        assert!(output.status.success(), "{to}: {}", stderr(&output));
        let path = run.dir().join(format!("compress/{GRU}.{to}-{form}.r{rank}.e1/case.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    for to in FORMAT_NAMES[1..].iter().copied() {
        let found = case(to, "concatenated", "2");
        assert_eq!((found.form, found.rank), (format!("{to}-concatenated"), 2));
        assert!(found.rel_error > 0.1 && found.rel_error < 1.0, "{to}: {}", found.rel_error);
        for score in [found.acc_factorized, found.acc_finetuned, found.acc_scratch] {
            assert!((0.0..=1.0).contains(&score), "{to}: {score}");
        }
    }
    // Leaves and nodes of the largest ranks hold everything, for all gates or each.
    for form in ["concatenated", "separate"] {
        let whole = case("ht", form, "100000");
        assert!(whole.rel_error < 1e-4, "{form}: {}", whole.rel_error);
        assert_eq!(whole.acc_factorized.to_bits(), whole.acc_before.to_bits(), "{form}");
    }
    let refused = compress_to(&run, "svd", (GRU, "separate"), "2", "1");
    assert!(!refused.status.success() && stderr(&refused).contains("svd-gru"), "{}", stderr(&refused));
}

#[test]
fn kernels_of_a_trained_cnn_become_factors() {
    let run = Run::new(&["model.names=[\"cnn-gru\"]", "train.epochs.cnn-gru=3"]);
    let cell = run.cells()[0].clone();
    run.finish(&cell, "");
    for (to, factorized, numbers) in [("tt", 8, 9_392 + 13_776), ("cp", 8, 9_392 + 6 * 800)] {
        let (case, kernels, _) = of_kernels(&run, &cell, (to, "6", "2"));
        assert_eq!((&*case.form, case.rank, case.epochs_before), (&*format!("{to}-kernels"), 6, 3));
        assert_eq!((kernels.len(), case.params), (factorized, numbers));
        let dense: usize = kernels.iter().map(|kernel| kernel.numbers).sum();
        let small: usize = kernels.iter().map(|kernel| kernel.params).sum();
        assert_eq!(221_360 - dense + small, case.params);
        let errors = || kernels.iter().map(|kernel| kernel.rel_error);
        assert!(errors().all(|error| error > 0.1 && error < 1.0), "{kernels:?}");
        assert!(
            case.rel_error < errors().fold(0.0, f64::max) && case.rel_error > errors().fold(1.0, f64::min)
        );
        for score in [case.acc_factorized, case.acc_finetuned, case.acc_scratch] {
            assert!((0.0..=1.0).contains(&score), "{case:?}");
        }
        let (more, ..) = of_kernels(&run, &cell, (to, "9", "0"));
        assert!(more.rel_error < case.rel_error && more.params > case.params, "{more:?}");
        assert_eq!(more.acc_finetuned.to_bits(), more.acc_factorized.to_bits());
    }
    for (to, form, rank, expected) in [
        ("tt", "separate", "6", "the form is kernels, not separate"),
        ("tr", "kernels", "6", "kernels become tt or cp, not tr"),
        ("cp", "kernels", "5000", "factors of rank 5000 have at least as many numbers"),
    ] {
        let refused = compress_to(&run, to, (&cell, form), rank, "1");
        assert!(!refused.status.success() && stderr(&refused).contains(expected), "{}", stderr(&refused));
    }
}
