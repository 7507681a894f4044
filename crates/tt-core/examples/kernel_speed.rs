//! Prints how far the fused TT layer is from the arithmetic floor of this machine, shape by shape.
//!
//! `cargo run --release -p tt-core --example kernel_speed [frames] [rounds] [shape] [room]`; one thread, u8 frames, minimum
//! process CPU time, in f32 and by digits on every unit that the machine has, in turn. The floor counts multiply-accumulates without recomputation: forward once, backward
//! twice less the last core's input gradient; `room` is the bytes that the forward pass may save for the backward pass; "x floor" is the time over the floor at the measured peak.
#![expect(clippy::print_stdout, reason = "a table for people")]

use std::hint::black_box;

use anyhow::Result;
use rand::RngExt;
use tt_core::apply::{Affine, Fused, Path, Rows, Saved, Unit};
use tt_core::{TtShape, bench, rng};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let frames = arguments.next().map_or(Ok(256), |text| text.parse())?;
    let rounds = arguments.next().map_or(Ok(30), |text| text.parse())?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    let only = arguments.next();
    let room = arguments.next().map(|text| text.parse()).transpose()?;
    let saved = || room.map_or_else(Saved::default, Saved::with_room);
    pool.install(|| table(frames, rounds, only.as_deref(), &saved))
}

fn table(frames: usize, rounds: usize, only: Option<&str>, saved: &dyn Fn() -> Saved) -> Result<()> {
    let peak = bench::fma_peak_gflops();
    println!("FMA peak {peak:.1} GFLOP/s, read {:.1} GB/s, {frames} frames", bench::read_bandwidth_gbs());
    println!(
        "{:<12} {:>9} {:>9} {:>8} {:>6} {:>8}",
        "shape", "us/frame", "floor us", "GFLOP/s", "peak", "x floor"
    );
    let shapes = [
        ("ucf11-gru", TtShape::uniform(&[8, 20, 20, 18], &[4; 4], 4, 3)?),
        ("ucf11-lstm", TtShape::uniform(&[8, 20, 20, 18], &[4; 4], 4, 4)?),
        ("hollywood2", TtShape::uniform(&[10, 18, 13, 30], &[4; 4], 4, 3)?),
        ("ytc", TtShape::uniform(&[4, 20, 20, 36], &[4; 4], 4, 3)?),
        ("tt-mlp", TtShape::uniform(&[20, 20, 24, 36], &[4; 4], 6, 1)?),
        ("ucf11-r3", TtShape::uniform(&[8, 20, 20, 18], &[4; 4], 3, 3)?),
        ("ucf11-r5", TtShape::uniform(&[8, 20, 20, 18], &[4; 4], 5, 3)?),
        ("ucf11-r8", TtShape::uniform(&[8, 20, 20, 18], &[4; 4], 8, 3)?),
        ("ucf11-r16", TtShape::uniform(&[8, 20, 20, 18], &[4; 4], 16, 3)?),
    ];
    for (name, shape) in shapes.into_iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        measure(name, &shape, [frames, rounds], peak, saved())?;
    }
    Ok(())
}

fn measure(
    name: &str,
    shape: &TtShape,
    [frames, rounds]: [usize; 2],
    peak: f64,
    mut saved: Saved,
) -> Result<()> {
    let mut stream = rng::stream(1, "example/kernel_speed");
    let x: Vec<u8> = (0..frames * shape.in_features()).map(|_| stream.random()).collect();
    let mut draw = |n: usize| (0..n).map(|_| stream.random::<f32>() - 0.5).collect::<Vec<_>>();
    let (cores, dout) = (draw(shape.params()), draw(frames * shape.out_features()));
    let (mut out, mut dcores) = (vec![0.0; frames * shape.out_features()], vec![0.0; shape.params()]);
    let affine = Affine { scale: 1.0 / 255.0, shift: 0.0 };
    let units = [Unit::Vnni, Unit::Amx].into_iter().filter(|unit| unit.check().is_ok());
    let paths: Vec<Path> = [Path::F32].into_iter().chain(units.map(Path::Digits)).collect();
    let layers: Vec<Fused> = paths.iter().map(|path| Fused::on(shape, affine, *path)).collect();
    let mut best = vec![[f64::MAX; 2]; layers.len()];
    for _ in 0..rounds {
        for (fused, best) in layers.iter().zip(&mut best) {
            let start = bench::cpu_time_s();
            fused.forward(Rows::U8(&x), &cores, &mut out, Some(&mut saved))?;
            let middle = bench::cpu_time_s();
            fused.backward(Rows::U8(&x), &cores, &saved, &dout, &mut dcores, None)?;
            let end = bench::cpu_time_s();
            *best = [best[0].min(middle - start), best[1].min(end - middle)];
        }
    }
    black_box((&out, &dcores));
    let automatic = Fused::new(shape, affine).kernels_for_bytes();
    println!("{name}: on its own {automatic}");
    let last = shape.order() - 1;
    let forward = shape.macs_per_row() as f64;
    let backward =
        2.0 * forward - (shape.in_features() / shape.input_modes()[last] * shape.core_len(last)) as f64;
    for (fused, best) in layers.iter().zip(best) {
        for (phase, seconds, macs) in [
            ("forward", best[0], forward),
            ("backward", best[1], backward),
            ("both", best[0] + best[1], forward + backward),
        ] {
            let (us, floor) = (seconds / frames as f64 * 1e6, 2.0 * macs / peak / 1e3);
            let rate = 2.0 * macs / us / 1e3;
            println!(
                "{name:<12} {us:>9.1} {floor:>9.1} {rate:>8.1} {:>6.2} {:>8.2}  {phase} {}",
                rate / peak,
                us / floor,
                fused.kernels_for_bytes()
            );
        }
    }
    Ok(())
}
