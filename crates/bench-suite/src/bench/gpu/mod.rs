//! `bench-suite bench-gpu`: a card's kernels checked against the specification, then timed: the layer against its
//! floor, training steps beside PyTorch, and an epoch of UCF11's size.
//!
//! Every section, and in the check every kernel, has a process of its own (`processes.rs`), and rows are written as they
//! come: a call cut short loses only the rest. It runs on any device; without CUDA it measures what there is.

mod check;
mod epoch;
mod layer;
mod limits;
mod processes;
mod step;
mod tables;
mod torch;

use crate::device::{DeviceName, Opened, Precision, explain, open};
use anyhow::{Context, Result};
use candle_core::Tensor;
use clap::{Args, ValueEnum};
use processes::{Done, Message};
use rand::RngExt;
use std::path::PathBuf;
use std::time::Instant;
use tables::{Row, Tables};
use tt_core::apply::{Affine, Backend};
use tt_core::init::CoreInit;
use tt_core::rng::{Stream, stream};
use tt_rnn::models::{
    CnnKernels, CnnSize, FormatSettings, Mode, Model, ModelConfig, PackedFrames, RecurrentForm, Stack,
};
use tt_rnn::parameters::Optimizer;
use tt_rnn::projection::GateLayout;
use tt_rnn::recurrence::GateActivation;

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Section {
    /// Every kernel against the specification, and training against the CPU's.
    Check,
    /// The TT layer forward and backward against its floor.
    Layer,
    /// Training steps, beside PyTorch where it is there.
    Step,
    /// An epoch of UCF11's size on generated frames.
    Epoch,
}

impl Section {
    fn parts(self) -> &'static [Part] {
        match self {
            Self::Check => &[Part::TtLayer, Part::Recurrence, Part::Training],
            Self::Layer => &[Part::Layer],
            Self::Step => &[Part::Step],
            Self::Epoch => &[Part::Epoch],
        }
    }
}

/// What one process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    TtLayer,
    Recurrence,
    Training,
    Layer,
    Step,
    Epoch,
}

impl Part {
    /// As it is called on the command line and in the records.
    fn name(self) -> &'static str {
        match self {
            Self::TtLayer => "tt-layer",
            Self::Recurrence => "recurrence",
            Self::Training => "training",
            Self::Layer => "layer",
            Self::Step => "step",
            Self::Epoch => "epoch",
        }
    }
}

/// Options of the measurement.
#[derive(Debug, Args)]
pub struct GpuOptions {
    /// Device to measure.
    #[arg(long, default_value = "cuda")]
    device: DeviceName,
    /// Folder for the records.
    #[arg(long)]
    out: PathBuf,
    /// What to do.
    #[arg(long, value_delimiter = ',', default_value = "check,layer,epoch,step")]
    sections: Vec<Section>,
    /// Runs per case, after one that is not counted.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Small sizes, for a test of this verb.
    #[arg(long)]
    quick: bool,
    /// Seconds after which a case that is not done is given up, and its process killed.
    #[arg(long)]
    case_limit: u64,
    /// A Python that may have PyTorch; without it PyTorch is not measured.
    #[arg(long)]
    python: Option<PathBuf>,
    /// `LD_LIBRARY_PATH` for it: this process's own leads to the libraries of this program.
    #[arg(long, hide = true)]
    python_libraries: Option<std::ffi::OsString>,
    /// The worker for it.
    #[arg(long, default_value = "xtask/peers/torch_gpu.py")]
    script: PathBuf,
    /// What this process does of all that, with its findings on standard output.
    #[arg(long, hide = true)]
    part: Option<Part>,
    /// The first case of it.
    #[arg(long, hide = true, requires = "part", default_value_t = 0)]
    from: usize,
}

/// What all cases share.
struct Bench<'a> {
    options: &'a GpuOptions,
    device: Opened,
    precisions: Vec<Precision>,
    /// Rows that were not sent yet.
    tables: Tables,
    /// What failed, and was not sent yet.
    failed: Vec<String>,
}

