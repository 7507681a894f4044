//! Compression of a trained dense GRU or LSTM: its input matrix in a format of small cores, then fine-tuned.
//!
//! # Paper
//! Novikov et al. 2015 factorize layers of trained networks by TT-SVD; Lebedev et al. 2014 fine-tune afterwards.

use crate::build::{model_config, size};
use crate::cell::computed;
use crate::data::Clips;
use crate::device::{DeviceName, Opened, Precision, open};
use crate::lease::hold;
use crate::places::{Places, sweep, write};
use crate::record::{CellRecord, CompressionCase, Plan, SingularValue};
use crate::spec::Spec;
use crate::train::{Training, final_value, train};
use crate::usage::peak_rss_bytes;
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tt_core::decomposition::{Alternating, Truncation, TtMatrix, pair_modes, unfolding_singular_values};
use tt_core::network::{FORMATS, FormatShape};
use tt_core::{Error, TtShape};
use tt_rnn::projection::{GateLayout, NetworkProjection};

/// The name of a Tensor Train among formats.
const TRAIN: &str = "tt";

/// What to compress, and into what.
#[derive(Debug)]
pub struct CompressOptions {
    /// Folder of the run, with `plan.json`.
    pub run_dir: PathBuf,
    /// A finished cell of a dense GRU or LSTM.
    pub id: String,
    /// What the input matrix becomes: `tt`, or one of [`crate::spec::FORMAT_NAMES`].
    pub to: String,
    /// One network of cores for all gates, or one per gate.
    pub form: GateLayout,
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
/// `<run>/compress/<cell>.<form>.r<rank>.e<epochs>/case.json` and its provenance to `computed.json` beside
/// it; does nothing if the record exists.
///
/// The fold, seed and recipe are those of the cell; rates are those of the twin. The test fold only
/// scores; nothing is chosen on it.
///
/// # Cost
/// Memory: three copies of the input matrix (177 MB each for a GRU on 160×120×3 frames) for a train, and as much as ten for
/// formats that are decomposed in `f64`.
pub fn compress(options: &CompressOptions) -> Result<()> {
    let layout = options.form.to_string();
    // Trains came first: their records name no format.
    let form = if options.to == TRAIN { layout.clone() } else { format!("{}-{layout}", options.to) };
    let name = format!("{}.{form}.r{}.e{}", options.id, options.rank, options.epochs);
    let folder = options.run_dir.join("compress").join(&name);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let _held = hold(&folder, &name, options.wait)?;
    sweep(&folder)?;
    let path = folder.join("case.json");
    if path.exists() {
        tracing::info!("{name}: done already");
        return Ok(());
    }
    let source = Source::load(options, &layout)?;
    let started = Instant::now();
    let Factorized { start, rel_error, params } = source.factorized()?;
    let factorize_s = started.elapsed().as_secs_f64();
    tracing::info!("{name}: relative error {rel_error:.4}, {params} weights, {factorize_s:.1} s");
    let run = |what: &str, epochs, start| {
        let folder = folder.join(what);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        source.value(options, &folder, &format!("{name} {what}"), epochs, start)
    };
    let factorized = run("factorized", 0, Some(start.as_slice()))?;
    let finetuned = run("finetuned", options.epochs, Some(start.as_slice()))?;
    let scratch = run("scratch", options.epochs, None)?;
    let record = CompressionCase {
        model: source.record.model.clone(),
        form,
        rank: options.rank,
        fold: source.record.fold,
        seed: source.record.seed,
        protocol: source.record.protocol.clone(),
        recipe: source.record.recipe.clone(),
        rel_error,
        params,
        acc_before: source.record.value,
        acc_factorized: factorized,
        acc_finetuned: finetuned,
        acc_scratch: scratch,
        epochs: options.epochs,
        epochs_before: source.record.epochs,
        factorize_s,
        peak_rss_bytes: peak_rss_bytes(),
    };
    let computed = computed(&source.plan, &source.clips)?;
    write(&folder.join("computed.json"), &serde_json::to_vec_pretty(&computed)?)?;
    write(&path, &serde_json::to_vec_pretty(&record)?)
}

/// Singular values of the unfoldings of a finished dense cell's input matrix, of its initial values, and of
/// what training changed; written to `<run>/compress/<cell>.unfoldings/singular_values.csv` unless that
/// exists. Long unfoldings keep the first 64 values, then indices that grow by a twentieth.
///
/// # Cost
/// Three singular value decompositions per unfolding, the largest of `12·8·80 × 80·72` numbers for a GRU on
/// 160×120×3 frames; memory: four copies of the input matrix.
pub fn singular_values(run_dir: &Path, id: &str, wait: Duration) -> Result<()> {
    let name = format!("{id}.unfoldings");
    let folder = run_dir.join("compress").join(&name);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let _held = hold(&folder, &name, wait)?;
    sweep(&folder)?;
    let path = folder.join("singular_values.csv");
    if path.exists() {
        return Ok(());
    }
    let Dense { plan, spec, record, weights } = Dense::load(run_dir, id)?;
    let trained = input_kernel(&weights)?.0.flatten_all()?.to_vec1::<f32>()?; // [M, G N]
    let (modes, outputs) = (&spec.model.input_modes, &spec.model.output_modes);
    let config = model_config(&spec, plan.classes.len())?;
    let mut outputs = outputs.clone();
    outputs[0] *= size(&config, &format!("tt-{}", record.model))?.width / outputs.iter().product::<usize>();
    let initial = {
        let model = tt_rnn::models::find(&record.model)?.build(&config, &Device::Cpu, record.seed)?;
        let kernel = model.parameters().into_iter().find(|parameter| parameter.name == "input.kernel");
        kernel.context("the model has no \"input.kernel\"")?.var.flatten_all()?.to_vec1::<f32>()?
    };
    let joint: Vec<usize> = modes.iter().zip(&outputs).map(|(m, n)| m * n).collect();
    let mut rows = csv::Writer::from_writer(Vec::new());
    for matrix in ["trained", "initial", "change"] {
        let paired = match matrix {
            "trained" => pair_modes(&trained, modes, &outputs)?,
            "initial" => pair_modes(&initial, modes, &outputs)?,
            _ => {
                let change: Vec<f32> = trained.iter().zip(&initial).map(|(now, then)| now - then).collect();
                pair_modes(&change, modes, &outputs)?
            }
        };
        for unfolding in 1..joint.len() {
            let started = Instant::now();
            let values = unfolding_singular_values(&paired, &joint, unfolding)?;
            tracing::info!("{id}: {matrix}, unfolding {unfolding}, {:.0} s", started.elapsed().as_secs_f64());
            let mut rest: f64 = values.iter().map(|value| value * value).sum();
            let all = rest.max(f64::MIN_POSITIVE);
            let mut next = 1;
            for (index, singular_value) in (1..).zip(values) {
                rest = (rest - singular_value * singular_value).max(0.0);
                if index == next {
                    rows.serialize(SingularValue {
                        model: record.model.clone(),
                        matrix: matrix.to_owned(),
                        unfolding,
                        index,
                        singular_value,
                        rel_error: (rest / all).sqrt(),
                    })?;
                    next += 1 + if index < 64 { 0 } else { index / 20 };
                }
            }
        }
    }
    write(&path, &rows.into_inner().map_err(csv::IntoInnerError::into_error)?)
}

/// A finished dense cell.
struct Dense {
    plan: Plan,
    spec: Spec,
    record: CellRecord,
    weights: PathBuf,
}

impl Dense {
    fn load(run_dir: &Path, id: &str) -> Result<Self> {
        let plan_path = run_dir.join("plan.json");
        let plan: Plan = read_json(&plan_path)?;
        let cell_dir = run_dir.join("cells").join(id);
        let record: CellRecord = read_json(&cell_dir.join("cell.json"))?;
        ensure!(
            ["gru", "lstm", "rnn"].contains(&record.model.as_str()),
            "{id}: {} has no dense input matrix to factorize; only gru, lstm and rnn do",
            record.model
        );
        let mut spec = Spec::from_toml(&plan.config, &plan_path.display().to_string())?;
        spec.protocol.kind.clone_from(&record.protocol);
        ensure!(
            spec.model.layers == 1 && !spec.model.bidirectional,
            "{id}: its input matrix is one of several (model.layers = {}, model.bidirectional = {}); compress takes \
             models of one layer that reads forward",
            spec.model.layers,
            spec.model.bidirectional
        );
        let hidden: usize = spec.model.output_modes.iter().product();
        ensure!(
            hidden == spec.model.dense_hidden,
            "{id}: {} dense units do not fit output modes {:?}: train with --set model.dense_hidden={hidden}",
            spec.model.dense_hidden,
            spec.model.output_modes
        );
        Ok(Self { plan, spec, record, weights: cell_dir.join("weights.safetensors") })
    }
}

/// The input matrix `[M, G N]` among the weights of a cell, and the others.
fn input_kernel(path: &Path) -> Result<(Tensor, HashMap<String, Tensor>)> {
    let (mut weights, _) = tt_rnn::checkpoint::load(path)?;
    let kernel = weights.remove("input.kernel");
    Ok((kernel.with_context(|| format!("{}: no \"input.kernel\"", path.display()))?, weights))
}

/// The twin's weights before fine-tuning.
struct Factorized {
    start: Vec<(String, Tensor)>,
    /// Of the input matrix, Frobenius norm.
    rel_error: f64,
    /// Numbers in the cores.
    params: usize,
}

/// What the input matrix of all gates, or that of one, becomes.
enum Small {
    Train(TtShape),
    Network(FormatShape),
}

impl Small {
    /// The form of `[M, H]` for each gate, or of `[M, G·H]`, that the twin of a specification has.
    fn of_twin(spec: &Spec, classes: usize, cell: &str, options: &CompressOptions) -> Result<Self> {
        let config = model_config(spec, classes)?;
        let hidden: usize = spec.model.output_modes.iter().product();
        let all = size(&config, &format!("{}-{cell}", options.to))?.width / hidden;
        if options.to == TRAIN {
            let gates = if options.form == GateLayout::Concatenated { all } else { 1 };
            let (inputs, outputs) = (&spec.model.input_modes, &spec.model.output_modes);
            let shape = TtShape::uniform(inputs, outputs, options.rank, gates)?;
            if shape.ranks().iter().skip(1).rev().skip(1).any(|rank| *rank < options.rank) {
                tracing::info!("{}: rank {} clamped to {:?}", options.id, options.rank, shape.ranks());
            }
            return Ok(Self::Train(shape));
        }
        let format = FORMATS.into_iter().find(|format| format.name() == options.to);
        let format = format.with_context(|| format!("there is no format {:?}", options.to))?;
        Ok(Self::Network(NetworkProjection::shape_of_model(format, &config, all)?.0))
    }

