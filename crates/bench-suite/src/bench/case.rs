//! One layer with weights and frames, ready to be run forward or through a training step.

use anyhow::{Context, Result, bail};
use candle_core::{D, DType, Device, IndexOp, Tensor, Var};
use std::sync::Arc;
use tt_core::TtShape;
use tt_core::apply::{Affine, ops};
use tt_core::network::FormatShape;
use tt_rnn::layer::{GradientSink, LayerCall, RecurrentLayer, Sinks};
use tt_rnn::projection::{DenseProjection, GateLayout, NetworkProjection, Projection, TtProjection};
use tt_rnn::recurrence::{Cell, GateActivation, Recurrence};

/// The form of the input matrix.
#[derive(Debug, Clone)]
pub(super) enum Matrix {
    Dense,
    Train(TtShape),
    Network(Box<FormatShape>),
}

/// Sizes of a case; the frames are packed clip by clip, all of one length.
#[derive(Debug, Clone)]
pub(super) struct Sizes {
    pub(super) cell: Cell,
    pub(super) batch: usize,
    pub(super) frames: usize,
    pub(super) hidden: usize,
    pub(super) matrix: Matrix,
    pub(super) features: usize,
    pub(super) affine: Affine,
}

/// How the projection and the recurrence are computed.
enum Engine {
    /// The fused layer.
    Fused(RecurrentLayer),
    /// candle's own operators, and its graph through time.
    CandleOps,
}

/// The layer with its tensors.
pub(super) struct Case {
    sizes: Sizes,
    engine: Engine,
    rows: Tensor,
    input: Var,
    /// `[U | b]`.
    recurrent: Var,
    /// R `[B, H]`: the loss is `sum(h_T · R)`.
    loss_weights: Tensor,
    sinks: Sinks,
}

/// Gradients of one step.
pub(super) struct Gradients {
    pub(super) input: Vec<f32>,
    /// `[U | b]`.
    pub(super) recurrent: Vec<f32>,
}

/// Values of a case, in the layouts of the layer.
pub(super) struct Values {
    pub(super) frames: Vec<u8>,
    pub(super) input: Vec<f32>,
    pub(super) recurrent: Vec<f32>,
    pub(super) loss_weights: Vec<f32>,
}

impl Case {
    pub(super) fn new(sizes: Sizes, values: Values, candle_ops: bool) -> Result<Self> {
        let device = Device::Cpu;
        let rows = sizes.batch * sizes.frames;
        let gates = sizes.cell.gates();
        let width = gates * sizes.hidden;
        let mut sinks = Sinks::default();
        let engine = if candle_ops {
            if !matches!(sizes.matrix, Matrix::Train(_)) || sizes.cell != Cell::Gru {
                bail!("the candle peer is a TT-GRU");
            }
            Engine::CandleOps
        } else {
            let projection: Arc<dyn Projection> = match &sizes.matrix {
                Matrix::Train(train) => {
                    Arc::new(TtProjection::new(train, GateLayout::Concatenated, sizes.affine)?)
                }
                Matrix::Network(shape) => Arc::new(NetworkProjection::new(shape, 1, sizes.affine)),
                Matrix::Dense => {
                    sinks.input = Some(GradientSink::default());
                    Arc::new(DenseProjection::new(sizes.features, width, gates, sizes.affine))
                }
            };
            let recurrence = Recurrence::new(sizes.cell, GateActivation::Sigmoid, sizes.hidden);
            // As in the models.
            sinks.recurrent = Some(GradientSink::default());
            Engine::Fused(RecurrentLayer::new(projection, recurrence, sinks.clone()))
        };
        let input_shape = match &sizes.matrix {
            Matrix::Train(train) => vec![train.params()],
            Matrix::Network(shape) => vec![shape.network().params()],
            Matrix::Dense => vec![sizes.features, width],
        };
        let recurrent = Tensor::from_vec(values.recurrent, (sizes.hidden + 1) * width, &device)?;
        let mut frames = Tensor::from_vec(values.frames, (rows, sizes.features), &device)?;
        if candle_ops {
            // As every peer: numbers in memory, converted before the clock starts.
            let Affine { scale, shift } = sizes.affine;
            frames = frames.to_dtype(DType::F32)?.affine(f64::from(scale), f64::from(shift))?;
        }
        Ok(Self {
            engine,
            rows: frames,
            input: Var::from_tensor(&Tensor::from_vec(values.input, input_shape, &device)?)?,
            recurrent: Var::from_tensor(&recurrent)?,
            loss_weights: Tensor::from_vec(values.loss_weights, (sizes.batch, sizes.hidden), &device)?,
            sinks,
            sizes,
        })
    }

