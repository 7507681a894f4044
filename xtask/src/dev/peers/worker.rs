//! One live process and its line of JSON per request.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// The longest that one answer may take; compilers run inside `init` and `check`.
const PATIENCE: Duration = Duration::from_mins(10);

/// A started peer. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    requests: Option<ChildStdin>,
    replies: Receiver<String>,
}

/// What one iteration took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) cpu_s: f64,
    pub(super) wall_s: f64,
}

impl Worker {
    /// Starts the process; its standard error goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("failed to write {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(file)
            .spawn()
            .with_context(|| format!("failed to start {}", command.get_program().display()))?;
        let output = child.stdout.take().context("the worker has no standard output")?;
        let requests = child.stdin.take();
        let (send, replies) = channel();
        // Ends with the process, whose end closes the pipe.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, requests, replies })
    }

    /// Sends a request and waits for the answer.
    pub(crate) fn ask(&mut self, request: &Value) -> Result<Value> {
        let input = self.requests.as_mut().context("the worker has no standard input")?;
        // A worker that died is reported by the missing answer, with its exit status.
        let sent = writeln!(input, "{request}").and_then(|()| input.flush());
        let line = match self.replies.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => bail!("no answer for {} s", PATIENCE.as_secs()),
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().context("failed to wait for the worker")?;
                bail!("the process ended ({status})")
            }
        };
        sent.context("failed to reach the worker")?;
        let reply: Value =
            serde_json::from_str(&line).with_context(|| format!("not a line of JSON: {line:?}"))?;
        if reply["ok"] != true {
            bail!("{}", reply["error"].as_str().unwrap_or("the worker gave no reason"));
        }
        Ok(reply)
    }

    /// One iteration of a phase.
    pub(super) fn run(&mut self, phase: &str) -> Result<Times> {
        let reply = self.ask(&json!({"cmd": "run", "phase": phase}))?;
        Ok(Times { cpu_s: number(&reply, "cpu_s")?, wall_s: number(&reply, "wall_s")? })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.requests = None;
        // It may have ended already; both calls then fail, and there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number of a reply.
pub(super) fn number(reply: &Value, key: &str) -> Result<f64> {
    reply[key].as_f64().with_context(|| format!("the worker's answer has no number {key:?}"))
}