    fn features(&self) -> usize {
        match self {
            Self::Train(shape) => shape.in_features(),
            Self::Network(shape) => shape.network().in_features(),
        }
    }

    fn outputs(&self) -> usize {
        match self {
            Self::Train(shape) => shape.out_features(),
            Self::Network(shape) => shape.network().out_features(),
        }
    }

    /// Weights near a matrix of so many features and outputs, and the relative error.
    fn weights(&self, values: &[f32], seed: u64) -> Result<(Vec<f32>, f64)> {
        let shape = match self {
            Self::Train(shape) => shape,
            Self::Network(shape) => {
                let fit = shape.decompose(values, &Alternating { seed, ..Alternating::default() })?;
                return Ok((fit.found, fit.relative_error));
            }
        };
        let outputs: Vec<usize> = (0..shape.order()).map(|k| shape.output_mode(k)).collect();
        let truncation = Truncation::Ranks(shape.ranks()[1..shape.order()].to_vec());
        let train = TtMatrix::from_dense(values, shape.input_modes(), &outputs, &truncation)?;
        if train.train().ranks() != shape.ranks() {
            let found = train.train().ranks();
            return Err(Error::Shape(format!("the matrix has TT ranks {found:?}: ask for no more")).into());
        }
        let lost = values.iter().zip(train.reconstruct());
        let wrong: f64 = lost.map(|(value, near)| f64::from(value - near).powi(2)).sum();
        Ok((train.to_layer()?.1, (wrong / f64::max(squares(values), f64::MIN_POSITIVE)).sqrt()))
    }
}

fn squares(values: &[f32]) -> f64 {
    values.iter().map(|value| f64::from(*value).powi(2)).sum()
}

/// A finished dense cell and everything needed to train its twin of small cores.
struct Source {
    plan: Plan,
    record: CellRecord,
    weights: PathBuf,
    twin: String,
    spec: Spec,
    clips: Clips,
    small: Small,
    device: Opened,
}

impl Source {
    fn load(options: &CompressOptions, layout: &str) -> Result<Self> {
        let Dense { plan, mut spec, record, weights } = Dense::load(&options.run_dir, &options.id)?;
        let twin = format!("{}-{}", options.to, record.model);
        // The rank asked for is the rank that all have, whatever the run planned.
        spec.model.rank = options.rank;
        spec.model.input_weights = 0;
        spec.model.ranks.clear();
        layout.clone_into(&mut spec.model.gates);
        let small = Small::of_twin(&spec, plan.classes.len(), &record.model, options)?;
        let clips = Clips::open(&Places::of_run(&options.run_dir)?, &spec, &plan)?;
        let device = open(options.device, Precision::F32)?;
        Ok(Self { plan, record, weights, twin, spec, clips, small, device })
    }

