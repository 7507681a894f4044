//! `peers.csv`: other programs beside our models, in one interleaved run, and what it follows from.

use serde::Serialize;
use serde_json::{Map, Value};

/// What is timed of a training step.
pub const PHASES: [&str; 2] = ["forward", "step"];

/// Products of f32 as they are.
pub const EXACT: &str = "f32";
/// Products whose factors have fewer digits.
pub const REDUCED: &str = "reduced";

/// A row of `peers.csv`. `ratio` is the peer's time over ours: above 1 we are faster.
#[derive(Debug, Clone, Serialize)]
pub struct PeerRow {
    /// The program or model that ours is measured against.
    pub peer: &'static str,
    /// Our model.
    pub ours: &'static str,
    /// Frames of a clip.
    pub frames: usize,
    /// Clips of a step.
    pub batch: usize,
    /// Threads of each.
    pub threads: usize,
    /// One of [`PHASES`].
    pub phase: &'static str,
    /// Milliseconds, least of the rounds: process CPU time at 1 thread, wall time at more.
    pub ms_min: f64,
    /// The same, median over rounds.
    pub ms_median: f64,
    /// Ours, least of the rounds.
    pub ours_ms_min: f64,
    /// The peer's time over ours.
    pub ratio: f64,
    /// Peak resident memory of the peer's process.
    pub peak_rss_bytes: u64,
    /// [`EXACT`], or [`REDUCED`]: such a peer does less than ours and is no equal.
    pub precision: &'static str,
    /// Largest `max|error| / max|reference|` of the peer's h and gradients.
    pub largest_error: f64,
}

/// One iteration of one worker.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// The program or model.
    pub peer: &'static str,
    /// Its cell.
    pub cell: &'static str,
    /// Frames of a clip.
    pub frames: usize,
    /// Its threads.
    pub threads: usize,
    /// One of [`PHASES`].
    pub phase: &'static str,
    /// Which of the rounds.
    pub round: usize,
    /// CPU time of the process in seconds.
    pub cpu_s: f64,
    /// Wall time in seconds.
    pub wall_s: f64,
}

/// A worker that stayed to the end.
#[derive(Debug, Clone, Serialize)]
pub struct WorkerFacts {
    /// The program or model.
    pub peer: &'static str,
    /// Its cell.
    pub cell: &'static str,
    /// Frames of a clip.
    pub frames: usize,
    /// Its threads.
    pub threads: usize,
    /// Whether it is ours.
    #[serde(skip)]
    pub ours: bool,
    /// Whether its input matrix is dense.
    #[serde(skip)]
    pub dense: bool,
    /// The format of its input matrix, where that is neither the train nor dense.
    #[serde(skip)]
    pub format: Option<&'static str>,
    /// Resident memory before the first iteration.
    pub start_rss_bytes: u64,
    /// Peak resident memory.
    pub peak_rss_bytes: u64,
    /// [`EXACT`] or [`REDUCED`].
    pub precision: &'static str,
    /// Largest `max|error| / max|reference|` of h and all gradients.
    pub largest_error: f64,
    /// Of the libraries it uses.
    pub versions: Map<String, Value>,
}

/// Every peer against our model of its format: the train, and for dense peers our dense model too.
pub fn rows(workers: &[WorkerFacts], samples: &[Sample], batch: usize) -> Vec<PeerRow> {
    let mut rows = Vec::new();
    for peer in workers.iter().filter(|worker| !worker.ours) {
        let against = |ours: &&WorkerFacts| {
            ours.ours
                && (ours.cell, ours.frames, ours.threads) == (peer.cell, peer.frames, peer.threads)
                && (!ours.dense || peer.dense)
                && ours.format == peer.format
        };
        for ours in workers.iter().filter(against) {
            rows.extend(PHASES.into_iter().filter_map(|phase| row([peer, ours], samples, batch, phase)));
        }
    }
    rows
}

fn row(
    [peer, ours]: [&WorkerFacts; 2],
    samples: &[Sample],
    batch: usize,
    phase: &'static str,
) -> Option<PeerRow> {
    let (ms, ours_ms) = (sorted_ms(peer, samples, phase), sorted_ms(ours, samples, phase));
    let (&ms_min, &ours_ms_min) = (ms.first()?, ours_ms.first()?);
    Some(PeerRow {
        peer: peer.peer,
        ours: ours.peer,
        frames: peer.frames,
        batch,
        threads: peer.threads,
        phase,
        ms_min: rounded(ms_min),
        ms_median: rounded(median(&ms)?),
        ours_ms_min: rounded(ours_ms_min),
        ratio: rounded(ms_min / ours_ms_min),
        peak_rss_bytes: peer.peak_rss_bytes,
        precision: peer.precision,
        largest_error: peer.largest_error,
    })
}

fn sorted_ms(worker: &WorkerFacts, samples: &[Sample], phase: &str) -> Vec<f64> {
    let same = |sample: &&Sample| {
        (sample.peer, sample.cell, sample.frames, sample.threads, sample.phase)
            == (worker.peer, worker.cell, worker.frames, worker.threads, phase)
    };
    let time = |sample: &Sample| 1e3 * if sample.threads == 1 { sample.cpu_s } else { sample.wall_s };
    let mut ms: Vec<_> = samples.iter().filter(same).map(time).collect();
    ms.sort_by(f64::total_cmp);
    ms
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

    fn worker(peer: &'static str, ours: bool, dense: bool) -> WorkerFacts {
        WorkerFacts {
            peer,
            cell: "gru",
            frames: 16,
            threads: 1,
            ours,
            dense,
            format: None,
            start_rss_bytes: 1,
            peak_rss_bytes: 2,
            precision: EXACT,
            largest_error: 0.0,
            versions: Map::new(),
        }
    }

    #[test]
    fn rows_pair_peers_with_our_models() {
        let workers = [
            worker("tt-gru", true, false),
            worker("gru", true, true),
            worker("t3f", false, false),
            worker("torch_dense_gru", false, true),
            WorkerFacts { format: Some("bt"), ..worker("bt-gru", true, false) },
            WorkerFacts { format: Some("bt"), ..worker("tednet_bt", false, false) },
        ];
        let mut samples = Vec::new();
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
                samples.push(Sample {
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
        let rows = rows(&workers, &samples, 16);
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
            precision: REDUCED,
            largest_error: 0.01,
        };
        writer.serialize(row).unwrap();
        let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
        let header = "peer,ours,frames,batch,threads,phase,ms_min,ms_median,ours_ms_min,ratio,peak_rss_bytes,\
             precision,largest_error";
        assert_eq!(text.lines().next(), Some(header));
    }
}
