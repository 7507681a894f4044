//! Plain RNN, GRU and LSTM with a dense or a Tensor-Train input projection.
//!
//! # Paper
//! Yang, Krompass, Tresp 2017, TT-GRU and TT-LSTM: only the input products are trains, U and the classifier
//! stay dense, and the classifier reads the last hidden state.

use super::{Classifier, Mode, Model, ModelConfig, PackedFrames};
use crate::Result;
use crate::dense;
use crate::layer::{GradientSink, LayerCall, RecurrentLayer, RecurrentMasks, Sinks};
use crate::parameters::{Parameter, glorot_uniform, orthogonal};
use crate::projection::{DenseProjection, GateLayout, InputDropout, Projection, TtProjection};
use crate::rates::Kind;
use crate::recurrence::ops::Ops;
use crate::recurrence::{Cell, Recurrence};
use candle_core::{DType, Device, Tensor};
use rand::{Rng, RngExt};
use tt_core::apply::{Affine, Backend};
use tt_core::rng::{Stream, stream};
use tt_core::{TtOperator, TtShape, init};

/// One recurrent layer and its classifier.
#[derive(Debug)]
pub(super) struct Recurrent {
    input_layer: InputLayer,
    steps: Steps,
    input: Parameter,
    /// Whether the input weights keep their initial values.
    frozen: bool,
    /// `[U | b]`.
    weights: Parameter,
    classifier: Classifier,
    cell: Cell,
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

/// How frames turn into pre-activations.
#[derive(Debug)]
enum InputLayer {
    /// Inside the CPU's operator of the whole layer.
    Inside,
    /// One train for all gates or one each, before the recurrence.
    Trains(Vec<TtOperator>),
    /// A dense matrix by candle's operators.
    Dense,
}

/// How pre-activations turn into the last state.
#[derive(Debug)]
enum Steps {
    /// The CPU's operator; the tensor stands for its input weights where it has none of its own.
    Fused(RecurrentLayer, Tensor),
    /// candle's operators, or the device's own kernels.
    Device(Ops),
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

/// Whether the CPU's operator walks through time; it takes a train in only where that is fused too.
fn steps_are_fused(config: &ModelConfig, device: &Device) -> bool {
    device.is_cpu() && config.backend != Backend::Ops
}

impl Recurrent {
    pub(super) fn dense(config: &ModelConfig, cell: Cell, device: &Device, seed: u64) -> Result<Self> {
        let (hidden, gates) = (config.dense_hidden, cell.gates());
        let (m, width) = (config.features, gates * hidden);
        let values = glorot_uniform(m, width, width, &mut stream(seed, "init/input"));
        let mut input =
            Parameter::new("input.kernel", Kind::InputMatrix { fan_in: m }, values, &[m, width], device)?;
        let fused = steps_are_fused(config, device);
        let input_layer = if fused {
            input.sink = Some(GradientSink::default());
            InputLayer::Inside
        } else {
            InputLayer::Dense
        };
        let projection =
            fused.then(|| Projection::Dense(DenseProjection::new(m, width, gates, config.affine)));
        let dropout = Dropout {
            recurrent: config.recurrent_dropout,
            per_gate: config.dense_masks_per_gate,
            input: config.dense_input_dropout,
            rows: 0.0,
        };
        Self::assemble(config, cell, (input_layer, projection), (input, hidden), dropout, (device, seed))
    }

    pub(super) fn tensor_train(config: &ModelConfig, cell: Cell, device: &Device, seed: u64) -> Result<Self> {
        let shape = TtShape::uniform(&config.input_modes, &config.output_modes, config.rank, cell.gates())?;
        let hidden = shape.out_features() / cell.gates();
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
        let input = Parameter::new("input.cores", Kind::InputCores, values, &[length], device)?;
        let (input_layer, projection) = if device.is_cpu() && config.backend == Backend::Fused {
            let projection = TtProjection::new(&shape, config.gates, config.affine)?;
            (InputLayer::Inside, Some(Projection::Tt(projection)))
        } else {
            let layer =
                |_| TtOperator::with_precision(&train, config.affine, config.backend, config.precision);
            (InputLayer::Trains((0..trains).map(layer).collect()), None)
        };
        let dropout = Dropout {
            recurrent: config.recurrent_dropout,
            per_gate: false,
            input: 0.0,
            rows: config.tt_input_dropout,
        };
        Self::assemble(config, cell, (input_layer, projection), (input, hidden), dropout, (device, seed))
    }

