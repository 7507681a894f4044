//! `bench-suite bench`: our kernels against the arithmetic floor of this machine.
//!
//! Every case runs in its own process, for its own peak memory. Times are the smallest and the median of
//! process CPU time with one thread, of wall time with more.

use super::case::{Case, Matrix, Sizes, Values};
use crate::places::write;
use crate::record_files::csv_of;
use crate::usage::{SystemWork, cpu_s, current_rss_bytes, peak_rss_bytes};
use anyhow::{Context, Result};
use clap::Args;
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Instant;
use tt_core::TtShape;
use tt_core::apply::Affine;
use tt_core::bench::read_bandwidth_gbs;
use tt_core::init::{self, CoreInit};
use tt_core::rng::stream;
use tt_rnn::recurrence::Cell;

/// Options of the kernel benchmark.
#[derive(Debug, Args)]
pub struct KernelOptions {
    /// CSV file to write; standard output where absent.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Rounds per case.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Only cases whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
    /// Run one case (JSON) in this process and print its row.
    #[arg(long, hide = true)]
    case: Option<String>,
}

/// What is varied.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct CaseSpec {
    dataset: String,
    model: String,
    frames: usize,
    batch: usize,
    rank: usize,
    hidden: usize,
    threads: usize,
    rounds: usize,
    bandwidth_gbs: f64,
}

/// A row of `kernels.csv`; its columns are described in `docs/formats.md`.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    dataset: String,
    model: String,
    frames: usize,
    batch: usize,
    rank: usize,
    hidden: usize,
    threads: usize,
    phase: String,
    ms_min: f64,
    ms_median: f64,
    us_per_frame: f64,
    floor_ms: f64,
    floor_ratio: f64,
    gflops: f64,
    peak_gflops: f64,
    peak_share: f64,
    read_gbs: f64,
    bandwidth_gbs: f64,
    base_rss_bytes: u64,
    peak_rss_bytes: u64,
    page_faults: f64,
    system_share: f64,
}

fn cases(rounds: usize) -> Vec<CaseSpec> {
    let bandwidth_gbs = read_bandwidth_gbs();
    let case = |dataset: &str, model: &str, frames, batch, rank, threads| CaseSpec {
        dataset: dataset.into(),
        model: model.into(),
        frames,
        batch,
        rank,
        hidden: 256,
        threads,
        rounds,
        bandwidth_gbs,
    };
    let mut all = Vec::new();
    for frames in [4, 16, 64, 256, 1_492] {
        all.push(case("ucf11", "tt-gru", frames, 16, 4, 1));
    }
    for (dataset, model) in [
        ("ucf11", "tt-lstm"),
        ("hollywood2", "tt-gru"),
        ("youtube-celebrities", "tt-gru"),
        ("ucf11", "tt-rnn"),
    ] {
        all.push(case(dataset, model, 64, 16, 4, 1));
    }
    for batch in [1, 4, 64] {
        all.push(case("ucf11", "tt-gru", 16, batch, 4, 1));
    }
    for rank in [2, 3, 5, 8, 16] {
        all.push(case("ucf11", "tt-gru", 16, 16, rank, 1));
    }
    for hidden in [512, 1_024] {
        all.push(CaseSpec { hidden, ..case("ucf11", "tt-gru", 16, 16, 4, 1) });
    }
    for threads in [2, 4] {
        if threads <= std::thread::available_parallelism().map_or(1, std::num::NonZero::get) {
            all.push(case("ucf11", "tt-gru", 64, 16, 4, threads));
        }
    }
    for model in ["gru", "lstm"] {
        all.push(case("ucf11", model, 16, 16, 4, 1));
    }
    all
}

