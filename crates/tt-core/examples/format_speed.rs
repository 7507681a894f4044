//! Prints what a training step of each format costs, beside the Tensor Train's own kernel, in one interleaved run.
//!
//! `cargo run --release -p tt-core --example format_speed [frames] [rounds] [format]`; one thread, u8 frames, minimum
//! process CPU time, the LSTM on UCF11's frames with as many weights as the train of rank 4. Flops are those of a forward
//! pass in the order with the fewest, and "x train" is the time of a step per such flop over that of the train.
#![expect(clippy::print_stdout, reason = "a table for people")]

use anyhow::Result;
use rand::RngExt;
use std::hint::black_box;
use tt_core::apply::{Affine, Fused, Rows, Saved};
use tt_core::network::{Contracted, FORMATS, FormatShape, Modes, Objective, Options, Plan, SavedRows};
use tt_core::{TtShape, bench, rng};

const AFFINE: Affine = Affine { scale: 1.0 / 127.5, shift: -1.0 };

/// A kernel and what it keeps.
enum Kernel {
    Train(Box<Fused>, Saved),
    Network(Box<Contracted>, SavedRows),
}

struct Case {
    name: String,
    kernel: Kernel,
    cores: Vec<f32>,
    /// Multiply-accumulates forwards.
    macs: f64,
    best: [f64; 2],
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let frames = arguments.next().map_or(Ok(128), |text| text.parse())?;
    let rounds = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let only = arguments.next();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| table(frames, rounds, only.as_deref()))
}

fn cases(only: Option<&str>) -> Result<Vec<Case>> {
    let train = TtShape::uniform(&[8, 20, 20, 18], &[4; 4], 4, 4)?;
    let mut stream = rng::stream(1, "example/format_speed");
    let mut draw = |count: usize| (0..count).map(|_| stream.random::<f32>() - 0.5).collect::<Vec<_>>();
    let mut all = vec![Case {
        name: "tt".into(),
        cores: draw(train.params()),
        macs: train.macs_per_row() as f64,
        kernel: Kernel::Train(Box::new(Fused::new(&train, AFFINE)), Saved::default()),
        best: [f64::MAX; 2],
    }];
    let modes = Modes { inputs: vec![8, 20, 20, 18], outputs: vec![4; 4], gates: 4 };
    for format in FORMATS.into_iter().filter(|format| only.is_none_or(|only| only == format.name())) {
        let shape = FormatShape::within(format, &modes, &Options::default(), train.params())?;
        let network = shape.network();
        let fewest = Plan::new(network, Objective::Products { rows: 1_024 });
        let contracted = Contracted::new(network, AFFINE);
        println!(
            "{shape}; {} {:?}, {} kB a row kept",
            contracted.isa().name(),
            contracted.plan(),
            contracted.saved_bytes_per_row() / 1_024
        );
        all.push(Case {
            name: format.name().into(),
            cores: draw(network.params()),
            macs: fewest.macs_per_row as f64,
            kernel: Kernel::Network(Box::new(contracted), SavedRows::default()),
            best: [f64::MAX; 2],
        });
    }
    Ok(all)
}

fn table(frames: usize, rounds: usize, only: Option<&str>) -> Result<()> {
    let mut cases = cases(only)?;
    let mut stream = rng::stream(2, "example/format_speed");
    let x: Vec<u8> = (0..frames * 57_600).map(|_| stream.random()).collect();
    let dout: Vec<f32> = (0..frames * 1_024).map(|_| stream.random::<f32>() - 0.5).collect();
    let mut out = vec![0.0; dout.len()];
    for _ in 0..rounds {
        for case in &mut cases {
            let (x, mut dcores) = (Rows::U8(&x), vec![0.0; case.cores.len()]);
            let start = bench::cpu_time_s();
            match &mut case.kernel {
                Kernel::Train(fused, saved) => fused.forward(x, &case.cores, &mut out, Some(saved))?,
                Kernel::Network(network, saved) => network.forward(x, &case.cores, &mut out, Some(saved))?,
            }
            let middle = bench::cpu_time_s();
            match &case.kernel {
                Kernel::Train(fused, saved) => {
                    fused.backward(x, &case.cores, saved, &dout, &mut dcores, None)?;
                }
                Kernel::Network(network, saved) => {
                    network.backward(x, &case.cores, saved, &dout, &mut dcores, None)?;
                }
            }
            let end = bench::cpu_time_s();
            case.best = [case.best[0].min(middle - start), case.best[1].min(end - middle)];
            black_box((&out, &dcores));
        }
    }
    println!(
        "{:<10} {:>7} {:>7} {:>12} {:>12} {:>8}",
        "format", "weights", "Mflop", "us forward", "us backward", "x train"
    );
    let per_flop = |case: &Case| (case.best[0] + case.best[1]) / case.macs;
    for case in &cases {
        let [forward, backward] = case.best.map(|seconds| seconds / frames as f64 * 1e6);
        println!(
            "{:<10} {:>7} {:>7.2} {forward:>12.1} {backward:>12.1} {:>8.2}",
            case.name,
            case.cores.len(),
            2e-6 * case.macs,
            per_flop(case) / per_flop(&cases[0])
        );
    }
    Ok(())
}
