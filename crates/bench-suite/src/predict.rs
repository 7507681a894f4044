//! Applies a trained model to video files, decoded as its training clips were.

use crate::device::{DeviceName, Precision, open};
use crate::export;
use crate::model_file;
use crate::places::frame_spec;
use anyhow::{Result, bail};
use candle_core::{Device, Tensor};
use serde::Serialize;
use std::path::{Path, PathBuf};
use tt_rnn::folder::{self, FpsRule, Frames};
use tt_rnn::models::{Mode, Model, PackedFrames};
use video_data::FrameSpec;
use video_data::decode::{Decoder, Limits, find_worker};
use video_data::name::escape;
use video_data::rate::Rate;

/// Some clips could not be used; each was reported in place of its prediction.
#[derive(Debug, thiserror::Error)]
#[error("{bad} of {all} clips cannot be used")]
pub struct BadClips {
    bad: usize,
    all: usize,
}

/// What to predict with.
#[derive(Debug)]
pub struct PredictOptions {
    /// The model's file, or the folder that it was exported to.
    pub model: PathBuf,
    /// Video files.
    pub clips: Vec<PathBuf>,
    /// Classes to name per clip.
    pub top: usize,
    /// Where the model runs, whatever it was trained on.
    pub device: DeviceName,
}

/// The answer for one clip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The file as it was given, control characters escaped.
    pub clip: String,
    /// Frames that the model saw.
    pub frames: usize,
    /// The most probable classes first; empty for a clip that cannot be used.
    pub classes: Vec<ClassProbability>,
    /// Why the clip cannot be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One class of an answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassProbability {
    /// Name of the class.
    pub class: String,
    /// Softmax over the classes, or one sigmoid per class where a clip can have several.
    pub probability: f64,
}

/// Predicts clip after clip and shows each answer as it comes.
///
/// # Errors
/// [`BadClips`] after the last clip if some could not be used; any other error ends the call at once.
pub fn predict(options: &PredictOptions, show: &mut dyn FnMut(&Prediction)) -> Result<()> {
    let trained = Trained::load(options)?;
    let mut decoder = Decoder::new(&find_worker()?, Limits::default());
    let mut bad = 0;
    for path in &options.clips {
        let prediction = trained.clip(&mut decoder, path, options.top)?;
        bad += usize::from(prediction.error.is_some());
        show(&prediction);
    }
    if bad > 0 {
        return Err(BadClips { bad, all: options.clips.len() }.into());
    }
    Ok(())
}

/// A model with its final weights.
struct Trained {
    frames: FrameSpec,
    rule: Frames,
    classes: Vec<String>,
    multi_label: bool,
    model: Box<dyn Model>,
    device: Device,
}

impl Trained {
    fn load(options: &PredictOptions) -> Result<Self> {
        let device = open(options.device, Precision::F32)?.device;
        if options.model.is_dir() {
            return Self::of_folder(&options.model, device);
        }
        let (about, spec, model) = model_file::load(&options.model, &device)?;
        let (frames, rule) = (frame_spec(&spec)?, export::frames(&spec, &about.model, model.as_ref())?);
        Ok(Self { frames, rule, classes: about.classes, multi_label: about.multi_label, model, device })
    }

    fn of_folder(dir: &Path, device: Device) -> Result<Self> {
        let folder::Trained { config, model, .. } = folder::load_on(dir, &device)?;
        let rule = config.frames;
        let rate = match rule.fps_rule {
            FpsRule::Exactly => Rate::Exactly(rule.fps),
            FpsRule::AtMost => Rate::AtMost(rule.fps),
        };
        let (width, height) = (rule.width as u32, rule.height as u32);
        Ok(Self {
            frames: FrameSpec::rgb(width, height, rate),
            rule,
            classes: config.classes,
            multi_label: config.multi_label,
            model,
            device,
        })
    }

    fn clip(&self, decoder: &mut Decoder, path: &Path, top: usize) -> Result<Prediction> {
        let name = escape(path);
        let mut bytes = Vec::new();
        let outcome = decoder.decode(path, &self.frames, &mut |frames| {
            bytes.extend_from_slice(frames);
            Ok(())
        })?;
        let refused = outcome.reason.or_else(|| bytes.is_empty().then(|| "it has no frames".to_owned()));
        if refused.is_some() {
            return Ok(Prediction { clip: name, frames: 0, classes: Vec::new(), error: refused });
        }
        let (rows, frames) = self.sample(bytes)?;
        let packed = PackedFrames::new(rows, vec![frames]);
        let scores = self.model.scores(&packed, Mode::Evaluate)?;
        let Some(scores) = scores.probabilities(self.multi_label)?.pop() else {
            bail!("the model gave no scores");
        };
        let classes = ranked(scores, &self.classes, top);
        Ok(Prediction { clip: name, frames, classes, error: None })
    }

    /// The frames that an evaluation of this clip would use: `[T, M]`, and T.
    fn sample(&self, mut bytes: Vec<u8>) -> Result<(Tensor, usize)> {
        let m = self.frames.frame_bytes();
        let kept = self.rule.kept(bytes.len() / m);
        if kept.iter().enumerate().all(|(at, frame)| at == *frame) {
            bytes.truncate(kept.len() * m);
        } else {
            bytes = kept.iter().flat_map(|frame| &bytes[frame * m..(frame + 1) * m]).copied().collect();
        }
        Ok((Tensor::from_vec(bytes, (kept.len(), m), &self.device)?, kept.len()))
    }
}

/// The most probable classes, in falling order; of equals the first.
pub(crate) fn ranked(scores: Vec<f64>, classes: &[String], top: usize) -> Vec<ClassProbability> {
    let mut ranked: Vec<(usize, f64)> = scores.into_iter().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let class =
        |(at, probability): (usize, f64)| ClassProbability { class: classes[at].clone(), probability };
    ranked.into_iter().take(top).map(class).collect()
}
