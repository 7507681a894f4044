//! From a specification to a model, and to its parameter counts without building it.

use crate::record::ParamsRow;
use crate::spec::Spec;
use anyhow::{Context, Result};
use candle_core::Tensor;
use std::collections::HashMap;
use std::sync::Arc;
use tt_core::TtShape;
use tt_core::apply::{Affine, Backend, Precision};
use tt_rnn::encoder;
use tt_rnn::models::{
    self, CnnKernels, Form, FormatSettings, Model, ModelConfig, RecurrentForm, STACKED, STACKED_GRID, Stack,
    of_states,
};
use tt_rnn::projection::{DENSE, Factorization, GateLayout, Projection};
use tt_rnn::recurrence::Cell;
use tt_rnn::recurrence::attention::Attention;

/// The model configuration that a specification asks for, with `classes` outputs.
pub fn model_config(spec: &Spec, classes: usize) -> Result<ModelConfig> {
    let (model, train) = (&spec.model, &spec.train);
    Ok(ModelConfig {
        features: spec.features(),
        width: spec.data.width,
        classes,
        input_modes: model.input_modes.clone(),
        output_modes: model.output_modes.clone(),
        rank: model.rank,
        gates: model.gates.parse()?,
        core_init: model.core_init.parse()?,
        backend: model.backend.parse()?,
        precision: Precision::F32,
        dense_hidden: model.dense_hidden,
        stack: Stack {
            layers: model.layers,
            bidirectional: model.bidirectional,
            readout: model.readout.parse()?,
        },
        recurrent: match model.recurrent.as_str() {
            "dense" => RecurrentForm::Dense,
            format => RecurrentForm::Factorized { format: format.to_owned(), rank: model.recurrent_rank },
        },
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
        formats: FormatSettings {
            input_weights: model.input_weights,
            ranks: model.ranks.clone(),
            blocks: model.blocks,
            tree: model.tree.clone(),
        },
        cnn: model.cnn.parse()?,
        cnn_kernels: CnnKernels::of(&model.cnn_kernels, model.cnn_rank)?,
        attention_penalty: train.attention_penalty as f32,
    })
}

/// Gives a model the weights of these names.
///
/// # Errors
/// If one is missing or has another shape; the message names it.
pub(crate) fn set_weights(model: &dyn Model, weights: &HashMap<String, Tensor>) -> Result<()> {
    for parameter in model.parameters() {
        let misfit = || format!("{:?} does not fit", parameter.name);
        let value = weights.get(&parameter.name).with_context(misfit)?;
        parameter.set(value).with_context(misfit)?;
    }
    Ok(())
}

/// What a model costs, by its shape alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Trained weights that read frames, biases left out.
    pub params_input: usize,
    /// All trained weights.
    pub params_total: usize,
    /// Weights that keep their initial values.
    pub params_frozen: usize,
    /// Trained weights whose gradient stays as factors unless it is clipped.
    pub params_by_factors: usize,
    /// Multiply-accumulates of projections and recurrences for one frame.
    pub macs_per_frame: usize,
    /// Hidden units times gates, of all layers.
    pub width: usize,
    /// Bytes of a frame that are averaged before any weight reads them.
    pub averaged_per_frame: usize,
    /// Of the multiply-accumulates those of a CNN.
    pub cnn_macs_per_frame: usize,
    /// Bytes that training a CNN holds on every thread of this machine, however long the clips are.
    pub cnn_bytes: usize,
    /// Bytes of a CNN's map of a frame, where all of it is kept.
    pub map_bytes: usize,
}