    fn last_states(&self, train: bool) -> Result<Tensor> {
        match &self.engine {
            Engine::Fused(layer) => {
                let lengths = vec![self.sizes.frames; self.sizes.batch];
                let call = LayerCall { lengths, train, ..LayerCall::default() };
                Ok(layer.forward(&self.rows, &self.input, &self.recurrent, call)?)
            }
            Engine::CandleOps => self.candle_gru(),
        }
    }

    /// The TT-GRU as a user of candle would write it: tensor operators and one graph node per operation.
    fn candle_gru(&self) -> Result<Tensor> {
        let Sizes { batch, frames, hidden, .. } = self.sizes;
        let Matrix::Train(shape) = &self.sizes.matrix else { bail!("the candle peer is a TT-GRU") };
        let gates = ops::forward(shape, Affine::IDENTITY, &self.rows, self.input.as_tensor())?;
        let width = 3 * hidden;
        let u = self.recurrent.narrow(0, 0, hidden * width)?.reshape((hidden, width))?;
        let bias = self.recurrent.narrow(0, hidden * width, width)?;
        let gates = gates.broadcast_add(&bias)?.reshape((batch, frames, width))?; // [B, T, 3H]
        let (u_zr, u_c) =
            (u.narrow(1, 0, 2 * hidden)?.contiguous()?, u.narrow(1, 2 * hidden, hidden)?.contiguous()?);
        let mut h = Tensor::zeros((batch, hidden), DType::F32, &Device::Cpu)?;
        for t in 0..frames {
            let x = gates.i((.., t, ..))?;
            let zr = (x.narrow(D::Minus1, 0, 2 * hidden)? + h.matmul(&u_zr)?)?;
            let zr = candle_nn::ops::sigmoid(&zr)?;
            let (z, r) = (zr.narrow(1, 0, hidden)?, zr.narrow(1, hidden, hidden)?);
            let c = (x.narrow(D::Minus1, 2 * hidden, hidden)? + (r * &h)?.matmul(&u_c)?)?.tanh()?;
            h = ((&z * &h)? + ((1.0 - z)? * c)?)?;
        }
        Ok(h)
    }

    /// `h_T` without a graph.
    pub(super) fn forward(&self) -> Result<Vec<f32>> {
        Ok(self.last_states(false)?.detach().flatten_all()?.to_vec1()?)
    }

    /// `h_T` and nothing of the gradients copied out: what is timed.
    pub(super) fn step(&self) -> Result<()> {
        let loss = (self.last_states(true)? * &self.loss_weights)?.sum_all()?;
        let grads = loss.backward()?;
        for (sink, weights) in [(&self.sinks.input, &self.input), (&self.sinks.recurrent, &self.recurrent)] {
            match sink {
                Some(sink) => sink.take(|_| ())?.context("no gradient")?,
                None => drop(grads.get(weights).context("no gradient")?),
            }
        }
        Ok(())
    }

    /// `h_T` and the gradients of one step.
    pub(super) fn outputs(&self) -> Result<(Vec<f32>, Gradients)> {
        let h = self.last_states(true)?;
        let grads = (&h * &self.loss_weights)?.sum_all()?.backward()?;
        let flat = |tensor: &Tensor| -> Result<Vec<f32>> { Ok(tensor.flatten_all()?.to_vec1()?) };
        let gradient = |sink: &Option<GradientSink>, weights: &Var| match sink {
            Some(sink) => sink.take(<[f32]>::to_vec)?.context("no gradient"),
            None => flat(grads.get(weights).context("no gradient")?),
        };
        let input = gradient(&self.sinks.input, &self.input)?;
        let recurrent = gradient(&self.sinks.recurrent, &self.recurrent)?;
        Ok((flat(&h)?, Gradients { input, recurrent }))
    }

    pub(super) fn sizes(&self) -> &Sizes {
        &self.sizes
    }
}
