//! An LSTM that looks at maps of features and chooses, from its state, which places of the next one it reads: soft attention,
//! by candle's operators, on any device.
//!
//! What a step reads depends on the state before it, so that no product can be made for all frames ahead of the steps. The
//! passes are written by hand as those of [`super::ops`], whose steps they share, and are one node of the graph.
//!
//! # Paper
//! Sharma, Kiros and Salakhutdinov 2015, "Action Recognition using Visual Attention": of places i of frame t
//! `l_t = softmax(h_{t-1} W)` and `x_t = sum_i l_{t,i} X_{t,i}`; state and cell begin as functions of the mean of X over all
//! frames and places. These are a layer of tanh each, as in the released code with its settings for UCF11.
//!
//! # Departs
//! From the released code (`kracwarlock/action-recognition-visual-attention`), whose softmax also reads the features of each
//! place: as in the paper it reads the state alone.

use super::ops::{Ops, Saved, Steps};
use super::{Cell, GateActivation};
use crate::call::LayerCall;
use crate::error::{Result, check_size};
use crate::mask::InputMask;
use crate::packed;
use candle_core::{D, Tensor};
use tt_core::graft::graft2;

/// Gates of the LSTM.
const GATES: usize = 4;

/// An LSTM with attention; holds no weights.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// The squashing of the gates.
    pub gate_activation: GateActivation,
    /// H
    pub hidden: usize,
    /// P, places of a map.
    pub places: usize,
    /// F, features of a place.
    pub features: usize,
}

/// The weights of a call.
#[derive(Debug, Clone, Copy)]
pub struct Weights<'a> {
    /// From what a step reads to the gates, `[F, 4·H]`.
    pub input: &'a Tensor,
    /// `[U (H × 4·H) | b (4·H)]`, flat.
    pub recurrent: &'a Tensor,
    /// From the state to places, `[H, P]`.
    pub places: &'a Tensor,
    /// From mean features to the first state and the first cell, side by side, `[F, 2·H]`.
    pub start: &'a Tensor,
    /// `[2·H]`
    pub start_bias: &'a Tensor,
}

impl Weights<'_> {
    fn joined(&self) -> Result<Tensor> {
        let Self { input, recurrent, places, start, start_bias } = self;
        let parts = [*input, recurrent, places, start, start_bias].map(Tensor::flatten_all);
        Ok(Tensor::cat(&parts.into_iter().collect::<candle_core::Result<Vec<_>>>()?, 0)?)
    }
}

impl Attention {
    /// The state after every frame and, beside it, what share of its glimpse each place had: `[sum T_b, H + P]`,
    /// differentiable with respect to the maps and the weights.
    ///
    /// # Shapes
    /// `maps [sum T_b, P·F]`, place by place.
    ///
    /// # Cost
    /// About thirty small operators a step. Beside maps and their gradient, training keeps `6·H + F + P` numbers a frame.
    ///
    /// # Errors
    /// An empty batch, a clip without frames, or sizes that do not fit.
    pub fn forward(&self, maps: &Tensor, weights: Weights<'_>, call: &LayerCall) -> Result<Tensor> {
        let all = weights.joined()?;
        let walk = Walk::new(*self, &maps.detach(), &all.detach(), call)?;
        let (read, seen) = walk.forward(call.train)?;
        if !call.train {
            return Ok(read);
        }
        let backward = move |d: &Tensor| walk.backward(&seen, d).map_err(candle_core::Error::wrap);
        Ok(graft2("attention", read, [maps, &all], backward)?)
    }

    /// Activations of all gate blocks at every step, `[sum T_b, 4·H]`.
    ///
    /// # Errors
    /// As [`Attention::forward`].
    pub fn activations(&self, maps: &Tensor, weights: Weights<'_>, call: &LayerCall) -> Result<Tensor> {
        let walk = Walk::new(*self, &maps.detach(), &weights.joined()?.detach(), call)?;
        let (_, seen) = walk.forward(true)?;
        walk.packed(&seen.saved.activations)
    }
}

