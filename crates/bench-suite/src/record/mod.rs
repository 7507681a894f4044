//! The record schema: one row per number, base units. bench-suite writes it, xtask reads it.

mod compression;

use crate::device_name::{CardUse, DeviceName, Precision};
use crate::provenance::{Code, Provenance};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

pub use compression::{CompressionCase, KernelCase, SingularValue, case_name, form_name};

/// A cell's model, in the cell's folder.
pub const WEIGHTS: &str = "weights.safetensors";

/// What one finished cell (model × protocol × recipe × fold × seed) leaves in its folder as `cell.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellRecord {
    /// A name of [`crate::spec::MODEL_NAMES`].
    pub model: String,
    /// `clips`, `groups` or `official`.
    pub protocol: String,
    /// `scaled`, `scaled-single` or `paper-code`.
    pub recipe: String,
    /// Fold index from 0.
    pub fold: usize,
    /// Seed of every stream of the cell.
    pub seed: u64,
    /// `accuracy` or `map`.
    pub metric: String,
    /// Score of the final epoch on the test fold, in [0, 1].
    pub value: f64,
    /// Epochs trained.
    pub epochs: usize,
    /// Clips in the training fold.
    pub train_clips: usize,
    /// Clips in the test fold.
    pub test_clips: usize,
    /// Mean wall seconds of an epoch, without the first; none unless the cell ran alone on all cores.
    pub epoch_s: Option<f64>,
    /// Peak resident memory of the cell's process in bytes.
    pub peak_rss_bytes: u64,
    /// Trained input-to-hidden weights.
    pub params_input: usize,
    /// All trained weights.
    pub params_total: usize,
    /// Share of the gates' activations below 0.01 or above 0.99 at the initial weights, over the first training
    /// batch of the fold; none for models without gates.
    pub saturated_gates: Option<f64>,
    /// Share of the training time spent waiting for frames, since the last interruption.
    pub frames_wait: Option<f64>,
    /// What the system did while it was trained (not evaluated), without the first epoch; none in old records and where
    /// there is one epoch only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<SystemUse>,
    /// What the numbers of frames were brought to; none where `train.standardize` says none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard: Option<StandardRecord>,
    /// SHA-256 over the fold's training and test clip names.
    pub split_digest: String,
    /// One row per epoch.
    pub curve: Vec<CurvePoint>,
    /// The run it belongs to, and who finished it; none in old records.
    #[serde(default, alias = "provenance")]
    pub origin: Option<Origin>,
    /// What computed it and when; none in old records.
    #[serde(default)]
    pub computed: Option<Computed>,
    /// The graphics card that it was trained on; none for the CPU.
    #[serde(default)]
    pub card: Option<CardUse>,
}

/// Work of the operating system while a cell is trained: memory that is taken from it anew in each step costs as much
/// as a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SystemUse {
    /// Page faults without a read of the disk, per training step.
    pub page_faults_per_step: f64,
    /// The system's share of the CPU time.
    pub share: f64,
}

/// A standardization fitted on the training frames of a fold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StandardRecord {
    /// `all` numbers alike, or every number of a frame (`feature`).
    pub by: String,
    /// Mean of all numbers; none with `feature`, whose means are beside the weights.
    pub mean: Option<f64>,
    /// What `x - mean` is multiplied by; likewise.
    pub scale: Option<f64>,
    /// Numbers that are the same in all training frames: their scale is 1.
    pub constant: usize,
    /// SHA-256 over the means, then the scales, as f32, little-endian.
    pub sha256: String,
}

/// The protocol that holds out no clip: a model for use, without a score.
pub const FINAL: &str = "final";

/// What a finished cell of protocol [`FINAL`] leaves as `cell.json`: with no clip left to test on, it has a
/// training curve and no score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinalRecord {
    /// Model name.
    pub model: String,
    /// Recipe.
    pub recipe: String,
    /// Seed of every stream of the cell.
    pub seed: u64,
    /// Clips trained on: all of them.
    pub clips: usize,
    /// All weights.
    pub params_total: usize,
    /// Peak resident memory of the cell's process in bytes.
    pub peak_rss_bytes: u64,
    /// One row per epoch, none with a test value.
    pub curve: Vec<CurvePoint>,
    /// The run it belongs to, and who finished it.
    pub origin: Origin,
    /// What computed it and when.
    pub computed: Computed,
}

