//! Compression of a trained model: its input matrix, or the kernels of its CNN, in a format of small cores; then fine-tuned.
//!
//! # Paper
//! Novikov et al. 2015 factorize layers of trained networks by TT-SVD; Lebedev et al. 2015 kernels by CP, and fine-tune
//! afterwards.

mod kernels;
mod matrix;
mod unfoldings;

use crate::cell::computed;
use crate::data::Clips;
use crate::device::{DeviceName, Opened, Precision, open};
use crate::lease::hold;
use crate::places::write;
use crate::record::{CellRecord, CompressionCase, Plan, WEIGHTS, case_name, cell_folder, form_name};
use crate::record_files::{csv_of, read_json};
use crate::spec::{ON_FEATURES, Spec};
use crate::train::{Training, final_value, train};
use crate::usage::peak_rss_bytes;
use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use std::path::{Path, PathBuf};
use std::time::Duration;
pub use unfoldings::singular_values;

/// The name of a Tensor Train among formats.
const TRAIN: &str = "tt";

/// What to compress, and into what.
#[derive(Debug)]
pub struct CompressOptions {
    /// Folder of the run, with `plan.json`.
    pub run_dir: PathBuf,
    /// A finished cell: of a dense GRU, LSTM or RNN, or of a model that reads what a CNN sees.
    pub id: String,
    /// What an input matrix becomes: one of [`crate::spec::FORMAT_NAMES`]. What kernels become: `tt` or `cp`.
    pub to: String,
    /// Of an input matrix `concatenated`, one network of cores for all gates, or `separate`, one per gate; of a CNN `kernels`.
    pub form: String,
    /// Inner ranks; reduced to the largest possible ones.
    pub rank: usize,
    /// Epochs of fine-tuning, and of the twin trained from scratch.
    pub epochs: usize,
    /// How long to wait for another process that computes the same case.
    pub wait: Duration,
    /// Shortest time between two checkpoints.
    pub checkpoint_every: Duration,
    /// Where models are trained and scored; the factorization runs on the CPU.
    pub device: DeviceName,
}

/// Factorizes, scores, fine-tunes, and trains the twin from scratch. Writes the record to
/// `<run>/compress/<case>/case.json` ([`case_name`]), beside it `computed.json` with its provenance and, of a CNN, `kernels.csv`; does nothing if the record exists.
///
/// The fold, seed and recipe are those of the cell; rates are those of the twin. The test fold only
/// scores; nothing is chosen on it.
///
/// # Cost
/// Memory: three copies of the input matrix (177 MB each for a GRU on 160×120×3 frames) for a train, and as much as ten for
/// formats that are decomposed in `f64`. Features of a pretrained network are computed again, once for each form and rank,
/// and kept beside those of its own weights.
pub fn compress(options: &CompressOptions) -> Result<()> {
    let CompressOptions { run_dir, id, to, form, rank, epochs, .. } = options;
    let form = form_name(to, form);
    let name = case_name(id, &form, (*rank, *epochs), options.device);
    let folder = run_dir.join("compress").join(&name);
    let _held = hold(&folder, &name, options.wait)?;
    let path = folder.join("case.json");
    if path.exists() {
        tracing::info!("{name}: done already");
        return Ok(());
    }
    let cell = Cell::load(run_dir, id)?;
    let twin = match cell.record.model.as_str() {
        "cnn-gru" | "cnn-lstm" => kernels::of_encoder(&cell, options)?,
        ON_FEATURES => kernels::of_pretrained(&cell, options)?,
        _ => matrix::twin(&cell, options)?,
    };
    let (rel_error, params, factorize_s) = (twin.errors.relative(), twin.params, twin.factorize_s);
    tracing::info!("{name}: relative error {rel_error:.4}, {params} weights, {factorize_s:.1} s");
    let device = open(options.device, Precision::F32)?;
    let run = |what: &str, epochs, start| {
        let folder = folder.join(what);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        twin.value((&cell, options), (&folder, &format!("{name} {what}")), epochs, start, &device)
    };
    let factorized = run("factorized", 0, Some(twin.start.as_slice()))?;
    let finetuned = run("finetuned", *epochs, Some(twin.start.as_slice()))?;
    let scratch = run("scratch", *epochs, None)?;
    let record = CompressionCase {
        model: cell.record.model.clone(),
        form,
        rank: *rank,
        fold: cell.record.fold,
        seed: cell.record.seed,
        protocol: cell.record.protocol.clone(),
        recipe: cell.record.recipe.clone(),
        rel_error,
        params,
        acc_before: cell.record.value,
        acc_factorized: factorized,
        acc_finetuned: finetuned,
        acc_scratch: scratch,
        epochs: *epochs,
        epochs_before: cell.record.epochs,
        factorize_s,
        peak_rss_bytes: peak_rss_bytes(),
    };
    if !twin.kernels.is_empty() {
        let rows = twin.kernels.iter().map(|kernel| kernel.row(&record));
        write(&folder.join("kernels.csv"), &csv_of(rows)?)?;
    }
    let computed = computed(&cell.plan, &twin.clips)?;
    write(&folder.join("computed.json"), &serde_json::to_vec_pretty(&computed)?)?;
    write(&path, &serde_json::to_vec_pretty(&record)?)
}