/// Runs all cases, or the one given.
pub fn kernels(options: &KernelOptions) -> Result<()> {
    if let Some(text) = &options.case {
        return one(&serde_json::from_str(text)?);
    }
    let mut rows = Vec::new();
    let program = std::env::current_exe()?;
    let name = |case: &CaseSpec| {
        let CaseSpec { dataset, model, frames, batch, rank, hidden, .. } = case;
        format!("{dataset} {model} T={frames} B={batch} r={rank} H={hidden}")
    };
    let mut cases = cases(options.rounds);
    cases.retain(|case| name(case).contains(&options.only));
    anyhow::ensure!(
        !cases.is_empty(),
        "no case has {:?} in its name, such as ucf11 tt-gru T=16",
        options.only
    );
    for case in cases {
        let name = name(&case);
        let output = std::process::Command::new(&program)
            // candle's own threads take no other setting.
            .env("RAYON_NUM_THREADS", case.threads.to_string())
            .args(["bench", "--threads", &case.threads.to_string(), "--case", &serde_json::to_string(&case)?])
            .stderr(std::process::Stdio::inherit())
            .output()?;
        anyhow::ensure!(output.status.success(), "case {name} failed");
        for row in serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Row>() {
            let row = row?;
            tracing::info!(
                "{name}, {} thread(s), {}: {:.1} ms, {:.1} us a frame, {:.2} x floor, {:.0} % of peak, {} MB over base, {:.0} page faults",
                row.threads,
                row.phase,
                row.ms_min,
                row.us_per_frame,
                row.floor_ratio,
                100.0 * row.peak_share,
                row.peak_rss_bytes.saturating_sub(row.base_rss_bytes) >> 20,
                row.page_faults
            );
            rows.push(row);
        }
    }
    let text = csv_of(rows)?;
    if let Some(path) = &options.out {
        return write(path, &text);
    }
    print(&String::from_utf8(text)?);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the table is what the verb is for")]
fn print(text: &str) {
    print!("{text}");
}

/// Input modes and MACs of a step's parts.
fn shape_of(spec: &CaseSpec, cell: Cell) -> Result<TtShape> {
    let modes = match spec.dataset.as_str() {
        "hollywood2" => [10, 18, 13, 30],
        "youtube-celebrities" => [4, 20, 20, 36],
        _ => [8, 20, 20, 18],
    };
    let outputs = match spec.hidden {
        512 => [4, 4, 8, 4],
        1_024 => [4, 8, 8, 4],
        _ => [4, 4, 4, 4],
    };
    Ok(TtShape::uniform(&modes, &outputs, spec.rank, cell.gates())?)
}

/// Multiply-accumulates of a row through a train, forward and in a step, by the cheapest order known.
fn train_macs(shape: &TtShape) -> [usize; 2] {
    let (d, inputs) = (shape.order(), shape.in_features());
    let forward = shape.macs_per_row();
    let last = inputs * shape.core_matrix(d - 1).1;
    // Every core's product occurs twice more, except the last core's, whose input needs no gradient.
    let mut backward = 2 * forward - last;
    if d > 1 {
        // Large ranks: the gradient of the last two cores' product instead of theirs.
        let outputs = shape.output_mode(d - 2) * shape.output_mode(d - 1);
        let before = inputs / shape.input_modes()[d - 1]
            * shape.output_mode(d - 1)
            * shape.core_matrix(d - 2).1
            * shape.ranks()[d - 1];
        let pair = inputs * shape.ranks()[d - 2] * outputs;
        backward = backward.min(backward + pair - 2 * before - last);
    }
    [forward, forward + backward]
}

/// One pass to be timed.
type Pass<'a> = &'a dyn Fn() -> Result<()>;

fn one(spec: &CaseSpec) -> Result<()> {
    let cell: Cell = spec.model.trim_start_matches("tt-").parse()?;
    let shape = shape_of(spec, cell)?;
    let dense = !spec.model.starts_with("tt-");
    let (features, width) = (shape.in_features(), shape.out_features());
    let hidden = width / cell.gates();
    let mut rng = stream(0, "bench");
    let mut frames = vec![0_u8; spec.batch * spec.frames * features];
    rng.fill_bytes(&mut frames);
    let mut uniform = |count: usize, bound: f32| -> Vec<f32> {
        (0..count).map(|_| rng.random_range(-bound..bound)).collect()
    };
    let values = Values {
        frames,
        recurrent: uniform((hidden + 1) * width, 0.06),
        loss_weights: uniform(spec.batch * hidden, 1.0),
        input: if dense {
            uniform(features * width, 0.01)
        } else {
            init::cores(&shape, CoreInit::Glorot1d, &mut stream(0, "bench/cores"))
        },
    };
    let macs = if dense { [features * width, 2 * features * width] } else { train_macs(&shape) };
    let recurrent = cell.gates() * hidden * hidden;
    let sizes = Sizes {
        cell,
        batch: spec.batch,
        frames: spec.frames,
        hidden,
        features,
        matrix: if dense { Matrix::Dense } else { Matrix::Train(shape) },
        affine: Affine { scale: 1.0 / 255.0, shift: 0.0 },
    };
    let case = Case::new(sizes, values, false)?;
    let base = current_rss_bytes();
    let peak_gflops = tt_core::bench::fma_peak_gflops();
    let phases: [(&str, usize, f64, Pass<'_>); 2] = [
        ("forward", macs[0] + recurrent, 1.0, &|| case.forward().map(drop)),
        ("step", macs[1] + 3 * recurrent, 2.0, &|| case.step()),
    ];
    for (phase, macs_per_frame, passes, run) in phases {
        run()?;
        let (mut times, before) = (Vec::with_capacity(spec.rounds), SystemWork::so_far());
        for _ in 0..spec.rounds {
            let (wall, cpu) = (Instant::now(), cpu_s());
            run()?;
            times.push(if spec.threads == 1 { cpu_s() - cpu } else { wall.elapsed().as_secs_f64() });
        }
        let system = SystemWork::so_far().since(before);
        times.sort_by(f64::total_cmp);
        let fastest = times.first().copied().context("at least one round")?;
        let frames = (spec.batch * spec.frames) as f64;
        let flops = 2.0 * macs_per_frame as f64 * frames;
        let floor = flops / (peak_gflops * 1e9 * spec.threads as f64);
        let row = Row {
            dataset: spec.dataset.clone(),
            model: spec.model.clone(),
            frames: spec.frames,
            batch: spec.batch,
            rank: spec.rank,
            hidden: spec.hidden,
            threads: spec.threads,
            phase: phase.to_owned(),
            ms_min: fastest * 1e3,
            ms_median: times[times.len() / 2] * 1e3,
            us_per_frame: fastest * 1e6 / frames,
            floor_ms: floor * 1e3,
            floor_ratio: fastest / floor,
            gflops: flops / fastest * 1e-9,
            peak_gflops,
            peak_share: floor / fastest,
            read_gbs: passes * features as f64 * frames / fastest * 1e-9,
            bandwidth_gbs: spec.bandwidth_gbs,
            base_rss_bytes: base,
            peak_rss_bytes: peak_rss_bytes(),
            page_faults: system.page_faults as f64 / spec.rounds as f64,
            system_share: system.system_share(),
        };
        print(&format!("{}\n", serde_json::to_string(&row)?));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_of_the_paper_shape() {
        let macs = |rank| train_macs(&TtShape::uniform(&[8, 20, 20, 18], &[4; 4], rank, 3).unwrap());
        // 921,600 + 819,200 + 163,840 + 24,576 forward; twice that less the last core's 921,600 backward.
        assert_eq!(macs(4), [1_929_216, 1_929_216 + 2_936_832]);
        // Rank 16: apart 2 x 13,107,200 + 3,686,400 for the last two cores, as a pair 14,745,600.
        let forward = 3_686_400 + 13_107_200 + 2_621_440 + 98_304;
        assert_eq!(macs(16), [forward, forward + 2 * (2_621_440 + 98_304) + 14_745_600]);
    }
}
