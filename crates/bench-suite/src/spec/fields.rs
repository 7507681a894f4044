//! The fields of a specification.

use super::names::{FORMAT_NAMES, MODEL_NAMES, ON_FEATURES};
use crate::pretrained::{FEATURES, LITE0};
use crate::record::FINAL;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A complete experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// File stem of the experiment; also its folder under `results/`.
    pub name: String,
    /// What tables and charts call the dataset.
    pub title: String,
    /// `scaled`, `scaled-single` or `paper-code`.
    pub recipe: String,
    /// Where frames come from.
    pub data: DataSpec,
    /// How clips are decoded.
    pub decode: DecodeSpec,
    /// Sizes of the models.
    pub model: ModelSpec,
    /// Folds.
    pub protocol: ProtocolSpec,
    /// Training.
    pub train: TrainSpec,
}

/// Where frames come from and how they are sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Loader: `ucf11`, `hollywood2`, `youtube-celebrities`, `folder` or `rows`.
    pub dataset: String,
    /// Folder under `data/` to use without `--data`.
    pub folder: String,
    /// Experiment to run instead if there is no data and no `--data`; empty for none.
    pub fallback: String,
    /// Layout in which the program renders the folder itself, or empty for real clips.
    pub render: String,
    /// Frames per second after resampling; with loader `folder` an upper bound, never up-sampled.
    pub fps: u32,
    /// Frame width in pixels; of loader `rows` numbers of a row, 0 for what the files have.
    pub width: usize,
    /// Frame height in pixels; of loader `rows` 1.
    pub height: usize,
    /// Of loader `rows` what the files hold, `u8` or `f32`; empty until they are read.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub element: String,
    /// Of loader `folder` what is taken of a clip in the place of its pictures: `logmel`, rows of its sound with `width` bands,
    /// `fps` a second; empty for the pictures.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub audio: String,
    /// Use every k-th frame of the store.
    pub every: usize,
    /// Use at most this many frames of a clip; 0 for all.
    pub max_frames: usize,
    /// Which of a longer clip's: the `first`, evenly spaced ones (`even`), or neighbours from a place that is drawn anew
    /// every epoch (`random`; the middle ones in evaluation).
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub window: String,
    /// Whether frames may be shown in a committed report.
    pub redistributable: bool,
}

/// How clips are decoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodeSpec {
    /// Leave out clips with any decoder error; otherwise they are kept and counted if their frames are
    /// usable.
    pub strict: bool,
}

