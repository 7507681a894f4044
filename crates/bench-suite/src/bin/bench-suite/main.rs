//! The training engine's process: `prepare`, `plan`, `cell`, `params` and the benchmarks.
//!
//! `cargo xtask` starts it; every verb can be run by hand too.

mod answers;
mod clips;
mod selection;

use answers::{run_live, run_predict};
use anyhow::{Context, Result};
use bench_suite::catalog;
use bench_suite::cell::CellOptions;
use bench_suite::compress::CompressOptions;
use bench_suite::data::{Clips, Frames};
use bench_suite::device::DeviceName;
use bench_suite::export::{ExportOptions, Source};
use bench_suite::features;
use bench_suite::lease::Locked;
use bench_suite::places::Places;
use bench_suite::plan::plan;
use bench_suite::predict::{BadClips, PredictOptions};
use bench_suite::provenance::Code;
use bench_suite::record::DataKind;
use bench_suite::resolve::prepare;
use bench_suite::spec::SpecError;
use bench_suite::stop::{STOP, Stopped};
use clap::{Parser, Subcommand};
use clips::{run_decode, run_torture_clips};
use selection::Selection;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tt_rnn::folder::Numbers;
use tt_rnn::onnx::Form;
use video_data::datasets::Dataset;

#[derive(Debug, Parser)]
#[command(name = "bench-suite", about = "Trains the models of the paper, cell by cell", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Only warnings and errors.
    #[arg(long, global = true)]
    quiet: bool,
    /// More detail.
    #[arg(short, long, global = true)]
    verbose: bool,
    /// Root of the repository.
    #[arg(long, global = true, default_value = ".")]
    root: PathBuf,
    /// Threads of this process; 0 for all cores.
    #[arg(long, global = true, default_value_t = 0)]
    threads: usize,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Find, render and decode the clips of an experiment.
    Prepare(Selection),
    /// Print the run's plan as JSON and leave it in the run's folder.
    Plan(Selection),
    /// Train one cell of a planned run.
    Cell {
        /// Folder of the run.
        #[arg(long)]
        run_dir: PathBuf,
        /// Name of the cell.
        #[arg(long)]
        cell: String,
        /// Other cells run beside this one: leave its times out.
        #[arg(long)]
        shared: bool,
        /// Longest time to wait for another process that computes this cell; then the exit code is 75.
        #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds)]
        wait: Duration,
        /// Shortest time between two checkpoints; 0 for one after every step. Changes no result.
        #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
        checkpoint_every: Duration,
        /// The device to use, of the kind that the run was planned for.
        #[arg(long)]
        device: Option<DeviceName>,
    },
    /// Print the most probable classes of video files, by a trained model.
    Predict {
        /// The model's file: `weights.safetensors` of a finished cell, or a copy of it; or a model folder.
        #[arg(long)]
        model: PathBuf,
        /// Classes to print per clip.
        #[arg(long, default_value_t = 5)]
        top: usize,
        /// Print a JSON list.
        #[arg(long)]
        json: bool,
        /// Device to run on.
        #[arg(long, default_value = "cpu")]
        device: DeviceName,
        /// Video files.
        #[arg(required = true)]
        clips: Vec<PathBuf>,
    },
    /// Print the most probable classes after each frame on standard input.
    Live {
        /// Model folder.
        #[arg(long)]
        model: PathBuf,
        /// Classes to print per frame.
        #[arg(long, default_value_t = 5)]
        top: usize,
        /// Print an object of JSON a line.
        #[arg(long)]
        json: bool,
    },
    /// Write a model for use anywhere: as a folder, or as an ONNX graph.
    Export {
        /// Folder of the run that has the cell.
        #[arg(long, requires = "cell")]
        run_dir: Option<PathBuf>,
        /// Name of a finished cell.
        #[arg(long, requires = "run_dir")]
        cell: Option<String>,
        /// A model folder, in the place of a cell.
        #[arg(long, conflicts_with = "cell", required_unless_present = "cell")]
        folder: Option<PathBuf>,
        /// Folder for the model, or a file that ends in .onnx.
        #[arg(long)]
        to: PathBuf,
        /// How the graph walks through time: scan, operator or step.
        #[arg(long)]
        form: Option<Form>,
        /// How weights are kept: f32, f16 or int8.
        #[arg(long, default_value = "f32")]
        weights: Numbers,
        /// Beside a folder, a file for the graph of one step.
        #[arg(long, conflicts_with = "form")]
        step: Option<PathBuf>,
        /// Replace a model or a graph that is there.
        #[arg(long)]
        force: bool,
    },
    /// Factorize the input matrix of a finished dense cell, or the kernels of a CNN, fine-tune, and leave the scores in the
    /// run's folder.
    Compress {
        /// Folder of the run.
        #[arg(long)]
        run_dir: PathBuf,
        /// Name of the cell.
        #[arg(long)]
        cell: String,
        /// What it becomes: tt or another format; of kernels tt or cp.
        #[arg(long, default_value = "tt")]
        to: String,
        /// concatenated or separate; of a CNN kernels.
        #[arg(long)]
        form: String,
        /// Inner ranks.
        #[arg(long)]
        rank: usize,
        /// Epochs of fine-tuning.
        #[arg(long)]
        epochs: usize,
        /// Device to train on.
        #[arg(long, default_value = "cpu")]
        device: DeviceName,
    },
    /// Leave the singular values of a finished dense cell's input matrix in the run's folder.
    SingularValues {
        /// Folder of the run.
        #[arg(long)]
        run_dir: PathBuf,
        /// Name of the cell.
        #[arg(long)]
        cell: String,
    },
    /// Check the weights of a network that makes features, and copy them to their place.
    Pretrained {
        /// A safetensors file of EfficientNet-Lite0.
        #[arg(long)]
        file: PathBuf,
    },
    /// Features, f32 `[n, 1280]`, of frames on standard input, u8 `[n, height, width, 3]`: our side of the check of features
    /// in PyTorch.
    Features {
        /// A safetensors file of EfficientNet-Lite0.
        #[arg(long)]
        weights: PathBuf,
        #[arg(long)]
        width: usize,
        #[arg(long)]
        height: usize,
    },
    /// Write strips of frames of the clips named on standard input (a JSON list), where they may be shown.
    Strips {
        /// Folder of the run.
        #[arg(long)]
        run_dir: PathBuf,
        /// Folder for the pictures.
        #[arg(long)]
        out: PathBuf,
    },
    /// Decode damaged clips: `cargo xtask stress clips`.
    TortureClips {
        /// Mutants of each codec.
        #[arg(long)]
        count: usize,
        /// Seed of the damage.
        #[arg(long)]
        seed: u64,
        /// Folder for the clips, made and removed.
        #[arg(long)]
        dir: PathBuf,
    },
    /// Decode files at their own rate and print how many frames came out: our side of `bench decode`.
    DecodeClips {
        #[arg(long)]
        width: u32,
        #[arg(long)]
        height: u32,
        #[arg(required = true)]
        clips: Vec<PathBuf>,
    },
    /// Print the paper's Figure 1 (parameters against rank) as JSON, read off built models.
    Params,
    /// Time the kernels on this machine.
    Bench(bench_suite::bench::KernelOptions),
    /// Check and time a graphics card: `cargo xtask bench gpu`.
    BenchGpu(bench_suite::bench::GpuOptions),
    /// Our side of `cargo xtask bench decomposition`.
    BenchDecomposition(bench_suite::bench::DecompositionOptions),
    /// Be our side of `cargo xtask bench inference`.
    BenchFrames(bench_suite::bench::FrameOptions),
    /// Time the TT layer alone: our side of the check of the layer in PyTorch.
    BenchLayer(bench_suite::bench::LayerOptions),
    /// Say what UCF11's whole protocol takes on this machine: `cargo xtask bench study`.
    BenchStudy(bench_suite::bench::StudyOptions),
    /// Be our side of `cargo xtask bench peers`.
    BenchWorker,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    bench_suite::progress::log(cli.quiet, cli.verbose);
    match run(&cli).map_err(bench_suite::device::explain) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever meets a cell that another process computes comes again: nothing is wrong.
            if error.is::<Locked>() {
                tracing::info!("{error:#}");
            } else {
                tracing::error!("{error:#}");
            }
            ExitCode::from(exit_code(&error))
        }
    }
}