type Run<'a> = dyn Fn(&mut Bench<'a>) -> Result<()> + 'a;

/// One thing to check or to time.
struct Case<'a> {
    name: String,
    run: Box<Run<'a>>,
}

impl<'a> Case<'a> {
    fn new(name: String, run: impl Fn(&mut Bench<'a>) -> Result<()> + 'a) -> Self {
        Self { name, run: Box::new(run) }
    }
}

/// Measures and writes `checks.csv`, `limits.csv` and `gpu.csv`.
///
/// # Errors
/// No such device, or a folder that cannot be written; after all sections, any check or section that failed.
pub fn gpu(options: &GpuOptions) -> Result<()> {
    if let Some(part) = options.part {
        return one_part(options, part);
    }
    std::fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot create {}", options.out.display()))?;
    processes::run_all(options)
}

/// The cases of a part from `options.from` on, until one costs this process its card.
fn one_part(options: &GpuOptions, part: Part) -> Result<()> {
    let device = open(options.device, Precision::F32)?;
    // As in trainings whose frames are on the card.
    #[cfg(feature = "cuda")]
    device.use_one_stream();
    let precisions = match options.device {
        DeviceName::Cuda(_) => vec![Precision::F32, Precision::Tf32, Precision::Bf16],
        _ => vec![Precision::F32],
    };
    let mut bench = Bench { options, device, precisions, tables: Tables::default(), failed: Vec::new() };
    let cases = match part {
        Part::TtLayer => bench.layer_checks()?,
        Part::Recurrence => bench.recurrence_checks(),
        Part::Training => check::training_checks(),
        Part::Layer => bench.layer()?,
        Part::Step => bench.step()?,
        Part::Epoch => bench.epoch()?,
    };
    Message::Cases(cases.iter().map(|case| case.name.clone()).collect()).send()?;
    for (number, case) in cases.iter().enumerate().skip(options.from) {
        let mut lost = false;
        if let Err(error) = (case.run)(&mut bench).map_err(explain) {
            let reason = format!("{error:#}");
            tracing::error!("{} {}: {reason}", part.name(), case.name);
            bench.tables.not_run(part, &case.name, &reason)?;
            bench.failed.push(format!("{} {}: {reason}", part.name(), case.name));
            // Most errors of a kernel come back with every call of this process.
            lost = bench.device.synchronize().is_err();
        }
        let (tables, failed) = (std::mem::take(&mut bench.tables), std::mem::take(&mut bench.failed));
        let card = bench.device.card_use(false);
        Message::Done(Done { case: number, tables, failed, lost, card }).send()?;
        if lost {
            // What frees the card's memory would fail as well.
            std::process::exit(1);
        }
    }
    Ok(())
}

impl Bench<'_> {
    /// Milliseconds of `rounds` runs after one that warms up, each with all its work done.
    fn time<T>(&self, mut run: impl FnMut() -> Result<T>) -> Result<Vec<f64>> {
        run()?;
        self.device.synchronize()?;
        (0..self.options.rounds.max(1)).map(|_| self.once(&mut run)).collect()
    }

    fn once<T>(&self, run: &mut impl FnMut() -> Result<T>) -> Result<f64> {
        let started = Instant::now();
        let result = run()?;
        self.device.synchronize()?;
        drop(result);
        Ok(started.elapsed().as_secs_f64() * 1e3)
    }