/// Sizes of the models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Models to run without `--models`.
    pub names: Vec<String>,
    /// Input modes of the train; their product is width · height · 3. Empty: planned.
    pub input_modes: Vec<usize>,
    /// Output modes; their product is the hidden size of the TT models.
    pub output_modes: Vec<usize>,
    /// Inner TT rank.
    pub rank: usize,
    /// `concatenated` (one train for all gates) or `separate` (one per gate).
    pub gates: String,
    /// `glorot1d`, `orthogonal` or `variance-matched`.
    pub core_init: String,
    /// `fused`, `fused-f32`, `vnni`, `amx`, `ops` or `reference`.
    pub backend: String,
    /// Hidden units of the dense models.
    pub dense_hidden: usize,
    /// Layers of the recurrent models, on one another.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub layers: usize,
    /// Whether each layer also reads clips backward, with weights of its own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bidirectional: bool,
    /// What the classifier reads of the uppermost layer's states: `last`, `mean` or `max` over time.
    #[serde(default = "last", skip_serializing_if = "is_last")]
    pub readout: String,
    /// Form of U, from the state to the gates: `dense`, `tt` or another format.
    #[serde(default = "dense", skip_serializing_if = "is_dense")]
    pub recurrent: String,
    /// Inner rank of a U that is not dense; 0 for none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub recurrent_rank: usize,
    /// `hard-sigmoid` or `sigmoid`.
    pub gate_activation: String,
    /// Frames that the MLPs concatenate.
    pub mlp_frames: usize,
    /// Input modes of the MLPs; their product is `mlp_frames` · width · height · 3.
    pub mlp_input_modes: Vec<usize>,
    /// Inner rank of the MLPs.
    pub mlp_rank: usize,
    /// Weights of each factorized input matrix at most: its ranks, a train's too, are then the largest that fit. 0: the
    /// ranks are those given.
    #[serde(default, skip_serializing_if = "is_none")]
    pub input_weights: usize,
    /// Terms of a block-term decomposition.
    #[serde(default = "two", skip_serializing_if = "is_two")]
    pub blocks: usize,
    /// Tree of a hierarchical decomposition over the modes, as `((1 2) (3 4))`. Empty: the balanced one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tree: String,
    /// Weights of the network whose features `frozen-cnn-gru` reads: `lite0`, or the first 12 digits of the SHA-256 of a file
    /// of one's own.
    #[serde(default = "lite0", skip_serializing_if = "is_lite0")]
    pub pretrained: String,
    /// Ranks by format, one for all or all of them (`docs/factorizations.md` has their order); a format without has
    /// `rank`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ranks: BTreeMap<String, Vec<usize>>,
    /// The CNN of models that have one: `small` or `large`.
    #[serde(default = "small", skip_serializing_if = "is_small")]
    pub cnn: String,
    /// Form of its 3×3 kernels: `dense`, `tt` or `cp`.
    #[serde(default = "dense", skip_serializing_if = "is_dense")]
    pub cnn_kernels: String,
    /// Inner rank, or terms, of kernels that are not dense; 0 for none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub cnn_rank: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_none(number: &usize) -> bool {
    *number == 0
}

