//! A trained cell as a model folder (weights, configuration, model card), and a folder as an ONNX graph.

mod card;
mod scores;

use crate::build::model_config;
use crate::data::sampling;
use crate::model_file;
use crate::places::{frame_spec, write};
use crate::record::{CellRecord, DataKind, FINAL, FinalRecord, Plan, PlannedCell, WEIGHTS, cell_folder};
use crate::record_files::read_json;
use crate::spec::{ON_FEATURES, Spec};
use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use scores::Score;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tt_rnn::folder::{self, CONFIG, Config, FpsRule, FrameWindow, Frames, Numbers, Steps};
use tt_rnn::models::{FrameChoice, Model};
use tt_rnn::onnx::{self, Form};
use video_data::batch::Window;
use video_data::decode::SCALE_FLAGS;
use video_data::rate::Rate;

/// What to export, and where to.
#[derive(Debug)]
pub struct ExportOptions {
    /// What is exported.
    pub source: Source,
    /// Folder for the model, or a file that ends in `.onnx`.
    pub to: PathBuf,
    /// How an ONNX graph walks through time.
    pub form: Option<Form>,
    /// How weights are kept.
    pub kept: Numbers,
    /// Beside a folder, a file for the graph of one step: what a page runs.
    pub step: Option<PathBuf>,
    /// Whether a model or a graph that is there is replaced.
    pub force: bool,
}

/// Where a model lies.
#[derive(Debug)]
pub enum Source {
    /// A finished cell.
    Cell {
        /// Folder of the run.
        run_dir: PathBuf,
        /// Name of the cell.
        cell: String,
    },
    /// What this module wrote.
    Folder(PathBuf),
}

/// A model that is ready to be written.
struct Opened {
    config: Config,
    about: About,
    weights: Vec<(String, Tensor)>,
}

/// What a folder says of its model's training: the field `trained` of its configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Experiment.
    pub experiment: String,
    /// Which data, in one line.
    pub data: String,
    /// Where the clips came from.
    pub data_kind: DataKind,
    /// SHA-256 over the store's manifest.
    pub data_digest: String,
    /// Recipe.
    pub recipe: String,
    /// Protocol of the split, or `final`.
    pub protocol: String,
    /// Fold that was held back, unless the protocol is `final`.
    pub fold: usize,
    /// Seed.
    pub seed: u64,
    /// Epochs.
    pub epochs: usize,
    /// Training clips.
    pub clips: usize,
    /// The run that it is from.
    pub run_digest: String,
    /// Commit of the program that trained it, where it is known.
    pub commit: Option<String>,
    /// The model's own score, then scores of models that were trained alike.
    pub scores: Vec<Score>,
}

/// Writes a model as a folder, which is whole once it has a `config.json`, or as an ONNX file.
///
/// # Errors
/// A control, a cell that is not finished, a form that the model cannot have, something that is there already.
pub fn export(options: &ExportOptions) -> Result<()> {
    let to = &options.to;
    if to.extension().is_some_and(|ending| ending == "onnx") {
        refuse_file(to, options.force)?;
        let Opened { config, weights, .. } = open(&options.source)?;
        let graph = onnx::export(&config, &weights.into_iter().collect(), options.form, options.kept)?;
        warn(&config, options.form);
        return write(to, &graph);
    }
    if options.form.is_some() {
        bail!("--form is of an ONNX graph: give --to a name that ends in .onnx");
    }
    refuse_folder(options)?;
    let Opened { config, about, weights } = open(&options.source)?;
    // What cannot be written is known before anything is.
    if let Some(file) = &options.step {
        refuse_file(file, options.force)?;
        if config.steps.is_none() {
            bail!(
                "{} has no page: it looks at all frames of a clip at once, and a page has one after the other",
                config.model
            );
        }
        if config.frames.window != FrameWindow::First {
            bail!(
                "{} has no page: of a longer clip it sees {} frames, which only the end of the clip tells",
                config.model,
                config.frames.window
            );
        }
        let weights = weights.iter().cloned().collect();
        let graph = onnx::export(&config, &weights, Some(Form::Step), options.kept)?;
        std::fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
        write(file, &graph)?;
    }
    std::fs::create_dir_all(to).with_context(|| format!("cannot create {}", to.display()))?;
    write(&to.join("README.md"), card::card(&config, &about, &weights).as_bytes())?;
    Ok(folder::save(to, &config, &weights, options.kept)?)
}

/// Names a program that computes something else without a word.
fn warn(config: &Config, form: Option<Form>) {
    // An RNN has no gates.
    let hard = |steps: &Steps| steps.gate_activation == "hard-sigmoid" && steps.cell != "rnn";
    let hard = config.steps.as_ref().is_some_and(hard);
    if form == Some(Form::Operator) && hard {
        tracing::warn!(
            "tract (0.23) does not read the activations of the operators GRU and LSTM and computes other \
             probabilities from this graph without a word; the form step is right there"
        );
    }
}

fn open(source: &Source) -> Result<Opened> {
    match source {
        Source::Cell { run_dir, cell } => open_cell(run_dir, cell),
        Source::Folder(dir) => {
            let (config, weights) = folder::read(dir)?;
            let about = serde_json::from_value(config.trained.clone())
                .with_context(|| format!("{}: what it was trained on is not known", dir.display()))?;
            let mut weights: Vec<_> = weights.into_iter().collect();
            weights.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(Opened { config, about, weights })
        }
    }
}