/// 75 try again later, 65 bad data, 130 stopped by a signal, 64 a wrong flag or key, else 1.
fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Locked>() {
        75
    } else if error.is::<Stopped>() {
        130
    } else if error.is::<SpecError>() {
        64
    } else if error.is::<BadClips>() {
        65
    } else {
        catalog::exit_code(error)
    }
}

fn run(cli: &Cli) -> Result<()> {
    let threads = match cli.threads {
        0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        threads => threads,
    };
    // The worker gets its number of threads with its first command.
    if !matches!(cli.verb, Verb::BenchWorker) {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    }
    match &cli.verb {
        Verb::Prepare(selection) => run_prepare(cli, selection, threads),
        Verb::Plan(selection) => run_plan(cli, selection),
        Verb::Cell { run_dir, cell, shared, wait, checkpoint_every, device } => {
            stop_at_signals()?;
            bench_suite::cell::run(&CellOptions {
                run_dir: run_dir.clone(),
                id: cell.clone(),
                shared: *shared,
                wait: *wait,
                checkpoint_every: *checkpoint_every,
                device: *device,
            })
        }
        Verb::Predict { model, top, json, device, clips } => {
            let (model, clips) = (model.clone(), clips.clone());
            run_predict(&PredictOptions { model, clips, top: *top, device: *device }, *json)
        }
        Verb::Live { model, top, json } => run_live(model, *top, *json),
        Verb::Export { run_dir, cell, folder, to, form, weights, step, force } => {
            let source = match (run_dir.clone(), cell.clone(), folder.clone()) {
                (Some(run_dir), Some(cell), _) => Source::Cell { run_dir, cell },
                (_, _, folder) => Source::Folder(folder.context("no model was named")?),
            };
            bench_suite::export::export(&ExportOptions {
                source,
                to: to.clone(),
                form: *form,
                kept: *weights,
                step: step.clone(),
                force: *force,
            })
        }
        Verb::Compress { run_dir, cell, to, form, rank, epochs, device } => {
            stop_at_signals()?;
            bench_suite::compress::compress(&CompressOptions {
                run_dir: run_dir.clone(),
                id: cell.clone(),
                to: to.clone(),
                form: form.clone(),
                rank: *rank,
                epochs: *epochs,
                wait: Duration::from_mins(10),
                checkpoint_every: Duration::from_mins(1),
                device: *device,
            })
        }
        Verb::SingularValues { run_dir, cell } => {
            bench_suite::compress::singular_values(run_dir, cell, Duration::from_mins(10))
        }
        Verb::Pretrained { file } => {
            let (place, name) = features::take(&Places::of_root(&cli.root), file)?;
            tracing::info!("{}: --set model.pretrained={name}", place.display());
            Ok(())
        }
        Verb::Features { weights, width, height } => features::stream(weights, (*width, *height)),
        Verb::Strips { run_dir, out } => {
            let clips: Vec<String> = serde_json::from_reader(std::io::stdin().lock())
                .context("standard input is not a JSON list of clips")?;
            bench_suite::strips::write(run_dir, &clips, out)
        }
        Verb::TortureClips { count, seed, dir } => run_torture_clips(*count, *seed, dir, threads),
        Verb::DecodeClips { width, height, clips } => run_decode(*width, *height, clips),
        Verb::Params => print_json(&bench_suite::build::figure_1()?),
        Verb::Bench(options) => bench_suite::bench::kernels(options),
        Verb::BenchGpu(options) => bench_suite::bench::gpu(options),
        Verb::BenchDecomposition(options) => bench_suite::bench::decomposition(options),
        Verb::BenchFrames(options) => bench_suite::bench::frames(options),
        Verb::BenchLayer(options) => bench_suite::bench::layer(options),
        Verb::BenchStudy(options) => bench_suite::bench::study(&cli.root, options),
        Verb::BenchWorker => bench_suite::bench::worker(),
    }
}

