//! Models that were trained on all clips: where they are, and how their training went. There is no score to say.

use crate::draw::report::blocks::{Block, Section, words};
use crate::draw::report::table;
use crate::results::{FinalModel, RunFile};
use crate::text::{bytes, score, thousands};

/// Epochs of a curve that are listed.
const EPOCHS: usize = 6;

/// A section with every model; none where none was trained.
pub(super) fn finals(run: &RunFile) -> Option<Section> {
    let models: Vec<&FinalModel> = run.runs.iter().flat_map(|run| &run.finals).collect();
    let text = "Trained on all clips, for use: no clip was left to test them on, so they have no score, only the curve of \
                their training. What to expect of them is what the folds of the same model say. Their files are on the \
                machine that trained them (not in git); `cargo xtask predict --model-file FILE CLIP` uses them.";
    let row = |model: &&FinalModel| {
        vec![
            format!("{}, seed {}", model.model, model.seed),
            model.recipe.clone(),
            model.file.clone(),
            model.sha256.get(..16).unwrap_or(&model.sha256).to_owned(),
            thousands(model.clips),
            model.train_loss.len().to_string(),
            thousands(model.params_total),
            bytes(model.peak_rss_bytes),
        ]
    };
    let head = ["model", "recipe", "file", "SHA-256", "clips", "epochs", "weights", "peak memory"];
    let all = table(&head, 4, models.iter().map(row).collect());
    let curves = models.iter().flat_map(|model| curve(model));
    let head = ["model", "epoch", "training loss", "training score"];
    let blocks = vec![Block::Text { text: words(text) }, all, table(&head, 1, curves.collect())];
    (!models.is_empty()).then(|| Section::new(2, "final", "Models for use", blocks))
}

/// Epochs of a model's curve at even distances, the first and the last among them.
fn curve(model: &FinalModel) -> Vec<Vec<String>> {
    let last = model.train_loss.len().saturating_sub(1);
    let mut epochs: Vec<usize> = (0..EPOCHS).map(|at| at * last / (EPOCHS - 1)).collect();
    epochs.dedup();
    let point = |at: usize| {
        let (loss, value) = (model.train_loss.get(at)?, model.train_value.get(at)?);
        Some(vec![
            format!("{}, seed {}", model.model, model.seed),
            (at + 1).to_string(),
            format!("{loss:.4}"),
            score(*value),
        ])
    };
    epochs.into_iter().filter_map(point).collect()
}
