//! The recurrence by candle's operators: any device.
//!
//! All clips walk through time together, the longest first, and drop out as they end; rows are dealt to steps by one
//! gather before and one after. The passes are written by hand over detached tensors and joined to the graph as one
//! node, so neither the depth of the graph nor the cost of a step's gradient grows with the length of a clip.

use super::order::Order;
use super::products::weight_gradient;
use super::{Batch, Cell, GateActivation, Output};
use crate::call::{LayerCall, RecurrentMasks};
use crate::error::{Result, check_size};
use candle_core::{DType, Tensor};
use std::sync::Arc;
use tt_core::graft::graft2;

/// A recurrence by operators; holds no weights.
#[derive(Debug, Clone, Copy)]
pub struct Ops {
    /// The cell.
    pub cell: Cell,
    /// The squashing of its gates.
    pub gate_activation: GateActivation,
    /// H
    pub hidden: usize,
    /// Whether a device's own kernels are used where it has some.
    pub kernels: bool,
}

impl Ops {
    /// Last states `[B, H]`, or all of them `[sum T_b, H]` ([`LayerCall::output`]), differentiable with respect to `x`
    /// and `weights`.
    ///
    /// # Shapes
    /// `x [sum T_b, G·H]` without bias; `weights` is `[U (H × G·H) | b (G·H)]` flat.
    ///
    /// # Cost
    /// About fifteen small operators a step; training keeps `(G + 2)·H` values a row.
    ///
    /// # Errors
    /// An empty batch, a clip without frames, or sizes that do not fit.
    pub fn forward(&self, x: &Tensor, weights: &Tensor, call: &LayerCall) -> Result<Tensor> {
        self.check(x, call)?;
        #[cfg(feature = "cuda")]
        if self.kernels && x.device().is_cuda() && call.output == Output::Last {
            let Self { cell, gate_activation, hidden, .. } = *self;
            let persistent = super::cuda::Persistent { cell, gate_activation, hidden };
            if let Some(last) = persistent.last_states(x, weights, call)? {
                return Ok(last);
            }
        }
        let steps = Arc::new(self.steps(weights, call)?);
        let (states, saved) = steps.forward(&x.detach(), call.train)?;
        let Some(saved) = saved else { return Ok(states) };
        let (of_x, of_weights) = (x.shape().clone(), weights.shape().clone());
        Ok(graft2("recurrence", states, [x, weights], move |dstates| {
            let (dx, dweights) = steps.backward(&saved, dstates)?;
            Ok([Some(dx.reshape(&of_x)?), Some(dweights.reshape(&of_weights)?)])
        })?)
    }

    /// Activations of all gate blocks at every step, `[sum T_b, G·H]`.
    ///
    /// # Errors
    /// As [`Ops::forward`].
    pub fn activations(&self, x: &Tensor, weights: &Tensor, call: &LayerCall) -> Result<Tensor> {
        self.check(x, call)?;
        let steps = self.steps(weights, call)?;
        let (_, saved) = steps.forward(&x.detach(), true)?;
        let saved = saved.map(|saved| saved.activations).unwrap_or_default();
        Ok(Tensor::cat(&saved, 0)?.index_select(&steps.scatter, 0)?)
    }

    fn check(&self, x: &Tensor, call: &LayerCall) -> Result<()> {
        Batch::of(call).check(self.hidden, self.cell.gates())?;
        let rows: usize = call.lengths.iter().sum();
        check_size("pre-activations", rows * self.cell.gates() * self.hidden, x.elem_count())
    }

    /// One call, whatever its steps read.
    pub(super) fn steps(&self, weights: &Tensor, call: &LayerCall) -> Result<Steps> {
        let (hidden, width) = (self.hidden, self.cell.gates() * self.hidden);
        Batch::of(call).check(hidden, self.cell.gates())?;
        check_size("recurrent weights", (hidden + 1) * width, weights.elem_count())?;
        let device = weights.device();
        let weights = weights.detach().flatten_all()?;
        let matrix = weights.narrow(0, 0, hidden * width)?.reshape((hidden, width))?; // [H, G·H]
        let order = Order::new(&call.lengths, &call.warm_up);
        let masks = match &call.masks {
            RecurrentMasks::None => Masks::None,
            RecurrentMasks::Shared(mask) => Masks::Shared(order.masks(mask, hidden, device)?),
            RecurrentMasks::PerGate(mask) => Masks::PerGate(
                mask.chunks_exact(order.clips.len() * hidden)
                    .map(|mask| order.masks(mask, hidden, device))
                    .collect::<Result<_>>()?,
            ),
        };
        let block =
            |gates: (usize, usize)| matrix.narrow(1, gates.0 * hidden, gates.1 * hidden)?.contiguous();
        // The gates that the state itself meets, then the GRU's candidate, which the reset state meets.
        let direct = if self.cell == Cell::Gru { 2 } else { self.cell.gates() };
        let mut blocks = match &masks {
            Masks::PerGate(_) => (0..direct).map(|gate| (gate, 1)).collect(),
            _ => vec![(0, direct)],
        };
        if self.cell == Cell::Gru {
            blocks.push((direct, 1));
        }
        Ok(Steps {
            ops: *self,
            output: call.output,
            bias: weights.narrow(0, hidden * width, width)?,
            products: blocks
                .into_iter()
                .map(|(first, count)| Ok(Product { first, count, matrix: block((first, count))? }))
                .collect::<Result<_>>()?,
            masks,
            gather: order.gather(device)?,
            scatter: order.scatter(device)?,
            clip_of_row: order.clip_of_row(device)?,
            unsort: order.unsort(device)?,
            sort: Tensor::from_vec(
                order.clips.iter().map(|c| *c as u32).collect(),
                order.clips.len(),
                device,
            )?,
            active: order.active,
        })
    }
}

