//! Plain RNN, GRU and LSTM with a dense or a Tensor-Train input projection.
//!
//! # Paper
//! Yang, Krompass, Tresp 2017, TT-GRU and TT-LSTM: only the input products are trains, U and the classifier
//! stay dense, and the classifier reads the last hidden state.

use super::{Classifier, Mode, Model, ModelConfig, PackedFrames};
use crate::Result;
use crate::layer::{GradientSink, LayerCall, RecurrentLayer, RecurrentMasks, Sinks};
use crate::parameters::{Parameter, orthogonal};
use crate::projection::{Factorization, InputDropout};
use crate::rates::Kind;
use crate::recurrence::ops::Ops;
use crate::recurrence::{Cell, Recurrence};
use candle_core::{DType, Device, Tensor};
use rand::{Rng, RngExt};
use std::sync::Arc;
use tt_core::apply::{Affine, Backend};
use tt_core::rng::{Stream, stream};

/// One recurrent layer and its classifier.
#[derive(Debug)]
pub(super) struct Recurrent {
    layer: RecurrentLayer,
    input: Parameter,
    /// Whether the input weights keep their initial values.
    frozen: bool,
    /// `[U | b]`.
    weights: Parameter,
    classifier: Classifier,
    dropout: Dropout,
    affine: Affine,
    warm_up_to: usize,
}

#[derive(Debug, Clone, Copy)]
struct Dropout {
    recurrent: f32,
    per_gate: bool,
    /// Of the input features, a mask per gate: drawn inside the projection.
    input: f32,
    /// Of the input features, one mask for all gates: laid on the rows before the projection reads them.
    rows: f32,
}

impl Dropout {
    fn new(config: &ModelConfig, masks_by_gate: bool) -> Self {
        let (per_gate, input, rows) = if masks_by_gate {
            (config.dense_masks_per_gate, config.dense_input_dropout, 0.0)
        } else {
            (false, 0.0, config.tt_input_dropout)
        };
        Self { recurrent: config.recurrent_dropout, per_gate, input, rows }
    }
}

/// U orthogonal over the whole `[H, G·H]` matrix; biases zero, the LSTM's forget gate one.
fn recurrent_weights(cell: Cell, hidden: usize, seed: u64) -> Vec<f32> {
    let width = cell.gates() * hidden;
    let mut weights = orthogonal(hidden, width, &mut stream(seed, "init/recurrent"));
    weights.resize(hidden * width + width, 0.0);
    if cell == Cell::Lstm {
        weights[hidden * width + hidden..][..hidden].fill(1.0);
    }
    weights
}

impl Recurrent {
    pub(super) fn new(
        config: &ModelConfig,
        cell: Cell,
        input: Factorization,
        device: &Device,
        seed: u64,
    ) -> Result<Self> {
        let projection = (input.new)(config, cell.gates())?;
        let (hidden, values) = (projection.outputs() / cell.gates(), projection.weights());
        let mut input =
            Parameter::of_parts(values.name, values.parts, projection.initial(seed), &values.shape, device)?;
        let initial = recurrent_weights(cell, hidden, seed);
        let (length, biases) = (initial.len(), cell.gates() * hidden);
        let parts = vec![(length - biases, Kind::Matrix { fan_in: hidden }), (biases, Kind::Vector)];
        let mut weights = Parameter::of_parts("recurrent", parts, initial, &[length], device)?;
        let dropout = Dropout::new(config, projection.masks_by_gate());
        let gate_activation = config.gate_activation;
        let layer = if device.is_cpu() && config.backend != Backend::Ops {
            input.sink = values.sink.then(GradientSink::default);
            weights.sink = Some(GradientSink::default());
            let sinks = Sinks { input: input.sink.clone(), recurrent: weights.sink.clone() };
            RecurrentLayer::new(
                Arc::clone(&projection),
                Recurrence::new(cell, gate_activation, hidden),
                sinks,
            )
        } else {
            let kernels = config.backend == Backend::Fused;
            RecurrentLayer::by_operators(projection, Ops { cell, gate_activation, hidden, kernels })
        };
        Ok(Self {
            layer,
            input,
            frozen: false,
            weights,
            classifier: Classifier::new(hidden, config, device, seed)?,
            dropout,
            affine: config.affine,
            warm_up_to: config.warm_up_to,
        })
    }

    /// The same with input weights that stay what the seed makes them: no parameters, and in no checkpoint.
    pub(super) fn frozen(self) -> Self {
        Self { frozen: true, ..self }
    }

