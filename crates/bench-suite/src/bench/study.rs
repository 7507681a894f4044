//! `bench-suite bench-study`: what UCF11's whole protocol takes on this machine, from measured steps, and a real epoch of
//! each model that checks it.
//!
//! The clips are generated: noise, as many as UCF11 has and as long as the paper says. A step's time follows from its frames
//! alone.

use crate::build::{model_config, size};
use crate::data::{Clips, Fold};
use crate::device::{DeviceName, Opened, Precision, open};
use crate::pace::{Pace, SplitCounts, taken};
use crate::places::{Places, frame_spec, write};
use crate::plan::estimate_split;
use crate::record_files::csv_of;
use crate::spec::{Overrides, Spec};
use crate::train::{Training, train};
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use clap::Args;
use rand::Rng;
use rand::seq::SliceRandom;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tt_core::rng::stream;
use tt_rnn::adam::AdamConfig;
use tt_rnn::frames::{FrameRows, StoredRows};
use tt_rnn::models::{FrameChoice, Mode, Model, PackedFrames, find};
use tt_rnn::parameters::Optimizer;
use tt_rnn::rates::Rates;
use video_data::datasets::Metric;
use video_data::store::{FORMAT, Row as ClipRow, StoreInfo, Writer};
use video_data::{Store, digest};

/// UCF11's classes.
const CLASSES: usize = 11;
/// Its clips.
const CLIPS: usize = 1_600;

/// Options of the study's measurement.
#[derive(Debug, Args)]
pub struct StudyOptions {
    /// CSV file to write.
    #[arg(long)]
    out: PathBuf,
    /// Clips to generate.
    #[arg(long, default_value_t = CLIPS)]
    clips: usize,
    /// Frames of the shortest clip, of one on average, of the longest.
    #[arg(long, value_delimiter = ',', default_value = "204,484,1492")]
    frames: Vec<usize>,
    /// Models, in this order.
    #[arg(long, value_delimiter = ',', default_value = "tt-mlp,tt-gru,tt-lstm,gru,lstm")]
    models: Vec<String>,
    /// Timed steps of each length.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Leave the generated clips for the next time.
    #[arg(long)]
    keep: bool,
}

/// A row of `study.csv`; its columns are described in `docs/formats.md`.
#[derive(Debug, Serialize)]
struct Row {
    model: String,
    shortest_us: Option<f64>,
    mean_us: f64,
    longest_us: Option<f64>,
    test_us: f64,
    step_ms: f64,
    train_clips: usize,
    train_frames: usize,
    expected_epoch_s: f64,
    epoch_s: f64,
    ratio: f64,
    frames_wait: Option<f64>,
    folds: usize,
    epochs: usize,
    hours: f64,
    assumed_hours: f64,
}

/// Seconds of steps by their frames, of an evaluation's frame, and frames of each length.
struct Steps {
    lengths: Vec<usize>,
    batch: usize,
    seconds: Vec<f64>,
    test_frame_s: f64,
}

