//! Training and evaluation of one cell.

use crate::build::{model_config, set_weights};
use crate::data::{Clips, FramePick};
use crate::device::{CardUse, Feed, Opened};
use crate::events::{self, Events};
use crate::metrics::{accuracy, argmax, mean_average_precision};
use crate::record::{CurvePoint, PredictionRow, SystemUse, listed_class};
use crate::spec::Spec;
use crate::standard::Fitted;
use crate::state::{Progress, Snapshot};
use crate::stats::has_settled;
use crate::stop::{STOP, Stopped};
use crate::usage::{CoreUse, SystemWork};
use anyhow::{Context, Result, bail};
use candle_core::{D, Tensor};
use rand::seq::SliceRandom;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tt_core::rng::stream;
use tt_rnn::adam::AdamConfig;
use tt_rnn::models::{Mode, Model, Scores};
use tt_rnn::parameters::Optimizer;
use tt_rnn::rates::Rates;

/// Everything that training one cell needs.
#[derive(Debug)]
pub struct Training<'a> {
    /// The resolved experiment.
    pub spec: &'a Spec,
    /// Model name.
    pub model: &'a str,
    /// Frames and labels.
    pub clips: &'a Clips,
    /// Clips to train on.
    pub train: &'a [usize],
    /// Clips to score on.
    pub test: &'a [usize],
    /// Fold index: part of the stream names.
    pub fold: usize,
    /// Seed of every stream.
    pub seed: u64,
    /// Folder of the cell: the checkpoint lives here.
    pub folder: &'a Path,
    /// Shortest time between two checkpoints; a signal triggers one at once.
    pub checkpoint_every: Duration,
    /// Label of progress lines.
    pub label: &'a str,
    /// Weights by name to start from instead of initial ones.
    pub start: Option<&'a [(String, Tensor)]>,
    /// Where to train.
    pub device: &'a Opened,
}

/// The result of training.
#[derive(Debug)]
pub struct Outcome {
    /// One point per epoch.
    pub curve: Vec<CurvePoint>,
    /// Probabilities of the test clips after the final epoch, in the order of `Training::test`.
    pub probabilities: Vec<Vec<f64>>,
    /// See [`crate::record::CellRecord::saturated_gates`].
    pub saturated_gates: Option<f64>,
    /// Wall seconds of the epochs that had the cores for themselves, the first one of this process left out.
    pub alone_s: Vec<f64>,
    /// See [`crate::record::CellRecord::frames_wait`].
    pub frames_wait: Option<f64>,
    /// See [`crate::record::CellRecord::system`].
    pub system: Option<SystemUse>,
    /// What the numbers of frames were brought to.
    pub standard: Option<Fitted>,
    /// Final weights by name.
    pub weights: Vec<(String, Tensor)>,
    /// Use of a graphics card, if any.
    pub card: Option<CardUse>,
}

/// Share of its time that a thread may wait for a core in an epoch that counts as alone: some is its own loader's.
const CROWDED: f64 = 0.1;

struct Run<'a> {
    cell: &'a Training<'a>,
    feed: &'a Feed<'a>,
    model: Box<dyn Model>,
    optimizer: Optimizer,
    classes: usize,
    multi_label: bool,
    /// Time spent training, and how much of it waiting for frames.
    trained: Duration,
    waited: Duration,
    /// What the system did in the training parts of epochs after the first, and their steps.
    system: (SystemWork, usize),
    /// See [`Outcome::alone_s`].
    alone_s: Vec<f64>,
    /// Probabilities of the test clips after the last epoch, if it was evaluated.
    tested: Option<Vec<Vec<f64>>>,
}

/// Trains to the final epoch, resuming from a checkpoint if there is one.
pub fn train(cell: &Training<'_>) -> Result<Outcome> {
    let classes = cell.clips.classes().len();
    let entry = tt_rnn::models::find(cell.model)?;
    let standard = Fitted::of(cell.spec, cell.clips, cell.train);
    let settled = standard.as_ref().map(|standard| standard.settle(cell.spec));
    let mut config = model_config(settled.as_ref().unwrap_or(cell.spec), classes)?;
    config.precision = cell.device.precision().into();
    let model = entry.build(&config, &cell.device.device, cell.seed)?;
    if let Some(start) = cell.start {
        let weights = start.iter().cloned().collect();
        set_weights(model.as_ref(), &weights).context("the weights to start from")?;
    }
    let train = &cell.spec.train;
    let rates = Rates {
        lr: cell.spec.lr(cell.model),
        rule: train.lr_rule.parse()?,
        input_factor: train.input_lr_factor,
    };
    let clip_norm = (train.clip_norm > 0.0).then_some(train.clip_norm);
    let adam = AdamConfig { clip_norm, weight_decay: train.weight_decay, ..AdamConfig::default() };
    let optimizer = Optimizer::new(adam, rates, model.parameters())?;
    let multi_label = cell.clips.multi_label();
    let (trained, waited) = (Duration::ZERO, Duration::ZERO);
    let of_batches = standard.as_ref().and_then(Fitted::of_batches);
    let wanted = [cell.train, cell.test];
    let feed = Feed::new(cell.clips, &wanted, cell.device, of_batches, model.reads_stored())?;
    let system = (SystemWork::default(), 0);
    let run = Run {
        cell,
        feed: &feed,
        model,
        optimizer,
        classes,
        multi_label,
        trained,
        waited,
        system,
        alone_s: Vec::new(),
        tested: None,
    };
    Ok(Outcome { standard, ..run.run()? })
}

