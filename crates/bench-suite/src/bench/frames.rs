//! Our side of `cargo xtask bench inference`: a model folder frame by frame, a JSON line a command.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;
use tt_rnn::folder::Stream;

/// What is timed.
#[derive(Debug, clap::Args)]
pub struct FrameOptions {
    /// Model folder.
    #[arg(long)]
    pub model: PathBuf,
    /// Frames of a clip, one after the other.
    #[arg(long)]
    pub frames: PathBuf,
}

/// Answers commands until standard input closes.
///
/// # Errors
/// A folder or frames that cannot be used.
pub fn frames(options: &FrameOptions) -> Result<()> {
    let trained = tt_rnn::load(&options.model)?;
    let frames = std::fs::read(&options.frames)
        .with_context(|| format!("cannot read {}", options.frames.display()))?;
    let (bytes, mut stream) = (trained.config.frames.bytes(), trained.stream()?);
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        let (seconds, probabilities) = clip(&mut stream, frames.chunks_exact(bytes))?;
        let reply = if request["cmd"] == "init" {
            json!({ "ok": true, "version": env!("CARGO_PKG_VERSION"), "probabilities": probabilities })
        } else {
            json!({ "ok": true, "frame_s": seconds })
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{reply}")?;
        out.flush()?;
    }
    Ok(())
}

/// Seconds of each frame, and the probabilities after the last.
fn clip<'a>(stream: &mut Stream, frames: impl Iterator<Item = &'a [u8]>) -> Result<(Vec<f64>, Vec<f64>)> {
    stream.restart();
    let (mut seconds, mut probabilities) = (Vec::new(), Vec::new());
    for frame in frames {
        let start = Instant::now();
        let answer = stream.push(frame)?;
        seconds.push(start.elapsed().as_secs_f64());
        probabilities = answer.to_vec();
    }
    Ok((seconds, probabilities))
}
