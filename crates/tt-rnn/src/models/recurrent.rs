//! Plain RNN, GRU and LSTM with a dense or a Tensor-Train input projection: one layer, or several, in one direction of
//! time or in both.
//!
//! # Paper
//! Yang, Krompass, Tresp 2017, TT-GRU and TT-LSTM: only the input products are trains, U and the classifier
//! stay dense, and the classifier reads the last hidden state of one layer.

use super::pass::{Pass, Place};
use super::{Classifier, Mode, Model, ModelConfig, PackedFrames, Readout, of_states};
use crate::frames::FrameRows;
use crate::layer::Output;
use crate::packed;
use crate::parameters::Parameter;
use crate::projection::{Factorization, Projection};
use crate::recurrence::Cell;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::sync::Arc;

/// The matrices of a recurrent model: sizes, and no weights yet.
#[derive(Debug)]
pub(crate) struct Matrices {
    /// What the layers read their rows by, the lowest first; both directions of a layer have one of the same sizes.
    pub(crate) rows: Vec<Arc<dyn Projection>>,
    /// The form of U, where it is not dense.
    pub(crate) states: Option<Arc<dyn Projection>>,
}

impl Matrices {
    /// Those that a configuration asks for.
    ///
    /// # Errors
    /// Sizes that the forms cannot have.
    pub(crate) fn of(config: &ModelConfig, cell: Cell, input: Factorization) -> Result<Self> {
        let rows = input.of_layers(config, cell.gates())?;
        let hidden = rows.first().map_or(0, |lowest| lowest.outputs() / cell.gates());
        let states = of_states(config, cell.gates(), hidden)?;
        Ok(Self { rows, states })
    }
}

/// Recurrent layers on one another, and a classifier.
#[derive(Debug)]
pub(super) struct Recurrent {
    /// The lowest first; of each the forward direction, then the backward one if there is one.
    layers: Vec<Vec<Pass>>,
    readout: Readout,
    classifier: Classifier,
}

impl Recurrent {
    pub(super) fn new(
        config: &ModelConfig,
        cell: Cell,
        matrices: Matrices,
        device: &Device,
        seed: u64,
    ) -> Result<Self> {
        let stack = config.stack;
        if let Some(key) = stack.unusual().filter(|_| config.warm_up_to > 0) {
            return Err(Error::Unsupported(format!(
                "train.warm_up_to is the padding of one layer that reads forward and gives its last state; with {key} \
                 set it must be 0"
            )));
        }
        let directions: &[bool] = if stack.bidirectional { &[false, true] } else { &[false] };
        let mut layers = Vec::with_capacity(stack.layers);
        for (layer, projection) in matrices.rows.into_iter().enumerate() {
            let pass = |backward: &bool| {
                let place = Place { layer, backward: *backward };
                let matrices = (Arc::clone(&projection), matrices.states.clone());
                Pass::new(config, cell, matrices, place, device, seed)
            };
            layers.push(directions.iter().map(pass).collect::<Result<Vec<_>>>()?);
        }
        let states = layers.last().into_iter().flatten().map(|pass| pass.layer().hidden()).sum();
        let classifier = Classifier::new(states, config, device, seed)?;
        Ok(Self { layers, readout: stack.readout, classifier })
    }

    /// The same where the weights that read frames stay what the seed makes them.
    pub(super) fn frozen(mut self) -> Self {
        if let Some(lowest) = self.layers.first_mut() {
            *lowest = std::mem::take(lowest).into_iter().map(Pass::frozen).collect();
        }
        self
    }

    fn passes(&self) -> impl Iterator<Item = &Pass> {
        self.layers.iter().flatten()
    }
}

/// The states of all directions of a layer side by side: `[B, D·H]` or `[sum T_b, D·H]`.
fn states(
    layer: &[Pass],
    rows: &FrameRows,
    lengths: &[usize],
    output: Output,
    mode: &mut Mode<'_>,
) -> Result<Tensor> {
    let directions =
        layer.iter().map(|pass| pass.states(rows, lengths, output, mode)).collect::<Result<Vec<_>>>()?;
    Ok(if let [one] = &directions[..] { one.clone() } else { Tensor::cat(&directions, 1)? })
}

impl Model for Recurrent {
    fn logits(&self, frames: &PackedFrames, mut mode: Mode<'_>) -> Result<Tensor> {
        let lengths = &frames.lengths;
        let mut rows = frames.rows.clone();
        for (at, layer) in self.layers.iter().enumerate() {
            let last = at + 1 == self.layers.len() && self.readout == Readout::Last;
            let output = if last { Output::Last } else { Output::Sequence };
            rows = states(layer, &rows, lengths, output, &mut mode)?.into();
        }
        let rows = rows.tensor()?;
        let read = match self.readout {
            Readout::Last => rows,
            Readout::Mean => packed::mean(&rows, lengths)?,
            Readout::Max => packed::max(&rows, lengths)?,
        };
        self.classifier.logits(&read)
    }

    fn parameters(&self) -> Vec<Parameter> {
        let recurrent = self.passes().flat_map(Pass::recurrent_parameters);
        let input = self.passes().filter_map(Pass::input_parameter);
        recurrent.chain(self.classifier.parameters()).chain(input).collect()
    }

    fn input_parameters(&self) -> usize {
        let of_frames = self.layers.first().into_iter().flatten().filter_map(Pass::input_parameter);
        of_frames.map(|parameter| parameter.var.elem_count()).sum()
    }

    fn reads_stored(&self) -> bool {
        self.layers.first().is_some_and(|lowest| lowest.iter().all(Pass::reads_stored))
    }

    fn saturated_gates(&self, frames: &PackedFrames) -> Result<Option<f64>> {
        let mut saturated = Saturated::default();
        let mut rows = frames.rows.clone();
        for (at, layer) in self.layers.iter().enumerate() {
            for pass in layer {
                let activations = pass.activations(&rows, &frames.lengths)?;
                saturated.count(&activations, pass.layer().cell(), pass.layer().hidden());
            }
            if at + 1 < self.layers.len() {
                rows = states(layer, &rows, &frames.lengths, Output::Sequence, &mut Mode::Evaluate)?.into();
            }
        }
        Ok(saturated.share())
    }
}

/// Activations of gates where gradients hardly pass, among all.
#[derive(Debug, Default)]
pub(super) struct Saturated {
    all: usize,
    saturated: usize,
}

impl Saturated {
    /// Counts activations `[n, G·H]`.
    pub(super) fn count(&mut self, activations: &[f32], cell: Cell, hidden: usize) {
        let gates = activations
            .chunks_exact(cell.gates() * hidden)
            .flat_map(|row| row.chunks_exact(hidden).enumerate())
            .filter(|(gate, _)| cell.squashes(*gate))
            .flat_map(|(_, values)| values);
        for value in gates {
            self.all += 1;
            self.saturated += usize::from(!(0.01..=0.99).contains(value));
        }
    }

    /// None where there are no gates.
    pub(super) fn share(&self) -> Option<f64> {
        (self.all > 0).then(|| self.saturated as f64 / self.all as f64)
    }
}