impl Run<'_> {
    fn run(mut self) -> Result<Outcome> {
        let saturated_gates = self.saturated_gates()?;
        let snapshot = Snapshot::new(self.cell.folder);
        let mut progress = match snapshot.load(&mut self.optimizer).with_context(|| snapshot.unfit())? {
            Some(progress) => {
                tracing::info!("{}: goes on from {}", self.cell.label, progress.position());
                progress
            }
            None => Progress::default(),
        };
        let epochs = self.cell.spec.epochs(self.cell.model);
        let metric = if self.multi_label { "map" } else { "accuracy" };
        let written = || format!("cannot write {}", self.cell.folder.join(events::FILE).display());
        let mut events = Events::open(self.cell.folder, metric, &progress.curve).with_context(written)?;
        let mut last_save = Instant::now();
        let started = Instant::now();
        let first = progress.curve.len();
        let settled = self.cell.spec.train.settled;
        while progress.curve.len() < epochs && !has_settled(&losses(&progress.curve), settled) {
            self.epoch(&mut progress, &snapshot, &mut last_save)?;
            let done = progress.curve.len();
            let left = started.elapsed() * (epochs - done) as u32 / (done - first) as u32;
            let held_out = if self.cell.spec.protocol.inner { "inner" } else { "test" };
            report((self.cell.label, held_out), epochs, &progress.curve, left);
            if let Some(point) = progress.curve.last() {
                events.epoch(point).with_context(written)?;
            }
        }
        let (work, steps) = self.system;
        let system = (steps > 0).then(|| SystemUse {
            page_faults_per_step: work.page_faults as f64 / steps as f64,
            share: work.system_share(),
        });
        events.finish().with_context(written)?;
        let probabilities = match self.tested.take() {
            Some(probabilities) => probabilities,
            None => self.evaluate(&progress, &snapshot)?,
        };
        let weights = self.optimizer.parameters();
        let weights = weights.iter().map(|p| (p.name.clone(), p.var.as_tensor().clone())).collect();
        let frames_wait = (!self.trained.is_zero()).then(|| self.waited.div_duration_f64(self.trained));
        Ok(Outcome {
            curve: progress.curve,
            probabilities,
            saturated_gates,
            alone_s: std::mem::take(&mut self.alone_s),
            frames_wait,
            system,
            standard: None,
            weights,
            card: self.cell.device.card_use(self.feed.is_resident()),
        })
    }

    /// Must run at the initial weights, before a checkpoint is loaded.
    fn saturated_gates(&self) -> Result<Option<f64>> {
        let first = &self.cell.train[..self.cell.spec.train.batch.min(self.cell.train.len())];
        let pick = FramePick::evaluation(self.model.frames());
        match self.feed.pass(first, &pick).next()? {
            Some((frames, _)) => Ok(self.model.saturated_gates(&frames)?),
            None => Ok(None),
        }
    }

    fn epoch(&mut self, progress: &mut Progress, snapshot: &Snapshot, last_save: &mut Instant) -> Result<()> {
        let epoch = progress.curve.len() + 1;
        let name = |what: &str| format!("{what}/fold{}/epoch{epoch}", self.cell.fold);
        let mut order = self.cell.train.to_vec();
        order.shuffle(&mut stream(self.cell.seed, &name("shuffle")));
        let done = (progress.step * self.cell.spec.train.batch).min(order.len());
        let frames = name("frames");
        let pick = FramePick { choice: self.model.frames(), drawn: Some((self.cell.seed, &frames)) };
        let mut pass = self.feed.pass(&order[done..], &pick);
        let (started, before) = (Instant::now(), progress.wall_s);
        let (system, first_step, cores) = (SystemWork::so_far(), progress.step, CoreUse::so_far());
        let mut step: Option<Step> = None;
        while let Some((frames, clips)) = pass.next()? {
            let mut masks = stream(self.cell.seed, &format!("{}/step{}", name("masks"), progress.step));
            let scores = self.model.scores(&frames, Mode::Train(&mut masks))?;
            let loss = self.loss(&scores, &clips)?;
            self.optimizer.step(&loss.backward()?)?;
            // A card computes this step while the next batch is sent and the step before is read.
            pass.prefetch()?;
            self.read(step.take(), progress)?;
            step = Some(Step::new(&loss, &scores, clips.len(), epoch, progress.step));
            progress.step += 1;
            let stop = STOP.load(Ordering::Relaxed);
            if stop || last_save.elapsed() >= self.cell.checkpoint_every {
                self.read(step.take(), progress)?;
                progress.wall_s = before + started.elapsed().as_secs_f64();
                snapshot.save(&self.optimizer, progress)?;
                *last_save = Instant::now();
            }
            if stop {
                return Err(Stopped.into());
            }
        }
        self.read(step, progress)?;
        let labels: Vec<Vec<usize>> =
            order.iter().map(|clip| self.cell.clips.labels(*clip).to_vec()).collect();
        progress.wall_s = before + started.elapsed().as_secs_f64();
        // The first epoch of a process takes the memory that all others use again.
        if !self.trained.is_zero() {
            self.system.0 += SystemWork::so_far().since(system);
            self.system.1 += progress.step - first_step;
            let waited = CoreUse::so_far().zip(cores).map(|(now, before)| now.waited_since(&before));
            if waited.is_none_or(|share| share < CROWDED) {
                self.alone_s.push(progress.wall_s);
            }
        }
        self.trained += started.elapsed();
        self.waited += pass.waited();
        let train_loss = progress.loss_sum / order.len() as f64;
        let mut losses = losses(&progress.curve);
        losses.push(train_loss);
        let last = epoch == self.cell.spec.epochs(self.cell.model)
            || has_settled(&losses, self.cell.spec.train.settled);
        let due = last || epoch.is_multiple_of(self.cell.spec.train.eval_every);
        let due = due && !self.cell.test.is_empty();
        self.tested = if due { Some(self.evaluate(progress, snapshot)?) } else { None };
        let test_value = self.tested.as_ref().map(|scores| final_value(self.cell, scores));
        progress.curve.push(CurvePoint {
            epoch,
            train_loss,
            train_value: self.score(&progress.scores, &labels),
            test_value,
            wall_s: progress.wall_s,
        });
        progress.next_epoch();
        Ok(())
    }

    /// Waits for a step and takes its loss and scores.
    fn read(&self, step: Option<Step>, progress: &mut Progress) -> Result<()> {
        let Some(Step { loss, scores, clips, epoch, number }) = step else { return Ok(()) };
        let value = f64::from(loss.to_scalar::<f32>()?);
        if !value.is_finite() {
            bail!("epoch {epoch}, step {number}: the loss is {value}; lower the learning rate");
        }
        progress.loss_sum += value * clips as f64;
        progress.scores.extend(scores.probabilities(self.multi_label)?);
        Ok(())
    }

    /// Mean over the batch of the cross-entropy (of K binary ones where labels are not exclusive), of models that judge
    /// after every frame its mean over the frames of a clip, and the model's penalty. That of the classifier enters as its
    /// gradient, in the optimiser.
    fn loss(&self, scores: &Scores, clips: &[usize]) -> Result<Tensor> {
        let loss =
            if self.multi_label { self.binary(scores, clips)? } else { self.exclusive(scores, clips)? };
        Ok(match &scores.penalty {
            Some(penalty) => (loss + penalty)?,
            None => loss,
        })
    }

    fn exclusive(&self, scores: &Scores, clips: &[usize]) -> Result<Tensor> {
        let labels: Vec<u32> = clips
            .iter()
            .map(|clip| self.cell.clips.labels(*clip).first().map(|label| *label as u32))
            .collect::<Option<_>>()
            .context("a clip without a label in a dataset of exclusive classes")?;
        let (labels, logits) = (scores.by_row(&labels), &scores.rows);
        let labels = Tensor::new(labels, logits.device())?;
        let Some(shares) = scores.shares()? else {
            return Ok(candle_nn::loss::cross_entropy(logits, &labels)?);
        };
        let logs = candle_nn::ops::log_softmax(logits, D::Minus1)?.gather(&labels.unsqueeze(1)?, 1)?;
        Ok((logs.squeeze(1)? * shares)?.sum_all()?.neg()?)
    }

    fn binary(&self, scores: &Scores, clips: &[usize]) -> Result<Tensor> {
        let target = |clip: &usize| {
            let mut target = vec![0.0_f32; self.classes];
            self.cell.clips.labels(*clip).iter().for_each(|label| target[*label] = 1.0);
            target
        };
        let targets = scores.by_row(&clips.iter().map(target).collect::<Vec<_>>());
        let (rows, logits) = (targets.len(), &scores.rows);
        let targets = Tensor::from_vec(targets.concat(), (rows, self.classes), logits.device())?;
        // max(x, 0) - x t + log(1 + exp(-|x|))
        let soft = ((logits.abs()?.neg()?.exp()? + 1.0)?).log()?;
        let each = ((logits.relu()? - (logits * targets)?)? + soft)?;
        Ok(match scores.shares()? {
            Some(shares) => (each.mean(1)? * shares)?.sum_all()?,
            None => each.mean_all()?,
        })
    }

    fn score(&self, scores: &[Vec<f64>], labels: &[Vec<usize>]) -> f64 {
        if self.multi_label {
            mean_average_precision(scores, labels, self.classes)
        } else {
            accuracy(scores, labels)
        }
    }

    /// Probabilities of the test clips. `progress` goes into the checkpoint if a signal stops the evaluation.
    fn evaluate(&self, progress: &Progress, snapshot: &Snapshot) -> Result<Vec<Vec<f64>>> {
        let clips = self.cell.test;
        let pick = FramePick::evaluation(self.model.frames());
        let mut pass = self.feed.pass(clips, &pick);
        let mut scores = Vec::with_capacity(clips.len());
        while let Some((frames, _)) = pass.next()? {
            let of_batch = self.model.scores(&frames, Mode::Evaluate)?;
            pass.prefetch()?;
            scores.extend(of_batch.probabilities(self.multi_label)?);
            if STOP.load(Ordering::Relaxed) {
                snapshot.save(&self.optimizer, progress)?;
                return Err(Stopped.into());
            }
        }
        Ok(scores)
    }
}