/// These signals end training with a checkpoint; batch systems send SIGUSR1 before a job's time is up.
fn stop_at_signals() -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
    for signal in [SIGINT, SIGTERM, SIGUSR1] {
        signal_hook::flag::register(signal, std::sync::Arc::clone(&STOP))?;
    }
    Ok(())
}

fn run_prepare(cli: &Cli, selection: &Selection, jobs: usize) -> Result<()> {
    let (resolved, dataset) = selection.resolve(&cli.root)?;
    tracing::info!("data: {}", resolved.data);
    for remark in dataset.iter().flat_map(Dataset::remarks) {
        tracing::warn!("{remark}");
    }
    let places = Places::of_root(&cli.root);
    // What cannot be trained is said before hours of decoding.
    bench_suite::plan::check_models(&resolved.spec)?;
    if resolved.spec.reads_features()
        && bench_suite::resolve::built_store(&places, &resolved, dataset.as_ref())?.is_none()
    {
        features::check(&places, &resolved.spec)?;
    }
    let store = prepare(&places, &resolved, dataset, jobs)?;
    for row in store.left_out() {
        tracing::warn!("left out: {}: {}", row.clip, row.reason);
    }
    bench_suite::duplicates::name(&store);
    for row in store.flagged().iter().filter(|row| row.has_errors()) {
        tracing::warn!("kept with decoder errors: {}: {}", row.clip, row.flags);
    }
    anyhow::ensure!(!store.clips().is_empty(), "{}: no clip could be decoded", resolved.data);
    features::prepare(&places, &resolved.spec, &store)
}

