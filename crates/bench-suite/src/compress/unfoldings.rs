//! How fast the singular values of a trained input matrix fall.

use super::Cell;
use super::matrix::{dense, input_kernel};
use crate::build::{model_config, size};
use crate::lease::hold;
use crate::places::write;
use crate::record::SingularValue;
use crate::record_files::csv_of;
use anyhow::{Context, Result};
use candle_core::Device;
use std::path::Path;
use std::time::{Duration, Instant};
use tt_core::decomposition::{pair_modes, unfolding_singular_values};

/// Singular values of the unfoldings of a finished dense cell's input matrix, of its initial values, and of
/// what training changed; written to `<run>/compress/<cell>.unfoldings/singular_values.csv` unless that
/// exists. Long unfoldings keep the first 64 values, then indices that grow by a twentieth.
///
/// # Cost
/// Three singular value decompositions per unfolding, the largest of `12·8·80 × 80·72` numbers for a GRU on
/// 160×120×3 frames; memory: four copies of the input matrix.
pub fn singular_values(run_dir: &Path, id: &str, wait: Duration) -> Result<()> {
    let name = format!("{id}.unfoldings");
    let folder = run_dir.join("compress").join(&name);
    let _held = hold(&folder, &name, wait)?;
    let path = folder.join("singular_values.csv");
    if path.exists() {
        return Ok(());
    }
    let cell = Cell::load(run_dir, id)?;
    let Cell { plan, spec, record, weights } = dense(&cell)?;
    let trained = input_kernel(weights)?.0.flatten_all()?.to_vec1::<f32>()?; // [M, G N]
    let (modes, outputs) = (&spec.model.input_modes, &spec.model.output_modes);
    let config = model_config(spec, plan.classes.len())?;
    let mut outputs = outputs.clone();
    outputs[0] *= size(&config, &format!("tt-{}", record.model))?.width / outputs.iter().product::<usize>();
    let initial = {
        let model = tt_rnn::models::find(&record.model)?.build(&config, &Device::Cpu, record.seed)?;
        let kernel = model.parameters().into_iter().find(|parameter| parameter.name == "input.kernel");
        kernel.context("the model has no \"input.kernel\"")?.var.flatten_all()?.to_vec1::<f32>()?
    };
    let joint: Vec<usize> = modes.iter().zip(&outputs).map(|(m, n)| m * n).collect();
    let mut rows = Vec::new();
    for matrix in ["trained", "initial", "change"] {
        let paired = match matrix {
            "trained" => pair_modes(&trained, modes, &outputs)?,
            "initial" => pair_modes(&initial, modes, &outputs)?,
            _ => {
                let change: Vec<f32> = trained.iter().zip(&initial).map(|(now, then)| now - then).collect();
                pair_modes(&change, modes, &outputs)?
            }
        };
        for unfolding in 1..joint.len() {
            let started = Instant::now();
            let values = unfolding_singular_values(&paired, &joint, unfolding)?;
            tracing::info!("{id}: {matrix}, unfolding {unfolding}, {:.0} s", started.elapsed().as_secs_f64());
            let mut rest: f64 = values.iter().map(|value| value * value).sum();
            let all = rest.max(f64::MIN_POSITIVE);
            let mut next = 1;
            for (index, singular_value) in (1..).zip(values) {
                rest = (rest - singular_value * singular_value).max(0.0);
                if index == next {
                    rows.push(SingularValue {
                        model: record.model.clone(),
                        matrix: matrix.to_owned(),
                        unfolding,
                        index,
                        singular_value,
                        rel_error: (rest / all).sqrt(),
                    });
                    next += 1 + if index < 64 { 0 } else { index / 20 };
                }
            }
        }
    }
    write(&path, &csv_of(rows)?)
}
