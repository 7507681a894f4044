//! `run.toml`: what a run's rows were computed from.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::device::{CardUse, DeviceName, Precision};
use crate::provenance::Provenance;
use crate::record::{DataKind, FINAL, LeftOut, cell_id};
use crate::record_files::read_toml;
use crate::results::provenance::{machines, note};
use crate::results::rows::{CellKey, OfCell, cell_order};

/// The data and the run of a `run.toml`; of a page, its data and every run that it shows a cell of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// Name of the folder under `results/`.
    pub experiment: String,
    /// Whose rows of the paper stand beside the results.
    pub dataset: String,
    /// One line that says which data this is.
    pub data: String,
    /// Where the clips come from.
    pub data_kind: DataKind,
    /// SHA-256 over the store's manifest.
    pub data_digest: String,
    /// `accuracy` or `map`.
    pub metric: String,
    /// Clips usable.
    pub clips: usize,
    /// Frames of all usable clips.
    pub frames: usize,
    /// Class names in label order.
    pub classes: Vec<String>,
    /// Clips left out, each with its reason.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// Clips kept although their decoder reported errors.
    #[serde(default, skip_serializing_if = "is_none")]
    pub with_errors: usize,
    /// Sets of clips with the same frames.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copies: Vec<Vec<String>>,
    /// The runs: one in a file.
    #[serde(default, rename = "run")]
    pub runs: Vec<Run>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_none(count: &usize) -> bool {
    *count == 0
}

/// One configuration on one kind of device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Name of the folder under `data/runs/` where checkpoints and weights are.
    pub digest: String,
    /// Kind of device.
    #[serde(default)]
    pub device: DeviceName,
    /// Precision of a card's products.
    #[serde(default)]
    pub precision: Precision,
    /// Command lines that computed its cells, `DIR` in the place of paths; empty in old records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// The resolved configuration as TOML.
    pub config: String,
    /// What computed its cells: one entry unless they differ.
    #[serde(default)]
    pub provenance: Vec<Provenance>,
    /// Cells that were planned and are not finished: while there are any, tables and charts say that they are partial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// SHA-256 of `strips-<digest>.csv`; none where no frames are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strips: Option<String>,
    /// The cells of `folds.csv` that it computed.
    #[serde(default, rename = "cell")]
    pub cells: Vec<CellMeta>,
    /// Models that saw every clip, and so have no row in `folds.csv`.
    #[serde(default, rename = "final", skip_serializing_if = "Vec::is_empty")]
    pub finals: Vec<FinalModel>,
}

/// A model that was trained on all clips: its training curve, and no score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalModel {
    /// Name of the model.
    pub model: String,
    /// Name of the recipe.
    pub recipe: String,
    /// Seed of initial values, order and masks.
    pub seed: u64,
    /// Clips that it was trained on: all.
    pub clips: usize,
    /// Weights of the model.
    pub params_total: usize,
    /// Peak resident memory, in bytes.
    pub peak_rss_bytes: u64,
    /// The model's file on the machine that trained it.
    pub file: String,
    /// SHA-256 of that file.
    pub sha256: String,
    /// When it was finished, UTC.
    pub finished: String,
    /// Place in the run's list of provenances.
    pub provenance: usize,
    /// Mean cross-entropy per training clip. epoch after epoch.
    pub train_loss: Vec<f64>,
    /// Score on the training clips as seen while training, epoch after epoch.
    pub train_value: Vec<f64>,
}

/// What a cell leaves beside its row in `folds.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellMeta {
    /// Name of the model.
    pub model: String,
    /// Name of the protocol, which makes the folds.
    pub protocol: String,
    /// Name of the recipe.
    pub recipe: String,
    /// Number of the fold, from 0.
    pub fold: usize,
    /// Seed of initial values, order and masks.
    pub seed: u64,
    /// SHA-256 over the fold's training and test clip names.
    pub split_digest: String,
    /// Weights of the input matrix.
    pub params_input: usize,
    /// Weights of the model.
    pub params_total: usize,
    /// Multiply-accumulates of input projection and recurrence for a frame, forwards; 0 where they were not kept.
    #[serde(default, skip_serializing_if = "is_none")]
    pub macs_per_frame: usize,
    /// Peak resident memory, in bytes.
    pub peak_rss_bytes: u64,
    /// When it was finished, UTC; the day of collecting in records of before it was kept.
    pub finished: String,
    /// Place in the run's list of provenances; none where nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<usize>,
    /// The graphics card that it was trained on; none for the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<CardUse>,
}

impl OfCell for CellMeta {
    fn key(&self) -> CellKey<'_> {
        (&self.model, &self.protocol, &self.recipe, self.fold, self.seed)
    }
}

impl CellMeta {
    /// The cell's name.
    pub(crate) fn id(&self) -> String {
        cell_id(self.key())
    }
}

impl FinalModel {
    /// The name of the cell that trained it.
    pub(crate) fn id(&self) -> String {
        cell_id((&self.model, FINAL, &self.recipe, 0, self.seed))
    }
}

