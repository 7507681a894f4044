//! A trained model as a folder that others can read: `model.safetensors`, `config.json`.
//!
//! The weights have the names and shapes of `docs/export.md`, the configuration says how frames are made and how the
//! weights are used. Nothing in a folder depends on how a run keeps its state, so that a loader in another language is
//! short (`python/reference/ttrnn_numpy.py`).

mod config;
pub(crate) mod numbers;
mod step;
mod stream;
mod tensors;

pub use crate::projection::Matrix;
pub use config::{Config, FORMAT, FpsRule, FrameWindow, Frames, Layers, Steps};
pub use numbers::Numbers;
pub use stream::Stream;
pub use tensors::from_checkpoint;
pub(crate) use tensors::recurrent;

use crate::models::{FrameChoice, Mode, Model, PackedFrames, probabilities};
use crate::{Error, Result, checkpoint};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The weights of a folder.
pub const WEIGHTS: &str = "model.safetensors";
/// How a folder's weights are used.
pub const CONFIG: &str = "config.json";

/// A folder's tensors by name.
pub type Weights = HashMap<String, Tensor>;

/// A model that was loaded from a folder, and what its folder says of it.
#[derive(Debug)]
pub struct Trained {
    /// How frames are made and what the outputs mean.
    pub config: Config,
    /// The model with its weights.
    pub model: Box<dyn Model>,
    device: Device,
}

/// Loads the model of a folder onto the CPU.
///
/// # Errors
/// [`Error::Folder`] names the file and what does not fit.
///
/// # Examples
/// ```no_run
/// let trained = tt_rnn::load("results/models/ucf11-sample-tt-gru")?;
/// let frames = vec![0_u8; 24 * trained.config.frames.bytes()];
/// let probabilities = trained.predict(&frames)?;
/// assert_eq!(probabilities.len(), trained.config.classes.len());
/// # Ok::<(), tt_rnn::Error>(())
/// ```
pub fn load(dir: impl AsRef<Path>) -> Result<Trained> {
    load_on(dir.as_ref(), &Device::Cpu)
}

/// Loads the model of a folder onto a device.
///
/// # Errors
/// As [`load`].
pub fn load_on(dir: &Path, device: &Device) -> Result<Trained> {
    let (config, weights) = read(dir)?;
    let parameters = tensors::to_checkpoint(&config, &weights).map_err(|reason| misfit(dir, reason))?;
    // Initial values are drawn and overwritten.
    let model = config.build(device)?;
    for parameter in model.parameters() {
        let value = parameters.get(&parameter.name);
        parameter.set(value.ok_or_else(|| misfit(dir, format!("nothing becomes {}", parameter.name)))?)?;
    }
    Ok(Trained { config, model, device: device.clone() })
}

/// The configuration of a folder and its weights by name, in f32; they fit each other.
///
/// # Errors
/// As [`load`].
pub fn read(dir: &Path) -> Result<(Config, Weights)> {
    let config = Config::read(dir)?;
    let path = dir.join(WEIGHTS);
    if !path.is_file() {
        return Err(misfit(&path, "it is not there: a model folder is what cargo xtask export writes"));
    }
    let bytes = std::fs::read(&path).map_err(|reason| Error::File { path: path.clone(), reason })?;
    let weights = numbers::read(&bytes).map_err(|reason| misfit(&path, reason))?;
    tensors::to_checkpoint(&config, &weights).map_err(|reason| misfit(&path, reason))?;
    Ok((config, weights))
}

/// Writes weights and configuration into a folder; a folder without `config.json` is not whole.
///
/// # Errors
/// Weights that do not fit the configuration, and of the system.
pub fn save(dir: &Path, config: &Config, weights: &[(String, Tensor)], kept: Numbers) -> Result<()> {
    let named = weights.iter().cloned().collect();
    let fits = config.check().and_then(|()| tensors::to_checkpoint(config, &named));
    fits.map_err(|reason| misfit(dir, reason))?;
    std::fs::create_dir_all(dir).map_err(|reason| Error::File { path: dir.to_owned(), reason })?;
    let mut stored = Vec::new();
    for (name, tensor) in weights {
        stored.extend(numbers::store(name, tensor, kept)?);
    }
    let named = stored.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let text = serde_json::to_string_pretty(config).map(|text| text + "\n");
    let weights = safetensors::serialize(named, None).map_err(std::io::Error::other);
    let parts = [(WEIGHTS, weights), (CONFIG, text.map(String::into_bytes).map_err(std::io::Error::other))];
    for (name, bytes) in parts {
        let path = dir.join(name);
        let written =
            bytes.and_then(|bytes| checkpoint::settle(&path, |temporary| std::fs::write(temporary, bytes)));
        written.map_err(|reason| Error::File { path, reason })?;
    }
    Ok(())
}

fn misfit(path: &Path, reason: impl Into<String>) -> Error {
    Error::Folder { path: PathBuf::from(path), reason: reason.into() }
}

impl Trained {
    /// Probabilities of the classes `[K]` of one clip, of its frames as the model is to see them.
    ///
    /// # Shapes
    /// `frames` `[T, height, width, 3]`: rows of pixels, red, green and blue each. Where
    /// [`Frames::take`] is a number, T is that number.
    ///
    /// # Errors
    /// [`Error::Size`] for bytes that are no whole frames, or none.
    pub fn predict(&self, frames: &[u8]) -> Result<Vec<f64>> {
        let bytes = self.config.frames.bytes();
        let count = frames.len() / bytes;
        if count == 0 || !frames.len().is_multiple_of(bytes) {
            let expected = count.max(1) * bytes;
            return Err(Error::Size { what: "frames of a clip", expected, found: frames.len() });
        }
        if let FrameChoice::Even(n) | FrameChoice::Drawn(n) = self.model.frames()
            && n != count
        {
            return Err(Error::Size { what: "frames of a clip", expected: n * bytes, found: frames.len() });
        }
        let rows = Tensor::from_slice(frames, (count, bytes), &self.device)?;
        let logits = self.model.logits(&PackedFrames::new(rows, vec![count]), Mode::Evaluate)?;
        Ok(probabilities(&logits, self.config.multi_label)?.swap_remove(0))
    }
}
