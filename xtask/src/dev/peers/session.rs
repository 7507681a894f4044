//! One session: everybody alive at once, checked, then visited round robin.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use bench_suite::results::peers::{EXACT, PHASES, REDUCED, Sample, WorkerFacts};
use serde_json::{Map, Value, json};

use crate::dev::peers::case::Case;
use crate::dev::peers::check::{REDUCED_TOLERANCE, TOLERANCE, Tensors};
use crate::dev::peers::environment::Environments;
use crate::dev::peers::plan::{Function, Home, Peer, Round, flop};
use crate::dev::peers::report::Results;
use crate::dev::peers::worker::{Times, Worker, number};

/// What a session needs to know.
#[derive(Debug)]
pub(super) struct Session<'a> {
    pub(super) case: &'a Case,
    pub(super) reference: &'a Tensors,
    pub(super) environments: &'a Environments,
    pub(super) engine: &'a Path,
    pub(super) logs: &'a Path,
    pub(super) round: &'a Round,
    pub(super) rounds: usize,
}

/// A peer that passed its check.
struct Live {
    peer: Peer,
    ours: bool,
    worker: Worker,
    versions: Map<String, Value>,
    rss_bytes: u64,
    error: f64,
}

impl Session<'_> {
    /// Starts, checks, times and ends everybody; results go into `results`.
    ///
    /// # Errors
    /// If one of our own models fails or fails its check.
    pub(super) fn run(&self, results: &mut Results) -> Result<()> {
        eprintln!("\n{}, {} thread(s), {} rounds", self.case.id, self.round.threads, self.rounds);
        let mut live = Vec::new();
        for (peer, ours) in self.everybody() {
            match self.start(peer, ours) {
                Ok(started) => {
                    eprintln!("  {:20} ready, largest error {:.1e}", peer.name, started.error);
                    live.push(started);
                }
                Err(reason) if ours => return Err(reason.context(format!("our {} failed", peer.name))),
                Err(reason) => self.leave_out(peer, &reason, results),
            }
        }
        for index in 0..self.rounds {
            self.visit(index, &mut live, results)?;
        }
        for mut one in live {
            let facts = self.facts(&mut one);
            match facts {
                Ok(facts) => results.workers.push(facts),
                Err(reason) => self.leave_out(one.peer, &reason, results),
            }
            // The process ends as it is dropped, however it takes the goodbye.
            let _ = one.worker.ask(&json!({"cmd": "exit"}));
        }
        Ok(())
    }

    fn everybody(&self) -> impl Iterator<Item = (Peer, bool)> {
        let ours = self.round.ours.iter().map(|peer| (*peer, true));
        ours.chain(self.round.peers.iter().map(|peer| (*peer, false)))
    }

    /// Starts a worker, checks it and warms it up.
    fn start(&self, peer: Peer, ours: bool) -> Result<Live> {
        let mut command = if peer.home == Home::Engine {
            let mut engine = Command::new(self.engine);
            engine.arg("bench-worker");
            // candle's own threads know no other way.
            engine.env("RAYON_NUM_THREADS", self.round.threads.to_string());
            engine
        } else {
            self.environments.command(peer.home, peer.name)?
        };
        let name = format!("{}-{}threads-{}", self.case.id, self.round.threads, peer.name);
        let mut worker = Worker::start(&mut command, &self.logs.join(format!("{name}.log")))?;
        let (header, threads) = (&self.case.header, self.round.threads);
        let ready =
            worker.ask(&json!({"cmd": "init", "peer": peer.name, "case": header, "threads": threads}))?;
        let rss_bytes = ready["rss_bytes"].as_u64().unwrap_or(0);
        // Left empty by a worker that names none: TOML has no null.
        let versions = ready["versions"].as_object().cloned().unwrap_or_default();
        let mut live = Live { peer, ours, worker, versions, rss_bytes, error: 0.0 };
        if peer.function == Function::Floor {
            live.worker.ask(&json!({"cmd": "peak"}))?;
            return Ok(live);
        }
        let out = self.case.header.with_file_name(format!("check-{}", peer.name));
        let reply = live.worker.ask(&json!({"cmd": "check", "out": out}))?;
        let tensors = Tensors::read(&out, &reply)?;
        let allowed = if peer.reduced { REDUCED_TOLERANCE } else { TOLERANCE };
        live.error = tensors
            .worst(self.reference, self.case, peer.function, allowed)
            .context("it does not compute the reference's function")?;
        for phase in PHASES {
            live.worker.run(phase)?;
        }
        Ok(live)
    }

    /// One round: each phase, each worker, starting with another one every time.
    fn visit(&self, index: usize, live: &mut Vec<Live>, results: &mut Results) -> Result<()> {
        for phase in PHASES {
            let mut failed = Vec::new();
            for turn in 0..live.len() {
                let at = (turn + index) % live.len();
                match self.iterate(&mut live[at], phase) {
                    Ok(times) => results.samples.push(self.sample(&live[at], phase, index, times)),
                    Err(reason) if live[at].ours => {
                        return Err(reason.context(format!("our {} failed", live[at].peer.name)));
                    }
                    Err(reason) => failed.push((live[at].peer, reason)),
                }
            }
            for (peer, reason) in failed {
                live.retain(|one| one.peer != peer);
                self.leave_out(peer, &reason, results);
            }
        }
        Ok(())
    }

    fn iterate(&self, one: &mut Live, phase: &str) -> Result<Times> {
        if one.peer.function != Function::Floor {
            return one.worker.run(phase);
        }
        let reply = one.worker.ask(&json!({"cmd": "peak"}))?;
        let work = flop(self.round.cell, self.case.frames, phase == "step") / number(&reply, "flop")?;
        Ok(Times { cpu_s: number(&reply, "cpu_s")? * work, wall_s: number(&reply, "wall_s")? * work })
    }

    fn sample(&self, one: &Live, phase: &'static str, round: usize, times: Times) -> Sample {
        Sample {
            peer: one.peer.name,
            cell: self.round.cell.name(),
            frames: self.case.frames,
            threads: self.round.threads,
            phase,
            round,
            cpu_s: times.cpu_s,
            wall_s: times.wall_s,
        }
    }

    fn facts(&self, one: &mut Live) -> Result<WorkerFacts> {
        let peak = one.worker.ask(&json!({"cmd": "peak_rss"}))?["peak_rss_bytes"].as_u64();
        Ok(WorkerFacts {
            peer: one.peer.name,
            cell: self.round.cell.name(),
            frames: self.case.frames,
            threads: self.round.threads,
            ours: one.ours,
            dense: one.peer.is_dense(),
            format: one.peer.format(),
            start_rss_bytes: one.rss_bytes,
            peak_rss_bytes: peak.context("the worker gave no peak_rss_bytes")?,
            precision: if one.peer.reduced { REDUCED } else { EXACT },
            largest_error: one.error,
            versions: one.versions.clone(),
        })
    }

    fn leave_out(&self, peer: Peer, reason: &anyhow::Error, results: &mut Results) {
        let reason = format!("{reason:#}");
        eprintln!("  {:20} LEFT OUT: {reason}", peer.name);
        results.leave_out(peer.name, self.round.cell.name(), self.case.frames, self.round.threads, reason);
    }
}