impl Run {
    /// The name of the run's folder: recipe, device, and a digest of data and configuration.
    pub(crate) fn name(&self) -> String {
        let config = self.settings();
        let recipe = config.get("recipe").map_or("", String::as_str).trim_matches('"');
        let device = self.device.kind();
        let precision = match self.precision {
            Precision::F32 => String::new(),
            precision => precision.to_string(),
        };
        let digest = self.digest.get(..8).unwrap_or(&self.digest);
        let words = [recipe, device, &precision, digest];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("-")
    }

    /// Every key of the configuration with its value as TOML writes it: `train.epochs.gru`, `8`.
    pub(crate) fn settings(&self) -> BTreeMap<String, String> {
        fn walk(prefix: &str, table: &toml::Table, into: &mut BTreeMap<String, String>) {
            for (key, value) in table {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                match value {
                    toml::Value::Table(inner) => walk(&name, inner, into),
                    value => drop(into.insert(name, value.to_string())),
                }
            }
        }
        let mut settings = BTreeMap::new();
        walk("", &toml::from_str(&self.config).unwrap_or_default(), &mut settings);
        // One key by one name, so that a run of before its renaming does not seem to differ in it.
        if let Some(backend) = settings.remove("model.rung") {
            settings.insert("model.backend".to_owned(), backend);
        }
        settings
    }

    /// A recorded command as it computes the same today: recipe `scaled` of before 28 November 2026, with rates for kinds
    /// of weights, is called `scaled-single` now.
    pub(crate) fn command_today(&self, command: &str) -> String {
        let settings = self.settings();
        let renamed = settings.contains_key("train.lr_tt")
            && settings.get("recipe").is_some_and(|recipe| recipe == "\"scaled\"");
        if renamed && command.contains(" reproduce ") && !command.contains("--recipe") {
            format!("{command} --recipe scaled-single")
        } else {
            command.to_owned()
        }
    }

    /// When its last cell was finished.
    pub fn finished(&self) -> &str {
        let finals = self.finals.iter().map(|model| model.finished.as_str());
        self.cells.iter().map(|cell| cell.finished.as_str()).chain(finals).max().unwrap_or_default()
    }

    /// The place of a provenance in the list, which gets it if it is new.
    pub(crate) fn place(&mut self, provenance: &Provenance) -> usize {
        note(&mut self.provenance, provenance)
    }

    /// The machines in a line, and the card where cells were trained on one.
    pub(crate) fn machine_line(&self) -> String {
        let mut cards: Vec<String> = self
            .cells
            .iter()
            .filter_map(|cell| cell.card.as_ref())
            .map(|card| format!("; trained on {}, {}", card.name, card.precision))
            .collect();
        cards.sort();
        cards.dedup();
        machines(&self.provenance) + &cards.concat()
    }
}

impl RunFile {
    /// Whether Table 1 and Figure 1 of the paper, which count weights for frames of UCF11, are of such data.
    pub(crate) fn is_of_table_1(&self) -> bool {
        self.dataset == "ucf11"
    }

    /// Reads a `run.toml`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        read_toml(path)
    }

    /// The file's text.
    pub(crate) fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("run.toml cannot be written as TOML")
    }

    /// Cells in the order of the tables, runs by their digest.
    pub(crate) fn sort(&mut self) {
        for run in &mut self.runs {
            run.cells.sort_by(|a, b| cell_order(a.key(), b.key()));
            run.missing.sort();
            run.finals.sort_by(|a, b| (&a.model, a.seed).cmp(&(&b.model, b.seed)));
        }
        self.runs.sort_by(|a, b| a.digest.cmp(&b.digest));
    }

    /// Cells that were planned and are not finished.
    pub(crate) fn missing(&self) -> impl Iterator<Item = &str> {
        self.runs.iter().flat_map(|run| &run.missing).map(String::as_str)
    }

    /// Whether frames of the clips may be shown: every run's configuration must say so.
    pub(crate) fn may_show_frames(&self) -> bool {
        let says_so = |run: &Run| run.settings().get("data.redistributable").is_some_and(|v| v == "true");
        !self.runs.is_empty() && self.runs.iter().all(says_so)
    }

    /// Whether every table, chart and page must say that this is not the dataset it imitates.
    pub(crate) fn is_sample(&self) -> bool {
        self.data_kind == DataKind::Sample
    }
}

#[cfg(test)]
mod tests {
    use crate::results::fixture;

    #[test]
    fn a_command_names_the_recipe_as_it_is_called_today() {
        let mut run = fixture::records("a", &[]).run_file.runs.remove(0);
        let (short, long) = ("cargo xtask reproduce a", "cargo xtask reproduce a --recipe scaled-single");
        assert_eq!(run.command_today(short), short);
        run.config = "recipe = \"scaled\"\n[train]\nlr_tt = 0.001\n".into();
        assert_eq!([short, long].map(|line| run.command_today(line)), [long, long]);
        assert_eq!(run.command_today("cargo xtask collect a"), "cargo xtask collect a");
    }
}