fn two() -> usize {
    2
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_two(number: &usize) -> bool {
    *number == 2
}

// Keys that came later are left out of a specification's text where they say what was always done: runs that were
// recorded before keep their names.

fn none() -> String {
    "none".to_owned()
}

fn says_none(name: &str) -> bool {
    name == "none"
}

fn small() -> String {
    "small".to_owned()
}

fn is_small(name: &str) -> bool {
    name == "small"
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

fn first() -> String {
    "first".to_owned()
}

fn is_first(name: &str) -> bool {
    name == "first"
}

fn lite0() -> String {
    LITE0.to_owned()
}

fn is_lite0(name: &str) -> bool {
    name == LITE0
}

fn one() -> usize {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_one(count: &usize) -> bool {
    *count == 1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(flag: &bool) -> bool {
    !flag
}

fn dense() -> String {
    "dense".to_owned()
}

fn is_dense(form: &str) -> bool {
    form == "dense"
}

fn last() -> String {
    "last".to_owned()
}

fn is_last(name: &str) -> bool {
    name == "last"
}

/// Folds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolSpec {
    /// `clips`, `groups`, `official`, or `final`, which holds out no clip.
    pub kind: String,
    /// Number of folds k.
    pub folds: usize,
    /// Seed of the split, apart from the seeds of training.
    pub split_seed: u64,
    /// Folds to run per model; a model that is not named runs all.
    pub run_folds: BTreeMap<String, Vec<usize>>,
    /// Share of the training rows held out at their end and not trained on (the Hollywood2 script's 0.15).
    pub hold_out: f64,
    /// Split each training fold again by the same protocol, train on all but the first part and score on that
    /// part, to choose settings. The test fold is not touched.
    pub inner: bool,
}

/// Training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Epochs per model, at most.
    pub epochs: BTreeMap<String, usize>,
    /// End training early once the training loss has settled: once its minimum over the last fifth of the
    /// epochs is less than this share below the minimum before. 0: never.
    pub settled: f64,
    /// Seeds of initial values, shuffles and masks.
    pub seeds: Vec<u64>,
    /// Clips per step.
    pub batch: usize,
    /// Adam's rate: for every weight or, by `lr_rule`, for a matrix with the reference fan-in of 256.
    pub lr: f64,
    /// `fan-in` (a matrix's rate falls with its fan-in) or `single` (one rate for every weight).
    pub lr_rule: String,
    /// Rates of models that have their own in place of `lr`.
    pub model_lr: BTreeMap<String, f64>,
    /// Factor on the rate of the weights that read frames, dense matrix or cores.
    pub input_lr_factor: f64,
    /// Pixel value p becomes `pixel_scale · p + pixel_shift`.
    pub pixel_scale: f64,
    /// See `pixel_scale`.
    pub pixel_shift: f64,
    /// What takes their place, fitted on the training frames of each fold: one mean and deviation for `all` numbers, one for
    /// every number of a frame (`feature`), or `none`.
    #[serde(default = "none", skip_serializing_if = "says_none")]
    pub standardize: String,
    /// What every epoch does anew to the pictures of the training clips: `mirror`, `crop`, both or nothing.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub augment: BTreeSet<String>,
    /// Dropout probability hidden-to-hidden.
    pub recurrent_dropout: f64,
    /// Recurrent masks of dense models: `shared` by all gates or `per-gate`.
    pub dense_masks: String,
    /// Dropout probability of the dense models' input features, a mask per gate.
    pub dense_input_dropout: f64,
    /// Dropout probability of the TT models' input features, one mask for all gates.
    pub tt_input_dropout: f64,
    /// Pad shorter clips at the front to this many frames with steps that see only the bias (the scripts'
    /// padding without masking).
    pub warm_up_to: usize,
    /// Penalty `l2 · sum w²` on the classifier's weights.
    pub classifier_l2: f64,
    /// λ of the penalty on places that `attention-lstm` looks at more, or less, than once; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attention_penalty: f64,
    /// AdamW's decay: every step subtracts this share of every weight, times the weight's rate. 0 for none.
    pub weight_decay: f64,
    /// Bound of the gradients' global norm; 0 for none.
    pub clip_norm: f64,
    /// Evaluate the test fold every this many epochs, for the curve; always after the final epoch.
    pub eval_every: usize,
}

/// What the command line changes.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Recipe, if not the experiment's own.
    pub recipe: Option<String>,
    /// Models to run.
    pub models: Vec<String>,
    /// Folds to run.
    pub folds: Vec<usize>,
    /// Seeds to run.
    pub seeds: Vec<u64>,
    /// Epochs for every model.
    pub epochs: Option<usize>,
    /// Protocol.
    pub protocol: Option<String>,
    /// `key=value` pairs.
    pub set: Vec<String>,
}

impl Spec {
    /// Numbers of a frame M.
    pub fn features(&self) -> usize {
        self.data.width * self.data.height * if self.has_rows() { 1 } else { 3 }
    }

    /// Whether a frame is a row of numbers, and no picture.
    pub fn has_rows(&self) -> bool {
        self.data.dataset == "rows" || self.has_sound()
    }

    /// Whether the rows are those of sound.
    pub fn has_sound(&self) -> bool {
        self.data.audio == "logmel"
    }

    /// Bytes of a stored frame.
    pub fn frame_bytes(&self) -> usize {
        self.features() * if self.data.element == "f32" { 4 } else { 1 }
    }

    /// Bytes of a frame in a batch.
    pub fn batched_bytes(&self) -> usize {
        if self.train.standardize == "feature" { 4 * self.features() } else { self.frame_bytes() }
    }

    /// The specification as a model sees it: `frozen-cnn-gru` reads rows of features, each number standardized on the
    /// training fold.
    #[must_use]
    pub fn seen_by(&self, model: &str) -> Self {
        let mut spec = self.clone();
        if model == ON_FEATURES {
            spec.data.dataset = "rows".into();
            (spec.data.width, spec.data.height) = (FEATURES, 1);
            spec.data.element = "f32".into();
            spec.train.standardize = "feature".into();
        }
        spec
    }

    /// Whether a model reads features of a pretrained network.
    pub fn reads_features(&self) -> bool {
        self.model.names.iter().any(|name| name == ON_FEATURES)
    }

    /// Epochs of a model. Where none are given it has those of its train, as `cp-gru` and `cnn-gru` those of `tt-gru`: a new
    /// key would rename the runs that it is to stand beside.
    pub fn epochs(&self, model: &str) -> usize {
        let of = |model: &str| self.train.epochs.get(model).copied();
        let twin = || of(&format!("tt-{}", model.rsplit_once('-')?.1));
        of(model).or_else(twin).unwrap_or(0)
    }

    /// Adam's rate of a model: its own, or that of all.
    pub fn lr(&self, model: &str) -> f64 {
        self.train.model_lr.get(model).copied().unwrap_or(self.train.lr)
    }

    /// Folds that a model runs.
    pub fn folds(&self, model: &str) -> Vec<usize> {
        if self.protocol.kind == FINAL {
            return vec![0];
        }
        let all = (0..self.fold_count()).collect();
        self.protocol.run_folds.get(model).cloned().unwrap_or(all)
    }

    /// Folds that there are.
    pub(crate) fn fold_count(&self) -> usize {
        if ["official", FINAL].contains(&self.protocol.kind.as_str()) { 1 } else { self.protocol.folds }
    }
}

impl Spec {
    /// A complete specification, no key of which is left out: its keys are the valid keys.
    #[expect(clippy::too_many_lines, reason = "a line a key")]
    pub(super) fn example() -> Self {
        let per_model = || MODEL_NAMES.iter().map(|name| (*name).to_owned());
        Self {
            name: String::new(),
            title: String::new(),
            recipe: String::new(),
            data: DataSpec {
                dataset: String::new(),
                folder: String::new(),
                fallback: String::new(),
                render: String::new(),
                fps: 0,
                width: 0,
                height: 0,
                element: "u8".into(),
                audio: "logmel".into(),
                every: 1,
                max_frames: 0,
                window: String::new(),
                redistributable: false,
            },
            decode: DecodeSpec { strict: false },
            model: ModelSpec {
                names: vec![],
                input_modes: vec![],
                output_modes: vec![],
                rank: 0,
                gates: String::new(),
                core_init: String::new(),
                backend: String::new(),
                dense_hidden: 0,
                layers: 2,
                bidirectional: true,
                readout: String::new(),
                recurrent: String::new(),
                recurrent_rank: 1,
                gate_activation: String::new(),
                mlp_frames: 0,
                mlp_input_modes: vec![],
                mlp_rank: 0,
                // Written out, unlike what they are by default.
                input_weights: 1,
                blocks: 1,
                tree: "1".into(),
                pretrained: String::new(),
                ranks: FORMAT_NAMES.iter().map(|name| ((*name).to_owned(), vec![])).collect(),
                cnn: String::new(),
                cnn_kernels: String::new(),
                cnn_rank: 1,
            },
            protocol: ProtocolSpec {
                kind: String::new(),
                folds: 0,
                split_seed: 0,
                run_folds: per_model().map(|name| (name, vec![])).collect(),
                hold_out: 0.0,
                inner: false,
            },
            train: TrainSpec {
                epochs: per_model().map(|name| (name, 0)).collect(),
                seeds: vec![],
                batch: 0,
                lr: 0.0,
                lr_rule: String::new(),
                model_lr: per_model().map(|name| (name, 0.0)).collect(),
                input_lr_factor: 0.0,
                settled: 0.0,
                pixel_scale: 0.0,
                pixel_shift: 0.0,
                standardize: String::new(),
                augment: BTreeSet::from([String::new()]),
                recurrent_dropout: 0.0,
                dense_masks: String::new(),
                dense_input_dropout: 0.0,
                tt_input_dropout: 0.0,
                warm_up_to: 0,
                classifier_l2: 0.0,
                attention_penalty: 1.0,
                weight_decay: 0.0,
                clip_norm: 0.0,
                eval_every: 0,
            },
        }
    }
}
