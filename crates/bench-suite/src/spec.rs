//! Experiments: TOML to a checked, complete specification.
//!
//! A specification is put together from four layers, each overriding the one before: the recipe file
//! (`experiments/recipes/<recipe>.toml`), its `[dataset.<name>]` table, the experiment's own tables with its
//! `[recipe.<recipe>]` table, and `--set key=value`. Every key must exist after that; a key that no field
//! reads is an error that names the nearest valid one.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use toml::{Table, Value};

/// Names of all models, in the order of tables and charts.
pub const MODEL_NAMES: [&str; 7] = ["tt-mlp", "gru", "lstm", "tt-gru", "tt-lstm", "rnn", "tt-rnn"];

/// What is wrong with a specification.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// A file that cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
    /// Text that is not TOML, or a value of the wrong type.
    #[error("{path}: {message}")]
    Parse {
        /// The file or flag.
        path: String,
        /// What the parser says.
        message: String,
    },
    /// A key that nothing reads.
    #[error("unknown key {key:?} in {path}; the nearest valid key is {nearest:?}")]
    UnknownKey {
        /// The file or flag.
        path: String,
        /// The key as written, with its table.
        key: String,
        /// The valid key nearest to it.
        nearest: String,
    },
    /// A name that is not in the list of choices.
    #[error("unknown {what} {name:?}; did you mean {nearest:?}? valid: {choices}")]
    UnknownName {
        /// What was being chosen.
        what: &'static str,
        /// The name given.
        name: String,
        /// The valid name nearest to it.
        nearest: String,
        /// All valid names.
        choices: String,
    },
    /// A value that no run can use.
    #[error("{key} = {value}: {reason}")]
    Value {
        /// The key with its table.
        key: &'static str,
        /// The value.
        value: String,
        /// Why not, and what would be right.
        reason: String,
    },
}

/// Result of this module.
pub type Result<T> = std::result::Result<T, SpecError>;

/// A complete experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// File stem of the experiment; also its folder under `results/`.
    pub name: String,
    /// What tables and charts call the dataset.
    pub title: String,
    /// `scaled` or `paper-code`.
    pub recipe: String,
    /// Where frames come from.
    pub data: DataSpec,
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
    /// Loader: `ucf11`, `hollywood2`, `youtube-celebrities` or `folder`.
    pub dataset: String,
    /// Folder under `data/` that is looked at where `--data` is not given.
    pub folder: String,
    /// Experiment to run instead where there is no data and no `--data`; empty for none.
    pub fallback: String,
    /// Layout in which the program renders the folder itself: a loader's name, or empty for real clips.
    pub render: String,
    /// Frames per second after resampling; with loader `folder` an upper bound, never up-sampled.
    pub fps: u32,
    /// Frame width in pixels.
    pub width: usize,
    /// Frame height in pixels.
    pub height: usize,
    /// Use every k-th frame of the store.
    pub every: usize,
    /// Use at most this many frames of a clip; 0 for all.
    pub max_frames: usize,
    /// Whether frames may be shown in a committed report.
    pub redistributable: bool,
}

/// Sizes of the models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Models to run where `--models` is not given.
    pub names: Vec<String>,
    /// Input modes of the train; their product is width · height · 3.
    pub input_modes: Vec<usize>,
    /// Output modes; their product is the hidden size of the TT models.
    pub output_modes: Vec<usize>,
    /// Inner TT rank.
    pub rank: usize,
    /// `concatenated` (one train for all gates) or `separate` (one per gate).
    pub gates: String,
    /// `glorot1d`, `orthogonal` or `variance-matched`.
    pub core_init: String,
    /// `fused`, `ops` or `reference`.
    pub rung: String,
    /// Hidden units of the dense models.
    pub dense_hidden: usize,
    /// `hard-sigmoid` or `sigmoid`.
    pub gate_activation: String,
    /// Frames that TT-MLP concatenates.
    pub mlp_frames: usize,
    /// Input modes of TT-MLP; their product is `mlp_frames` · width · height · 3.
    pub mlp_input_modes: Vec<usize>,
    /// Inner rank of TT-MLP.
    pub mlp_rank: usize,
}