/// Dropout factors `[B, H]` by place in the order.
#[derive(Debug)]
enum Masks {
    None,
    Shared(Tensor),
    PerGate(Vec<Tensor>),
}

impl Masks {
    fn of(&self, gate: usize) -> Option<&Tensor> {
        match self {
            Self::None => None,
            Self::Shared(mask) => Some(mask),
            Self::PerGate(masks) => masks.get(gate),
        }
    }
}

/// Neighbouring gates that see the same masked state.
#[derive(Debug)]
struct Product {
    first: usize,
    count: usize,
    /// `[H, count·H]`
    matrix: Tensor,
}

/// One call, ready to walk.
#[derive(Debug)]
pub(super) struct Steps {
    ops: Ops,
    output: Output,
    pub(super) bias: Tensor,
    /// The candidate of a GRU is the last.
    products: Vec<Product>,
    masks: Masks,
    /// See [`Order`].
    pub(super) gather: Tensor,
    pub(super) scatter: Tensor,
    pub(super) clip_of_row: Tensor,
    /// The clips, the longest first, and the place of each among them.
    pub(super) sort: Tensor,
    unsort: Tensor,
    /// A, the clips that are still there at each step.
    pub(super) active: Vec<usize>,
}

/// What the forward pass leaves, a tensor a step.
#[derive(Debug, Default)]
pub(super) struct Saved {
    /// `[A, G·H]`
    pub(super) activations: Vec<Tensor>,
    /// The state before the step, `[A, H]`.
    pub(super) before: Vec<Tensor>,
    /// GRU: `r∘h`; LSTM: the cell before the step. `[A, H]`
    pub(super) extra: Vec<Tensor>,
}

impl Steps {
    fn forward(&self, x: &Tensor, train: bool) -> Result<(Tensor, Option<Saved>)> {
        let x = x.reshape((self.scatter.elem_count(), self.ops.cell.gates() * self.ops.hidden))?;
        let x = self.in_time(&x)?.broadcast_add(&self.bias)?; // [sum A, G·H]
        let mut saved = Saved::default();
        let mut h = Tensor::zeros((self.active[0], self.ops.hidden), DType::F32, x.device())?;
        let mut c = h.clone();
        let (mut ended, mut all, mut at) = (Vec::new(), Vec::new(), 0);
        for (step, &active) in self.active.iter().enumerate() {
            (h, c) = (h.narrow(0, 0, active)?, c.narrow(0, 0, active)?);
            let (a, extra, next, cell) = self.step(&x.narrow(0, at, active)?, &h, &c)?;
            if train {
                saved.activations.push(a);
                saved.before.push(h);
                saved.extra.extend(extra);
            }
            (h, c) = (next, cell);
            at += active;
            if self.output == Output::Sequence {
                all.push(h.clone());
            }
            let left = self.active.get(step + 1).copied().unwrap_or(0);
            if left < active {
                ended.push(h.narrow(0, left, active - left)?);
            }
        }
        let states = match self.output {
            Output::Last => {
                ended.reverse();
                Tensor::cat(&ended, 0)?.index_select(&self.unsort, 0)? // [B, H]
            }
            Output::Sequence => Tensor::cat(&all, 0)?.index_select(&self.scatter, 0)?, // [sum T_b, H]
        };
        Ok((states, train.then_some(saved)))
    }

    /// Packed rows step by step, with zeros for the steps before a clip.
    pub(super) fn in_time(&self, packed: &Tensor) -> Result<Tensor> {
        let (rows, width) = packed.dims2()?;
        if self.gather.elem_count() == rows {
            return Ok(packed.index_select(&self.gather, 0)?);
        }
        let zero = Tensor::zeros((1, width), DType::F32, packed.device())?;
        Ok(Tensor::cat(&[packed, &zero], 0)?.index_select(&self.gather, 0)?)
    }

