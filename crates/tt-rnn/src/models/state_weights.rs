//! What a layer's state meets in every step: U, dense or factorized, and the biases.
//!
//! # Paper
//! Onu, Miller and Precup 2020 (trains for both matrices of a cell) and Yin et al. 2021 (a hierarchical Tucker form of the
//! whole cell) factorize U too; Yang, Krompass and Tresp 2017 keep it dense.

use super::{FormatSettings, ModelConfig, RecurrentForm, format};
use crate::Result;
use crate::layer::{GradientSink, LayerCall};
use crate::parameters::{Parameter, orthogonal};
use crate::projection::Projection;
use crate::rates::Kind;
use crate::recurrence::Cell;
use candle_core::{DType, Device, Tensor};
use rand::Rng;
use std::collections::BTreeMap;
use std::sync::Arc;
use tt_core::apply::Affine;
use tt_core::decomposition::balanced_modes;
use tt_core::init::CoreInit;
use tt_core::rng::stream;

/// The projection of states `[n, H]` that stands for U, where a model's U is not dense: between the modes of the state on
/// both sides, with the gates as at the input and entries that start with the variance of Glorot's.
///
/// # Errors
/// Sizes that the format cannot have.
pub fn of_states(config: &ModelConfig, gates: usize, hidden: usize) -> Result<Option<Arc<dyn Projection>>> {
    let RecurrentForm::Factorized { format: name, rank } = &config.recurrent else { return Ok(None) };
    let mut modes = config.output_modes.clone();
    if modes.iter().product::<usize>() != hidden {
        // The units of the dense models are a setting of their own.
        modes = balanced_modes(hidden, modes.len())?;
    }
    let square = ModelConfig {
        features: hidden,
        input_modes: modes.clone(),
        output_modes: modes,
        rank: *rank,
        core_init: CoreInit::VarianceMatched,
        affine: Affine::IDENTITY,
        // Ranks and budget there are those of the input matrix.
        formats: FormatSettings { input_weights: 0, ranks: BTreeMap::new(), ..config.formats.clone() },
        ..config.clone()
    };
    (format(name)?.new)(&square, gates).map(Some)
}

/// U `[H, G·H]` of factors: what becomes of the unit vectors `[H, H]`.
///
/// # Errors
/// Factors that do not fit.
pub(crate) fn multiplied_out(
    projection: &dyn Projection,
    units: &Tensor,
    factors: &Tensor,
    train: bool,
) -> Result<Tensor> {
    let call = LayerCall { lengths: vec![units.dim(0)?], train, ..LayerCall::default() };
    projection.forward(units, factors, &call)
}

/// `[U | b]`, as parameters and as the recurrence reads it.
#[derive(Debug)]
pub(super) enum StateWeights {
    /// One parameter.
    Dense(Parameter),
    /// U in another form.
    Factorized {
        projection: Arc<dyn Projection>,
        factors: Parameter,
        bias: Parameter,
        /// The unit vectors `[H, H]`, whose projection is U.
        units: Tensor,
    },
}

impl StateWeights {
    /// Initial values of a layer, whose parameters' names begin with `prefix`; U is in the form of a projection, or dense.
    ///
    /// A dense U is orthogonal over the whole `[H, G·H]` matrix; the entries of a factorized one have the variance of
    /// Glorot's. Biases are zero, the LSTM's forget gate one.
    pub(super) fn new(
        projection: Option<Arc<dyn Projection>>,
        (cell, hidden): (Cell, usize),
        prefix: &str,
        device: &Device,
        seed: u64,
    ) -> Result<Self> {
        let width = cell.gates() * hidden;
        let mut biases = vec![0.0; width];
        if cell == Cell::Lstm {
            biases[hidden..2 * hidden].fill(1.0);
        }
        let mut draws = stream(seed, "init/recurrent");
        let Some(projection) = projection else {
            let values = [orthogonal(hidden, width, &mut draws), biases].concat();
            let count = values.len();
            let parts = vec![(count - width, Kind::Matrix { fan_in: hidden }), (width, Kind::Vector)];
            let name = format!("{prefix}recurrent");
            return Ok(Self::Dense(Parameter::of_parts(&name, parts, values, &[count], device)?));
        };
        let weights = projection.weights();
        let parts = weights.parts.iter().map(|(count, kind)| (*count, kind.of_states())).collect();
        let name = format!("{prefix}recurrent.{}", weights.name.trim_start_matches("input."));
        let values = projection.initial(draws.next_u64());
        let factors = Parameter::of_parts(&name, parts, values, &weights.shape, device)?;
        let bias =
            Parameter::new(&format!("{prefix}recurrent.bias"), Kind::Vector, biases, &[width], device)?;
        let units = Tensor::eye(hidden, DType::F32, device)?;
        Ok(Self::Factorized { projection, factors, bias, units })
    }

    /// Where the gradient of `[U | b]` is left from now on, past candle's store; nowhere for a factorized U, whose
    /// gradient goes on to its factors.
    pub(super) fn with_sink(&mut self) -> Option<GradientSink> {
        let Self::Dense(weights) = self else { return None };
        weights.sink = Some(GradientSink::default());
        weights.sink.clone()
    }

    pub(super) fn parameters(&self) -> Vec<Parameter> {
        match self {
            Self::Dense(weights) => vec![weights.clone()],
            Self::Factorized { factors, bias, .. } => vec![factors.clone(), bias.clone()],
        }
    }

    /// `[U | b]`, flat.
    ///
    /// # Cost
    /// A factorized U is multiplied out once a call, by a projection of H rows: little beside that of the frames.
    pub(super) fn joined(&self, train: bool) -> Result<Tensor> {
        match self {
            Self::Dense(weights) => Ok(weights.var.as_tensor().clone()),
            Self::Factorized { projection, factors, bias, units } => {
                let matrix = multiplied_out(projection.as_ref(), units, &factors.var, train)?;
                Ok(Tensor::cat(&[&matrix.flatten_all()?, bias.var.as_tensor()], 0)?)
            }
        }
    }
}
