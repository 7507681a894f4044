//! The files of a store and what they hold.

use serde::{Deserialize, Serialize};

use crate::kind::{FrameSpec, Metric, Split};

pub(super) const FRAMES: &str = "frames.bin";
pub(super) const MANIFEST: &str = "manifest.csv";
pub(super) const INFO: &str = "store.json";
pub(super) const JOURNAL: &str = "journal";
/// Version of the files' format.
pub const FORMAT: u32 = 1;

/// What rows were computed from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Derived {
    /// Data digest of the store of the frames.
    pub frames: String,
    /// What computed them, with the digest of its weights.
    pub by: String,
}

/// What the frames of a store are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreInfo {
    /// [`FORMAT`].
    pub format: u32,
    /// The dataset's name.
    pub name: String,
    /// Size and rate of the frames.
    pub spec: FrameSpec,
    /// Class names; labels are indices into it.
    pub classes: Vec<String>,
    /// How the dataset is scored.
    pub metric: Metric,
    /// Whether a clip can have several labels, or none.
    pub multi_label: bool,
    /// Differences from the official dataset, one line each; empty if there are none or there is no official
    /// one.
    pub differences: Vec<String>,
    /// "rendered sample, not …" where the clips were rendered by this project.
    pub sample: Option<String>,
    /// Versions of libav that decoded the clips.
    pub libav: String,
    /// Scaler flags, as the command line spells them.
    pub scale_flags: String,
    /// What the rows were computed from; none where they are frames of clips, or rows of files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived: Option<Derived>,
    /// Frames of all clips together.
    pub frames: u64,
    /// SHA-256 of `manifest.csv`.
    pub manifest_sha256: String,
    /// SHA-256 of what a model can see: names, labels, groups, split and frame digests of the good clips.
    pub data_digest: String,
}

/// One good clip of a store.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredClip {
    /// Path below the dataset's folder, escaped.
    pub name: String,
    /// Indices into the classes, ascending.
    pub labels: Vec<usize>,
    /// Clips of one group share person and scene; empty where nothing is known.
    pub group: String,
    /// The official split, where there is one.
    pub split: Option<Split>,
    /// Number of frames T.
    pub frames: usize,
    /// Frames before this clip in the file.
    pub offset: usize,
    /// Frames per second.
    pub fps: f64,
}