/// One call, ready to walk. Rows in time are those of the clips step by step, the longest clip first.
#[derive(Debug)]
struct Walk {
    of: Attention,
    steps: Steps,
    lengths: Vec<usize>,
    /// `[sum T_b, P, F]`, clip by clip.
    maps: Tensor,
    /// `[F, 4·H]`
    input: Tensor,
    /// `[H, P]`
    places: Tensor,
    /// `[F, 2·H]`
    start: Tensor,
    /// Mean features of each clip, the longest first, `[B, F]`.
    means: Tensor,
    /// The state and cell that follow from them, `[B, 2·H]`.
    first: Tensor,
    /// Dropout factors of what each gate reads `[B, F]`; none without dropout.
    masks: Vec<Tensor>,
}

/// What the forward pass leaves, a tensor a step.
#[derive(Debug, Default)]
struct Seen {
    saved: Saved,
    /// Shares of the places, `[A, P]`.
    shares: Vec<Tensor>,
    /// What was read, `[A, F]`.
    glimpses: Vec<Tensor>,
}

impl Walk {
    fn new(of: Attention, maps: &Tensor, weights: &Tensor, call: &LayerCall) -> Result<Self> {
        let Attention { gate_activation, hidden, places, features } = of;
        let width = GATES * hidden;
        let sizes =
            [features * width, (hidden + 1) * width, hidden * places, features * 2 * hidden, 2 * hidden];
        check_size("weights of an LSTM with attention", sizes.iter().sum(), weights.elem_count())?;
        let mut from = 0;
        let [input, recurrent, to_places, start, start_bias] = sizes.map(|size| {
            let part = weights.narrow(0, from, size);
            from += size;
            part
        });
        let ops = Ops { cell: Cell::Lstm, gate_activation, hidden, kernels: false };
        let steps = ops.steps(&recurrent?, call)?;
        let rows: usize = call.lengths.iter().sum();
        check_size("numbers of the maps", rows * places * features, maps.elem_count())?;
        let maps = maps.reshape((rows, places, features))?;
        let means = (packed::mean(&maps.sum(1)?, &call.lengths)? / places as f64)?; // [B, F]
        let means = means.index_select(&steps.sort, 0)?;
        let start = start?.reshape((features, 2 * hidden))?;
        let first = means.matmul(&start)?.broadcast_add(&start_bias?)?.tanh()?; // [B, 2·H]
        let mask = call.input_dropout.map(|dropout| InputMask {
            seed: dropout.seed,
            probability: dropout.probability,
            gates: GATES,
            lengths: &call.lengths,
        });
        let of_gate = |mask: &InputMask<'_>, gate: usize| -> Result<Tensor> {
            let mut factors = vec![0.0; call.lengths.len() * features];
            for (clip, factors) in factors.chunks_exact_mut(features).enumerate() {
                mask.fill(gate, clip, 0, factors);
            }
            let factors = Tensor::from_vec(factors, (call.lengths.len(), features), weights.device())?;
            Ok(factors.index_select(&steps.sort, 0)?)
        };
        let masks = mask.iter().flat_map(|mask| (0..GATES).map(move |gate| of_gate(mask, gate)));
        let masks = masks.collect::<Result<_>>()?;
        let input = input?.reshape((features, width))?;
        let to_places = to_places?.reshape((hidden, places))?;
        let lengths = call.lengths.clone();
        Ok(Self { of, steps, lengths, maps, input, places: to_places, start, means, first, masks })
    }

    /// The maps of a step, `[A, P, F]`, whose first row in time is `at`.
    fn maps(&self, at: usize, active: usize) -> Result<Tensor> {
        Ok(self.maps.index_select(&self.steps.gather.narrow(0, at, active)?, 0)?)
    }

    /// Rows in time in the order of the clips.
    fn packed(&self, steps: &[Tensor]) -> Result<Tensor> {
        Ok(Tensor::cat(steps, 0)?.index_select(&self.steps.scatter, 0)?)
    }

    /// What is returned, and where a way back follows what it needs.
    fn forward(&self, keep: bool) -> Result<(Tensor, Seen)> {
        let hidden = self.of.hidden;
        let mut seen = Seen::default();
        let (mut h, mut c) = (self.first.narrow(1, 0, hidden)?, self.first.narrow(1, hidden, hidden)?);
        let (mut states, mut at) = (Vec::with_capacity(self.steps.active.len()), 0);
        for &active in &self.steps.active {
            (h, c) = (h.narrow(0, 0, active)?.contiguous()?, c.narrow(0, 0, active)?);
            let shares = softmax(&h.matmul(&self.places)?)?; // [A, P]
            let glimpse = shares.unsqueeze(1)?.matmul(&self.maps(at, active)?)?.squeeze(1)?; // [A, F]
            let x = self.gates(&glimpse)?.broadcast_add(&self.steps.bias)?;
            let (activations, extra, next, cell) = self.steps.step(&x, &h, &c)?;
            states.push(Tensor::cat(&[&next, &shares], 1)?);
            if keep {
                seen.saved.activations.push(activations);
                seen.saved.before.push(h);
                seen.saved.extra.extend(extra);
                seen.shares.push(shares);
                seen.glimpses.push(glimpse);
            }
            (h, c) = (next, cell);
            at += active;
        }
        Ok((self.packed(&states)?, seen))
    }

    /// What a gate reads of a glimpse, `[A, F]`; so is a gradient of it.
    fn masked(&self, glimpse: &Tensor, gate: usize) -> Result<Tensor> {
        match self.masks.get(gate) {
            Some(mask) => Ok((glimpse * mask.narrow(0, 0, glimpse.dim(0)?)?)?),
            None => Ok(glimpse.clone()),
        }
    }

    /// Columns of a matrix or rows `[_, 4·H]` that belong to each gate, if gates read apart, or all together.
    fn columns(&self, all: &Tensor) -> Result<Vec<Tensor>> {
        let blocks = if self.masks.is_empty() { 1 } else { GATES };
        let width = all.dim(1)? / blocks;
        (0..blocks).map(|gate| Ok(all.narrow(1, gate * width, width)?.contiguous()?)).collect()
    }

    /// `glimpse · W`, `[A, 4·H]`.
    fn gates(&self, glimpse: &Tensor) -> Result<Tensor> {
        let part = |(gate, w): (usize, &Tensor)| Ok(self.masked(glimpse, gate)?.matmul(w)?);
        let parts = self.columns(&self.input)?.iter().enumerate().map(part).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&parts, 1)?)
    }

    /// Gradient of a glimpse from that of the pre-activations.
    fn gates_back(&self, d: &Tensor) -> Result<Tensor> {
        let blocks = self.columns(d)?.into_iter().zip(self.columns(&self.input)?).enumerate();
        let mut sum: Option<Tensor> = None;
        for (gate, (d, w)) in blocks {
            let part = self.masked(&d.matmul(&w.t()?)?, gate)?;
            sum = Some(match sum {
                Some(sum) => (sum + part)?,
                None => part,
            });
        }
        sum.ok_or_else(|| crate::Error::Empty("no gates".into()))
    }

    /// Gradients of the maps `[sum T_b, P·F]` and of all weights, flat.
    fn backward(&self, seen: &Seen, d: &Tensor) -> Result<[Option<Tensor>; 2]> {
        let hidden = self.of.hidden;
        let d = self.steps.in_time(d)?; // [sum A, H + P]
        let nothing = self.first.narrow(1, 0, hidden)?.zeros_like()?;
        let longest = nothing.narrow(0, 0, self.steps.active.last().copied().unwrap_or(0))?;
        let (mut dh, mut dc, mut at) = (longest.clone(), longest, d.dim(0)?);
        let (mut dgates, mut dplaces, mut dglimpses) = (Vec::new(), Vec::new(), Vec::new());
        for (step, &active) in self.steps.active.iter().enumerate().rev() {
            at -= active;
            let there = dh.dim(0)?;
            if there < active {
                // Nothing comes back from behind the end of a clip.
                let new = nothing.narrow(0, 0, active - there)?;
                (dh, dc) = (Tensor::cat(&[&dh, &new], 0)?, Tensor::cat(&[&dc, &new], 0)?);
            }
            let of_step = d.narrow(0, at, active)?;
            dh = (dh + of_step.narrow(1, 0, hidden)?)?;
            let (dgate, (before, cell)) = self.steps.step_back(&seen.saved, step, &dh, Some(dc))?;
            let dglimpse = self.gates_back(&dgate)?; // [A, F]
            let shares = &seen.shares[step];
            let dshares = self.maps(at, active)?.matmul(&dglimpse.unsqueeze(2)?)?.squeeze(2)?; // [A, P]
            let dshares = (dshares + of_step.narrow(1, hidden, self.of.places)?)?;
            let mean = (shares * &dshares)?.sum_keepdim(D::Minus1)?;
            let dplace = (shares * dshares.broadcast_sub(&mean)?)?;
            dh = (before + dplace.matmul(&self.places.t()?)?)?;
            dc = cell.ok_or_else(|| crate::Error::Empty("no cell".into()))?;
            dgates.push(dgate);
            dplaces.push(dplace);
            dglimpses.push(dglimpse);
        }
        for list in [&mut dgates, &mut dplaces, &mut dglimpses] {
            list.reverse();
        }
        let slope = (self.first.sqr()?.neg()? + 1.0)?;
        let dfirst = (Tensor::cat(&[dh, dc], 1)? * slope)?; // [B, 2·H]
        let weights = self.weights_back(seen, &dgates, &dplaces, &dfirst)?;
        let maps = self.maps_back(seen, &dglimpses, &dfirst.matmul(&self.start.t()?)?)?;
        Ok([Some(maps), Some(weights)])
    }

    /// All weights in their order, flat: products over all rows.
    fn weights_back(
        &self,
        seen: &Seen,
        dgates: &[Tensor],
        dplaces: &[Tensor],
        dfirst: &Tensor,
    ) -> Result<Tensor> {
        let (dgates, dplaces) = (Tensor::cat(dgates, 0)?, Tensor::cat(dplaces, 0)?);
        let glimpses = Tensor::cat(&seen.glimpses, 0)?;
        let of_gate = |(gate, d): (usize, Tensor)| -> Result<Tensor> {
            let read = match self.masks.get(gate) {
                Some(mask) => (&glimpses * mask.index_select(&self.steps.clip_of_row, 0)?)?,
                None => glimpses.clone(),
            };
            Ok(read.t()?.matmul(&d)?)
        };
        let input =
            self.columns(&dgates)?.into_iter().enumerate().map(of_gate).collect::<Result<Vec<_>>>()?;
        let parts = [
            Tensor::cat(&input, 1)?,
            self.steps.weight_gradient(&seen.saved, &dgates)?,
            Tensor::cat(&seen.saved.before, 0)?.t()?.matmul(&dplaces)?,
            self.means.t()?.matmul(dfirst)?,
            dfirst.sum(0)?,
        ];
        let flat = parts.iter().map(Tensor::flatten_all).collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&flat, 0)?)
    }

    /// `dX_{t,i} = l_{t,i} dx_t + dm / (T P)`, with the gradient dm of the clip's mean, as one product for each frame.
    fn maps_back(&self, seen: &Seen, dglimpses: &[Tensor], dmeans: &Tensor) -> Result<Tensor> {
        let Attention { places, features, .. } = self.of;
        let rows = self.maps.dim(0)?;
        let shares = self.packed(&seen.shares)?; // [n, P]
        let dglimpses = self.packed(dglimpses)?; // [n, F]
        let in_time = dmeans.index_select(&self.steps.clip_of_row, 0)?;
        let dmeans = in_time.index_select(&self.steps.scatter, 0)?; // [n, F]
        let each = |length: &usize| std::iter::repeat_n(1.0 / (length * places) as f32, length * places);
        let each: Vec<f32> = self.lengths.iter().flat_map(each).collect();
        let each = Tensor::from_vec(each, (rows, places), shares.device())?;
        let left = Tensor::stack(&[shares, each], 2)?; // [n, P, 2]
        let right = Tensor::stack(&[dglimpses, dmeans], 1)?; // [n, 2, F]
        Ok(left.matmul(&right)?.reshape((rows, places * features))?)
    }
}

/// Shares that sum to one in every row.
fn softmax(rows: &Tensor) -> Result<Tensor> {
    let powers = rows.broadcast_sub(&rows.max_keepdim(D::Minus1)?)?.exp()?;
    Ok(powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?)
}

#[cfg(test)]
mod tests;
