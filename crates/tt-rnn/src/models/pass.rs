//! One pass over the frames of clips: a recurrent layer in one direction of time, its weights and its dropout.

use super::state_weights::StateWeights;
use super::{Mode, ModelConfig};
use crate::Result;
use crate::frames::FrameRows;
use crate::layer::{GradientSink, LayerCall, Output, RecurrentLayer, RecurrentMasks, Sinks};
use crate::parameters::Parameter;
use crate::projection::{InputDropout, Projection};
use crate::rates::Kind;
use crate::recurrence::ops::Ops;
use crate::recurrence::{Cell, Recurrence};
use candle_core::{DType, Device, Tensor};
use rand::{Rng, RngExt};
use std::sync::Arc;
use tt_core::apply::{Affine, Backend};
use tt_core::rng::{Stream, stream};

/// Where a pass is in its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// From 0, the layer that reads frames.
    pub(crate) layer: usize,
    pub(crate) backward: bool,
}

impl Place {
    fn is_first(self) -> bool {
        self.layer == 0 && !self.backward
    }

    /// What distinguishes its parameters and streams from those of other places; nothing for the first, whose model may
    /// have no other.
    pub(crate) fn name(self) -> String {
        let direction = if self.backward { "back." } else { "" };
        if self.is_first() { String::new() } else { format!("layer.{}.{direction}", self.layer + 1) }
    }

    /// The stream of this place, from what the model has.
    fn stream(self, seed: u64) -> Stream {
        stream(seed, &format!("place/{}", self.name()))
    }
}

/// A recurrent layer in one direction of time.
#[derive(Debug)]
pub(super) struct Pass {
    place: Place,
    layer: RecurrentLayer,
    input: Parameter,
    /// Whether the input weights keep their initial values.
    frozen: bool,
    weights: StateWeights,
    dropout: Dropout,
    affine: Affine,
    warm_up_to: usize,
}

/// Shares of what a layer drops while it is trained.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dropout {
    recurrent: f32,
    per_gate: bool,
    /// Of the input features, a mask per gate: drawn inside the projection.
    input: f32,
    /// Of the input features, one mask for all gates: laid on the rows before the projection reads them.
    rows: f32,
}

impl Dropout {
    pub(super) fn new(config: &ModelConfig, masks_by_gate: bool) -> Self {
        let (per_gate, input, rows) = if masks_by_gate {
            (config.dense_masks_per_gate, config.dense_input_dropout, 0.0)
        } else {
            (false, 0.0, config.tt_input_dropout)
        };
        Self { recurrent: config.recurrent_dropout, per_gate, input, rows }
    }

    /// A call that trains, with masks from a stream.
    pub(super) fn drawn(&self, of: (Cell, usize), call: LayerCall, stream: &mut Stream) -> LayerCall {
        let masks = self.masks(of, call.lengths.len(), stream);
        let probability = self.input;
        let input_dropout =
            (probability > 0.0).then(|| InputDropout { probability, seed: stream.next_u64() });
        LayerCall { train: true, masks, input_dropout, ..call }
    }

    fn masks(&self, (cell, hidden): (Cell, usize), clips: usize, stream: &mut Stream) -> RecurrentMasks {
        let p = self.recurrent;
        if p == 0.0 {
            return RecurrentMasks::None;
        }
        let keep = 1.0 / (1.0 - p);
        let mut draw = |count: usize| -> Vec<f32> {
            (0..count).map(|_| if stream.random::<f32>() < p { 0.0 } else { keep }).collect()
        };
        if self.per_gate {
            RecurrentMasks::PerGate(draw(cell.gates() * clips * hidden))
        } else {
            RecurrentMasks::Shared(draw(clips * hidden))
        }
    }
}

impl Pass {
    pub(super) fn new(
        config: &ModelConfig,
        cell: Cell,
        (projection, states): (Arc<dyn Projection>, Option<Arc<dyn Projection>>),
        place: Place,
        device: &Device,
        seed: u64,
    ) -> Result<Self> {
        let (hidden, values) = (projection.outputs() / cell.gates(), projection.weights());
        let seed = if place.is_first() { seed } else { place.stream(seed).next_u64() };
        let (affine, kinds) = if place.layer == 0 {
            (config.affine, values.parts)
        } else {
            let of_states = |(count, kind): (usize, Kind)| (count, kind.of_states());
            (Affine::IDENTITY, values.parts.into_iter().map(of_states).collect())
        };
        let name = format!("{}{}", place.name(), values.name);
        let mut input = Parameter::of_parts(&name, kinds, projection.initial(seed), &values.shape, device)?;
        let mut weights = StateWeights::new(states, (cell, hidden), &place.name(), device, seed)?;
        let dropout = Dropout::new(config, projection.masks_by_gate());
        let gate_activation = config.gate_activation;
        let layer = if device.is_cpu() && config.backend != Backend::Ops {
            input.sink = values.sink.then(GradientSink::default);
            let sinks = Sinks { input: input.sink.clone(), recurrent: weights.with_sink() };
            RecurrentLayer::new(projection, Recurrence::new(cell, gate_activation, hidden), sinks)
        } else {
            let kernels = config.backend == Backend::Fused;
            RecurrentLayer::by_operators(projection, Ops { cell, gate_activation, hidden, kernels })
        };
        let warm_up_to = config.warm_up_to;
        Ok(Self { place, layer, input, frozen: false, weights, dropout, affine, warm_up_to })
    }