/// A step that was started; nothing has waited for it yet.
struct Step {
    loss: Tensor,
    scores: Scores,
    clips: usize,
    epoch: usize,
    number: usize,
}

impl Step {
    /// Keeps nothing of the graph, which holds a whole step's memory.
    fn new(loss: &Tensor, scores: &Scores, clips: usize, epoch: usize, number: usize) -> Self {
        Self { loss: loss.detach(), scores: scores.detach(), clips, epoch, number }
    }
}

fn losses(curve: &[CurvePoint]) -> Vec<f64> {
    curve.iter().map(|point| point.train_loss).collect()
}

fn report((label, held_out): (&str, &str), epochs: usize, curve: &[CurvePoint], left: Duration) {
    let Some(point) = curve.last() else { return };
    let test = point.test_value.map_or(String::new(), |value| format!(", {held_out} {:.1} %", value * 100.0));
    tracing::info!(
        "{label}: epoch {}/{epochs}, loss {:.4}, train {:.1} %{test}, {:.2} s, {} s left",
        point.epoch,
        point.train_loss,
        point.train_value * 100.0,
        point.wall_s,
        left.as_secs()
    );
}

/// The rows of `predictions.csv`.
pub fn predictions(cell: &Training<'_>, probabilities: &[Vec<f64>]) -> Vec<PredictionRow> {
    let classes = cell.clips.classes();
    let row = |(clip, scores): (&usize, &Vec<f64>)| PredictionRow {
        clip: cell.clips.name(*clip).to_owned(),
        fold: cell.fold,
        label: cell
            .clips
            .labels(*clip)
            .iter()
            .map(|l| listed_class(&classes[*l]))
            .collect::<Vec<_>>()
            .join(";"),
        predicted: listed_class(&classes[argmax(scores)]),
        probabilities: scores.iter().map(f64::to_string).collect::<Vec<_>>().join(";"),
        group: cell.clips.group(*clip).to_owned(),
    };
    cell.test.iter().zip(probabilities).map(row).collect()
}

/// Score of the final predictions.
pub fn final_value(cell: &Training<'_>, probabilities: &[Vec<f64>]) -> f64 {
    let labels: Vec<Vec<usize>> = cell.test.iter().map(|clip| cell.clips.labels(*clip).to_vec()).collect();
    if cell.clips.multi_label() {
        mean_average_precision(probabilities, &labels, cell.clips.classes().len())
    } else {
        accuracy(probabilities, &labels)
    }
}
