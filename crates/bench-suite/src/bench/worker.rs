//! Our side of `cargo xtask bench peers`: one JSON line a command (the protocol is in `xtask/peers/README.md`).

use super::case::{Case, Matrix, Sizes, Values};
use crate::usage::{cpu_s, current_rss_bytes, peak_rss_bytes};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;
use tt_core::TtShape;
use tt_core::apply::Affine;
use tt_core::bench::fma_flop;
use tt_core::network::{FORMATS, FormatShape, Modes, Options};

#[derive(Deserialize)]
struct Header {
    cell: String,
    batch: usize,
    frames: usize,
    gates: usize,
    hidden: usize,
    input_modes: Vec<usize>,
    output_modes: Vec<usize>,
    ranks: Vec<usize>,
    /// Ranks of other formats, one for all.
    #[serde(default)]
    formats: BTreeMap<String, usize>,
    pixel_scale: f64,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    file: String,
}

/// Rounds of multiply-adds in one pass of the floor: 20 ms at 120 GFLOP/s.
const PEAK_ROUNDS: u64 = 6_000_000;

/// Every n-th row of a dense gradient is compared.
const ROW_STRIDE: usize = 64;

/// Answers commands until standard input closes.
pub fn worker() -> Result<()> {
    let mut case = None;
    for line in std::io::stdin().lock().lines() {
        let request: Value = serde_json::from_str(&line?)?;
        if request["cmd"] == "exit" {
            break;
        }
        let reply = match answer(&request, &mut case) {
            Ok(mut reply) => {
                reply["ok"] = json!(true);
                reply
            }
            Err(error) => json!({ "ok": false, "error": format!("{error:#}") }),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{reply}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(request: &Value, case: &mut Option<Case>) -> Result<Value> {
    let text = |key: &str| request[key].as_str().with_context(|| format!("{key:?} is missing"));
    match text("cmd")? {
        "init" => {
            let threads = request["threads"].as_u64().context("\"threads\" is missing")? as usize;
            rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
            if text("peer")? != "floor" {
                *case = Some(load(Path::new(text("case")?), text("peer")?)?);
            }
            Ok(json!({
                "versions": { "bench-suite": env!("CARGO_PKG_VERSION") },
                "rss_bytes": current_rss_bytes(),
            }))
        }
        "check" => check(case.as_ref().context("init first")?, Path::new(text("out")?)),
        "run" => {
            let case = case.as_ref().context("init first")?;
            let (wall, cpu) = (Instant::now(), cpu_s());
            match text("phase")? {
                "forward" => drop(case.forward()?),
                "step" => case.step()?,
                phase => bail!("unknown phase {phase:?}"),
            }
            Ok(json!({ "cpu_s": cpu_s() - cpu, "wall_s": wall.elapsed().as_secs_f64() }))
        }
        "peak" => {
            let (wall, cpu) = (Instant::now(), cpu_s());
            let flop: u64 = rayon::broadcast(|_| fma_flop(PEAK_ROUNDS)).into_iter().sum();
            Ok(json!({ "flop": flop, "cpu_s": cpu_s() - cpu, "wall_s": wall.elapsed().as_secs_f64() }))
        }
        "peak_rss" => Ok(json!({ "peak_rss_bytes": peak_rss_bytes() })),
        other => bail!("unknown command {other:?}"),
    }
}

fn load(path: &Path, peer: &str) -> Result<Case> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let header: Header = serde_json::from_str(&text)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let bytes = |name: &str| -> Result<Vec<u8>> {
        let entry = header.tensors.get(name).with_context(|| format!("the case has no tensor {name:?}"))?;
        Ok(std::fs::read(folder.join(&entry.file))?)
    };
    let floats = |name: &str| -> Result<Vec<f32>> {
        Ok(bytes(name)?.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    };
    let train = TtShape::new(&header.input_modes, &header.output_modes, &header.ranks, header.gates)?;
    let features = train.in_features();
    let format = FORMATS.into_iter().find(|format| peer == format!("{}-{}", format.name(), header.cell));
    let (matrix, input) = if matches!(peer, "gru" | "lstm") {
        (Matrix::Dense, "w".to_owned())
    } else if let Some(format) = format {
        let rank = header.formats.get(format.name()).context("the case has no rank of this format")?;
        let modes = Modes {
            inputs: header.input_modes.clone(),
            outputs: header.output_modes.clone(),
            gates: header.gates,
        };
        let shape = FormatShape::with_ranks(format, &modes, &Options::default(), &[*rank])?;
        (Matrix::Network(Box::new(shape)), format!("cores.{}", format.name()))
    } else {
        (Matrix::Train(train), "cores".to_owned())
    };
    let mut recurrent = floats("u")?;
    recurrent.extend(floats("b")?);
    let sizes = Sizes {
        cell: header.cell.parse()?,
        batch: header.batch,
        frames: header.frames,
        hidden: header.hidden,
        features,
        matrix,
        affine: Affine { scale: header.pixel_scale as f32, shift: 0.0 },
    };
    let values =
        Values { frames: bytes("x")?, input: floats(&input)?, recurrent, loss_weights: floats("r")? };
    Case::new(sizes, values, peer == "candle_ops")
}

fn check(case: &Case, folder: &Path) -> Result<Value> {
    std::fs::create_dir_all(folder)?;
    let forward = case.forward()?;
    let (h, gradients) = case.outputs()?;
    anyhow::ensure!(forward == h, "the forward pass differs between evaluation and training");
    let sizes = case.sizes();
    let (batch, hidden, width) = (sizes.batch, sizes.hidden, sizes.cell.gates() * sizes.hidden);
    let (du, db) = gradients.recurrent.split_at(hidden * width);
    let input = if matches!(sizes.matrix, Matrix::Dense) {
        let rows: Vec<f32> =
            gradients.input.chunks_exact(width).step_by(ROW_STRIDE).flatten().copied().collect();
        let count = rows.len() / width;
        ("d_w_rows", rows, vec![count, width])
    } else {
        ("d_cores", gradients.input.clone(), vec![gradients.input.len()])
    };
    let tensors = [
        ("h", h, vec![batch, hidden]),
        ("d_u", du.to_vec(), vec![hidden, width]),
        ("d_b", db.to_vec(), vec![width]),
        input,
    ];
    let mut written = Vec::new();
    for (name, values, shape) in tensors {
        let file = format!("{name}.f32");
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(folder.join(&file), bytes)?;
        written.push(json!({ "name": name, "file": file, "dtype": "f32", "shape": shape }));
    }
    Ok(json!({ "tensors": written }))
}
