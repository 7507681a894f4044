//! Decodes clips in worker processes: nothing in this library links FFmpeg.
//!
//! A crash, a hang or a decompression bomb costs only the worker and that clip; the clip is reported with the
//! reason and the next one gets a new worker. A healthy worker decodes many clips.

use std::io::BufReader;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::kind::FrameSpec;
use crate::npy;

pub mod wire;

pub use wire::Outcome;

/// Version of frame choice and scaling: frames of different versions may differ.
pub const SAMPLER_VERSION: u32 = 2;
/// The scaler's flags, as the `ffmpeg` command line spells them; the picture is stretched to the frame's size.
pub const SCALE_FLAGS: &str = "bicubic";

/// What one clip may cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Silence after which the worker counts as hung.
    pub stall: Duration,
    /// Total wall-clock time; generous, so that the verdict does not depend on the machine's load.
    pub wall: Duration,
    /// Address space of the worker, in bytes.
    pub memory_bytes: u64,
    /// Frames put out.
    pub max_frames: u64,
    /// Pixels of one picture of the clip.
    pub max_pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stall: Duration::from_mins(1),
            wall: Duration::from_mins(30),
            memory_bytes: 2 << 30,
            max_frames: 100_000,
            max_pixels: 8192 * 8192,
        }
    }
}

/// Finds `video-worker` beside the running program, or in the folder above it (where cargo keeps tests).
///
/// # Errors
/// [`Error::Worker`] naming the places that were looked at.
pub fn find_worker() -> Result<PathBuf> {
    let here = std::env::current_exe().map_err(Error::io("find", Path::new("the running program")))?;
    let places: Vec<PathBuf> = here.ancestors().skip(1).take(2).map(|dir| dir.join("video-worker")).collect();
    places.iter().find(|path| path.is_file()).cloned().ok_or_else(|| Error::Worker {
        program: places.first().cloned().unwrap_or_else(|| "video-worker".into()),
        reason: "not found beside the running program: build it with `cargo build --release -p video-data`"
            .into(),
    })
}

/// The worker of frames: `given`, or the one found; rows need none.
pub(crate) fn worker_for(spec: &FrameSpec, given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(program) => Ok(program.to_owned()),
        None if spec.content.is_decoded() => find_worker(),
        None => Ok(PathBuf::new()),
    }
}

/// Decodes clips one after the other in a worker process that is started when needed.
#[derive(Debug)]
pub struct Decoder {
    program: PathBuf,
    limits: Limits,
    worker: Option<Worker>,
}

impl Decoder {
    /// A decoder that runs `program`; no process is started yet.
    pub fn new(program: &Path, limits: Limits) -> Self {
        Self { program: program.to_path_buf(), limits, worker: None }
    }

    /// The libav versions of the worker, which is started if necessary.
    pub fn libav(&mut self) -> Result<String> {
        Ok(self.worker()?.libav.clone())
    }

    /// Decodes the clip at `path`, handing whole frames, u8 `[n, H, W, C]`, or rows of its sound to `sink` as they come. Rows need no worker: a
    /// file of them is read here.
    ///
    /// The caller discards frames delivered before a clip turned out to be bad.
    ///
    /// # Errors
    /// [`Error::Worker`] when no worker can be started; errors of `sink`. A bad clip is no error: see
    /// [`Outcome::reason`].
    pub fn decode(
        &mut self,
        path: &Path,
        spec: &FrameSpec,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Outcome> {
        self.run(path, spec, false, sink)
    }

    /// Reads the clip's header only: [`Outcome::frames`] is what the container promises at the rate of `spec`.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn probe(&mut self, path: &Path, spec: &FrameSpec) -> Result<Outcome> {
        self.run(path, spec, true, &mut |_| Ok(()))
    }

    fn worker(&mut self) -> Result<&mut Worker> {
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start(&self.program, &self.limits)?,
        };
        Ok(self.worker.insert(worker))
    }

    fn run(
        &mut self,
        path: &Path,
        spec: &FrameSpec,
        probe: bool,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Outcome> {
        if let Some(reason) = refuse(path) {
            return Ok(Outcome { reason: Some(reason), ..Outcome::default() });
        }
        let path = std::path::absolute(path).map_err(Error::io("find", path))?;
        let limits = self.limits;
        if !spec.content.is_decoded() {
            return Ok(match npy::read(&path, spec, limits.max_frames, probe, sink)? {
                Ok(frames) => Outcome { fps: 1.0, frames, ..Outcome::default() },
                Err(reason) => Outcome { reason: Some(reason), ..Outcome::default() },
            });
        }
        let job =
            wire::Job { spec: *spec, max_frames: limits.max_frames, max_pixels: limits.max_pixels, probe };
        match self.worker()?.decode(&job, &path, &limits, sink) {
            Ok(Ended::Answered(outcome)) => Ok(outcome),
            Ok(Ended::Lost(reason)) => {
                self.worker = None;
                Ok(Outcome { reason: Some(reason), ..Outcome::default() })
            }
            Err(error) => {
                self.worker = None;
                Err(error)
            }
        }
    }
}