    /// Activations, what else the way back needs, the next state and cell.
    pub(super) fn step(
        &self,
        x: &Tensor,
        h: &Tensor,
        c: &Tensor,
    ) -> Result<(Tensor, Option<Tensor>, Tensor, Tensor)> {
        let hidden = self.ops.hidden;
        let block = |a: &Tensor, gate: usize| a.narrow(1, gate * hidden, hidden);
        match self.ops.cell {
            Cell::Rnn => {
                let a = (x + self.times(h, 0)?)?.tanh()?;
                Ok((a.clone(), None, a, c.clone()))
            }
            Cell::Lstm => {
                let pre = (x + self.times_all(h, 4)?)?;
                let (i, f) = (self.squash(&block(&pre, 0)?)?, self.squash(&block(&pre, 1)?)?);
                let (g, o) = (block(&pre, 2)?.tanh()?, self.squash(&block(&pre, 3)?)?);
                let cell = ((&f * c)? + (&i * &g)?)?;
                let next = (&o * cell.tanh()?)?;
                Ok((Tensor::cat(&[i, f, g, o], 1)?, Some(c.clone()), next, cell))
            }
            Cell::Gru => {
                let zr = self.squash(&(x.narrow(1, 0, 2 * hidden)? + self.times_all(h, 2)?)?)?;
                let (z, r) = (block(&zr, 0)?, block(&zr, 1)?);
                let reset = (&r * h)?;
                let candidate = (block(x, 2)? + self.times(&reset, self.products.len() - 1)?)?.tanh()?;
                // z∘h + (1 - z)∘c
                let next = (&candidate + (&z * (h - &candidate)?)?)?;
                Ok((Tensor::cat(&[&zr, &candidate], 1)?, Some(reset), next, c.clone()))
            }
        }
    }