/// Counts and costs of a model (a test compares them with the built ones).
pub fn size(config: &ModelConfig, model: &str) -> Result<Size> {
    Ok(match models::find(model)?.form {
        Form::Mlp { input } => {
            let layer = (input.new)(&config.of_mlp(), 1)?;
            let (weights, hidden) = (layer.weights().count(), layer.outputs());
            Size {
                params_input: weights,
                params_total: weights + hidden + classifier(config, hidden),
                macs_per_frame: layer.macs_per_row() / config.mlp_frames,
                width: hidden,
                ..Size::default()
            }
        }
        Form::MeanFrame => linear(config, config.features),
        Form::StackedFrames => linear(config, STACKED * STACKED_GRID.cells()),
        Form::PooledGru(grid) => {
            let small = ModelConfig { features: grid.cells(), ..config.clone() };
            Size { averaged_per_frame: config.features, ..recurrent(&small, Cell::Gru, DENSE, false)? }
        }
        Form::OnFeatures { cell, features } => {
            recurrent(&ModelConfig { features, ..config.clone() }, cell, DENSE, false)?
        }
        Form::Recurrent { cell, input, frozen } => recurrent(config, cell, input, frozen)?,
        Form::Cnn { cell } => {
            let plan = encoder::plan(config)?;
            let features = ModelConfig { features: plan.features(), ..config.clone() };
            let above = recurrent(&features, cell, DENSE, false)?;
            Size {
                params_input: plan.kernels() + above.params_input,
                params_total: plan.parameters() + above.params_total,
                macs_per_frame: plan.macs() + above.macs_per_frame,
                cnn_macs_per_frame: plan.macs(),
                cnn_bytes: plan.held_bytes(threads()),
                ..above
            }
        }
        Form::Attention => with_attention(config)?,
    })
}

/// An LSTM that attends to what a CNN sees.
fn with_attention(config: &ModelConfig) -> Result<Size> {
    let (plan, Attention { hidden, places, features, .. }) = models::with_attention(config)?;
    let width = 4 * hidden;
    let start = features * 2 * hidden;
    let params_input = plan.kernels() + features * width + start;
    let scales = plan.weights() - plan.kernels();
    let steps = (hidden + 1) * width + hidden * places + 2 * hidden;
    Ok(Size {
        params_input,
        params_total: params_input + scales + steps + classifier(config, hidden),
        // The mean of the map, its glimpse and the classifier are little beside these.
        macs_per_frame: plan.macs() + (features + hidden) * width + (hidden + features) * places,
        width: width + places,
        cnn_macs_per_frame: plan.macs(),
        cnn_bytes: plan.held_bytes(threads()),
        map_bytes: 4 * places * features,
        ..Size::default()
    })
}

/// Threads of this machine.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn classifier(config: &ModelConfig, inputs: usize) -> usize {
    inputs * config.classes + config.classes
}

/// A linear classifier with this many inputs.
fn linear(config: &ModelConfig, inputs: usize) -> Size {
    Size {
        params_input: inputs * config.classes,
        params_total: classifier(config, inputs),
        macs_per_frame: config.features,
        averaged_per_frame: config.features,
        ..Size::default()
    }
}

fn recurrent(config: &ModelConfig, cell: Cell, input: Factorization, frozen: bool) -> Result<Size> {
    let layers = input.of_layers(config, cell.gates())?;
    let directions = config.stack.directions();
    let weights = |projection: &Arc<dyn Projection>| directions * projection.weights().count();
    let of_frames = layers.first().map_or(0, weights);
    let projections: usize = layers.iter().map(weights).sum();
    let by_factors = |projection: &&Arc<dyn Projection>| {
        !frozen && projection.weights().sink && config.backend != Backend::Ops
    };
    let params_by_factors = layers.iter().filter(by_factors).map(weights).sum();
    let width = layers.first().map_or(0, |projection| projection.outputs());
    let (hidden, passes) = (width / cell.gates(), directions * layers.len());
    let recurrent = of_states(config, cell.gates(), hidden)?;
    let recurrent = recurrent.map_or(hidden * width, |projection| projection.weights().count());
    let projected: usize = layers.iter().map(|projection| directions * projection.macs_per_row()).sum();
    let total = projections + passes * (recurrent + width) + classifier(config, directions * hidden);
    let (params_input, params_frozen) = if frozen { (0, of_frames) } else { (of_frames, 0) };
    Ok(Size {
        params_input,
        params_total: total - params_frozen,
        params_frozen,
        params_by_factors,
        // A factorized U is multiplied out before the first step.
        macs_per_frame: projected + passes * hidden * width,
        width: passes * width,
        ..Size::default()
    })
}

/// The paper's Figure 1: input-to-hidden weights against the rank, UCF11 shapes, read off built models.
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