fn open_cell(run_dir: &Path, name: &str) -> Result<Opened> {
    let plan: Plan = read_json(&run_dir.join("plan.json"))?;
    let cell = plan.cells.iter().find(|cell| cell.id() == name);
    let cell = cell.with_context(|| format!("{} has no cell {name}", run_dir.display()))?;
    let file = cell_folder(run_dir, name).join(WEIGHTS);
    let (header, spec, model) = model_file::load(&file, &Device::Cpu)?;
    let about = trained(run_dir, &plan, cell)?;
    let config = Config::of(
        &header.model,
        &model_config(&spec, header.classes.len())?,
        (header.classes, header.multi_label),
        frames(&spec, &header.model, model.as_ref())?,
        serde_json::to_value(&about)?,
    )?;
    let named = |parameter: tt_rnn::parameters::Parameter| {
        let tensor = parameter.var.as_detached_tensor();
        (parameter.name, tensor)
    };
    let parameters: HashMap<String, Tensor> = model.parameters().into_iter().map(named).collect();
    let weights = folder::from_checkpoint(&config, &parameters)?;
    Ok(Opened { config, about, weights })
}

/// A graph takes the place of another only where that was asked for.
fn refuse_file(to: &Path, force: bool) -> Result<()> {
    if to.exists() && !force {
        bail!("{} is there already: --force replaces it", to.display());
    }
    Ok(())
}

/// A model takes the place of another where that was asked for, never that of the model it is made from: weights that were
/// rounded are lost. It takes the place of nothing else.
fn refuse_folder(ExportOptions { source, to, force, .. }: &ExportOptions) -> Result<()> {
    let mut entries = match std::fs::read_dir(to) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("{} is no folder that can be read", to.display()))?,
    };
    if entries.next().is_some() && !to.join(CONFIG).is_file() {
        bail!("{} holds other files and no model: name a new folder", to.display());
    }
    let place = |dir: &Path| dir.canonicalize().with_context(|| format!("cannot find {}", dir.display()));
    if let Source::Folder(from) = source
        && place(from)? == place(to)?
    {
        bail!("{} is the model that is exported: name another folder", to.display());
    }
    if to.join(CONFIG).is_file() && !force {
        bail!("{} holds a model already: --force replaces it", to.display());
    }
    Ok(())
}

/// Which frames of a clip a trained model is to see, and how they are to be made.
pub(crate) fn frames(spec: &Spec, name: &str, model: &dyn Model) -> Result<Frames> {
    let (data, train) = (&spec.data, &spec.train);
    if name == ON_FEATURES {
        bail!(
            "{name} was trained on features of EfficientNet-Lite0: model folders, predict and pages take models of frames \
             alone so far; its weights are in the run's cell"
        );
    }
    if spec.has_rows() {
        bail!(
            "{} was trained on rows of numbers: model folders, predict and pages take video alone so far; its weights are \
             in the run's cell",
            spec.name
        );
    }
    if train.standardize == "feature" {
        bail!(
            "train.standardize = \"feature\" gave every number of a frame a mean and a scale of its own, and a model has \
             one scale and one shift elsewhere: train it with \"all\""
        );
    }
    let (fps, fps_rule) = match frame_spec(spec)?.rate {
        Rate::Exactly(fps) => (fps, FpsRule::Exactly),
        Rate::AtMost(fps) => (fps, FpsRule::AtMost),
        Rate::Native => bail!("an experiment's clips have a rate"),
    };
    Ok(Frames {
        width: data.width,
        height: data.height,
        fps,
        fps_rule,
        every: data.every,
        max_frames: data.max_frames,
        window: match sampling(spec).window {
            Window::First => FrameWindow::First,
            Window::Even => FrameWindow::Even,
            Window::Random => FrameWindow::Middle,
        },
        take: match model.frames() {
            FrameChoice::All => None,
            FrameChoice::Even(n) | FrameChoice::Drawn(n) => Some(n),
        },
        scaler: SCALE_FLAGS.into(),
        scale: train.pixel_scale as f32,
        shift: train.pixel_shift as f32,
        warm_up_to: train.warm_up_to,
    })
}

fn trained(run_dir: &Path, plan: &Plan, cell: &PlannedCell) -> Result<About> {
    let record = cell_folder(run_dir, &cell.id()).join("cell.json");
    let (epochs, commit) = if cell.protocol == FINAL {
        let record: FinalRecord = read_json(&record)?;
        (record.curve.len(), record.computed.by.commit)
    } else {
        let record: CellRecord = read_json(&record)?;
        (record.epochs, record.computed.and_then(|computed| computed.by.commit))
    };
    Ok(About {
        experiment: plan.experiment.clone(),
        data: plan.data.clone(),
        data_kind: plan.data_kind,
        data_digest: plan.data_digest.clone(),
        recipe: cell.recipe.clone(),
        protocol: cell.protocol.clone(),
        fold: cell.fold,
        seed: cell.seed,
        epochs,
        clips: cell.train_clips,
        run_digest: plan.run_digest.clone(),
        commit,
        scores: scores::scores(run_dir, plan, cell)?,
    })
}
