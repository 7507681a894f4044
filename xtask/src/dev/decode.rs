//! `cargo xtask bench decode`: our decoding beside the `ffmpeg` command line, PyAV, OpenCV and decord.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use bench_suite::results::write_atomic;
use serde::Serialize;

use crate::cli::bench::Decode;
use crate::dev::measured::{Bench, load};
use crate::machine::python;
use crate::repo::{self, Repo};

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
    let python = python::environment(repo, "decode", "PyAV, OpenCV and decord (0.4 GB)", &options.python)?;
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
