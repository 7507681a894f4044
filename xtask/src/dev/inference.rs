//! `cargo xtask bench inference`: a model that is given frame by frame, here and in other programs, in turns.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bench_suite::results::inference::{HEADER, InferenceRow, InferenceSample, RAW_HEADER, Section};
use bench_suite::results::{csv_bytes, write_atomic};
use serde_json::json;

use crate::cli::bench::Inference;
use crate::dev::measured::{Bench, load};
use crate::dev::peers::worker::Worker;
use crate::machine::{onnxruntime_web, python};
use crate::repo::{self, Repo};

/// Largest difference of a probability that counts as the same model.
const TOLERANCE: f64 = 1e-5;
/// Frames of a clip: two seconds.
const FRAMES: usize = 48;
const OURS: &str = "ours";
const LIVE: &str = "ours, predict --live";

/// What is measured, and on what.
struct Case {
    folder: PathBuf,
    graph: PathBuf,
    frames: PathBuf,
}

/// Runs the comparison and writes `inference.csv`.
pub(crate) fn inference(repo: &Repo, options: &Inference) -> Result<()> {
    let engine = repo.binary("bench-suite");
    let machine = Bench::new(repo.root(), Path::new(engine.get_program()))?;
    let out = machine.folder(repo.root(), "inference", options.out.as_deref())?;
    let load_start = load();
    let case = prepare(repo, &options.model)?;
    let logs = repo.path("data/peers/logs");
    fs::create_dir_all(&logs).with_context(|| format!("failed to make {}", logs.display()))?;
    let (mut peers, mut missing) = (Vec::new(), BTreeMap::new());
    for (name, command) in commands(repo, options, &case) {
        let log = logs.join(format!("inference-{name}.log"));
        match command.and_then(|mut command| Peer::start(name, &mut command, &log)) {
            Ok(peer) => peers.push(peer),
            Err(reason) if name == OURS => return Err(reason),
            Err(reason) => {
                eprintln!("{name} is not here: {reason:#}");
                missing.insert(name.to_owned(), format!("{reason:#}"));
            }
        }
    }
    let mut live = Live::start(repo, &case)?;
    let samples = rounds(options.rounds, &mut peers, &mut live)?;
    let rows = rows(&peers, &samples)?;
    write_atomic(&out.join("inference.csv"), &csv_bytes(HEADER, &rows)?)?;
    write_atomic(&out.join("inference_raw.csv"), &csv_bytes(RAW_HEADER, &samples)?)?;
    let section = Section {
        model: repo.show(&case.folder),
        frames: FRAMES,
        rounds: options.rounds,
        threads: 1,
        load_start,
        load_end: load(),
        missing,
    };
    machine.write(&out, "inference", &section)?;
    for row in &rows {
        eprintln!("{:22} {:9.1} µs a frame, {:6.2} × ours", row.program, row.us_median, row.to_ours);
    }
    eprintln!("written to {}", repo.show(&out));
    // A measurement in a place of its own is for whoever asked for it.
    if options.out.is_none() { bench_suite::draw::inference::splice(repo.root(), &out) } else { Ok(()) }
}

/// The graph of the model, and frames of a clip that a formula draws.
fn prepare(repo: &Repo, model: &Path) -> Result<Case> {
    let home = repo.path("data/peers/inference");
    fs::create_dir_all(&home).with_context(|| format!("failed to make {}", home.display()))?;
    let folder = repo.path(model);
    let (graph, frames) = (home.join("model.onnx"), home.join("frames.bin"));
    let mut export = repo.binary("bench-suite");
    export.args(["export", "--force", "--form", "step", "--folder"]).arg(&folder).arg("--to").arg(&graph);
    repo::run(&mut export)?;
    let config = folder.join("config.json");
    let text = fs::read(&config).with_context(|| format!("{} cannot be read", config.display()))?;
    let config: serde_json::Value = serde_json::from_slice(&text)?;
    let pixels = |key: &str| {
        let pixels = config["frames"][key].as_u64().map(|pixels| pixels as usize);
        pixels.with_context(|| format!("{} has no frames.{key}", folder.display()))
    };
    let (width, height) = (pixels("width")?, pixels("height")?);
    let pixel = |t: usize, at: usize| (at / 3 % width + at / 3 / width * 2 + at % 3 * 50 + t * 11) % 256;
    let bytes: Vec<u8> =
        (0..FRAMES).flat_map(|t| (0..width * height * 3).map(move |at| pixel(t, at) as u8)).collect();
    write_atomic(&frames, &bytes)?;
    Ok(Case { folder, graph, frames })
}

/// How each program is started, or why it cannot be.
fn commands(repo: &Repo, options: &Inference, case: &Case) -> Vec<(&'static str, Result<Command>)> {
    let mut ours = repo.binary("bench-suite");
    ours.arg("bench-frames").arg("--model").arg(&case.folder).arg("--frames").arg(&case.frames);
    ours.args(["--threads", "1"]);
    let on_graph = |mut command: Command| {
        command.arg(&case.graph).arg(&case.frames);
        command
    };
    let in_python = |runtime: &str| {
        let what = "onnxruntime and OpenVINO (0.4 GB)";
        let mut command = Command::new(python::environment(repo, "inference", what, &options.python)?);
        command.arg(repo.path("xtask/peers/inference.py")).arg(runtime);
        Ok(on_graph(command))
    };
    let in_node = || {
        let mut command = Command::new("node");
        command.arg(repo.path("xtask/peers/inference.mjs")).arg(onnxruntime_web::folder(repo)?);
        Ok(on_graph(command))
    };
    let in_tract = || {
        let target = repo.path("data/checks/onnx/target");
        let mut cargo = repo.cargo();
        cargo.args(["build", "--release", "--quiet", "--bin", "frames", "--manifest-path"]);
        cargo.arg(repo.path("xtask/checks/onnx/tract/Cargo.toml")).arg("--target-dir").arg(&target);
        repo::run(&mut cargo)?;
        Ok(on_graph(Command::new(target.join("release/frames"))))
    };
    vec![
        (OURS, Ok(ours)),
        ("onnxruntime", in_python("onnxruntime")),
        ("openvino", in_python("openvino")),
        ("tract", in_tract()),
        ("onnxruntime-web", in_node()),
    ]
}