fn run_plan(cli: &Cli, selection: &Selection) -> Result<()> {
    let places = Places::of_root(&cli.root);
    let on = (selection.device, selection.precision);
    let (resolved, dataset) = selection.resolve(&cli.root)?;
    let mut plan = match bench_suite::resolve::built_store(&places, &resolved, dataset.as_ref())? {
        Some(store) => {
            if !selection.dry_run && !features::are_there(&resolved.spec, &store)? {
                anyhow::bail!("the clips have no features yet: run `bench-suite prepare` first");
            }
            let clips = Clips::new(store, &resolved.spec, resolved.multi_label);
            bench_suite::straddling::warn(&clips, &resolved.spec)?;
            plan(&resolved.spec, &resolved, &clips.store_name(), &Frames::Known(&clips), on)?
        }
        None if selection.dry_run => {
            let frames = bench_suite::resolve::estimate(&resolved, dataset.as_ref())?;
            plan(&resolved.spec, &resolved, "", &frames, on)?
        }
        None => anyhow::bail!("the clips are not decoded yet: run `bench-suite prepare` first"),
    };
    if let Some(name) = &selection.name {
        anyhow::ensure!(
            plan.data_kind != DataKind::Sample,
            "--name {name}: a rendered sample has a folder of its own, {}",
            plan.experiment
        );
        plan.experiment.clone_from(name);
    }
    if !selection.dry_run {
        plan.code = Code::of(&cli.root);
        let folder = places.data.join("runs").join(&plan.run_digest);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        bench_suite::plan::keep(&folder, &plan)?;
    }
    print_json(&plan)
}

#[expect(clippy::print_stdout, reason = "machine-readable output is what these verbs are for")]
fn print_json(value: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
