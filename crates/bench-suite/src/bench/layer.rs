//! A step of the TT layer alone, a line a step: what `xtask/checks/python/linear.py` compares the layer in PyTorch with.

use crate::usage::cpu_s;
use anyhow::Result;
use std::io::{BufRead, Write};
use tt_core::apply::{Affine, Fused, Rows, Saved};
use tt_core::init::{CoreInit, cores};
use tt_core::{TtShape, rng};

/// What is timed.
#[derive(Debug, clap::Args)]
pub struct LayerOptions {
    /// Rows of a step.
    #[arg(long)]
    pub rows: usize,
}

/// For each line on standard input the CPU seconds of a step of UCF11's layer with three gates: forward, and the gradients
/// of the cores.
///
/// # Errors
/// Of the pipes.
pub fn layer(LayerOptions { rows }: &LayerOptions) -> Result<()> {
    let shape = TtShape::uniform(&[8, 20, 20, 18], &[12, 4, 4, 4], 4, 1)?;
    let layer = Fused::new(&shape, Affine { scale: 1.0 / 255.0, shift: 0.0 });
    let cores = cores(&shape, CoreInit::VarianceMatched, &mut rng::stream(0, "init/cores"));
    let frames: Vec<u8> = (0..rows * shape.in_features()).map(|at| (at % 251) as u8).collect();
    let (mut out, mut saved) = (vec![0.0; rows * shape.out_features()], Saved::default());
    let (dout, mut dcores) = (vec![1.0; out.len()], vec![0.0; cores.len()]);
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = cpu_s();
        layer.forward(Rows::U8(&frames), &cores, &mut out, Some(&mut saved))?;
        layer.backward(Rows::U8(&frames), &cores, &saved, &dout, &mut dcores, None)?;
        let seconds = cpu_s() - start;
        let mut answer = std::io::stdout().lock();
        writeln!(answer, "{seconds}")?;
        answer.flush()?;
    }
    Ok(())
}