/// A program that computes the same.
struct Peer {
    name: &'static str,
    worker: Worker,
    version: String,
    probabilities: Vec<f64>,
}

impl Peer {
    fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let mut worker = Worker::start(command, log)?;
        let reply =
            worker.ask(&json!({ "cmd": "init" })).with_context(|| format!("see {}", log.display()))?;
        let version = reply["version"].as_str().unwrap_or("?").to_owned();
        Ok(Self { name, worker, version, probabilities: numbers(&reply["probabilities"])? })
    }

    /// Seconds of the frames of a clip.
    fn clip(&mut self) -> Result<Vec<f64>> {
        let reply = self.worker.ask(&json!({ "cmd": "run" })).with_context(|| self.name.to_owned())?;
        numbers(&reply["frame_s"])
    }
}

fn numbers(value: &serde_json::Value) -> Result<Vec<f64>> {
    let values = value.as_array().context("an answer has no numbers")?;
    values.iter().map(|value| value.as_f64().context("an answer has no numbers")).collect()
}

/// `predict --live`, from the first byte of a frame to the answer's end of line.
struct Live {
    child: Child,
    frames: ChildStdin,
    answers: BufReader<ChildStdout>,
    clip: Vec<u8>,
}

impl Live {
    fn start(repo: &Repo, case: &Case) -> Result<Self> {
        let mut command = repo.binary("bench-suite");
        command.args(["live", "--quiet", "--json", "--top", "1", "--model"]).arg(&case.folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("failed to start bench-suite live")?;
        let frames = child.stdin.take().context("bench-suite live has no standard input")?;
        let answers = child.stdout.take().context("bench-suite live has no standard output")?;
        let clip = fs::read(&case.frames)?;
        Ok(Self { child, frames, answers: BufReader::new(answers), clip })
    }

    fn clip(&mut self) -> Result<Vec<f64>> {
        let mut seconds = Vec::new();
        for frame in self.clip.chunks_exact(self.clip.len() / FRAMES) {
            let (start, mut line) = (Instant::now(), String::new());
            self.frames.write_all(frame).context("bench-suite live takes no frames")?;
            if self.answers.read_line(&mut line)? == 0 {
                bail!("bench-suite live ended");
            }
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok(seconds)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // It may have ended already; both calls then fail, and there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The middle one; the upper of two.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// A clip by every program, round after round.
fn rounds(rounds: usize, peers: &mut [Peer], live: &mut Live) -> Result<Vec<InferenceSample>> {
    let mut samples = Vec::new();
    for round in 0..rounds {
        let mut add = |program: &str, seconds: &[f64]| {
            // Hundredths: what is below, no clock here resolves.
            let us: Vec<f64> = seconds.iter().map(|s| (s * 1e8).round() / 100.0).collect();
            let (us_median, us_least) = (median(&us), least(&us));
            samples.push(InferenceSample { program: program.to_owned(), round, us_median, us_least });
        };
        for peer in &mut *peers {
            add(peer.name, &peer.clip()?);
        }
        add(LIVE, &live.clip()?);
    }
    Ok(samples)
}

/// A row for each program.
///
/// # Errors
/// A program that computes something else.
fn rows(peers: &[Peer], samples: &[InferenceSample]) -> Result<Vec<InferenceRow>> {
    let times = |program: &str| -> Vec<f64> {
        samples.iter().filter(|sample| sample.program == program).map(|sample| sample.us_median).collect()
    };
    let (ours, probabilities) = (times(OURS), &peers[0].probabilities);
    let row = |program: &str, version: &str, error: Option<f64>| {
        let us = times(program);
        let ratios: Vec<f64> = us.iter().zip(&ours).map(|(us, ours)| us / ours).collect();
        InferenceRow {
            program: program.to_owned(),
            version: version.to_owned(),
            us_median: median(&us),
            us_least: least(&us),
            to_ours: (median(&ratios) * 1e4).round() / 1e4,
            error,
        }
    };
    let mut rows = Vec::new();
    for peer in peers {
        let apart = peer.probabilities.iter().zip(probabilities).map(|(a, b)| (a - b).abs());
        // `f64::max` would lose a number that is none.
        let error =
            apart.fold(0.0, |most: f64, error| if error > most || error.is_nan() { error } else { most });
        let fits = error <= TOLERANCE && peer.probabilities.iter().all(|p| p.is_finite());
        if peer.probabilities.len() != probabilities.len() || !fits {
            bail!("{} computes other probabilities: {error:e}", peer.name);
        }
        rows.push(row(peer.name, &peer.version, Some(error)));
    }
    rows.push(row(LIVE, &peers[0].version, None));
    Ok(rows)
}
