//! `cargo xtask bench decode`: our decoding beside the `ffmpeg` command line, PyAV, OpenCV and decord.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use bench_suite::results::write_atomic;
use serde::Serialize;

use crate::cli::bench::Decode;
use crate::dev::measured::{Bench, load};
use crate::repo::{self, Repo};

/// Pinned versions of the Python peers.
const PINS: &str = "xtask/peers/requirements/decode.txt";

/// What `machine.toml` says of this verb.
#[derive(Serialize)]
struct Section {
    rounds: usize,
    clips: &'static str,
    /// Of the system.
    load_start: Option<f64>,
    load_end: Option<f64>,
}

/// Runs the comparison and writes `decode.csv`.
pub(crate) fn decode(repo: &Repo, options: &Decode) -> Result<()> {
    repo.build(&["video-data"], "decoding, links FFmpeg", false)?;
    let engine = repo.binary("bench-suite");
    let machine = Bench::new(repo.root(), Path::new(engine.get_program()))?;
    let out = machine.folder(repo.root(), "decode", options.out.as_deref())?;
    let home = repo.path("data/peers/env/decode");
    let python = environment(repo, &home, &options.python)?;
    let load_start = load();
    let clips = repo.path("data/peers/decode");
    let mut command = Command::new(python);
    command.arg(repo.path("xtask/peers/decode.py")).arg(engine.get_program());
    command.arg(options.rounds.to_string()).arg(&clips);
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("failed to start {}", repo::line(&command)))?;
    if !output.status.success() {
        bail!("the comparison failed (see above); it needs the ffmpeg command line with libx264");
    }
    write_atomic(&out.join("decode.csv"), &output.stdout)?;
    let rounds = options.rounds;
    let clips = "1,199 frames of ffmpeg's testsrc2, rendered, 320x240 to 160x120 RGB";
    machine.write(&out, "decode", &Section { rounds, clips, load_start, load_end: load() })?;
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    eprintln!("written to {}", repo.show(&out));
    Ok(())
}

/// A virtual environment with the pinned peers, made when it is missing or its pins changed.
fn environment(repo: &Repo, home: &Path, base: &str) -> Result<PathBuf> {
    let pins = fs::read_to_string(repo.path(PINS)).with_context(|| format!("{PINS} cannot be read"))?;
    let (python, stamp) = (home.join("bin/python"), home.join("installed.txt"));
    if fs::read_to_string(&stamp).is_ok_and(|text| text == pins) {
        return Ok(python);
    }
    eprintln!("installing PyAV, OpenCV and decord into {} (0.4 GB)", repo.show(home));
    repo::run(Command::new(base).args(["-m", "venv", "--clear"]).arg(home))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "-r"]);
    repo::run(pip.arg(repo.path(PINS)))?;
    write_atomic(&stamp, pins.as_bytes())?;
    Ok(python)
}