/// Folds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProtocolSpec {
    /// `clips`, `groups` or `official`.
    pub kind: String,
    /// Number of folds k.
    pub folds: usize,
    /// Seed of the split, apart from the seeds of training.
    pub split_seed: u64,
    /// Folds to run per model; a model that is not named runs all.
    pub run_folds: BTreeMap<String, Vec<usize>>,
    /// Share of the training rows held out at their end and not trained on (the Hollywood2 script's 0.15).
    pub hold_out: f64,
    /// Split each training fold again by the same protocol, train on all but its first part and score on that
    /// part: what chooses settings. The test fold is not touched.
    pub inner: bool,
}

/// Training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Epochs per model.
    pub epochs: BTreeMap<String, usize>,
    /// Seeds of initial values, shuffles and masks.
    pub seeds: Vec<u64>,
    /// Clips per step.
    pub batch: usize,
    /// Adam's rate for models with a Tensor Train.
    pub lr_tt: f64,
    /// Adam's rate for dense models.
    pub lr_dense: f64,
    /// Pixel value p becomes `pixel_scale · p + pixel_shift`.
    pub pixel_scale: f64,
    /// See `pixel_scale`.
    pub pixel_shift: f64,
    /// Dropout probability hidden-to-hidden.
    pub recurrent_dropout: f64,
    /// Recurrent masks of dense models: `shared` by all gates or `per-gate`.
    pub dense_masks: String,
    /// Dropout probability of the dense models' input features, a mask per gate.
    pub dense_input_dropout: f64,
    /// Dropout probability of the TT models' input features, one mask for all gates.
    pub tt_input_dropout: f64,
    /// Clips shorter than this run that many bias-only steps first (front padding without masking).
    pub warm_up_to: usize,
    /// Penalty `l2 · sum w²` on the classifier's weights.
    pub classifier_l2: f64,
    /// Bound of the gradients' global norm; 0 for none.
    pub clip_norm: f64,
    /// Evaluate the test fold every so many epochs (for the curve; the final epoch always).
    pub eval_every: usize,
}