    fn factorized(&self) -> Result<Factorized> {
        let (kernel, weights) = input_kernel(&self.weights)?;
        let (features, width) = kernel.dims2()?;
        ensure!(features == self.small.features(), "{features} features, {} expected", self.small.features());
        let block = self.small.outputs();
        let (mut packed, mut wrong, mut all) = (Vec::new(), 0.0, 0.0);
        for from in (0..width).step_by(block) {
            let values = kernel.narrow(1, from, block)?.flatten_all()?.to_vec1::<f32>()?; // [M, block]
            let (weights, relative) = self.small.weights(&values, self.record.seed)?;
            wrong += relative.powi(2) * squares(&values);
            all += squares(&values);
            packed.extend(weights);
        }
        let count = packed.len();
        let mut twin = vec![("input.cores".to_owned(), Tensor::from_vec(packed, count, &Device::Cpu)?)];
        twin.extend(weights);
        let rel_error = (wrong / f64::max(all, f64::MIN_POSITIVE)).sqrt();
        Ok(Factorized { start: twin, rel_error, params: count })
    }

    /// The twin's score on the test fold after this many epochs.
    fn value(
        &self,
        options: &CompressOptions,
        folder: &Path,
        label: &str,
        epochs: usize,
        start: Option<&[(String, Tensor)]>,
    ) -> Result<f64> {
        let mut spec = self.spec.clone();
        spec.train.epochs.insert(self.twin.clone(), epochs);
        let fold = self.clips.fold(&spec, self.record.fold)?;
        if fold.digest != self.record.split_digest {
            bail!("{}: fold {} is not the one it was trained on", options.id, self.record.fold);
        }
        let training = Training {
            spec: &spec,
            model: &self.twin,
            clips: &self.clips,
            train: &fold.train,
            test: &fold.test,
            fold: self.record.fold,
            seed: self.record.seed,
            folder,
            checkpoint_every: options.checkpoint_every,
            label,
            start,
            device: &self.device,
        };
        Ok(final_value(&training, &train(&training)?.probabilities))
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}