    /// The same with input weights that stay what the seed makes them: no parameters, and in no checkpoint.
    pub(super) fn frozen(self) -> Self {
        Self { frozen: true, ..self }
    }

    /// Whether it reads stored rows as they are.
    pub(super) fn reads_stored(&self) -> bool {
        self.layer.reads_stored() && self.dropout.rows == 0.0
    }

    pub(super) fn layer(&self) -> &RecurrentLayer {
        &self.layer
    }

    /// U and the biases.
    pub(super) fn recurrent_parameters(&self) -> Vec<Parameter> {
        self.weights.parameters()
    }

    /// The input weights, where they are trained.
    pub(super) fn input_parameter(&self) -> Option<Parameter> {
        (!self.frozen).then(|| self.input.clone())
    }

    /// Rows in the order in which they are read, which is its own inverse.
    fn turned(&self, rows: &FrameRows, lengths: &[usize]) -> Result<FrameRows> {
        if self.place.backward { rows.reversed(lengths) } else { Ok(rows.clone()) }
    }

    /// The state after the last frame read of each clip, `[B, H]`, or after every frame, `[sum T_b, H]`, in the order of
    /// the frames.
    pub(super) fn states(
        &self,
        rows: &FrameRows,
        lengths: &[usize],
        output: Output,
        mode: &mut Mode<'_>,
    ) -> Result<Tensor> {
        let mut own = match mode {
            Mode::Train(stream) if !self.place.is_first() => Some(self.place.stream(stream.next_u64())),
            _ => None,
        };
        let stream = match mode {
            Mode::Train(stream) => Some(own.as_mut().unwrap_or(stream)),
            Mode::Evaluate => None,
        };
        let mut rows = self.turned(rows, lengths)?;
        let call = match stream {
            Some(stream) => {
                if self.dropout.rows > 0.0 {
                    rows = self.drop_features(&rows.tensor()?, lengths, stream)?.into();
                }
                self.dropout.drawn((self.layer.cell(), self.layer.hidden()), self.call(lengths), stream)
            }
            None => self.call(lengths),
        };
        let call = LayerCall { output, ..call };
        let weights = self.weights.joined(call.train)?;
        let states = self.layer.forward(&rows, &self.input_weights(), &weights, call)?;
        match output {
            Output::Last => Ok(states),
            Output::Sequence => self.turned(&states.into(), lengths)?.tensor(),
        }
    }

    /// Activations of all gate blocks at every step, `[sum T_b, G·H]`, in the order of reading.
    pub(super) fn activations(&self, rows: &FrameRows, lengths: &[usize]) -> Result<Vec<f32>> {
        let rows = self.turned(rows, lengths)?;
        self.layer.activations(&rows, &self.input_weights(), &self.weights.joined(false)?, self.call(lengths))
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
    fn drop_features(&self, rows: &Tensor, lengths: &[usize], stream: &mut Stream) -> Result<Tensor> {
        let p = self.dropout.rows;
        let Affine { scale, shift } = self.affine;
        let (offset, keep) = (shift / scale, 1.0 / (1.0 - p));
        let features = rows.dim(1)?;
        let mut clips = Vec::with_capacity(lengths.len());
        let mut start = 0;
        for length in lengths {
            let mask: Vec<f32> =
                (0..features).map(|_| if stream.random::<f32>() < p { 0.0 } else { keep }).collect();
            let mask = Tensor::from_vec(mask, (1, features), rows.device())?;
            let rows = rows.narrow(0, start, *length)?.to_dtype(DType::F32)?;
            let rows = rows.affine(1.0, f64::from(offset))?.broadcast_mul(&mask)?;
            clips.push(rows.affine(1.0, f64::from(-offset))?);
            start += length;
        }
        Ok(Tensor::cat(&clips, 0)?) // [sum T_b, M]
    }

    fn call(&self, lengths: &[usize]) -> LayerCall {
        let warm_up = match self.warm_up_to {
            0 => Vec::new(),
            longest => lengths.iter().map(|t| longest.saturating_sub(*t)).collect(),
        };
        LayerCall { lengths: lengths.to_vec(), warm_up, ..LayerCall::default() }
    }
}