/// What the command line changes.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// Recipe other than the experiment's own.
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
    /// Loads `experiments/<name>.toml` below `root` with its recipe and the command line's changes.
    ///
    /// # Errors
    /// Names the file and key at fault and what would be valid.
    pub fn load(root: &Path, name: &str, overrides: &Overrides) -> Result<Self> {
        let folder = root.join("experiments");
        nearest_or("experiment", name, &stems(&folder)?)?;
        let path = format!("experiments/{name}.toml");
        let mut table = read(&root.join(&path), &path)?;
        let recipes: Table = take_table(&mut table, "recipe_overrides");
        let own = table.get("recipe").and_then(Value::as_str).unwrap_or("scaled").to_owned();
        let recipe = overrides.recipe.clone().unwrap_or(own);
        nearest_or("recipe", &recipe, &stems(&folder.join("recipes"))?)?;
        let recipe_path = format!("experiments/recipes/{recipe}.toml");
        let mut merged = read(&root.join(&recipe_path), &recipe_path)?;
        let mut by_dataset = take_table(&mut merged, "dataset");
        let dataset =
            table.get("data").and_then(|d| d.get("dataset")).and_then(Value::as_str).unwrap_or_default();
        merge(&mut merged, take_table(&mut by_dataset, dataset));
        table.insert("name".into(), name.into());
        table.insert("recipe".into(), recipe.as_str().into());
        merge(&mut merged, table);
        merge(&mut merged, recipes.get(&recipe).and_then(Value::as_table).cloned().unwrap_or_default());
        apply_sets(&mut merged, overrides)?;
        let spec = parse(merged, &path)?;
        spec.check()?;
        Ok(spec)
    }

    /// The specification as TOML, every key written out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }

    /// Reads [`Spec::to_toml`] back.
    ///
    /// # Errors
    /// As [`Spec::load`].
    pub fn from_toml(text: &str, path: &str) -> Result<Self> {
        let table = text
            .parse::<Table>()
            .map_err(|error| SpecError::Parse { path: path.to_owned(), message: error.to_string() })?;
        let spec = parse(table, path)?;
        spec.check()?;
        Ok(spec)
    }

    /// Features of a frame M.
    pub fn features(&self) -> usize {
        self.data.width * self.data.height * 3
    }

    /// Epochs of a model.
    pub fn epochs(&self, model: &str) -> usize {
        self.train.epochs.get(model).copied().unwrap_or(0)
    }

    /// Folds that a model runs.
    pub fn folds(&self, model: &str) -> Vec<usize> {
        let all = if self.protocol.kind == "official" { 1 } else { self.protocol.folds };
        self.protocol.run_folds.get(model).cloned().unwrap_or_else(|| (0..all).collect())
    }

    fn check(&self) -> Result<()> {
        for name in self.model.names.iter().chain(self.train.epochs.keys()) {
            nearest_or("model", name, &MODEL_NAMES)?;
        }
        nearest_or("protocol", &self.protocol.kind, &["clips", "groups", "official"])?;
        nearest_or("dataset", &self.data.dataset, &["ucf11", "hollywood2", "youtube-celebrities", "folder"])?;
        if !self.data.render.is_empty() {
            let layouts = ["ucf11", "hollywood2", "youtube-celebrities", "folder"];
            nearest_or("data.render", &self.data.render, &layouts)?;
        }
        nearest_or("model.gates", &self.model.gates, &["concatenated", "separate"])?;
        nearest_or(
            "model.core_init",
            &self.model.core_init,
            &["glorot1d", "orthogonal", "variance-matched"],
        )?;
        nearest_or("model.rung", &self.model.rung, &["fused", "ops", "reference"])?;
        nearest_or("model.gate_activation", &self.model.gate_activation, &["hard-sigmoid", "sigmoid"])?;
        nearest_or("train.dense_masks", &self.train.dense_masks, &["shared", "per-gate"])?;
        self.check_modes()?;
        self.check_numbers()
    }

    fn check_modes(&self) -> Result<()> {
        let frame = self.features();
        let product = |key, modes: &[usize], expected: usize, of: &str| {
            let found: usize = modes.iter().product();
            if found == expected {
                return Ok(());
            }
            let reason =
                format!("the modes must multiply to {expected} ({of}), but their product is {found}");
            Err(SpecError::Value { key, value: format!("{modes:?}"), reason })
        };
        let size = format!("{} x {} x 3", self.data.width, self.data.height);
        product("model.input_modes", &self.model.input_modes, frame, &size)?;
        let frames = self.model.mlp_frames;
        let of = format!("{frames} frames of {size}");
        product("model.mlp_input_modes", &self.model.mlp_input_modes, frames * frame, &of)?;
        for modes in [&self.model.input_modes, &self.model.mlp_input_modes] {
            if modes.len() != self.model.output_modes.len() {
                return Err(SpecError::Value {
                    key: "model.output_modes",
                    value: format!("{:?}", self.model.output_modes),
                    reason: format!("there must be as many as input modes ({})", modes.len()),
                });
            }
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<()> {
        let at_least_one = [
            ("model.rank", self.model.rank),
            ("model.mlp_rank", self.model.mlp_rank),
            ("model.dense_hidden", self.model.dense_hidden),
            ("model.output_modes", self.model.output_modes.iter().product()),
            ("data.fps", self.data.fps as usize),
            ("data.every", self.data.every),
            ("train.batch", self.train.batch),
            ("train.eval_every", self.train.eval_every),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return Err(SpecError::Value { key, value: "0".into(), reason: "must be at least 1".into() });
            }
        }
        let shares = [
            ("train.recurrent_dropout", self.train.recurrent_dropout),
            ("train.dense_input_dropout", self.train.dense_input_dropout),
            ("train.tt_input_dropout", self.train.tt_input_dropout),
            ("protocol.hold_out", self.protocol.hold_out),
        ];
        for (key, value) in shares {
            if !(0.0..1.0).contains(&value) {
                let reason = "must be at least 0 and below 1".into();
                return Err(SpecError::Value { key, value: value.to_string(), reason });
            }
        }
        let positive = [("train.lr_tt", self.train.lr_tt), ("train.lr_dense", self.train.lr_dense)];
        for (key, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                let reason = "must be a positive number".into();
                return Err(SpecError::Value { key, value: value.to_string(), reason });
            }
        }
        if self.protocol.kind != "official" && self.protocol.folds < 2 {
            let value = self.protocol.folds.to_string();
            return Err(SpecError::Value {
                key: "protocol.folds",
                value,
                reason: "must be at least 2".into(),
            });
        }
        for fold in self.model.names.iter().flat_map(|name| self.folds(name)) {
            let folds = if self.protocol.kind == "official" { 1 } else { self.protocol.folds };
            if fold >= folds {
                let reason = format!("folds are numbered from 0 to {}", folds - 1);
                return Err(SpecError::Value { key: "--folds", value: fold.to_string(), reason });
            }
        }
        for name in &self.model.names {
            if self.epochs(name) == 0 {
                let reason = format!("model {name:?} needs at least 1 epoch");
                return Err(SpecError::Value { key: "train.epochs", value: "0".into(), reason });
            }
        }
        Ok(())
    }
}