/// The run a cell belongs to. It stays in `data/runs/`, to keep host names private.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Digest of configuration and data: the run's name.
    pub run_digest: String,
    /// SHA-256 over the store's manifest.
    pub data_digest: String,
    /// Host that finished it.
    pub host: String,
    /// How often it was restarted after a kill, a signal or a failure.
    pub restarts: u64,
}

/// The provenance of a cell, recorded as it was computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Computed {
    /// When the cell was finished, `YYYY-MM-DDThh:mm:ssZ`.
    pub finished: String,
    /// By what.
    pub by: Provenance,
}

/// The content of a cell's `lock` file: who computes the cell, or computed it last.
///
/// On one host, the file lock decides. Shared file systems may not propagate locks, so another host's lease
/// counts until it is returned or has not been renewed for [`Lease::STALE_S`] seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Host of the process.
    pub host: String,
    /// Its process id.
    pub pid: u32,
    /// Slurm's job id, `123_4` for an array task; empty without Slurm.
    pub job: String,
    /// Start time in seconds since 1970.
    pub since: u64,
    /// How many processes have started the cell so far.
    pub starts: u64,
    /// Increases every [`Lease::BEAT_S`] seconds.
    pub beat: u64,
    /// Whether it was returned.
    pub ended: bool,
}

impl Lease {
    /// Seconds between beats.
    pub const BEAT_S: u64 = 10;
    /// Another host's lease is void after this many seconds without a beat.
    pub const STALE_S: u64 = 60;
}

/// One epoch of a training curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurvePoint {
    /// Epoch from 1.
    pub epoch: usize,
    /// Mean cross-entropy per training clip.
    pub train_loss: f64,
    /// Score on the training clips as seen while training (with dropout).
    pub train_value: f64,
    /// Score on the test fold, if it was evaluated; never used to choose anything.
    pub test_value: Option<f64>,
    /// Wall seconds of the epoch's training part.
    pub wall_s: f64,
}

/// A row of a cell's `predictions.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictionRow {
    /// Clip name, relative to the dataset folder.
    pub clip: String,
    /// Fold index.
    pub fold: usize,
    /// True class names as [`listed_class`] writes them, joined by `;`.
    pub label: String,
    /// Predicted class (the most probable one), written likewise.
    pub predicted: String,
    /// Probabilities in class order, joined by `;`.
    pub probabilities: String,
    /// Clips of one group share person and scene; empty if unknown, and in old files.
    #[serde(default)]
    pub group: String,
}

/// A class name as an item of a list joined by `;`, with `;` written as `\x3B`. Class names are escaped like
/// file names, with doubled backslashes, so [`class_of`] can read it back.
pub fn listed_class(class: &str) -> String {
    class.replace(';', r"\x3B")
}

/// The class name that [`listed_class`] was given.
pub fn class_of(listed: &str) -> String {
    let mut class = String::with_capacity(listed.len());
    let mut rest = listed;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        class.push_str(before);
        if let Some(after) = escape.strip_prefix(r"\x3B") {
            class.push(';');
            rest = after;
        } else {
            // Skip a doubled backslash as a whole.
            let length = if escape.starts_with(r"\\") { 2 } else { 1 };
            class.push_str(&escape[..length]);
            rest = &escape[length..];
        }
    }
    class + rest
}

/// Whether a label of [`PredictionRow`] contains a class.
pub fn has_class(label: &str, class: &str) -> bool {
    label.split(';').any(|listed| class_of(listed) == class)
}

/// This host's name, as leases hold it.
pub fn host() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// File name of a clip's strip of frames, whatever the clip is called.
pub fn strip_file(clip: &str) -> String {
    let digest = Sha256::digest(clip);
    let first: [u8; 8] = std::array::from_fn(|i| digest[i]);
    format!("{:016x}.jpg", u64::from_be_bytes(first))
}

/// Where the clips of a run come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataKind {
    /// A dataset of the paper, complete.
    Official,
    /// A dataset of the paper with clips missing, accepted by `--allow-partial`.
    Partial,
    /// The sample that this program renders in a dataset's layout.
    Sample,
    /// Any other clips.
    Folder,
}

