//! Plain RNN, GRU and LSTM with a dense or a Tensor-Train input projection.
//!
//! # Paper
//! Yang, Krompass, Tresp 2017, TT-GRU and TT-LSTM: only the input products are trains, U and the classifier
//! stay dense, and the classifier reads the last hidden state.

use super::{Classifier, Mode, Model, ModelConfig, PackedFrames};
use crate::Result;
use crate::layer::{GradientSink, LayerCall, RecurrentLayer, RecurrentMasks};
use crate::parameters::{Parameter, glorot_uniform, orthogonal};
use crate::projection::{DenseProjection, GateLayout, InputDropout, Projection, TtProjection};
use crate::recurrence::{Cell, Recurrence};
use candle_core::{Device, Tensor};
use rand::{Rng, RngExt};
use tt_core::apply::Rung;
use tt_core::rng::{Stream, stream};
use tt_core::{TtLinear, TtShape, init};

/// One recurrent layer and its classifier.
#[derive(Debug)]
pub(super) struct Recurrent {
    layer: RecurrentLayer,
    /// Train applied by candle operators before the layer, where the user chose that rung.
    outside: Option<Outside>,
    input: Parameter,
    /// `[U | b]`.
    weights: Parameter,
    classifier: Classifier,
    gates: usize,
    hidden: usize,
    dropout: Dropout,
    warm_up_to: usize,
}

#[derive(Debug, Clone, Copy)]
struct Dropout {
    recurrent: f32,
    per_gate: bool,
    input: f32,
}

#[derive(Debug)]
struct Outside {
    trains: Vec<TtLinear>,
    /// Stands for the input weights of the layer's operator, which has none of its own then.
    no_weights: Tensor,
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
    pub(super) fn dense(config: &ModelConfig, cell: Cell, device: &Device, seed: u64) -> Result<Self> {
        let (hidden, gates) = (config.dense_hidden, cell.gates());
        let (m, width) = (config.features, gates * hidden);
        let values = glorot_uniform(m, width, width, &mut stream(seed, "init/input"));
        let mut input = Parameter::new("input.kernel", values, &[m, width], device)?;
        let sink = GradientSink::default();
        input.sink = Some(sink.clone());
        let projection = Projection::Dense(DenseProjection::new(m, width, gates, config.affine));
        let dropout = Dropout {
            recurrent: config.recurrent_dropout,
            per_gate: config.dense_masks_per_gate,
            input: config.dense_input_dropout,
        };
        Self::assemble(config, cell, projection, None, (input, hidden), dropout, Some(sink), (device, seed))
    }

    pub(super) fn tensor_train(config: &ModelConfig, cell: Cell, device: &Device, seed: u64) -> Result<Self> {
        let shape = TtShape::uniform(&config.input_modes, &config.output_modes, config.rank, cell.gates())?;
        let hidden = shape.outputs() / cell.gates();
        let (train, trains) = match config.gates {
            GateLayout::Concatenated => (shape.clone(), 1),
            GateLayout::Separate => (shape.with_gates(1)?, cell.gates()),
        };
        let values: Vec<f32> = (0..trains)
            .flat_map(|gate| {
                init::cores(&train, config.core_init, &mut stream(seed, &format!("init/cores/{gate}")))
            })
            .collect();
        let length = values.len();
        let input = Parameter::new("input.cores", values, &[length], device)?;
        let (projection, outside) = if config.rung == Rung::Fused {
            (Projection::Tt(TtProjection::new(&shape, config.gates, config.affine)?), None)
        } else {
            let no_weights = Tensor::zeros(1, candle_core::DType::F32, device)?;
            let layer = |_| TtLinear::new(&train, config.affine, config.rung);
            let outside = Outside { trains: (0..trains).map(layer).collect(), no_weights };
            (Projection::Identity, Some(outside))
        };
        let dropout = Dropout { recurrent: config.recurrent_dropout, per_gate: false, input: 0.0 };
        Self::assemble(config, cell, projection, outside, (input, hidden), dropout, None, (device, seed))
    }

    #[expect(clippy::too_many_arguments, reason = "the two builders above name every part once")]
    fn assemble(
        config: &ModelConfig,
        cell: Cell,
        projection: Projection,
        outside: Option<Outside>,
        (input, hidden): (Parameter, usize),
        dropout: Dropout,
        sink: Option<GradientSink>,
        (device, seed): (&Device, u64),
    ) -> Result<Self> {
        let weights = recurrent_weights(cell, hidden, seed);
        let length = weights.len();
        let recurrence = Recurrence::new(cell, config.gate_activation, hidden);
        Ok(Self {
            layer: RecurrentLayer::new(projection, recurrence, sink),
            outside,
            input,
            weights: Parameter::new("recurrent", weights, &[length], device)?,
            classifier: Classifier::new(hidden, config, device, seed)?,
            gates: cell.gates(),
            hidden,
            dropout,
            warm_up_to: config.warm_up_to,
        })
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
            RecurrentMasks::PerGate(draw(self.gates * clips * self.hidden))
        } else {
            RecurrentMasks::Shared(draw(clips * self.hidden))
        }
    }
}

impl Outside {
    /// Pre-activations `[n, G·H]` by candle operators.
    fn apply(&self, rows: &Tensor, cores: &Tensor) -> Result<Tensor> {
        let mut parts = Vec::with_capacity(self.trains.len());
        for (gate, train) in self.trains.iter().enumerate() {
            let length = train.shape().params();
            parts.push(train.forward(rows, &cores.narrow(0, gate * length, length)?)?);
        }
        Ok(Tensor::cat(&parts, 1)?) // [n, G·H]
    }
}

impl Model for Recurrent {
    fn logits(&self, frames: &PackedFrames, mode: Mode<'_>) -> Result<Tensor> {
        let call = self.call(&frames.lengths, mode);
        let last = match &self.outside {
            None => self.layer.forward(&frames.rows, &self.input.var, &self.weights.var, call)?,
            Some(outside) => {
                let gates = outside.apply(&frames.rows, &self.input.var)?;
                self.layer.forward(&gates, &outside.no_weights, &self.weights.var, call)?
            }
        };
        self.classifier.logits(&last)
    }

    fn parameters(&self) -> Vec<Parameter> {
        let [kernel, bias] = self.classifier.parameters();
        vec![self.input.clone(), self.weights.clone(), kernel, bias]
    }

    fn input_parameters(&self) -> usize {
        self.input.var.elem_count()
    }
}
