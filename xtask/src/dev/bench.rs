//! `cargo xtask bench`: measurements of this machine, alone or beside other libraries.

use std::path::Path;

use anyhow::{Result, bail};
use bench_suite::device::DeviceName;
use serde::Serialize;

use crate::cli::bench::{Bench, CASE_LIMIT_S, Gpu, Kernels, Study};
use crate::dev::decode;
use crate::dev::inference;
use crate::dev::measured::{self, load};
use crate::dev::peers;
use crate::machine::devices;
use crate::repo::{self, Repo};

/// Sections of `bench gpu` that say how fast kernels are.
const KERNELS: &str = "layer,step";

/// Builds what the measurement needs and hands over.
pub(crate) fn bench(repo: &Repo, what: &Bench) -> Result<()> {
    let card = match what {
        Bench::Gpu(options) => Some(options.device),
        Bench::Kernels(options) => Some(options.device),
        _ => None,
    };
    // The programs for cards are built by `setup`: a machine with a card need not be able to build.
    if card.is_none_or(|device| devices::resolve(repo, device) == DeviceName::Cpu) {
        repo.build(&["bench-suite"], "the training engine", false)?;
    }
    match what {
        Bench::Gpu(options) => gpu(repo, options),
        Bench::Kernels(options) if devices::resolve(repo, options.device) != DeviceName::Cpu => {
            let Kernels { rounds, out, device, python, only } = options.clone();
            if !only.is_empty() {
                bail!("--only names cases of the CPU; a card's are parts: bench gpu --sections");
            }
            let (sections, case_limit) = (KERNELS.into(), CASE_LIMIT_S);
            gpu(repo, &Gpu { device, sections, rounds, case_limit, quick: false, python, out })
        }
        Bench::Kernels(options) => kernels(repo, options),
        Bench::Study(options) => study(repo, options),
        Bench::Decode(options) => decode::decode(repo, options),
        Bench::Inference(options) => inference::inference(repo, options),
        Bench::Decomposition(options) => peers::decomposition::decomposition(repo, options),
        Bench::Peers(options) => {
            let engine = repo.binary("bench-suite");
            peers::run(&repo.path(""), Path::new(engine.get_program()), options)
        }
    }
}

/// What `machine.toml` says of this verb.
#[derive(Serialize)]
struct Section {
    rounds: usize,
    only: String,
    /// Of the system.
    load_start: Option<f64>,
    load_end: Option<f64>,
}

/// What `machine.toml` says of a study.
#[derive(Serialize)]
struct StudySection<'a> {
    clips: usize,
    frames: &'a str,
    rounds: usize,
    load_start: Option<f64>,
    load_end: Option<f64>,
}

/// What `machine.toml` says of a card.
#[derive(Serialize)]
struct GpuSection {
    device: String,
    sections: String,
    rounds: usize,
    quick: bool,
    load_start: Option<f64>,
    load_end: Option<f64>,
}

fn gpu(repo: &Repo, options: &Gpu) -> Result<()> {
    let device = devices::resolve(repo, options.device);
    let mut engine = devices::device_program(repo, device)?;
    let machine = measured::Bench::new(repo.root(), Path::new(engine.get_program()))?;
    let out = machine.folder(repo.root(), "gpu", options.out.as_deref())?;
    let load_start = load();
    engine.args(["bench-gpu", "--device", &device.to_string(), "--sections", &options.sections]);
    engine.args(["--rounds", &options.rounds.to_string()]);
    engine.args(["--case-limit", &options.case_limit.to_string()]).arg("--out").arg(&out);
    engine.arg("--python").arg(&options.python);
    if let Some(path) = std::env::var_os("LD_LIBRARY_PATH") {
        engine.arg("--python-libraries").arg(path);
    }
    if options.quick {
        engine.arg("--quick");
    }
    let done = repo::run(&mut engine);
    let section = GpuSection {
        device: device.to_string(),
        sections: options.sections.clone(),
        rounds: options.rounds,
        quick: options.quick,
        load_start,
        load_end: load(),
    };
    machine.write(&out, "gpu", &section)?;
    eprintln!("written to {}", repo.show(&out));
    done
}

fn kernels(repo: &Repo, options: &Kernels) -> Result<()> {
    let mut engine = repo.binary("bench-suite");
    let machine = measured::Bench::new(repo.root(), Path::new(engine.get_program()))?;
    let out = machine.folder(repo.root(), "kernels", options.out.as_deref())?;
    let load_start = load();
    engine.arg("bench").arg("--out").arg(out.join("kernels.csv"));
    engine.args(["--rounds", &options.rounds.to_string(), "--only", &options.only]);
    repo::run(&mut engine)?;
    let (rounds, only) = (options.rounds, options.only.clone());
    machine.write(&out, "kernels", &Section { rounds, only, load_start, load_end: load() })?;
    eprintln!("written to {}", repo.show(&out));
    Ok(())
}

fn study(repo: &Repo, options: &Study) -> Result<()> {
    let mut engine = repo.binary("bench-suite");
    let machine = measured::Bench::new(repo.root(), Path::new(engine.get_program()))?;
    let out = machine.folder(repo.root(), "study", options.out.as_deref())?;
    let load_start = load();
    let Study { clips, frames, models, rounds, keep, .. } = options;
    engine.arg("bench-study").arg("--out").arg(out.join("study.csv"));
    engine.args(["--clips", &clips.to_string(), "--rounds", &rounds.to_string()]);
    engine.args(["--frames", frames, "--models", models]);
    if *keep {
        engine.arg("--keep");
    }
    // Rows of the models that are done stay where a later one fails.
    let done = repo::run(&mut engine);
    let section = StudySection { clips: *clips, frames, rounds: *rounds, load_start, load_end: load() };
    machine.write(&out, "study", &section)?;
    eprintln!("written to {}", repo.show(&out));
    done
}
