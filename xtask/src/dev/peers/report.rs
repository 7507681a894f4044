//! What a run leaves: rows, raw samples, the machine, and who is missing.

use std::path::Path;

use anyhow::Result;
use bench_suite::draw::charts;
use bench_suite::results::peers::{REDUCED, Sample, WorkerFacts, rows};
use bench_suite::results::{csv_of, write_atomic};
use serde::Serialize;

use crate::dev::measured::{Bench, load};
use crate::dev::peers::check;
use crate::dev::peers::plan::BATCH;

/// A peer without rows, and why.
#[derive(Debug, Clone, Serialize)]
struct Missing {
    peer: &'static str,
    cell: &'static str,
    frames: usize,
    threads: usize,
    reason: String,
}

#[derive(Serialize)]
struct Section<'a> {
    rounds: usize,
    /// Of the system, at the start and at the last session's end.
    load_start: Option<f64>,
    load_end: Option<f64>,
    tolerance: f64,
    /// Of peers of lower precision.
    reduced_tolerance: f64,
    missing: &'a [Missing],
    worker: &'a [WorkerFacts],
}

/// Everything a run has found so far.
#[derive(Debug)]
pub(super) struct Results {
    machine: Bench,
    rounds: usize,
    load_start: Option<f64>,
    pub(super) samples: Vec<Sample>,
    pub(super) workers: Vec<WorkerFacts>,
    missing: Vec<Missing>,
}

impl Results {
    /// Nothing yet.
    pub(super) fn new(machine: Bench, rounds: usize) -> Self {
        let load_start = load();
        Self { machine, rounds, load_start, samples: Vec::new(), workers: Vec::new(), missing: Vec::new() }
    }

    /// Notes that a peer has no rows.
    pub(super) fn leave_out(
        &mut self,
        peer: &'static str,
        cell: &'static str,
        frames: usize,
        threads: usize,
        reason: String,
    ) {
        self.missing.push(Missing { peer, cell, frames, threads, reason });
    }

    /// Writes all files of the folder.
    pub(super) fn write(&self, out: &Path) -> Result<()> {
        let rows = rows(&self.workers, &self.samples, BATCH);
        write_atomic(&out.join("peers.csv"), &csv_of(&rows)?)?;
        write_atomic(&out.join("peers_raw.csv"), &csv_of(&self.samples)?)?;
        let section = Section {
            rounds: self.rounds,
            load_start: self.load_start,
            load_end: load(),
            tolerance: check::TOLERANCE,
            reduced_tolerance: check::REDUCED_TOLERANCE,
            missing: &self.missing,
            worker: &self.workers,
        };
        self.machine.write(out, "peers", &section)?;
        charts::peers(out, &self.machine.title(), &rows)
    }

    /// The end of the run in words.
    pub(super) fn say(&self, out: &Path) {
        eprintln!(
            "\n{:20} {:8} {:>4} {:>7} {:>8} {:>10} {:>10} {:>7}",
            "peer", "ours", "T", "threads", "phase", "ms", "ours ms", "ratio"
        );
        for row in rows(&self.workers, &self.samples, BATCH) {
            eprintln!(
                "{:20} {:8} {:>4} {:>7} {:>8} {:>10.1} {:>10.1} {:>7.2}{}",
                row.peer,
                row.ours,
                row.frames,
                row.threads,
                row.phase,
                row.ms_min,
                row.ours_ms_min,
                row.ratio,
                if row.precision == REDUCED {
                    format!("  no equal: error {:.0e}", row.largest_error)
                } else {
                    String::new()
                }
            );
        }
        for missing in &self.missing {
            eprintln!("left out: {} (T = {}): {}", missing.peer, missing.frames, missing.reason);
        }
        eprintln!("written to {}", out.display());
    }
}