/// File stems of the TOML files in a folder, sorted.
///
/// # Errors
/// The folder cannot be read.
pub fn stems(folder: &Path) -> Result<Vec<String>> {
    let failed = |source| SpecError::Read { path: "experiments".into(), source };
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map_err(failed)?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            (path.extension()? == "toml").then(|| path.file_stem()?.to_str().map(str::to_owned))?
        })
        .collect();
    names.sort();
    Ok(names)
}

/// Passes if `name` is one of `choices`; otherwise names the nearest.
///
/// # Errors
/// [`SpecError::UnknownName`].
pub fn nearest_or<S: AsRef<str>>(what: &'static str, name: &str, choices: &[S]) -> Result<()> {
    if choices.iter().any(|choice| choice.as_ref() == name) {
        return Ok(());
    }
    let names: Vec<&str> = choices.iter().map(AsRef::as_ref).collect();
    let nearest = nearest(name, names.iter().copied());
    Err(SpecError::UnknownName { what, name: name.to_owned(), nearest, choices: names.join(", ") })
}

fn nearest<'a>(name: &str, choices: impl Iterator<Item = &'a str>) -> String {
    choices.min_by_key(|choice| strsim::damerau_levenshtein(name, choice)).unwrap_or_default().to_owned()
}

fn read(path: &Path, shown: &str) -> Result<Table> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SpecError::Read { path: shown.to_owned(), source })?;
    text.parse::<Table>().map_err(|e| SpecError::Parse { path: shown.to_owned(), message: e.to_string() })
}

fn take_table(table: &mut Table, key: &str) -> Table {
    match table.remove(key) {
        Some(Value::Table(inner)) => inner,
        _ => Table::new(),
    }
}

/// Lays `over` on `base`, table by table.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

