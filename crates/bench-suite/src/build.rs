//! From a specification to a model, and to its parameter counts without building it.

use crate::record::ParamsRow;
use crate::spec::Spec;
use anyhow::{Context, Result};
use candle_core::Tensor;
use std::collections::HashMap;
use tt_core::TtShape;
use tt_core::apply::{Affine, Precision};
use tt_rnn::models::{Model, ModelConfig};
use tt_rnn::projection::GateLayout;
use tt_rnn::recurrence::Cell;

/// The model configuration that a specification asks for, with `classes` outputs.
pub fn model_config(spec: &Spec, classes: usize) -> Result<ModelConfig> {
    let (model, train) = (&spec.model, &spec.train);
    Ok(ModelConfig {
        features: spec.features(),
        classes,
        input_modes: model.input_modes.clone(),
        output_modes: model.output_modes.clone(),
        rank: model.rank,
        gates: model.gates.parse()?,
        core_init: model.core_init.parse()?,
        backend: model.rung.parse()?,
        precision: Precision::F32,
        dense_hidden: model.dense_hidden,
        gate_activation: model.gate_activation.parse()?,
        affine: Affine { scale: train.pixel_scale as f32, shift: train.pixel_shift as f32 },
        mlp_frames: model.mlp_frames,
        mlp_input_modes: model.mlp_input_modes.clone(),
        mlp_rank: model.mlp_rank,
        recurrent_dropout: train.recurrent_dropout as f32,
        dense_masks_per_gate: train.dense_masks == "per-gate",
        dense_input_dropout: train.dense_input_dropout as f32,
        tt_input_dropout: train.tt_input_dropout as f32,
        warm_up_to: train.warm_up_to,
        classifier_l2: train.classifier_l2 as f32,
    })
}

/// Gives a model the weights of these names.
///
/// # Errors
/// When one is missing or has another shape; the message names it.
pub(crate) fn set_weights(model: &dyn Model, weights: &HashMap<String, Tensor>) -> Result<()> {
    for parameter in model.parameters() {
        let misfit = || format!("{:?} does not fit", parameter.name);
        let value = weights.get(&parameter.name).with_context(misfit)?;
        parameter.set(value).with_context(misfit)?;
    }
    Ok(())
}

/// What a model costs, by its shape alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Input-to-hidden weights, biases left out.
    pub params_input: usize,
    /// All weights.
    pub params_total: usize,
    /// Multiply-accumulates of the input projection and the recurrence for one frame.
    pub macs_per_frame: usize,
    /// Hidden units times gates.
    pub width: usize,
}

/// Counts and costs of a model (a test compares them with the built ones).
pub fn size(config: &ModelConfig, model: &str) -> Result<Size> {
    let entry = tt_rnn::models::find(model)?;
    let classifier = |hidden: usize| hidden * config.classes + config.classes;
    if model == "tt-mlp" {
        let shape = TtShape::uniform(&config.mlp_input_modes, &config.output_modes, config.mlp_rank, 1)?;
        let hidden = shape.out_features();
        return Ok(Size {
            params_input: shape.params(),
            params_total: shape.params() + hidden + classifier(hidden),
            macs_per_frame: shape.macs_per_row() / config.mlp_frames,
            width: hidden,
        });
    }
    let cell: Cell = model.trim_start_matches("tt-").parse()?;
    let gates = cell.gates();
    let (params_input, macs, hidden) = if entry.tensor_train {
        let shape = TtShape::uniform(&config.input_modes, &config.output_modes, config.rank, gates)?;
        let hidden = shape.out_features() / gates;
        match config.gates {
            GateLayout::Concatenated => (shape.params(), shape.macs_per_row(), hidden),
            GateLayout::Separate => {
                let train = shape.with_gates(1)?;
                (gates * train.params(), gates * train.macs_per_row(), hidden)
            }
        }
    } else {
        let weights = config.features * gates * config.dense_hidden;
        (weights, weights, config.dense_hidden)
    };
    let recurrent = gates * hidden * hidden;
    Ok(Size {
        params_input,
        params_total: params_input + recurrent + gates * hidden + classifier(hidden),
        macs_per_frame: macs + recurrent,
        width: gates * hidden,
    })
}

/// The deck's Figure 1: input-to-hidden weights against the rank, UCF11 shapes, read off built models.
pub fn figure_1() -> Result<Vec<ParamsRow>> {
    let mut rows = Vec::new();
    let (inputs, outputs) = ([8, 20, 20, 18], [4, 4, 4, 4]);
    let mut push = |rank, layer: &str, params| rows.push(ParamsRow { rank, layer: layer.to_owned(), params });
    for rank in [3, 4, 5] {
        let shape = |gates| TtShape::uniform(&inputs, &outputs, rank, gates);
        push(rank, "fc", shape(1)?.in_features() * shape(1)?.out_features());
        push(rank, "ttl", shape(1)?.params());
        for (cell, gates) in [("lstm", 4), ("gru", 3)] {
            for layout in [GateLayout::Separate, GateLayout::Concatenated] {
                let projection = tt_rnn::projection::TtProjection::new(
                    &shape(gates)?,
                    layout,
                    Affine { scale: 1.0, shift: 0.0 },
                )?;
                let prefix = if layout == GateLayout::Separate { "vanilla-" } else { "" };
                push(rank, &format!("{prefix}tt-{cell}"), projection.params());
            }
        }
    }
    Ok(rows)
}