    fn assemble(
        config: &ModelConfig,
        cell: Cell,
        (input_layer, projection): (InputLayer, Option<Projection>),
        (input, hidden): (Parameter, usize),
        dropout: Dropout,
        (device, seed): (&Device, u64),
    ) -> Result<Self> {
        let weights = recurrent_weights(cell, hidden, seed);
        let (length, biases) = (weights.len(), cell.gates() * hidden);
        let parts = vec![(length - biases, Kind::Matrix { fan_in: hidden }), (biases, Kind::Vector)];
        let mut weights = Parameter::of_parts("recurrent", parts, weights, &[length], device)?;
        let steps = if steps_are_fused(config, device) {
            weights.sink = Some(GradientSink::default());
            let sinks = Sinks { input: input.sink.clone(), recurrent: weights.sink.clone() };
            let recurrence = Recurrence::new(cell, config.gate_activation, hidden);
            let projection = projection.unwrap_or(Projection::Identity);
            let layer = RecurrentLayer::new(projection, recurrence, sinks);
            Steps::Fused(layer, Tensor::zeros(1, DType::F32, device)?)
        } else {
            let kernels = config.backend == Backend::Fused;
            Steps::Device(Ops { cell, gate_activation: config.gate_activation, hidden, kernels })
        };
        Ok(Self {
            input_layer,
            steps,
            input,
            frozen: false,
            weights,
            classifier: Classifier::new(hidden, config, device, seed)?,
            cell,
            hidden,
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
            RecurrentMasks::PerGate(draw(self.cell.gates() * clips * self.hidden))
        } else {
            RecurrentMasks::Shared(draw(clips * self.hidden))
        }
    }
}

impl Recurrent {
    /// Pre-activations `[n, G·H]`, without bias, where they are made before the recurrence.
    fn pre_activations(&self, rows: &Tensor, call: &LayerCall) -> Result<Option<Tensor>> {
        let weights = &self.input_weights();
        match &self.input_layer {
            InputLayer::Inside => Ok(None),
            InputLayer::Trains(trains) => {
                let mut parts = Vec::with_capacity(trains.len());
                for (gate, train) in trains.iter().enumerate() {
                    let length = train.shape().params();
                    parts.push(train.forward(rows, &weights.narrow(0, gate * length, length)?)?);
                }
                Ok(Some(Tensor::cat(&parts, 1)?))
            }
            InputLayer::Dense => {
                let mask = call.input_dropout.map(|dropout| dropout.mask(self.cell.gates(), &call.lengths));
                let (affine, lengths) = (self.affine, &call.lengths);
                let train = call.train && !self.frozen;
                Ok(Some(dense::ops::forward(rows, affine, weights, lengths, mask.as_ref(), train)?))
            }
        }
    }

    /// Activations of all gate blocks at every step, `[sum T_b, G·H]`.
    fn activations(&self, frames: &PackedFrames) -> Result<Vec<f32>> {
        let call = self.call(&frames.lengths, Mode::Evaluate);
        let pre = self.pre_activations(&frames.rows, &call)?;
        let rows = pre.as_ref().unwrap_or(&frames.rows);
        match &self.steps {
            Steps::Fused(layer, none) => {
                let input = if pre.is_some() { none.clone() } else { self.input_weights() };
                layer.activations(rows, &input, &self.weights.var, call)
            }
            Steps::Device(ops) => {
                Ok(ops.activations(rows, &self.weights.var, &call)?.flatten_all()?.to_vec1()?)
            }
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
        let pre = self.pre_activations(&rows, &call)?;
        let inside = pre.is_none();
        let rows = pre.unwrap_or(rows);
        let last = match &self.steps {
            Steps::Fused(layer, none) => {
                let input = if inside { self.input_weights() } else { none.clone() };
                layer.forward(&rows, &input, &self.weights.var, call)?
            }
            Steps::Device(ops) => ops.forward(&rows, &self.weights.var, &call)?,
        };
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
        let activations = self.activations(frames)?;
        let (cell, width) = (self.cell, self.cell.gates() * self.hidden);
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
