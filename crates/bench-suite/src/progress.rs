//! Progress with an estimate of the time left: a bar on a terminal, otherwise a line every ten per cent.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Sends messages to standard error: only warnings if `quiet`, details too if `verbose`.
pub fn log(quiet: bool, verbose: bool) {
    let level = if quiet {
        "warn"
    } else if verbose {
        "debug"
    } else {
        "info"
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .init();
}

/// Progress of one long task over clips.
#[derive(Debug)]
pub struct Meter {
    what: &'static str,
    bar: Option<ProgressBar>,
    started: Instant,
    tenths: AtomicUsize,
}

impl Meter {
    /// A meter for `what` ("rendering", "decoding").
    pub fn new(what: &'static str) -> Self {
        let quiet = !tracing::enabled!(tracing::Level::INFO);
        let bar = (std::io::stderr().is_terminal() && !quiet).then(|| {
            let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} clips, {eta} left");
            let bar = ProgressBar::new(0).with_message(what);
            style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))
        });
        Self { what, bar, started: Instant::now(), tenths: AtomicUsize::new(0) }
    }

    /// Shows that `done` of `total` clips are done.
    pub fn show(&self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
            return;
        }
        let tenth = done * 10 / total.max(1);
        if self.tenths.fetch_max(tenth, Ordering::Relaxed) < tenth {
            let elapsed = self.started.elapsed().as_secs_f64();
            let left = elapsed * (total - done) as f64 / done.max(1) as f64;
            tracing::info!("{}: {done}/{total} clips, {left:.0} s left", self.what);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
