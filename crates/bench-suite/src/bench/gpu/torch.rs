//! PyTorch on the same card in a long-lived process: one JSON line per command.

use super::GpuOptions;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The worker.
pub(super) struct Torch {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Torch {
    /// Starts it for steps of these sizes; none, with a message, without Python or PyTorch for this device.
    pub(super) fn start(options: &GpuOptions, batch: usize, frames: usize) -> Result<Option<Self>> {
        let Some(python) = &options.python else {
            tracing::info!("PyTorch: skipped: no --python");
            return Ok(None);
        };
        let mut command = Command::new(python);
        match &options.python_libraries {
            Some(path) => command.env("LD_LIBRARY_PATH", path),
            None => command.env_remove("LD_LIBRARY_PATH"),
        };
        let started = command.arg(&options.script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                tracing::warn!("PyTorch: skipped: {} cannot be started ({error})", python.display());
                return Ok(None);
            }
        };
        let input = child.stdin.take().context("the worker's input")?;
        let output = BufReader::new(child.stdout.take().context("the worker's output")?);
        let mut torch = Self { child, input, output };
        let device = options.device.kind();
        let sizes = json!({ "cmd": "init", "device": device, "batch": batch, "frames": frames, "quick": options.quick });
        match torch.ask(&sizes) {
            Ok(reply) => {
                tracing::info!("PyTorch {} on {}", reply["version"], reply["name"]);
                Ok(Some(torch))
            }
            Err(error) => {
                tracing::warn!("PyTorch: skipped: {error:#}");
                Ok(None)
            }
        }
    }

    /// Makes PyTorch's versions of a model and runs each once; their names. A version that fails is left out,
    /// with a message.
    pub(super) fn prepare(&mut self, model: &str) -> Result<Vec<String>> {
        let reply = self.ask(&json!({ "cmd": "prepare", "model": model }))?;
        for (version, why) in reply["failed"].as_object().into_iter().flatten() {
            tracing::warn!("PyTorch {model} {version}: skipped: {why}");
        }
        let names = reply["versions"].as_array().context("no list of versions")?;
        Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
    }

    /// Milliseconds of one training step.
    pub(super) fn run(&mut self, model: &str, version: &str) -> Result<f64> {
        let reply = self.ask(&json!({ "cmd": "run", "model": model, "version": version }))?;
        reply["ms"].as_f64().context("no time")
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.input, "{request}")?;
        self.input.flush()?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the worker ended; its own words are above");
        }
        let reply: Value = serde_json::from_str(&line)?;
        match reply["error"].as_str() {
            Some(error) => bail!("{error}"),
            None => Ok(reply),
        }
    }
}

impl Drop for Torch {
    fn drop(&mut self) {
        // It may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
