//! What a run leaves: rows, raw samples, the machine, and who is missing.

use std::path::Path;

use anyhow::{Context, Result};
use bench_suite::draw::charts;
use bench_suite::results::peers::{PHASES, PeerRow};
use serde::Serialize;

use crate::dev::measured::{Bench, load};
use crate::dev::peers::check;
use crate::dev::peers::plan::BATCH;
use crate::dev::peers::rows::{Sample, WorkerFacts};

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

    /// Every peer against our model of its format: the train, and for dense peers our dense model too.
    fn rows(&self) -> Vec<PeerRow> {
        let mut rows = Vec::new();
        for peer in self.workers.iter().filter(|worker| !worker.ours) {
            let against = |ours: &&WorkerFacts| {
                ours.ours
                    && (ours.cell, ours.frames, ours.threads) == (peer.cell, peer.frames, peer.threads)
                    && (!ours.dense || peer.dense)
                    && ours.format == peer.format
            };
            for ours in self.workers.iter().filter(against) {
                rows.extend(PHASES.into_iter().filter_map(|phase| self.row(peer, ours, phase)));
            }
        }
        rows
    }

    fn row(&self, peer: &WorkerFacts, ours: &WorkerFacts, phase: &'static str) -> Option<PeerRow> {
        let (ms, ours_ms) = (self.sorted_ms(peer, phase), self.sorted_ms(ours, phase));
        let (&ms_min, &ours_ms_min) = (ms.first()?, ours_ms.first()?);
        Some(PeerRow {
            peer: peer.peer,
            ours: ours.peer,
            frames: peer.frames,
            batch: BATCH,
            threads: peer.threads,
            phase,
            ms_min: rounded(ms_min),
            ms_median: rounded(median(&ms)?),
            ours_ms_min: rounded(ours_ms_min),
            ratio: rounded(ms_min / ours_ms_min),
            peak_rss_bytes: peer.peak_rss_bytes,
        })
    }

    fn sorted_ms(&self, worker: &WorkerFacts, phase: &str) -> Vec<f64> {
        let same = |sample: &&Sample| {
            (sample.peer, sample.cell, sample.frames, sample.threads, sample.phase)
                == (worker.peer, worker.cell.name(), worker.frames, worker.threads, phase)
        };
        let time = |sample: &Sample| 1e3 * if sample.threads == 1 { sample.cpu_s } else { sample.wall_s };
        let mut ms: Vec<_> = self.samples.iter().filter(same).map(time).collect();
        ms.sort_by(f64::total_cmp);
        ms
    }

    /// Writes all files of the folder.
    pub(super) fn write(&self, out: &Path) -> Result<()> {
        let rows = self.rows();
        csv(&out.join("peers.csv"), &rows)?;
        csv(&out.join("peers_raw.csv"), &self.samples)?;
        let section = Section {
            rounds: self.rounds,
            load_start: self.load_start,
            load_end: load(),
            tolerance: check::TOLERANCE,
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
        for row in self.rows() {
            eprintln!(
                "{:20} {:8} {:>4} {:>7} {:>8} {:>10.1} {:>10.1} {:>7.2}",
                row.peer,
                row.ours,
                row.frames,
                row.threads,
                row.phase,
                row.ms_min,
                row.ours_ms_min,
                row.ratio
            );
        }
        for missing in &self.missing {
            eprintln!("left out: {} (T = {}): {}", missing.peer, missing.frames, missing.reason);
        }
        eprintln!("written to {}", out.display());
    }
}

fn csv<T: Serialize>(path: &Path, rows: &[T]) -> Result<()> {
    let write = || -> Result<()> {
        let mut writer = csv::Writer::from_path(path)?;
        for row in rows {
            writer.serialize(row)?;
        }
        Ok(writer.flush()?)
    };
    write().with_context(|| format!("failed to write {}", path.display()))
}

/// Four decimals: 0.1 us, below what any clock here resolves.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

/// The middle of sorted numbers.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::Cell;
    use serde_json::Map;

    fn worker(peer: &'static str, ours: bool, dense: bool) -> WorkerFacts {
        WorkerFacts {
            peer,
            cell: Cell::Gru,
            frames: 16,
            threads: 1,
            ours,
            dense,
            format: None,
            start_rss_bytes: 1,
            peak_rss_bytes: 2,
            largest_error: 0.0,
            versions: Map::new(),
        }
    }

    #[test]
    fn rows_pair_peers_with_our_models() {
        let mut results =
            Results::new(Bench::new(Path::new("."), &std::env::current_exe().unwrap()).unwrap(), 4);
        results.workers = vec![
            worker("tt-gru", true, false),
            worker("gru", true, true),
            worker("t3f", false, false),
            worker("torch_dense_gru", false, true),
            WorkerFacts { format: Some("bt"), ..worker("bt-gru", true, false) },
            WorkerFacts { format: Some("bt"), ..worker("tednet_bt", false, false) },
        ];
        for (peer, seconds) in [
            ("tt-gru", 0.5),
            ("gru", 2.0),
            ("t3f", 1.0),
            ("torch_dense_gru", 4.0),
            ("bt-gru", 1.0),
            ("tednet_bt", 5.0),
        ] {
            for (round, factor) in [3.0, 1.0, 2.0, 4.0].into_iter().enumerate() {
                let time = seconds * factor;
                results.samples.push(Sample {
                    peer,
                    cell: "gru",
                    frames: 16,
                    threads: 1,
                    phase: "step",
                    round,
                    cpu_s: time,
                    wall_s: 9.0,
                });
            }
        }
        let rows = results.rows();
        let pairs: Vec<_> = rows.iter().map(|row| (row.peer, row.ours, row.ratio)).collect();
        let expected = [
            ("t3f", "tt-gru", 2.0),
            ("torch_dense_gru", "tt-gru", 8.0),
            ("torch_dense_gru", "gru", 2.0),
            ("tednet_bt", "bt-gru", 5.0),
        ];
        assert_eq!(pairs, expected);
        assert_eq!((rows[0].ms_min, rows[0].ms_median, rows[0].ours_ms_min), (1000.0, 2500.0, 500.0));
    }

    #[test]
    fn columns_are_the_agreed_ones() {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let row = PeerRow {
            peer: "t3f",
            ours: "tt-gru",
            frames: 16,
            batch: 16,
            threads: 1,
            phase: "step",
            ms_min: 2.0,
            ms_median: 3.0,
            ours_ms_min: 1.0,
            ratio: 2.0,
            peak_rss_bytes: 5,
        };
        writer.serialize(row).unwrap();
        let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        let header = "peer,ours,frames,batch,threads,phase,ms_min,ms_median,ours_ms_min,ratio,peak_rss_bytes";
        assert_eq!(text.lines().next(), Some(header));
    }
}