/// What `bench-suite plan` prints (JSON): the run before anything is trained.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Experiment name; also the folder under `results/` (`ucf11-sample` where the sample is used).
    pub experiment: String,
    /// One line that says which data this is, for people: name, clips, classes; no absolute path.
    pub data: String,
    /// Where the clips come from.
    pub data_kind: DataKind,
    /// Whose rows of the paper stand beside the results: `ucf11`, `hollywood2`, `youtube-celebrities`; any
    /// other name has none.
    pub dataset: String,
    /// Folder of the frame store under `data/stores/`; empty where a dry run found none.
    pub store: String,
    /// Metric of the dataset: `accuracy` or `map`.
    pub metric: String,
    /// Names of the classes in label order.
    pub classes: Vec<String>,
    /// SHA-256 over the resolved configuration and the data digest: the name of the run's folder.
    pub run_digest: String,
    /// SHA-256 over the store's manifest.
    pub data_digest: String,
    /// Usable clips.
    pub clips: usize,
    /// Frames of all usable clips together.
    pub frames: usize,
    /// Bytes of one frame.
    pub frame_bytes: usize,
    /// Clips left out, each with its reason.
    pub left_out: Vec<LeftOut>,
    /// Clips kept although their decoder reported errors.
    #[serde(default)]
    pub with_errors: usize,
    /// Sets of clips with the same frames.
    #[serde(default)]
    pub copies: Vec<Vec<String>>,
    /// The cells in the order they will run.
    pub cells: Vec<PlannedCell>,
    /// The resolved configuration as TOML.
    pub config: String,
    /// Kind of device that the cells are trained on: `cpu`, `cuda` or `metal`.
    #[serde(default)]
    pub device: DeviceName,
    /// Precision of a card's products.
    #[serde(default)]
    pub precision: Precision,
    /// What the engine was built from when the run was planned.
    #[serde(default)]
    pub code: Code,
    /// Names of results (`--name`) that the same run had when it was planned before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_names: Vec<String>,
}

/// A clip that was left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Clip name, relative to the dataset folder.
    pub clip: String,
    /// Why.
    pub reason: String,
}

/// One cell of a plan.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedCell {
    /// Model name.
    pub model: String,
    /// Protocol name.
    pub protocol: String,
    /// Recipe name.
    pub recipe: String,
    /// Fold index.
    pub fold: usize,
    /// Seed.
    pub seed: u64,
    /// Epochs to train.
    pub epochs: usize,
    /// Training clips.
    pub train_clips: usize,
    /// Test clips.
    pub test_clips: usize,
    /// Training frames of one epoch.
    pub train_frames: usize,
    /// Input-to-hidden weights.
    pub params_input: usize,
    /// All weights.
    pub params_total: usize,
    /// Multiply-accumulates of the input projection and the recurrence for one frame, forwards; 0 in plans before
    /// November 28, 2026.
    #[serde(default)]
    pub macs_per_frame: usize,
    /// Expected peak memory in bytes.
    pub expected_rss_bytes: u64,
    /// Expected seconds for the whole cell on this machine's cores.
    pub expected_s: f64,
}

impl PlannedCell {
    /// Folder name of the cell inside the run: the cell's identity.
    pub fn id(&self) -> String {
        cell_id((&self.model, &self.protocol, &self.recipe, self.fold, self.seed))
    }
}

/// A cell's name: model, protocol, recipe, fold and seed.
pub(crate) fn cell_id((model, protocol, recipe, fold, seed): (&str, &str, &str, usize, u64)) -> String {
    format!("{model}.{protocol}.{recipe}.f{fold}.s{seed}")
}

/// The folder of a cell inside its run.
pub fn cell_folder(run_dir: &Path, id: &str) -> PathBuf {
    run_dir.join("cells").join(id)
}

/// A row of `params.csv` (the paper's Figure 1), computed from the built models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParamsRow {
    /// TT rank.
    pub rank: usize,
    /// `fc`, `ttl`, `vanilla-tt-lstm`, `tt-lstm`, `vanilla-tt-gru` or `tt-gru`.
    pub layer: String,
    /// Input-to-hidden weights.
    pub params: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_of_any_name_is_read_back() {
        for class in ["walking", "sit;stand", ";", "<b>|,\"q\"", r"a\\b", r"a\\x3Bb", r"\x0A;\x0A", r"odd\\;"]
        {
            let listed = listed_class(class);
            assert!(!listed.contains(';'), "{listed}");
            assert_eq!(class_of(&listed), class);
            let label = format!("walking;{listed}");
            assert!(has_class(&label, class) && !has_class(&label, "stand"), "{label}");
        }
        // What needs no escape is as it was.
        assert_eq!(listed_class("horse_riding"), "horse_riding");
    }
}
