//! Ctrl-C and SIGTERM: finished cells stay, children are given time to leave, the exit code is 130.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

/// The error that ends a run after a signal.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted: finished cells are kept, and the same command continues from there")
    }
}

impl std::error::Error for Interrupted {}

/// Remembers the signal that arrived, if any.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Takes over SIGINT, SIGTERM and a batch system's SIGUSR1 for the rest of the process.
    pub(crate) fn install() -> Result<Self> {
        let flag = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM, SIGUSR1] {
            signal_hook::flag::register_usize(signal, Arc::clone(&flag), signal as usize)?;
        }
        Ok(Self(flag))
    }

    /// Whether a signal arrived.
    pub(crate) fn raised(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Fails with [`Interrupted`] once a signal arrived.
    pub(crate) fn check(&self) -> Result<()> {
        if self.raised() { Err(Interrupted.into()) } else { Ok(()) }
    }

    /// What a child that a terminal's Ctrl-C reached too failed with: the signal, not the child's own words.
    pub(crate) fn explain<T>(&self, result: Result<T>) -> Result<T> {
        result.or_else(|error| self.check().and(Err(error)))
    }

    /// Waits for a child. A terminal sends Ctrl-C to the child too; where the signal reached only this
    /// process, the child gets SIGTERM, and then has time to leave in good order.
    pub(crate) fn wait(&self, child: &mut Child) -> std::io::Result<ExitStatus> {
        let mut since: Option<Instant> = None;
        let mut told = false;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if self.raised() {
                let waited = since.get_or_insert_with(Instant::now).elapsed();
                let grace = if self.0.load(Ordering::Relaxed) == SIGINT as usize { 3 } else { 0 };
                if !told && waited >= Duration::from_secs(grace) {
                    told = true;
                    signal("-TERM", &[child.id()]);
                }
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Sends a signal by its option of `kill`; not to reach a process that has just left is no error.
pub(crate) fn signal(option: &str, processes: &[u32]) {
    let pids = processes.iter().map(ToString::to_string);
    let _ = Command::new("kill").arg(option).args(pids).stderr(Stdio::null()).status();
}
