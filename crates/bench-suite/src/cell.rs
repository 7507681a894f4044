//! One cell: model × protocol × recipe × fold × seed, in a folder of its own.

use crate::build::model_config;
use crate::data::Clips;
use crate::device::{DeviceName, open};
use crate::features;
use crate::lease::{Held, hold};
use crate::model_file::{self, About};
use crate::places::{Places, write};
use crate::provenance::{Machine, now_utc};
use crate::record::{
    CellRecord, Computed, FINAL, FinalRecord, Origin, Plan, PlannedCell, WEIGHTS, cell_folder, host,
};
use crate::record_files::{csv_of, read_json};
use crate::spec::Spec;
use crate::state::Snapshot;
use crate::stats::mean;
use crate::train::{Outcome, Training, final_value, predictions, train};
use crate::usage::peak_rss_bytes;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tt_rnn::projection::{kernels_for_frames, unit_for_frames};

/// Options of one cell's run.
#[derive(Debug)]
pub struct CellOptions {
    /// Folder of the run, with `plan.json`.
    pub run_dir: PathBuf,
    /// Which cell.
    pub id: String,
    /// Other cells run at the same time: its times are meaningless.
    pub shared: bool,
    /// How long to wait for another process that computes this cell.
    pub wait: Duration,
    /// Shortest time between two checkpoints.
    pub checkpoint_every: Duration,
    /// The device to use, of the kind that the run was planned for.
    pub device: Option<DeviceName>,
}

/// Trains the cell unless its record is there already.
pub fn run(options: &CellOptions) -> Result<()> {
    let folder = cell_folder(&options.run_dir, &options.id);
    let held = hold(&folder, &options.id, options.wait)?;
    if folder.join("cell.json").exists() {
        tracing::info!("{}: done already", options.id);
        // A kill after the record was written leaves the checkpoint.
        return Snapshot::new(&folder).remove();
    }
    let plan_path = options.run_dir.join("plan.json");
    let plan: Plan = read_json(&plan_path)?;
    let planned = plan
        .cells
        .iter()
        .find(|cell| cell.id() == options.id)
        .with_context(|| format!("{} has no cell {}", plan_path.display(), options.id))?;
    let mut spec = Spec::from_toml(&plan.config, &plan_path.display().to_string())?;
    spec.protocol.kind.clone_from(&planned.protocol);
    let clips = Clips::open(&Places::of_run(&options.run_dir)?, &spec, &plan)?;
    let (spec, clips) = features::seen_by(&planned.model, spec, clips)?;
    compute(options, &folder, &spec, &clips, (&plan, planned, &held))
}

