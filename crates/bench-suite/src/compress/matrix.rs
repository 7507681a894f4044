//! The input matrix of a dense GRU, LSTM or RNN in a format of small cores.

use super::{Cell, CompressOptions, Errors, TRAIN, Twin, squares};
use crate::build::{model_config, size};
use crate::data::Clips;
use crate::places::Places;
use crate::spec::Spec;
use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::Path;
use std::time::Instant;
use tt_core::decomposition::{Alternating, Fit, Truncation, TtMatrix};
use tt_core::network::{FORMATS, FormatShape};
use tt_core::{Error, TtShape};
use tt_rnn::projection::{GateLayout, NetworkProjection};

/// A cell that has one dense input matrix.
///
/// # Errors
/// Says what another has.
pub(super) fn dense(cell: &Cell) -> Result<&Cell> {
    let Cell { spec, record, .. } = cell;
    let model = &record.model;
    ensure!(
        ["gru", "lstm", "rnn"].contains(&model.as_str()),
        "{model} has no dense input matrix to factorize, and no kernels of a CNN; compress takes gru, lstm and rnn, cnn-gru, \
         cnn-lstm and frozen-cnn-gru"
    );
    ensure!(
        spec.model.layers == 1 && !spec.model.bidirectional,
        "{model}: its input matrix is one of several (model.layers = {}, model.bidirectional = {}); compress takes \
         models of one layer that reads forward",
        spec.model.layers,
        spec.model.bidirectional
    );
    let hidden: usize = spec.model.output_modes.iter().product();
    ensure!(
        hidden == spec.model.dense_hidden,
        "{model}: {} dense units do not fit output modes {:?}: train with --set model.dense_hidden={hidden}",
        spec.model.dense_hidden,
        spec.model.output_modes
    );
    Ok(cell)
}

/// The twin of a dense cell with its matrix factorized.
pub(super) fn twin(cell: &Cell, options: &CompressOptions) -> Result<Twin> {
    let Cell { plan, spec, record, weights } = dense(cell)?;
    let model = format!("{}-{}", options.to, record.model);
    let mut spec = spec.clone();
    // The rank asked for is the rank that all have, whatever the run planned.
    spec.model.rank = options.rank;
    spec.model.input_weights = 0;
    spec.model.ranks.clear();
    spec.model.gates.clone_from(&options.form);
    let small = Small::of_twin(&spec, plan.classes.len(), &record.model, options)?;
    let clips = Clips::open(&Places::of_run(&options.run_dir)?, &spec, plan)?;
    let started = Instant::now();
    let (kernel, others) = input_kernel(weights)?;
    let (features, width) = kernel.dims2()?;
    ensure!(features == small.features(), "{features} features, {} expected", small.features());
    let block = small.outputs();
    let (mut packed, mut errors) = (Vec::new(), Errors::default());
    for from in (0..width).step_by(block) {
        let values = kernel.narrow(1, from, block)?.flatten_all()?.to_vec1::<f32>()?; // [M, block]
        let of = || format!("--to {} --rank {}", options.to, options.rank);
        let (weights, relative) = small.weights(&values, record.seed).with_context(of)?;
        errors.add(&values, relative);
        packed.extend(weights);
    }
    let params = packed.len();
    let mut start = vec![("input.cores".to_owned(), Tensor::from_vec(packed, params, &Device::Cpu)?)];
    start.extend(others);
    let (kernels, factorize_s) = (Vec::new(), started.elapsed().as_secs_f64());
    Ok(Twin { model, spec, clips, start, errors, params, kernels, factorize_s })
}

/// The input matrix `[M, G N]` among the weights of a cell, and the others.
pub(super) fn input_kernel(path: &Path) -> Result<(Tensor, HashMap<String, Tensor>)> {
    let (mut weights, _) = tt_rnn::checkpoint::load(path)?;
    let kernel = weights.remove("input.kernel");
    Ok((kernel.with_context(|| format!("{}: no \"input.kernel\"", path.display()))?, weights))
}

/// Ranks that cannot be as large as asked for are as large as they can be.
fn say_lowered(options: &CompressOptions, ranks: &[usize]) {
    if ranks.iter().any(|rank| *rank < options.rank) {
        tracing::info!("{}: rank {} lowered to {ranks:?}", options.id, options.rank);
    }
}

/// What the input matrix of all gates, or that of one, becomes.
enum Small {
    Train(TtShape),
    Network(FormatShape),
}

impl Small {
    /// The form of `[M, H]` for each gate, or of `[M, G·H]`, that the twin of a specification has.
    fn of_twin(spec: &Spec, classes: usize, cell: &str, options: &CompressOptions) -> Result<Self> {
        let config = model_config(spec, classes)?;
        let hidden: usize = spec.model.output_modes.iter().product();
        let all = size(&config, &format!("{}-{cell}", options.to))?.width / hidden;
        if options.to == TRAIN {
            let gates = if config.gates == GateLayout::Concatenated { all } else { 1 };
            let (inputs, outputs) = (&spec.model.input_modes, &spec.model.output_modes);
            let shape = TtShape::uniform(inputs, outputs, options.rank, gates)?;
            say_lowered(options, &shape.ranks()[1..shape.order()]);
            return Ok(Self::Train(shape));
        }
        let format = FORMATS.into_iter().find(|format| format.name() == options.to);
        let format = format.with_context(|| format!("there is no format {:?}", options.to))?;
        let shape = NetworkProjection::shape_of_model(format, &config, all)?.0;
        say_lowered(options, shape.ranks());
        Ok(Self::Network(shape))
    }

    fn features(&self) -> usize {
        match self {
            Self::Train(shape) => shape.in_features(),
            Self::Network(shape) => shape.network().in_features(),
        }
    }

    fn outputs(&self) -> usize {
        match self {
            Self::Train(shape) => shape.out_features(),
            Self::Network(shape) => shape.network().out_features(),
        }
    }

    /// Weights near a matrix of so many features and outputs, and the relative error.
    fn weights(&self, values: &[f32], seed: u64) -> Result<(Vec<f32>, f64)> {
        let shape = match self {
            Self::Train(shape) => shape,
            Self::Network(shape) => {
                let fit = shape.decompose(values, &Alternating { seed, ..Alternating::default() })?;
                if !fit.converged {
                    let Fit { sweeps, relative_error, .. } = fit;
                    tracing::warn!(
                        "{shape}: still nearing after {sweeps} sweeps; its error of {relative_error:.3e} may not be the least"
                    );
                }
                return Ok((fit.found, fit.relative_error));
            }
        };
        let outputs: Vec<usize> = (0..shape.order()).map(|k| shape.output_mode(k)).collect();
        let truncation = Truncation::Ranks(shape.ranks()[1..shape.order()].to_vec());
        let train = TtMatrix::from_dense(values, shape.input_modes(), &outputs, &truncation)?;
        if train.train().ranks() != shape.ranks() {
            let found = train.train().ranks();
            return Err(Error::Shape(format!("the matrix has TT ranks {found:?}: ask for no more")).into());
        }
        let lost = values.iter().zip(train.reconstruct());
        let wrong: f64 = lost.map(|(value, near)| f64::from(value - near).powi(2)).sum();
        let all = squares(values);
        Ok((train.to_layer()?.1, Errors { wrong, all }.relative()))
    }
}
