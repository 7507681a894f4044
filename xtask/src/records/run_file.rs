//! `run.toml`: what every row of an experiment's tables was computed from.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bench_suite::device::CardUse;
use bench_suite::record::{DataKind, LeftOut};
use serde::{Deserialize, Serialize};

use super::{Machine, OfCell, cell_order};

/// The runs behind an experiment's rows. Each cell belongs to exactly one run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunFile {
    /// Name of the folder under `results/`.
    pub(crate) experiment: String,
    /// Whose rows of the deck stand beside the results.
    pub(crate) dataset: String,
    /// One line that says which data this is.
    pub(crate) data: String,
    /// Where the clips come from.
    pub(crate) data_kind: DataKind,
    /// SHA-256 over the store's manifest.
    pub(crate) data_digest: String,
    /// `accuracy` or `map`.
    pub(crate) metric: String,
    /// Clips usable.
    pub(crate) clips: usize,
    /// Frames of all usable clips.
    pub(crate) frames: usize,
    /// Class names in label order.
    pub(crate) classes: Vec<String>,
    /// Clips left out, each with its reason.
    #[serde(default)]
    pub(crate) left_out: Vec<LeftOut>,
    /// The runs.
    #[serde(default, rename = "run")]
    pub(crate) runs: Vec<Run>,
}

/// One configuration, run at one commit on one machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    /// Name of the folder under `data/runs/` where checkpoints and weights are.
    pub(crate) digest: String,
    /// Day when the records were collected, UTC.
    pub(crate) date: String,
    /// Commit of the tree; none outside git.
    pub(crate) commit: Option<String>,
    /// Whether the tree differed from the commit.
    pub(crate) dirty: bool,
    /// Command lines that computed its cells, `DIR` in the place of paths; empty in old records.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) commands: Vec<String>,
    /// The resolved configuration as TOML.
    pub(crate) config: String,
    /// Where it ran.
    pub(crate) machine: Machine,
    /// Versions of what computed it.
    pub(crate) versions: BTreeMap<String, String>,
    /// The cells of `folds.csv` that it computed.
    #[serde(default, rename = "cell")]
    pub(crate) cells: Vec<CellMeta>,
}

/// What a cell leaves beside its row in `folds.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CellMeta {
    pub(crate) model: String,
    pub(crate) protocol: String,
    pub(crate) recipe: String,
    pub(crate) fold: usize,
    pub(crate) seed: u64,
    pub(crate) split_digest: String,
    pub(crate) params_input: usize,
    pub(crate) params_total: usize,
    pub(crate) peak_rss_bytes: u64,
    /// The graphics card that it was trained on; none for the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) card: Option<CardUse>,
}

impl Run {
    /// The machine in a line, and the card where cells were trained on one.
    pub(crate) fn machine_line(&self) -> String {
        let mut cards: Vec<String> = self
            .cells
            .iter()
            .filter_map(|cell| cell.card.as_ref())
            .map(|card| format!("; trained on {}, {}", card.name, card.precision))
            .collect();
        cards.sort();
        cards.dedup();
        self.machine.line() + &cards.concat()
    }
}

impl RunFile {
    /// Reads a `run.toml`.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// The file's text.
    pub(crate) fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("run.toml cannot be written as TOML")
    }

    /// Cells in the order of the tables, runs by their digest.
    pub(super) fn sort(&mut self) {
        for run in &mut self.runs {
            run.cells.sort_by(|a, b| cell_order(a.key(), b.key()));
        }
        self.runs.sort_by(|a, b| a.digest.cmp(&b.digest));
    }

    /// Whether frames of the clips may be shown: every run's configuration must say so.
    pub(crate) fn may_show_frames(&self) -> bool {
        let says_so = |run: &Run| {
            let config: toml::Table = toml::from_str(&run.config).ok()?;
            config.get("data")?.get("redistributable")?.as_bool()
        };
        !self.runs.is_empty() && self.runs.iter().all(|run| says_so(run) == Some(true))
    }

    /// Whether every table, chart and page must say that this is not the dataset it imitates.
    pub(crate) fn is_sample(&self) -> bool {
        self.data_kind == DataKind::Sample
    }
}
