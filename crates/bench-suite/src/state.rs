//! Exact resume: parameters, moments and position of an unfinished cell.
//!
//! Random streams need no saving: each is named by seed, fold, epoch and step.

use crate::record::CurvePoint;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use tt_rnn::checkpoint;
use tt_rnn::parameters::Optimizer;

/// The position of an unfinished cell.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Finished epochs.
    pub curve: Vec<CurvePoint>,
    /// Steps done in the current epoch.
    pub step: usize,
    /// Sum of the losses of that epoch's clips.
    pub loss_sum: f64,
    /// Probabilities of that epoch's clips, in training order.
    pub scores: Vec<Vec<f64>>,
    /// Wall seconds of that epoch before the last interruption.
    pub wall_s: f64,
    /// Adam's step count.
    updates: u64,
}

impl Progress {
    /// Starts the next epoch.
    pub fn next_epoch(&mut self) {
        *self = Self { curve: std::mem::take(&mut self.curve), ..Self::default() };
    }

    /// The position in words.
    pub fn position(&self) -> String {
        format!("epoch {}, step {}", self.curve.len() + 1, self.step)
    }
}

/// The checkpoint file of a cell.
#[derive(Debug)]
pub struct Snapshot {
    path: PathBuf,
}

impl Snapshot {
    /// The checkpoint in a cell's folder.
    pub fn new(folder: &Path) -> Self {
        Self { path: folder.join("checkpoint.safetensors") }
    }

    /// Writes everything that the next run needs.
    pub fn save(&self, optimizer: &Optimizer, progress: &Progress) -> Result<()> {
        let mut tensors = Vec::new();
        for (parameter, [m, v]) in optimizer.parameters().iter().zip(optimizer.moments()?) {
            tensors.push((parameter.name.clone(), parameter.var.as_tensor().clone()));
            tensors.push((format!("adam.m.{}", parameter.name), m));
            tensors.push((format!("adam.v.{}", parameter.name), v));
        }
        let progress = Progress { updates: optimizer.steps(), ..progress.clone() };
        Ok(checkpoint::save(&self.path, &tensors, &serde_json::to_string(&progress)?)?)
    }

    /// What to do where it cannot be read.
    pub fn unfit(&self) -> String {
        format!("{} cannot be taken up: remove it, and the cell starts anew", self.path.display())
    }

    /// Restores the optimiser and its parameters from the checkpoint, if there is one.
    pub fn load(&self, optimizer: &mut Optimizer) -> Result<Option<Progress>> {
        if !self.path.exists() {
            return Ok(None);
        }
        let (tensors, text) = checkpoint::load(&self.path)?;
        let progress: Progress = serde_json::from_str(&text)
            .with_context(|| format!("{}: not a checkpoint of this program", self.path.display()))?;
        let find = |name: &str| {
            tensors.get(name).with_context(|| format!("{}: {name:?} is missing", self.path.display()))
        };
        let mut moments = Vec::new();
        for parameter in optimizer.parameters() {
            let misfit = || format!("{}: {:?} is of another model", self.path.display(), parameter.name);
            parameter.set(find(&parameter.name)?).with_context(misfit)?;
            let moment = |which: &str| find(&format!("adam.{which}.{}", parameter.name)).cloned();
            moments.push([moment("m")?, moment("v")?]);
        }
        optimizer.restore(progress.updates, &moments)?;
        Ok(Some(progress))
    }

    /// Removes the checkpoint of a finished cell.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}