/// A finished cell.
struct Cell {
    plan: Plan,
    spec: Spec,
    record: CellRecord,
    weights: PathBuf,
}

impl Cell {
    fn load(run_dir: &Path, id: &str) -> Result<Self> {
        let plan_path = run_dir.join("plan.json");
        let plan: Plan = read_json(&plan_path)?;
        let cell_dir = cell_folder(run_dir, id);
        let record: CellRecord = read_json(&cell_dir.join("cell.json"))?;
        let mut spec = Spec::from_toml(&plan.config, &plan_path.display().to_string())?;
        spec.protocol.kind.clone_from(&record.protocol);
        Ok(Self { plan, spec, record, weights: cell_dir.join(WEIGHTS) })
    }
}

/// The model of a cell with small cores in the place of what was factorized, and everything needed to train it.
struct Twin {
    /// The name of the model.
    model: String,
    spec: Spec,
    clips: Clips,
    /// Its weights before fine-tuning.
    start: Vec<(String, Tensor)>,
    errors: Errors,
    /// Numbers in the cores of the input matrix, or in all kernels of the CNN.
    params: usize,
    /// Of a CNN.
    kernels: Vec<kernels::Near>,
    /// Seconds of reading and factorizing.
    factorize_s: f64,
}

impl Twin {
    /// Its score on the test fold after this many epochs.
    fn value(
        &self,
        (cell, options): (&Cell, &CompressOptions),
        (folder, label): (&Path, &str),
        epochs: usize,
        start: Option<&[(String, Tensor)]>,
        device: &Opened,
    ) -> Result<f64> {
        let mut spec = self.spec.clone();
        spec.train.epochs.insert(self.model.clone(), epochs);
        let fold = self.clips.fold(&spec, cell.record.fold)?;
        if fold.digest != cell.record.split_digest {
            bail!("{}: fold {} is not the one it was trained on", options.id, cell.record.fold);
        }
        let training = Training {
            spec: &spec,
            model: &self.model,
            clips: &self.clips,
            train: &fold.train,
            test: &fold.test,
            fold: cell.record.fold,
            seed: cell.record.seed,
            folder,
            checkpoint_every: options.checkpoint_every,
            label,
            start,
            device,
        };
        Ok(final_value(&training, &train(&training)?.probabilities))
    }
}

/// Squares of errors and of what they are relative to (Frobenius norm), added up.
#[derive(Debug, Clone, Copy, Default)]
struct Errors {
    wrong: f64,
    all: f64,
}

impl Errors {
    /// With those of values that are met but for a relative error.
    fn add(&mut self, values: &[f32], relative: f64) {
        let all = squares(values);
        self.wrong += relative.powi(2) * all;
        self.all += all;
    }

    fn relative(self) -> f64 {
        (self.wrong / self.all.max(f64::MIN_POSITIVE)).sqrt()
    }
}

fn squares(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum()
}
