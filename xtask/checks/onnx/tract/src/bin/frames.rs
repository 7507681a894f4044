//! A peer of `cargo xtask bench inference`: the graph of form `step` in tract, frame by frame.
//!
//! frames GRAPH FRAMES; then a JSON line per command.

use anyhow::{Context, Result};
use std::io::{BufRead, Write};
use std::time::Instant;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::DimLike;
use tract_onnx::tract_hir::infer::Factoid;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let (graph, frames) = (args.next().context("name the graph")?, args.next().context("name the frames")?);
    let mut model = tract_onnx::onnx().model_for_path(graph)?;
    let mut shapes = Vec::new();
    for input in 0..model.input_outlets()?.len() {
        let fact = model.input_fact(input)?.clone();
        let rest =
            fact.shape.dims().skip(1).map(|dim| Ok(dim.concretize().context("an open size")?.to_usize()?));
        let shape: Vec<usize> = std::iter::once(Ok(1)).chain(rest).collect::<Result<_>>()?;
        // Sizes that are fixed, as a program for one camera would have them.
        model.set_input_fact(input, fact.with_shape(shape.clone()))?;
        shapes.push(shape);
    }
    let model = model.into_optimized()?.into_runnable()?;
    let frames = std::fs::read(frames)?;
    let clip = || -> Result<(Vec<f64>, Vec<f32>)> {
        let mut seconds = Vec::new();
        let mut outputs: TVec<TValue> = tvec!();
        for frame in frames.chunks_exact(shapes[0].iter().product()) {
            let start = Instant::now();
            let mut inputs: TVec<TValue> = tvec!(Tensor::from_shape(&shapes[0], frame)?.into());
            for (state, shape) in shapes.iter().enumerate().skip(1) {
                inputs.push(match outputs.get(state) {
                    Some(last) => last.clone(),
                    None => Tensor::zero::<f32>(shape)?.into(),
                });
            }
            outputs = model.run(inputs)?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        Ok((seconds, outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec()))
    };
    for line in std::io::stdin().lock().lines() {
        let request: serde_json::Value = serde_json::from_str(&line?)?;
        let (seconds, probabilities) = clip()?;
        let reply = if request["cmd"] == "init" {
            let version =
                include_str!("../../Cargo.lock").split("name = \"tract-onnx\"\nversion = \"").nth(1);
            let version = version.and_then(|rest| rest.split('"').next());
            serde_json::json!({ "ok": true, "version": version, "probabilities": probabilities })
        } else {
            serde_json::json!({ "ok": true, "frame_s": seconds })
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{reply}")?;
        out.flush()?;
    }
    Ok(())
}