    fn input_weights(&self) -> Tensor {
        let var = &self.input.var;
        if self.frozen { var.as_detached_tensor() } else { var.as_tensor().clone() }
    }

    /// Rows with dropped features, one mask per clip: a dropped feature holds the number whose scaled value is
    /// zero, a kept one the number whose scaled value is `1 / (1 - p)` times what it was.
    ///
    /// # Cost
    /// The batch as f32, four times its bytes.
    fn drop_features(&self, frames: &PackedFrames, stream: &mut Stream) -> Result<Tensor> {
        let p = self.dropout.rows;
        let Affine { scale, shift } = self.affine;
        let (offset, keep) = (shift / scale, 1.0 / (1.0 - p));
        let features = frames.rows.dim(1)?;
        let mut clips = Vec::with_capacity(frames.lengths.len());
        let mut start = 0;
        for length in &frames.lengths {
            let mask: Vec<f32> =
                (0..features).map(|_| if stream.random::<f32>() < p { 0.0 } else { keep }).collect();
            let mask = Tensor::from_vec(mask, (1, features), frames.rows.device())?;
            let rows = frames.rows.narrow(0, start, *length)?.to_dtype(DType::F32)?;
            let rows = rows.affine(1.0, f64::from(offset))?.broadcast_mul(&mask)?;
            clips.push(rows.affine(1.0, f64::from(-offset))?);
            start += length;
        }
        Ok(Tensor::cat(&clips, 0)?) // [sum T_b, M]
    }

    fn call(&self, lengths: &[usize], mode: Mode<'_>) -> LayerCall {
        let warm_up = match self.warm_up_to {
            0 => Vec::new(),
            longest => lengths.iter().map(|t| longest.saturating_sub(*t)).collect(),
        };
        let mut call = LayerCall { lengths: lengths.to_vec(), warm_up, ..LayerCall::default() };
        if let Mode::Train(stream) = mode {
            call.train = true;
            call.masks = self.masks(lengths.len(), stream);
            if self.dropout.input > 0.0 {
                call.input_dropout =
                    Some(InputDropout { probability: self.dropout.input, seed: stream.next_u64() });
            }
        }
        call
    }

    fn masks(&self, clips: usize, stream: &mut Stream) -> RecurrentMasks {
        let p = self.dropout.recurrent;
        if p == 0.0 {
            return RecurrentMasks::None;
        }
        let keep = 1.0 / (1.0 - p);
        let mut draw = |count: usize| -> Vec<f32> {
            (0..count).map(|_| if stream.random::<f32>() < p { 0.0 } else { keep }).collect()
        };
        if self.dropout.per_gate {
            RecurrentMasks::PerGate(draw(self.layer.cell().gates() * clips * self.layer.hidden()))
        } else {
            RecurrentMasks::Shared(draw(clips * self.layer.hidden()))
        }
    }
}

impl Model for Recurrent {
    fn logits(&self, frames: &PackedFrames, mut mode: Mode<'_>) -> Result<Tensor> {
        let rows = match &mut mode {
            Mode::Train(stream) if self.dropout.rows > 0.0 => self.drop_features(frames, stream)?,
            _ => frames.rows.clone(),
        };
        let call = self.call(&frames.lengths, mode);
        let last = self.layer.forward(&rows, &self.input_weights(), &self.weights.var, call)?;
        self.classifier.logits(&last)
    }

    fn parameters(&self) -> Vec<Parameter> {
        let [kernel, bias] = self.classifier.parameters();
        let mut parameters = vec![self.weights.clone(), kernel, bias];
        if !self.frozen {
            parameters.push(self.input.clone());
        }
        parameters
    }

    fn input_parameters(&self) -> usize {
        if self.frozen { 0 } else { self.input.var.elem_count() }
    }

    fn saturated_gates(&self, frames: &PackedFrames) -> Result<Option<f64>> {
        let call = self.call(&frames.lengths, Mode::Evaluate);
        let (input, weights) = (self.input_weights(), &self.weights.var);
        let activations = self.layer.activations(&frames.rows, &input, weights, call)?;
        let (cell, hidden) = (self.layer.cell(), self.layer.hidden());
        let gates = activations
            .chunks_exact(cell.gates() * hidden)
            .flat_map(|row| row.chunks_exact(hidden).enumerate())
            .filter(|(gate, _)| cell.squashes(*gate))
            .flat_map(|(_, values)| values);
        let (count, saturated) = gates.fold((0_usize, 0_usize), |(count, saturated), value| {
            (count + 1, saturated + usize::from(!(0.01..=0.99).contains(value)))
        });
        Ok((count > 0).then(|| saturated as f64 / count as f64))
    }
}
