//! Plain RNN, GRU and LSTM with a dense or a Tensor-Train input projection.
//!
//! # Paper
//! Yang, Krompass, Tresp 2017, TT-GRU and TT-LSTM: only the input products are trains, U and the classifier
//! stay dense, and the classifier reads the last hidden state.

use super::{Classifier, Mode, Model, ModelConfig, PackedFrames};
use crate::Result;
use crate::layer::{GradientSink, LayerCall, RecurrentLayer, RecurrentMasks, Sinks};
use crate::parameters::{Parameter, glorot_uniform, orthogonal};
use crate::projection::{DenseProjection, GateLayout, InputDropout, Projection, TtProjection};
use crate::recurrence::{Cell, Recurrence};
use candle_core::{DType, Device, Tensor};
use rand::{Rng, RngExt};
use tt_core::apply::{Affine, Rung};
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
    affine: Affine,
    warm_up_to: usize,
}

#[derive(Debug, Clone, Copy)]
struct Dropout {
    recurrent: f32,
    per_gate: bool,
    /// Of the input features, a mask per gate: drawn inside the dense kernel.
    input: f32,
    /// Of the input features, one mask for all gates: laid on the rows before a train reads them.
    rows: f32,
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
        input.sink = Some(GradientSink::default());
        let projection = Projection::Dense(DenseProjection::new(m, width, gates, config.affine));
        let dropout = Dropout {
            recurrent: config.recurrent_dropout,
            per_gate: config.dense_masks_per_gate,
            input: config.dense_input_dropout,
            rows: 0.0,
        };
        Self::assemble(config, cell, projection, None, (input, hidden), dropout, (device, seed))
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
            let no_weights = Tensor::zeros(1, DType::F32, device)?;
            let layer = |_| TtLinear::new(&train, config.affine, config.rung);
            let outside = Outside { trains: (0..trains).map(layer).collect(), no_weights };
            (Projection::Identity, Some(outside))
        };
        let dropout = Dropout {
            recurrent: config.recurrent_dropout,
            per_gate: false,
            input: 0.0,
            rows: config.tt_input_dropout,
        };
        Self::assemble(config, cell, projection, outside, (input, hidden), dropout, (device, seed))
    }

    fn assemble(
        config: &ModelConfig,
        cell: Cell,
        projection: Projection,
        outside: Option<Outside>,
        (input, hidden): (Parameter, usize),
        dropout: Dropout,
        (device, seed): (&Device, u64),
    ) -> Result<Self> {
        let weights = recurrent_weights(cell, hidden, seed);
        let length = weights.len();
        let recurrence = Recurrence::new(cell, config.gate_activation, hidden);
        let mut weights = Parameter::new("recurrent", weights, &[length], device)?;
        weights.sink = Some(GradientSink::default());
        let sinks = Sinks { input: input.sink.clone(), recurrent: weights.sink.clone() };
        Ok(Self {
            layer: RecurrentLayer::new(projection, recurrence, sinks),
            outside,
            input,
            weights,
            classifier: Classifier::new(hidden, config, device, seed)?,
            gates: cell.gates(),
            hidden,
            dropout,
            affine: config.affine,
            warm_up_to: config.warm_up_to,
        })
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
        let shape = frames.rows.shape();
        let features = frames.rows.dim(1)?;
        let mut values = frames.rows.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let mut rest = values.as_mut_slice();
        for length in &frames.lengths {
            let (clip, tail) = rest.split_at_mut(length * features);
            rest = tail;
            let mask: Vec<f32> =
                (0..features).map(|_| if stream.random::<f32>() < p { 0.0 } else { keep }).collect();
            for row in clip.chunks_exact_mut(features) {
                row.iter_mut().zip(&mask).for_each(|(value, m)| *value = (*value + offset) * m - offset);
            }
        }
        Ok(Tensor::from_vec(values, shape, frames.rows.device())?) // [sum T_b, M]
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
    fn logits(&self, frames: &PackedFrames, mut mode: Mode<'_>) -> Result<Tensor> {
        let rows = match &mut mode {
            Mode::Train(stream) if self.dropout.rows > 0.0 => self.drop_features(frames, stream)?,
            _ => frames.rows.clone(),
        };
        let call = self.call(&frames.lengths, mode);
        let last = match &self.outside {
            None => self.layer.forward(&rows, &self.input.var, &self.weights.var, call)?,
            Some(outside) => {
                let gates = outside.apply(&rows, &self.input.var)?;
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

    fn saturated_gates(&self, frames: &PackedFrames) -> Result<Option<f64>> {
        let call = self.call(&frames.lengths, Mode::Evaluate);
        let activations = match &self.outside {
            None => self.layer.activations(&frames.rows, &self.input.var, &self.weights.var, call)?,
            Some(outside) => {
                let gates = outside.apply(&frames.rows, &self.input.var)?;
                self.layer.activations(&gates, &outside.no_weights, &self.weights.var, call)?
            }
        };
        let (width, cell) = (self.gates * self.hidden, self.layer.cell());
        let gates = activations
            .chunks_exact(width)
            .flat_map(|row| row.chunks_exact(self.hidden).enumerate())
            .filter(|(gate, _)| cell.squashes(*gate))
            .flat_map(|(_, values)| values);
        let (count, saturated) = gates.fold((0_usize, 0_usize), |(count, saturated), value| {
            (count + 1, saturated + usize::from(!(0.01..=0.99).contains(value)))
        });
        Ok((count > 0).then(|| saturated as f64 / count as f64))
    }
}