fn compute(
    options: &CellOptions,
    folder: &Path,
    spec: &Spec,
    clips: &Clips,
    (plan, planned, held): (&Plan, &PlannedCell, &Held),
) -> Result<()> {
    let kind = plan.device;
    let name = options.device.unwrap_or(kind);
    if name.kind() != kind.kind() {
        bail!("the run was planned for {kind}, not {name}: plan another run for that");
    }
    let device = open(name, plan.precision)?;
    let fold = clips.fold(spec, planned.fold)?;
    let cell = Training {
        spec,
        model: &planned.model,
        clips,
        train: &fold.train,
        test: &fold.test,
        fold: planned.fold,
        seed: planned.seed,
        folder,
        checkpoint_every: options.checkpoint_every,
        label: &options.id,
        start: None,
        device: &device,
    };
    let mut outcome = train(&cell)?;
    held.check(&options.id)?;
    let mut about = About::of(plan, planned);
    if let Some(standard) = &outcome.standard {
        about.config = standard.settle(&Spec::from_toml(&plan.config, "plan.json")?).to_toml();
        outcome.weights.extend(standard.tensors()?);
    }
    model_file::save(&folder.join(WEIGHTS), &outcome.weights, &about)?;
    let (origin, mut computed) = (origin(plan, held), computed(plan, clips)?);
    let config = model_config(spec, clips.classes().len())?;
    let dense = if outcome.card.is_none() { unit_for_frames(&config) } else { None };
    // The same for all cells of a run, so that they share one origin.
    let versions = [("tt-kernels", kernels_for_frames(&config, &device.device)), ("dense-kernels", dense)];
    let named = versions.into_iter().filter_map(|(what, name)| Some((what.to_owned(), name?)));
    computed.by.versions.extend(named);
    if planned.protocol == FINAL {
        let record = FinalRecord {
            model: planned.model.clone(),
            recipe: planned.recipe.clone(),
            seed: planned.seed,
            clips: fold.train.len(),
            params_total: planned.params_total,
            peak_rss_bytes: peak_rss_bytes(),
            curve: outcome.curve,
            origin,
            computed,
        };
        return finish(folder, &options.id, &record, held);
    }
    write_predictions(&cell, &outcome.probabilities)?;
    let record = CellRecord {
        model: planned.model.clone(),
        protocol: planned.protocol.clone(),
        recipe: planned.recipe.clone(),
        fold: planned.fold,
        seed: planned.seed,
        metric: if clips.multi_label() { "map" } else { "accuracy" }.to_owned(),
        value: final_value(&cell, &outcome.probabilities),
        epochs: outcome.curve.len(),
        train_clips: fold.train.len(),
        test_clips: fold.test.len(),
        epoch_s: epoch_s(options, &outcome),
        peak_rss_bytes: peak_rss_bytes(),
        params_input: planned.params_input,
        params_total: planned.params_total,
        saturated_gates: outcome.saturated_gates,
        frames_wait: outcome.frames_wait,
        system: outcome.system,
        standard: outcome.standard.map(|standard| standard.record()),
        split_digest: fold.digest,
        curve: outcome.curve,
        origin: Some(origin),
        computed: Some(computed),
        card: outcome.card,
    };
    finish(folder, &options.id, &record, held)
}

/// Mean seconds of the epochs that had the cores for themselves.
fn epoch_s(options: &CellOptions, outcome: &Outcome) -> Option<f64> {
    if options.shared {
        return None;
    }
    if outcome.alone_s.is_empty() && outcome.curve.len() > 1 {
        tracing::warn!(
            "{}: its threads waited for cores in every epoch, so no seconds of it are recorded: other programs run, or there \
             are fewer cores than --threads",
            options.id
        );
    }
    mean(&outcome.alone_s)
}

fn write_predictions(cell: &Training<'_>, probabilities: &[Vec<f64>]) -> Result<()> {
    write(&cell.folder.join("predictions.csv"), &csv_of(predictions(cell, probabilities))?)
}

fn origin(plan: &Plan, held: &Held) -> Origin {
    Origin {
        run_digest: plan.run_digest.clone(),
        data_digest: plan.data_digest.clone(),
        host: host(),
        restarts: held.restarts(),
    }
}

/// The record is written last and marks the cell as done.
fn finish(folder: &Path, id: &str, record: &impl Serialize, held: &Held) -> Result<()> {
    held.check(id)?;
    write(&folder.join("cell.json"), &serde_json::to_vec_pretty(record)?)?;
    tracing::info!("{id}: finished");
    Snapshot::new(folder).remove()
}

/// The provenance of this computation: the code the run was planned with, this machine, this program, and the
/// libav that decoded the clips.
pub(crate) fn computed(plan: &Plan, clips: &Clips) -> Result<Computed> {
    let program = std::env::current_exe().and_then(|program| crate::files::digest(&program));
    let program = program.context("this program's file cannot be read")?;
    let mut by = plan.code.clone().on(Machine::here(), Some(program));
    // Rows of numbers are read without it.
    if !clips.libav().is_empty() {
        by.versions.insert("libav".to_owned(), clips.libav().to_owned());
    }
    Ok(Computed { finished: now_utc(), by })
}
