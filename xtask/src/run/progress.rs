//! Progress of a run: a bar with ETA on a terminal, the engine's lines otherwise.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One run's progress. The bar counts milliseconds of expected work, so that a short cell moves it little.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    verbose: bool,
    done: AtomicUsize,
    cells: AtomicUsize,
    /// Milliseconds of cells that are finished, and of those in progress by id.
    work: Mutex<(u64, Vec<(String, u64)>)>,
}

impl Progress {
    /// A bar where standard error is a terminal; lines otherwise; neither when quiet.
    pub(crate) fn new(quiet: bool, verbose: u8) -> Self {
        let bar = (std::io::stderr().is_terminal() && !quiet).then(|| {
            let bar = ProgressBar::new(1);
            if let Ok(style) =
                ProgressStyle::with_template("{prefix} {bar:24} {elapsed} ETA {eta}  {wide_msg}")
            {
                bar.set_style(style);
            }
            bar
        });
        Self {
            bar,
            quiet,
            verbose: verbose > 0,
            done: AtomicUsize::new(0),
            cells: AtomicUsize::new(0),
            work: Mutex::new((0, Vec::new())),
        }
    }

    /// Begins with `kept` of `cells` done and `expected_s` seconds of work ahead.
    pub(crate) fn start(&self, cells: usize, kept: usize, expected_s: f64) {
        self.cells.store(cells, Ordering::Relaxed);
        self.done.store(kept, Ordering::Relaxed);
        if let Some(bar) = &self.bar {
            bar.set_length(millis(expected_s).max(1));
            bar.reset();
            bar.enable_steady_tick(Duration::from_millis(500));
        }
        self.draw(None);
    }

    /// A line for people, above the bar.
    pub(crate) fn say(&self, line: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// A cell's process was started.
    pub(crate) fn cell_started(&self, id: &str) {
        if self.bar.is_none() {
            self.say(&format!("cell {id} ({} of {} done)", self.count(), self.cells.load(Ordering::Relaxed)));
        }
        self.draw(Some(id));
    }

    /// A line of a cell's standard error. On a terminal an epoch line moves the bar; others stand above it.
    pub(crate) fn line(&self, id: &str, expected_s: f64, prefix: bool, line: &str) {
        let Some(bar) = &self.bar else {
            if prefix {
                eprintln!("{id}: {line}");
            } else {
                eprintln!("{line}");
            }
            return;
        };
        if let Some(share) = epoch_share(line) {
            self.with_work(|(_, running)| {
                running.retain(|(other, _)| other != id);
                running.push((id.to_owned(), millis(expected_s * share)));
            });
            self.draw(Some(&format!("{id}: {line}")));
            if !self.verbose {
                return;
            }
        }
        bar.println(if prefix { format!("{id}: {line}") } else { line.to_owned() });
    }

    /// A cell ended well.
    pub(crate) fn cell_done(&self, id: &str, expected_s: f64) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.with_work(|(finished, running)| {
            running.retain(|(other, _)| other != id);
            *finished += millis(expected_s);
        });
        self.draw(None);
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn count(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    fn with_work(&self, change: impl FnOnce(&mut (u64, Vec<(String, u64)>))) {
        let mut work = self.work.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut work);
        if let Some(bar) = &self.bar {
            bar.set_position(work.0 + work.1.iter().map(|(_, ms)| ms).sum::<u64>());
        }
    }

    fn draw(&self, message: Option<&str>) {
        let Some(bar) = &self.bar else { return };
        bar.set_prefix(format!("{}/{} cells", self.count(), self.cells.load(Ordering::Relaxed)));
        if let Some(message) = message {
            bar.set_message(message.to_owned());
        }
    }
}

fn millis(seconds: f64) -> u64 {
    (seconds.max(0.0) * 1000.0) as u64
}

/// The share of a cell that is done, from a line with `epoch 3/40` or `epoch=3/40`.
fn epoch_share(line: &str) -> Option<f64> {
    let rest = line.split("epoch").nth(1)?.trim_start_matches([' ', '=', ':']);
    let (at, rest) = rest.split_once('/')?;
    let of: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let (at, of): (f64, f64) = (at.trim().parse().ok()?, of.parse().ok()?);
    (of > 0.0).then_some(at / of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_lines_are_understood() {
        assert_eq!(epoch_share("tt-gru fold 0 epoch 3/40 loss 2.1"), Some(0.075));
        assert_eq!(epoch_share("INFO epoch=1/2"), Some(0.5));
        assert_eq!(epoch_share("epoch 1 of 2"), None);
        assert_eq!(epoch_share("loading"), None);
    }
}