/// Generates the clips, measures and trains; the file has a row as soon as a model is done.
pub fn study(root: &Path, options: &StudyOptions) -> Result<()> {
    let [shortest, mean, longest] = options.frames[..] else {
        anyhow::bail!(
            "--frames takes three numbers: of the shortest clip, of one on average, of the longest"
        );
    };
    ensure!(0 < shortest && shortest < mean && mean < longest, "--frames must rise from above 0");
    let spec = Spec::load(root, "ucf11", &Overrides::default())?;
    ensure!(options.clips >= spec.protocol.folds, "--clips must be at least {}", spec.protocol.folds);
    let lengths = lengths(options.clips, [shortest, mean, longest]);
    let dir = Places::of_root(root).data.join("bench-study");
    let store = generated(&dir.join("store"), &spec, &lengths)?;
    let clips = Clips::new(store, &spec, false);
    let opened = open(DeviceName::Cpu, Precision::F32)?;
    let whole = estimate_split(&spec, CLIPS, CLIPS * mean);
    let mut rows: Vec<Row> = Vec::with_capacity(options.models.len());
    for model in &options.models {
        let row = one(&spec, model, (&clips, &opened, &dir), options, &whole)?;
        tracing::info!(
            "{model}: an epoch of {} frames took {:.1} s, {:.2} of the {:.1} s that steps alone take; {} folds x {} epochs \
             of UCF11: {:.1} h",
            row.train_frames,
            row.epoch_s,
            row.ratio,
            row.expected_epoch_s,
            row.folds,
            row.epochs,
            row.hours
        );
        rows.push(row);
        write(&options.out, &csv_of(&rows)?)?;
    }
    let sum = |hours: fn(&Row) -> f64| rows.iter().map(hours).sum::<f64>();
    tracing::info!(
        "UCF11's protocol: {:.1} h from the steps measured here; {:.1} h as `--dry-run` assumes",
        sum(|row| row.hours),
        sum(|row| row.assumed_hours)
    );
    if !options.keep {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    Ok(())
}

/// Lengths of clips from the shortest to the longest whose mean is this one, in an order drawn once.
fn lengths(clips: usize, [shortest, mean, longest]: [usize; 3]) -> Vec<usize> {
    let span = (longest - shortest) as f64;
    // The mean of u^p over u from 0 to 1 is 1 / (p + 1).
    let power = span / (mean - shortest) as f64 - 1.0;
    let last = (clips - 1).max(1) as f64;
    let length = |at: usize| shortest + (span * (at as f64 / last).powf(power)).round() as usize;
    let mut lengths: Vec<usize> = (0..clips).map(length).collect();
    lengths.shuffle(&mut stream(0, "bench-study/lengths"));
    lengths
}

/// The store of clips of noise: the one that is there from an earlier time, or a new one.
fn generated(dir: &Path, spec: &Spec, lengths: &[usize]) -> Result<Store> {
    if Store::exists(dir)
        && let Ok(store) = Store::open(dir)
        && store.clips().iter().map(|clip| clip.frames).eq(lengths.iter().copied())
    {
        return Ok(store);
    }
    if dir.exists() {
        std::fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let each = spec.frame_bytes();
    let wanted = lengths.iter().sum::<usize>() as u64 * each as u64;
    let free = crate::files::free_bytes(dir)?;
    ensure!(
        wanted < free,
        "{:.1} GB of clips are to be generated in {}, which has room for {:.1}: make room, or generate fewer with --clips N",
        wanted as f64 * 1e-9,
        dir.display(),
        free as f64 * 1e-9
    );
    tracing::info!(
        "generating {} clips, {:.1} GB, in {}",
        lengths.len(),
        wanted as f64 * 1e-9,
        dir.display()
    );
    let mut writer = Writer::open(dir, "noise", each)?;
    let (mut noise, mut rng) = (Vec::new(), stream(0, "bench-study/frames"));
    for (at, length) in lengths.iter().enumerate() {
        noise.resize(length * each, 0);
        rng.fill_bytes(&mut noise);
        writer.append(&noise)?;
        let clip = format!("{at:04}");
        let frame_digest = digest::of_bytes(clip.as_bytes());
        writer.commit(ClipRow {
            clip,
            labels: vec![at % CLASSES],
            classes: class(at % CLASSES),
            fps: 24.0,
            frame_digest,
            ..ClipRow::default()
        })?;
    }
    let info = StoreInfo {
        format: FORMAT,
        name: "bench-study".into(),
        spec: frame_spec(spec)?,
        classes: (0..CLASSES).map(class).collect(),
        metric: Metric::Accuracy,
        multi_label: false,
        differences: Vec::new(),
        sample: Some("noise, generated to be timed".into()),
        derived: None,
        libav: String::new(),
        scale_flags: String::new(),
        frames: 0,
        manifest_sha256: String::new(),
        data_digest: String::new(),
    };
    Ok(writer.finish(info, Vec::new())?)
}

fn class(number: usize) -> String {
    format!("class {number}")
}

/// Measures a model's steps, then trains it for an epoch.
fn one(
    spec: &Spec,
    model: &str,
    (clips, opened, dir): (&Clips, &Opened, &Path),
    options: &StudyOptions,
    whole: &SplitCounts,
) -> Result<Row> {
    tracing::info!("{model}: measuring steps");
    let steps = Steps::measure(spec, model, clips, &options.frames, options.rounds)?;
    let pace = steps.pace();
    let fold = clips.fold(spec, 0)?;
    let (taken, batch) = (taken(spec, model), spec.train.batch);
    let split = fold.count(clips).of_taken(taken, batch);
    let expected_epoch_s = pace.epoch_s(&split, batch);
    tracing::info!("{model}: training an epoch, {expected_epoch_s:.0} s expected");
    let (epoch_s, frames_wait) = real_epoch(spec, model, (clips, &fold), (opened, dir))?;
    let whole = whole.of_taken(taken, batch);
    let assumed = Pace::assumed(&size(&model_config(spec, CLASSES)?, model)?);
    let hours = |pace: Pace| spec.protocol.folds as f64 * pace.cell_s(&whole, spec, model) / 3600.0;
    let us = |at: usize| steps.us_per_frame(at);
    let (shortest_us, mean_us, longest_us) =
        if steps.lengths.len() == 1 { (None, us(0), None) } else { (Some(us(0)), us(1), Some(us(2))) };
    Ok(Row {
        model: model.to_owned(),
        shortest_us,
        mean_us,
        longest_us,
        test_us: pace.test_frame_s * 1e6,
        step_ms: pace.step_s * 1e3,
        train_clips: split.train_clips,
        train_frames: split.train_frames,
        expected_epoch_s,
        epoch_s,
        ratio: epoch_s / expected_epoch_s,
        frames_wait,
        folds: spec.protocol.folds,
        epochs: spec.epochs(model),
        hours: hours(pace),
        assumed_hours: hours(assumed),
    })
}

/// Wall seconds of the first epoch of fold 0, and the share of it spent waiting for frames.
fn real_epoch(
    spec: &Spec,
    model: &str,
    (clips, fold): (&Clips, &Fold),
    (device, dir): (&Opened, &Path),
) -> Result<(f64, Option<f64>)> {
    // Without what an interrupted epoch left: it would go on from there.
    let folder = dir.join("cell");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut spec = spec.clone();
    spec.train.epochs.insert(model.to_owned(), 1);
    let outcome = train(&Training {
        spec: &spec,
        model,
        clips,
        train: &fold.train,
        test: &[],
        fold: 0,
        seed: 0,
        folder: &folder,
        checkpoint_every: Duration::MAX,
        label: model,
        start: None,
        device,
    })?;
    let epoch = outcome.curve.first().context("no epoch was trained")?;
    Ok((epoch.wall_s, outcome.frames_wait))
}

impl Steps {
    /// Least seconds of whole training steps (frames at hand, loss, gradients, update) and of an evaluation.
    fn measure(spec: &Spec, name: &str, clips: &Clips, frames: &[usize], rounds: usize) -> Result<Self> {
        let model = find(name)?.build(&model_config(spec, CLASSES)?, &Device::Cpu, 0)?;
        let mut optimizer = Optimizer::new(AdamConfig::default(), Rates::single(1e-5), model.parameters())?;
        let batch = spec.train.batch;
        let lengths = match model.frames() {
            FrameChoice::All => frames.to_vec(),
            FrameChoice::Even(taken) | FrameChoice::Drawn(taken) => vec![taken],
        };
        let labels: Vec<u32> = (0..batch).map(|clip| (clip % CLASSES) as u32).collect();
        let labels = Tensor::from_vec(labels, batch, &Device::Cpu)?;
        let mut seconds = Vec::with_capacity(lengths.len());
        for length in &lengths {
            let packed = packed(&*model, clips, *length, batch)?;
            seconds.push(least(rounds, || {
                let logits = model.logits(&packed, Mode::Train(&mut stream(0, "bench-study/masks")))?;
                let loss = candle_nn::loss::cross_entropy(&logits, &labels)?;
                Ok(optimizer.step(&loss.backward()?)?)
            })?);
        }
        let length = lengths[lengths.len() / 2];
        let packed = packed(&*model, clips, length, batch)?;
        let evaluation = least(rounds, || {
            model.logits(&packed, Mode::Evaluate)?;
            Ok(())
        })?;
        Ok(Self { test_frame_s: evaluation / (batch * length) as f64, lengths, batch, seconds })
    }

    fn pace(&self) -> Pace {
        let frames = self.lengths.iter().map(|length| (self.batch * length) as f64);
        let steps: Vec<(f64, f64)> = frames.zip(self.seconds.iter().copied()).collect();
        Pace::measured(&steps, self.test_frame_s)
    }

    fn us_per_frame(&self, at: usize) -> f64 {
        self.seconds[at] * 1e6 / (self.batch * self.lengths[at]) as f64
    }
}

/// The least wall seconds of so many runs, after one that is not timed; short ones are run more often.
fn least(rounds: usize, mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    run()?;
    let (mut least, started, mut runs) = (f64::INFINITY, Instant::now(), 0);
    while runs < rounds || (runs < 10 * rounds && started.elapsed() < Duration::from_secs(1)) {
        let start = Instant::now();
        run()?;
        least = least.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    Ok(least)
}

/// A batch of clips of one length, of frames that lie in the store.
fn packed(model: &dyn Model, clips: &Clips, length: usize, batch: usize) -> Result<PackedFrames> {
    let memory = clips.memory();
    let each = memory.frame_bytes();
    let all = memory.info().frames as usize;
    let starts = (0..batch * length).map(|frame| frame % all * each).collect();
    let rows = FrameRows::from(StoredRows::new(memory, starts, each)?);
    let rows = if model.reads_stored() { rows } else { rows.tensor()?.into() };
    Ok(PackedFrames::new(rows, vec![length; batch]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_clips_are_as_long_as_the_paper_says() {
        for (clips, frames) in [(CLIPS, [204, 484, 1492]), (40, [8, 16, 40])] {
            let lengths = lengths(clips, frames);
            let mean = lengths.iter().sum::<usize>() as f64 / clips as f64;
            assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&frames[0]), Some(&frames[2])));
            assert!((mean / frames[1] as f64 - 1.0).abs() < 0.03, "{mean} of {frames:?}");
            assert!(!lengths.is_sorted());
        }
    }

    /// All five models in small: rows as they are promised, and nothing left behind.
    #[test]
    fn a_small_study_is_measured_and_trained() {
        let root = tempfile::tempdir().unwrap();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for folder in ["experiments", "experiments/recipes"] {
            std::fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for file in ["ucf11.toml", "recipes/scaled.toml", "recipes/paper-code.toml"] {
            let file = format!("experiments/{file}");
            std::fs::copy(here.join(&file), root.path().join(&file)).unwrap();
        }
        let out = root.path().join("study.csv");
        let options = StudyOptions {
            out: out.clone(),
            clips: 20,
            frames: vec![1, 2, 4],
            models: ["tt-mlp", "tt-gru"].map(str::to_owned).to_vec(),
            rounds: 1,
            keep: false,
        };
        study(root.path(), &options).unwrap();
        let mut reader = csv::Reader::from_path(&out).unwrap();
        let rows: Vec<std::collections::HashMap<String, String>> =
            reader.deserialize().collect::<Result<_, _>>().unwrap();
        let of = |row: usize, key: &str| rows[row][key].parse::<f64>().unwrap();
        assert_eq!(
            (rows.len(), rows[0]["model"].as_str(), rows[1]["model"].as_str()),
            (2, "tt-mlp", "tt-gru")
        );
        assert!(rows[0]["shortest_us"].is_empty() && of(1, "shortest_us") > 0.0);
        for row in 0..2 {
            assert_eq!((of(row, "train_clips"), of(row, "epochs"), of(row, "folds")), (16.0, 100.0, 5.0));
            let ratio = of(row, "epoch_s") / of(row, "expected_epoch_s");
            assert!((of(row, "ratio") / ratio - 1.0).abs() < 1e-9 && of(row, "hours") > 0.0);
        }
        assert_eq!(of(0, "train_frames"), 96.0);
        assert!(!root.path().join("data/bench-study").exists());
        assert!(study(root.path(), &StudyOptions { frames: vec![4, 2, 9], ..options }).is_err());
    }
}