fn apply_sets(table: &mut Table, overrides: &Overrides) -> Result<()> {
    let list = |items: &[u64]| Value::Array(items.iter().map(|i| Value::Integer(*i as i64)).collect());
    for pair in &overrides.set {
        let bad = |message: &str| SpecError::Parse { path: format!("--set {pair}"), message: message.into() };
        let (key, text) = pair.split_once('=').ok_or_else(|| bad("expected key=value"))?;
        let value = format!("v = {text}")
            .parse::<Table>()
            .ok()
            .and_then(|mut parsed| parsed.remove("v"))
            .unwrap_or_else(|| Value::String(text.to_owned()));
        set_path(table, key.trim(), value).ok_or_else(|| bad("the key names no table entry"))?;
    }
    if !overrides.models.is_empty() {
        let names = overrides.models.iter().map(|name| Value::String(name.clone())).collect();
        set_path(table, "model.names", Value::Array(names));
    }
    if !overrides.seeds.is_empty() {
        set_path(table, "train.seeds", list(&overrides.seeds));
    }
    if let Some(protocol) = &overrides.protocol {
        set_path(table, "protocol.kind", Value::String(protocol.clone()));
    }
    for model in MODEL_NAMES {
        if !overrides.folds.is_empty() {
            let folds: Vec<u64> = overrides.folds.iter().map(|fold| *fold as u64).collect();
            set_path(table, &format!("protocol.run_folds.{model}"), list(&folds));
        }
        if let Some(epochs) = overrides.epochs {
            set_path(table, &format!("train.epochs.{model}"), Value::Integer(epochs as i64));
        }
    }
    Ok(())
}

fn set_path(table: &mut Table, path: &str, value: Value) -> Option<()> {
    match path.split_once('.') {
        None => {
            // An integer literal for a number that is a float elsewhere stays usable.
            let value = match (table.get(path), value) {
                (Some(Value::Float(_)), Value::Integer(whole)) => Value::Float(whole as f64),
                (_, value) => value,
            };
            table.insert(path.to_owned(), value);
            Some(())
        }
        Some((head, rest)) => {
            let inner = table.entry(head).or_insert_with(|| Value::Table(Table::new()));
            set_path(inner.as_table_mut()?, rest, value)
        }
    }
}

/// Every valid key, from the fields themselves: a complete specification written out.
fn valid_keys() -> Vec<String> {
    let spec = Spec::example();
    let mut keys = Vec::new();
    if let Ok(Value::Table(table)) = Value::try_from(&spec) {
        flatten(&table, "", &mut keys);
    }
    keys
}

fn flatten(table: &Table, prefix: &str, keys: &mut Vec<String>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(inner, &path, keys),
            _ => keys.push(path),
        }
    }
}

fn parse(table: Table, path: &str) -> Result<Spec> {
    let valid = valid_keys();
    let mut found = Vec::new();
    flatten(&table, "", &mut found);
    if let Some(key) = found.iter().find(|key| !valid.contains(key)) {
        let nearest = nearest(key, valid.iter().map(String::as_str));
        return Err(SpecError::UnknownKey { path: path.to_owned(), key: key.clone(), nearest });
    }
    Value::Table(table).try_into().map_err(|error: toml::de::Error| SpecError::Parse {
        path: path.to_owned(),
        message: error.message().to_owned(),
    })
}

impl Spec {
    /// A complete specification: its keys are the valid keys.
    fn example() -> Self {
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
                every: 1,
                max_frames: 0,
                redistributable: false,
            },
            model: ModelSpec {
                names: vec![],
                input_modes: vec![],
                output_modes: vec![],
                rank: 0,
                gates: String::new(),
                core_init: String::new(),
                rung: String::new(),
                dense_hidden: 0,
                gate_activation: String::new(),
                mlp_frames: 0,
                mlp_input_modes: vec![],
                mlp_rank: 0,
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
                lr_tt: 0.0,
                lr_dense: 0.0,
                pixel_scale: 0.0,
                pixel_shift: 0.0,
                recurrent_dropout: 0.0,
                dense_masks: String::new(),
                dense_input_dropout: 0.0,
                tt_input_dropout: 0.0,
                warm_up_to: 0,
                classifier_l2: 0.0,
                clip_norm: 0.0,
                eval_every: 0,
            },
        }
    }
}