    fn squash(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self.ops.gate_activation {
            GateActivation::HardSigmoid => {
                // NaN stays NaN, which the minimum of a card would not leave.
                let gate = x.affine(0.2, 0.5)?;
                gate.eq(&gate)?.where_cond(&gate.clamp(0.0, 1.0)?, &gate)?
            }
            GateActivation::Sigmoid => (x.neg()?.exp()? + 1.0)?.recip()?,
        })
    }

    /// The slope of the squashing function where its value is `a`.
    fn slope(&self, a: &Tensor) -> Result<Tensor> {
        Ok(match self.ops.gate_activation {
            GateActivation::HardSigmoid => {
                let inside = (a.gt(0.0)? * a.lt(1.0)?)?.to_dtype(DType::F32)?;
                (inside * 0.2)?
            }
            GateActivation::Sigmoid => (a - a.sqr()?)?,
        })
    }

    fn masked(&self, h: &Tensor, gate: usize) -> Result<Tensor> {
        match self.masks.of(gate) {
            Some(mask) => Ok((h * mask.narrow(0, 0, h.dim(0)?)?)?),
            None => Ok(h.clone()),
        }
    }

    /// `(h ∘ mask) U` of a product's gates.
    fn times(&self, h: &Tensor, product: usize) -> Result<Tensor> {
        let product = &self.products[product];
        Ok(self.masked(h, product.first)?.contiguous()?.matmul(&product.matrix)?) // [A, count·H]
    }

    /// The same for the products of the first `gates` gates.
    fn times_all(&self, h: &Tensor, gates: usize) -> Result<Tensor> {
        let parts = (0..self.products.len()).filter(|&p| self.products[p].first < gates);
        let parts = parts.map(|p| self.times(h, p)).collect::<Result<Vec<_>>>()?;
        Ok(if let [one] = &parts[..] { one.clone() } else { Tensor::cat(&parts, 1)? })
    }

    /// `mask ∘ (d U^T)` of a product's gates.
    fn back(&self, d: &Tensor, product: &Product) -> Result<Tensor> {
        let hidden = self.ops.hidden;
        let d = d.narrow(1, product.first * hidden, product.count * hidden)?.contiguous()?;
        self.masked(&d.matmul(&product.matrix.t()?)?, product.first) // [A, H]
    }

    fn backward(&self, saved: &Saved, dstates: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
        self.gradients(saved, dstates).map_err(candle_core::Error::wrap)
    }

    fn gradients(&self, saved: &Saved, dstates: &Tensor) -> Result<(Tensor, Tensor)> {
        let (dlast, dsequence) = match self.output {
            Output::Last => (dstates.index_select(&self.sort, 0)?, None),
            Output::Sequence => {
                let none = Tensor::zeros((self.active[0], self.ops.hidden), DType::F32, dstates.device())?;
                (none, Some(self.in_time(dstates)?))
            }
        };
        let mut at: usize = self.active.iter().sum();
        let mut ds = Vec::with_capacity(self.active.len());
        let mut carry: Option<(Tensor, Option<Tensor>)> = None;
        for (step, &active) in self.active.iter().enumerate().rev() {
            let there = carry.as_ref().map_or(Ok(0), |(dh, _)| dh.dim(0))?;
            let (dh, dc) = match carry {
                Some((dh, dc)) if there < active => {
                    let ended = dlast.narrow(0, there, active - there)?;
                    let still = |dc: Tensor| Tensor::cat(&[dc, ended.zeros_like()?], 0);
                    (Tensor::cat(&[&dh, &ended], 0)?, dc.map(still).transpose()?)
                }
                Some(carry) => carry,
                None => (dlast.narrow(0, 0, active)?, None),
            };
            at -= active;
            let dh = match &dsequence {
                Some(d) => (dh + d.narrow(0, at, active)?)?,
                None => dh,
            };
            let (d, before) = self.step_back(saved, step, &dh, dc)?;
            ds.push(d);
            carry = Some(before);
        }
        ds.reverse();
        let d = Tensor::cat(&ds, 0)?; // [sum A, G·H]
        let dweights = self.weight_gradient(saved, &d)?;
        Ok((d.index_select(&self.scatter, 0)?, dweights))
    }

    /// Gradients of the pre-activations, and of the state and cell before the step.
    pub(super) fn step_back(
        &self,
        saved: &Saved,
        step: usize,
        dh: &Tensor,
        dc: Option<Tensor>,
    ) -> Result<(Tensor, (Tensor, Option<Tensor>))> {
        let (hidden, a, h) = (self.ops.hidden, &saved.activations[step], &saved.before[step]);
        let block = |gate: usize| a.narrow(1, gate * hidden, hidden);
        let flat = |tanh: &Tensor| -> Result<Tensor> { Ok((tanh.sqr()?.neg()? + 1.0)?) };
        match self.ops.cell {
            Cell::Rnn => {
                let d = (dh * flat(a)?)?;
                let before = self.back(&d, &self.products[0])?;
                Ok((d, (before, None)))
            }
            Cell::Lstm => {
                let (i, f, g, o, c) = (block(0)?, block(1)?, block(2)?, block(3)?, &saved.extra[step]);
                let out = ((&f * c)? + (&i * &g)?)?.tanh()?;
                let mut dcell = ((dh * &o)? * flat(&out)?)?;
                if let Some(dc) = dc {
                    dcell = (dcell + dc)?;
                }
                let di = ((&dcell * &g)? * self.slope(&i)?)?;
                let df = ((&dcell * c)? * self.slope(&f)?)?;
                let dg = ((&dcell * &i)? * flat(&g)?)?;
                let dout = ((dh * &out)? * self.slope(&o)?)?;
                let d = Tensor::cat(&[di, df, dg, dout], 1)?;
                let mut before = self.back(&d, &self.products[0])?;
                for product in &self.products[1..] {
                    before = (before + self.back(&d, product)?)?;
                }
                Ok((d, (before, Some((dcell * f)?))))
            }
            Cell::Gru => {
                let (z, r, candidate) = (block(0)?, block(1)?, block(2)?);
                let dz = ((dh * (h - &candidate)?)? * self.slope(&z)?)?;
                let dcandidate = ((dh - (dh * &z)?)? * flat(&candidate)?)?;
                let (last, direct) = self.products.split_last().unwrap_or((&self.products[0], &[]));
                let dreset = self.masked(&dcandidate.matmul(&last.matrix.t()?)?, last.first)?;
                let dr = ((&dreset * h)? * self.slope(&r)?)?;
                let d = Tensor::cat(&[dz, dr, dcandidate], 1)?;
                let mut before = ((dh * &z)? + (dreset * r)?)?;
                for product in direct {
                    before = (before + self.back(&d, product)?)?;
                }
                Ok((d, (before, None)))
            }
        }
    }

    pub(super) fn weight_gradient(&self, saved: &Saved, d: &Tensor) -> Result<Tensor> {
        let factors = |gate: usize| -> Result<Option<Tensor>> {
            let rows = self.masks.of(gate).map(|mask| mask.index_select(&self.clip_of_row, 0));
            Ok(rows.transpose()?)
        };
        let mut reset = None;
        if self.ops.cell == Cell::Gru {
            let unmasked = Tensor::cat(&saved.extra, 0)?;
            reset = Some(match factors(2)? {
                Some(factors) => (unmasked * factors)?,
                None => unmasked,
            });
        }
        let before = Tensor::cat(&saved.before, 0)?; // [sum A, H]
        weight_gradient(d, &before, reset.as_ref(), self.products[0].count, factors)
    }
}