/// Why a path is not passed to a worker at all.
fn refuse(path: &Path) -> Option<String> {
    match std::fs::metadata(path) {
        Err(error) => Some(format!("cannot be read: {error}")),
        Ok(meta) if !meta.is_file() => Some("not a regular file".into()),
        Ok(meta) if meta.len() == 0 => Some("empty file (0 bytes)".into()),
        Ok(_) => None,
    }
}

/// A running worker process.
#[derive(Debug)]
struct Worker {
    child: Child,
    stdin: ChildStdin,
    messages: Receiver<(u8, Vec<u8>)>,
    libav: String,
}

/// What came of a clip.
enum Ended {
    Answered(Outcome),
    Lost(String),
}

impl Worker {
    fn start(program: &Path, limits: &Limits) -> Result<Self> {
        let fail = |reason: String| Error::Worker { program: program.to_path_buf(), reason };
        let mut child = Command::new(program)
            .arg("decode")
            .arg(limits.memory_bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| fail(format!("cannot be started: {error}")))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(fail("has no pipes".into()));
        };
        // At most two messages wait: a slow reader blocks the worker instead of filling memory.
        let (send, messages) = sync_channel(2);
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            while let Ok(Some(message)) = wire::read_message(&mut stdout) {
                if send.send(message).is_err() {
                    return;
                }
            }
        });
        let mut worker = Self { child, stdin, messages, libav: String::new() };
        match worker.messages.recv_timeout(limits.stall) {
            Ok((wire::HELLO, body)) => {
                let hello: wire::Hello =
                    serde_json::from_slice(&body).map_err(|e| fail(format!("sent no hello: {e}")))?;
                if hello.protocol != wire::VERSION {
                    return Err(fail(format!("speaks protocol {}, not {}", hello.protocol, wire::VERSION)));
                }
                worker.libav = hello.libav;
                Ok(worker)
            }
            Ok((tag, _)) => Err(fail(format!("started with message {tag:#x}"))),
            Err(_) => Err(fail(format!("did not start: {}", worker.end()))),
        }
    }

    fn decode(
        &mut self,
        job: &wire::Job,
        path: &Path,
        limits: &Limits,
        sink: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<Ended> {
        if wire::write_request(&mut self.stdin, job, path).is_err() {
            return Ok(Ended::Lost(format!("the decoder {}", self.end())));
        }
        // Time in `sink` (a full disk queue, a neighbour's turn) is not the clip's fault.
        let mut left = limits.wall;
        loop {
            let start = Instant::now();
            let message = self.messages.recv_timeout(limits.stall.min(left));
            left = left.saturating_sub(start.elapsed());
            match message {
                Ok((wire::FRAMES, frames)) => sink(&frames)?,
                Ok((wire::OUTCOME, body)) => {
                    return Ok(match serde_json::from_slice(&body) {
                        Ok(outcome) => Ended::Answered(outcome),
                        Err(error) => Ended::Lost(format!("the decoder gave no readable answer: {error}")),
                    });
                }
                Ok((tag, _)) => return Ok(Ended::Lost(format!("the decoder sent message {tag:#x}"))),
                Err(RecvTimeoutError::Timeout) => {
                    let (stall, wall) = (limits.stall.as_secs_f64(), limits.wall.as_secs_f64());
                    return Ok(Ended::Lost(if left.is_zero() {
                        format!("the decoder was stopped after {wall} s")
                    } else {
                        format!("the decoder hung: silent for {stall} s")
                    }));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Ok(Ended::Lost(format!("the decoder {}", self.end())));
                }
            }
        }
    }

    /// Ends the process and says how it ended.
    fn end(&mut self) -> String {
        // A process that closed its pipe is about to exit: wait a moment for its status before killing it.
        let deadline = Instant::now() + Duration::from_secs(2);
        let status = loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
                Ok(None) => {
                    return "closed its pipe".into();
                }
                Ok(Some(status)) => break status,
                Err(error) => return format!("was lost: {error}"),
            }
        };
        match status.signal() {
            Some(signal) => format!("crashed (signal {signal})"),
            None => format!("ended early ({status})"),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Either call fails only if the process has already exited.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
