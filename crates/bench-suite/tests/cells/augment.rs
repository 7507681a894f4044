//! Training on mirrored pictures and parts of them: the same at any number of threads and after any stop, and only training.

use crate::resume;
use crate::run::{Outcome, Run, stderr};

/// A model that reads frames where they are stored, one of a few drawn frames, and one of averages.
const MODELS: &str = r#"model.names=["gru", "tt-gru", "tt-mlp", "pooled-gru", "cnn-lstm"]"#;
const BOTH: &str = r#"train.augment=["mirror", "crop"]"#;

fn run(more: &[&str]) -> Run {
    let epochs =
        ["gru", "tt-gru", "tt-mlp", "pooled-gru", "cnn-lstm"].map(|model| format!("train.epochs.{model}=6"));
    let epochs = epochs.iter().map(String::as_str);
    Run::new(&[MODELS].into_iter().chain(epochs).chain(more.iter().copied()).collect::<Vec<_>>())
}

#[test]
fn a_killed_cell_of_augmented_clips_ends_the_same() {
    resume::check(&run(&[BOTH]));
}

/// With a rate that moves no weight, what a model says of the test clips is what it said of them before.
#[test]
fn only_training_sees_other_pictures() {
    let still = "train.lr=1e-30";
    let runs = [&[still][..], &[still, BOTH], &[still, r#"train.augment=["mirror"]"#]].map(run);
    for cells in runs[0].cells().iter().zip(runs[1].cells()).zip(runs[2].cells()) {
        let ((plain, both), mirrored) = cells;
        let outcomes = [(&runs[0], plain), (&runs[1], &both), (&runs[2], &mirrored)].map(|(run, cell)| {
            run.finish(cell, "--threads 2");
            run.outcome(cell)
        });
        let [plain_losses, both_losses, mirrored_losses] = outcomes.each_ref().map(Outcome::losses);
        assert!(plain_losses != both_losses && both_losses != mirrored_losses, "{plain}");
        let [plain_says, both_says, mirrored_says] = outcomes.each_ref().map(Outcome::predictions);
        assert!(plain_says == both_says && plain_says == mirrored_says, "{plain}");
        // The pictures of every epoch are others.
        assert!(
            mirrored_losses.windows(2).all(|pair| (pair[0] - pair[1]).abs() > 1e-9),
            "{mirrored_losses:?}"
        );
    }
}

#[test]
fn standardized_pictures_are_mirrored_too() {
    resume::check(&Run::new(&[
        "model.names=[\"tt-lstm\"]",
        "train.epochs.tt-lstm=40",
        "train.standardize=feature",
        BOTH,
    ]));
}

#[test]
fn what_has_no_sides_is_refused() {
    let run = Run::new(&["model.names=[\"tt-gru\"]"]);
    for (settings, expected) in [
        (&["train.augment=[\"flip\"]"][..], "unknown train.augment \"flip\""),
        (&["train.augment=mirror"], "train.augment takes a value of type array, not string"),
    ] {
        let output = run.plan_command(settings).output().unwrap();
        assert_eq!(output.status.code(), Some(64));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}