    fn push(
        &mut self,
        (section, case, peer, precision): (&'static str, &str, &str, &str),
        frames: usize,
        times: &[f64],
        floor_ms: Option<f64>,
    ) -> Result<()> {
        let mut sorted = times.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (ms_min, ms_median) = (sorted[0], sorted[sorted.len() / 2]);
        let floor_ratio = floor_ms.map(|floor| ms_median / floor);
        let text = floor_ratio.map_or_else(String::new, |ratio| format!(", {ratio:.2} of the floor"));
        tracing::info!("{section} {case} {peer} {precision}: {ms_median:.3} ms{text}");
        self.tables.add(
            "gpu.csv",
            &Row {
                section,
                case: case.to_owned(),
                peer: peer.to_owned(),
                precision: precision.to_owned(),
                frames: Some(frames),
                ms_min: Some(ms_min),
                ms_median: Some(ms_median),
                floor_ms,
                floor_ratio,
                error: String::new(),
            },
        )
    }

    /// `large`, or `small` where sizes are to be small.
    fn size(&self, large: usize, small: usize) -> usize {
        if self.options.quick { small } else { large }
    }

    /// Random frames u8 `[n, M]` on the device, and the lengths of their clips.
    fn frames(&self, lengths: &[usize], features: usize) -> Result<PackedFrames> {
        let rows = Tensor::cat(&self.clips(lengths, features)?, 0)?;
        Ok(PackedFrames::new(rows, lengths.to_vec()))
    }

    /// Clips of random frames, u8 `[T, M]` each. Pixel values do not affect times, so frames are drawn from a
    /// small pool instead of generating and copying gigabytes.
    fn clips(&self, lengths: &[usize], features: usize) -> Result<Vec<Tensor>> {
        const POOL: usize = 64;
        let mut rng = stream(0, "bench-gpu/frames");
        let pixels: Vec<u8> = (0..POOL * features).map(|_| rng.random()).collect();
        let pool = Tensor::from_vec(pixels, (POOL, features), &self.device.device)?;
        let clip = |(clip, length): (usize, &usize)| {
            let list: Vec<u32> = (0..*length).map(|t| ((clip * 7 + t) % POOL) as u32).collect();
            Ok(pool.index_select(&Tensor::from_vec(list, *length, pool.device())?, 0)?)
        };
        lengths.iter().enumerate().map(clip).collect()
    }
}

/// Forward, loss, backward and Adam; returns the loss, and waits for nothing.
fn train_step(
    model: &dyn Model,
    optimizer: &mut Optimizer,
    (frames, labels): (&PackedFrames, &Tensor),
    masks: &mut Stream,
) -> Result<Tensor> {
    let logits = model.logits(frames, Mode::Train(masks))?;
    let loss = candle_nn::loss::cross_entropy(&logits, labels)?;
    optimizer.step(&loss.backward()?)?;
    Ok(loss)
}

/// The models of the paper on UCF11, as its recipe here has them; small where sizes are to be small.
fn config(precision: Precision, quick: bool) -> ModelConfig {
    let (input_modes, output_modes) =
        if quick { (vec![4, 5, 6, 3], vec![2, 2, 2, 2]) } else { (vec![8, 20, 20, 18], vec![4, 4, 4, 4]) };
    let features: usize = input_modes.iter().product();
    ModelConfig {
        features,
        width: if quick { 12 } else { 160 },
        classes: 11,
        dense_hidden: output_modes.iter().product(),
        stack: Stack::default(),
        recurrent: RecurrentForm::Dense,
        mlp_input_modes: if quick { vec![12, 5, 6, 6] } else { vec![20, 20, 24, 36] },
        input_modes,
        output_modes,
        rank: 4,
        gates: GateLayout::Concatenated,
        core_init: CoreInit::Glorot1d,
        backend: Backend::Fused,
        precision: precision.into(),
        gate_activation: GateActivation::HardSigmoid,
        affine: Affine { scale: 1.0 / 128.0, shift: -1.0 },
        mlp_frames: 6,
        mlp_rank: 6,
        recurrent_dropout: 0.25,
        dense_masks_per_gate: false,
        dense_input_dropout: 0.0,
        tt_input_dropout: 0.0,
        warm_up_to: 0,
        classifier_l2: 0.01,
        formats: FormatSettings::default(),
        cnn: CnnSize::Small,
        cnn_kernels: CnnKernels::Dense,
        attention_penalty: 0.0,
    }
}
