//! A trained model in one file: its weights, and in the header everything needed to use them elsewhere.

use crate::build::{model_config, set_weights};
use crate::record::{Plan, PlannedCell};
use crate::record_files::read_json;
use crate::spec::Spec;
use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tt_rnn::checkpoint::is_finite;
use tt_rnn::models::Model;
use tt_rnn::parameters::Parameter;

/// Version of [`About`].
const FORMAT: u32 = 1;

/// What the header of a model's file says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Version of this header.
    pub format: u32,
    /// Experiment that it was trained in.
    pub experiment: String,
    /// Which data that was, in one line.
    pub data: String,
    /// Names of the classes in the order of the model's outputs.
    pub classes: Vec<String>,
    /// Whether a clip can have several classes, each with its own probability.
    pub multi_label: bool,
    /// The cell that trained it: model, protocol, recipe, fold and seed.
    pub cell: String,
    /// Model name.
    pub model: String,
    /// Seed of the cell.
    pub seed: u64,
    /// SHA-256 over the store's manifest.
    pub data_digest: String,
    /// The resolved configuration as TOML: frames, modes, ranks.
    pub config: String,
}

impl About {
    /// Describes the model of a planned cell.
    pub fn of(plan: &Plan, cell: &PlannedCell) -> Self {
        Self {
            format: FORMAT,
            experiment: plan.experiment.clone(),
            data: plan.data.clone(),
            classes: plan.classes.clone(),
            multi_label: plan.metric == "map",
            cell: cell.id(),
            model: cell.model.clone(),
            seed: cell.seed,
            data_digest: plan.data_digest.clone(),
            config: plan.config.clone(),
        }
    }

    /// Describes weights in a cell's folder that were written without a header, from the run's plan.
    fn of_run(weights: &Path) -> Result<Self> {
        let cell = weights.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let Some(run_dir) = weights.ancestors().nth(3) else { bail!("it is not in a run's folder") };
        let path = run_dir.join("plan.json");
        let plan: Plan = read_json(&path)?;
        let planned = plan.cells.iter().find(|planned| planned.id() == *cell);
        Ok(Self::of(&plan, planned.with_context(|| format!("{} has no cell {cell}", path.display()))?))
    }
}

/// Writes the file whole or not at all.
///
/// # Errors
/// Names the file.
pub fn save(path: &Path, weights: &[(String, Tensor)], about: &About) -> Result<()> {
    Ok(tt_rnn::checkpoint::save(path, weights, &serde_json::to_string(about)?)?)
}

/// Builds the model of a file on a device.
///
/// # Errors
/// Names the file: it is no model of this program, or of another version.
pub fn load(path: &Path, device: &Device) -> Result<(About, Spec, Box<dyn Model>)> {
    let (weights, header) = tt_rnn::checkpoint::load(path)?;
    let name = || path.display().to_string();
    let about: About = if header.is_empty() {
        About::of_run(path).with_context(|| format!("{} does not describe its model", name()))?
    } else {
        serde_json::from_str(&header)
            .with_context(|| format!("{} is not a model of this version of the program", name()))?
    };
    if about.format != FORMAT {
        bail!("{} is of format {}, and this program reads {FORMAT}", name(), about.format);
    }
    let spec = Spec::from_toml(&about.config, &name())?;
    let config = model_config(&spec, about.classes.len())?;
    let model = tt_rnn::models::find(&about.model)?.build(&config, device, about.seed)?;
    set_weights(model.as_ref(), &weights).with_context(name)?;
    for Parameter { name: parameter, var, .. } in model.parameters() {
        if !is_finite(&var)? {
            bail!("{}: parameter {parameter:?} holds NaN or infinity: its training diverged", name());
        }
    }
    Ok((about, spec, model))
}
