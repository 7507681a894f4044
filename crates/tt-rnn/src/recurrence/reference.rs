//! The recurrence in f64, step by step from the equations: the specification of the kernels.
//!
//! # Cost
//! Scalar loops and one record a step: for tests.

use super::{Batch, Cell, GateActivation, Output};

/// The recurrence of one cell, by its equations.
#[derive(Clone, Copy, Debug)]
pub struct Reference {
    /// The cell.
    pub cell: Cell,
    /// The squashing of its gates.
    pub gate_activation: GateActivation,
    /// H
    pub hidden: usize,
}

/// One step of one clip.
#[derive(Clone, Debug, Default)]
struct Step {
    /// State and cell before the step, `[H]`.
    h: Vec<f64>,
    c: Vec<f64>,
    /// Activations, `[G·H]`.
    a: Vec<f64>,
}

/// All gradients of one batch.
#[derive(Clone, Debug)]
pub struct ReferenceGradients {
    /// Of the pre-activations, `[sum T_b, G·H]`.
    pub x: Vec<f64>,
    /// Of the weights, `[U | b]`.
    pub weights: Vec<f64>,
    /// Of the warm-up input, `[G·H]`.
    pub warm_x: Vec<f64>,
}

impl Reference {
    fn gate(self, x: f64) -> f64 {
        match self.gate_activation {
            GateActivation::HardSigmoid => (0.2 * x + 0.5).clamp(0.0, 1.0),
            GateActivation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }

    fn slope(self, a: f64) -> f64 {
        match self.gate_activation {
            GateActivation::HardSigmoid if a > 0.0 && a < 1.0 => 0.2,
            GateActivation::HardSigmoid => 0.0,
            GateActivation::Sigmoid => a * (1.0 - a),
        }
    }

    /// `sum_k v_k U[k, gate·H + j]` for all j.
    fn times(self, v: &[f64], weights: &[f64], gate: usize) -> Vec<f64> {
        let row = self.cell.gates() * self.hidden;
        (0..self.hidden)
            .map(|j| (0..self.hidden).map(|k| v[k] * weights[k * row + gate * self.hidden + j]).sum())
            .collect()
    }

    /// `v ∘ mask` of a gate and clip.
    fn masked(self, v: &[f64], batch: &Batch<'_>, gate: usize, clip: usize) -> Vec<f64> {
        let mask = batch.mask(gate, clip, self.hidden);
        v.iter().enumerate().map(|(j, v)| v * mask.map_or(1.0, |m| f64::from(m[j]))).collect()
    }

    /// The gate blocks `[G][H]` before squashing, and the state and cell after the step.
    fn step(
        self,
        x: &[f64],
        batch: &Batch<'_>,
        clip: usize,
        w: &[f64],
        h: &[f64],
        c: &[f64],
    ) -> (Step, Step) {
        let n = self.hidden;
        let bias = &w[n * self.cell.gates() * n..];
        let pre = |gate: usize, v: &[f64]| -> Vec<f64> {
            let product = self.times(&self.masked(v, batch, gate, clip), w, gate);
            (0..n).map(|j| x[gate * n + j] + product[j] + bias[gate * n + j]).collect()
        };
        let squash =
            |gate, v: &[f64]| -> Vec<f64> { pre(gate, v).into_iter().map(|p| self.gate(p)).collect() };
        let tanh = |gate, v: &[f64]| -> Vec<f64> { pre(gate, v).into_iter().map(f64::tanh).collect() };
        let (a, h_new, c_new) = match self.cell {
            Cell::Rnn => {
                let a = tanh(0, h);
                (a.clone(), a, vec![0.0; n])
            }
            Cell::Gru => {
                let (z, r) = (squash(0, h), squash(1, h));
                let rh: Vec<f64> = (0..n).map(|j| r[j] * h[j]).collect();
                let candidate = tanh(2, &rh);
                let h_new = (0..n).map(|j| z[j] * h[j] + (1.0 - z[j]) * candidate[j]).collect();
                ([z, r, candidate].concat(), h_new, vec![0.0; n])
            }
            Cell::Lstm => {
                let (i, f, g, o) = (squash(0, h), squash(1, h), tanh(2, h), squash(3, h));
                let c_new: Vec<f64> = (0..n).map(|j| f[j] * c[j] + i[j] * g[j]).collect();
                let h_new = (0..n).map(|j| o[j] * c_new[j].tanh()).collect();
                ([i, f, g, o].concat(), h_new, c_new)
            }
        };
        let record = Step { h: h.to_vec(), c: c.to_vec(), a };
        (record, Step { h: h_new, c: c_new, a: Vec::new() })
    }

    fn run(self, x: &[f64], batch: &Batch<'_>, w: &[f64], warm_x: &[f64]) -> Vec<(Vec<Step>, Vec<f64>)> {
        let row = self.cell.gates() * self.hidden;
        let mut x = x.chunks_exact(row);
        (0..batch.lengths.len())
            .map(|clip| {
                let mut now = Step { h: vec![0.0; self.hidden], c: vec![0.0; self.hidden], a: Vec::new() };
                let warm = std::iter::repeat_n(warm_x, batch.warm(clip));
                let steps = warm.chain(x.by_ref().take(batch.lengths[clip]));
                let records = steps.map(|x| {
                    let (record, next) = self.step(x, batch, clip, w, &now.h, &now.c);
                    now = next;
                    record
                });
                (records.collect(), now.h.clone())
            })
            .collect()
    }

    /// The last states, `[B, H]`, or all of them, `[sum T_b, H]`. The masks and counts come from `batch`, the rest in f64 beside it.
    pub fn forward(self, x: &[f64], batch: &Batch<'_>, weights: &[f64], warm_x: &[f64]) -> Vec<f64> {
        let states = |(clip, (steps, last)): (usize, (Vec<Step>, Vec<f64>))| match batch.output {
            Output::Last => last,
            Output::Sequence => {
                let before = steps.into_iter().skip(batch.warm(clip) + 1).flat_map(|step| step.h);
                before.chain(last).collect()
            }
        };
        self.run(x, batch, weights, warm_x).into_iter().enumerate().flat_map(states).collect()
    }

    /// The gradients of `sum(states ∘ dstates)`.
    pub fn backward(
        self,
        x: &[f64],
        batch: &Batch<'_>,
        weights: &[f64],
        warm_x: &[f64],
        dstates: &[f64],
    ) -> ReferenceGradients {
        let row = self.cell.gates() * self.hidden;
        let mut out =
            ReferenceGradients { x: Vec::new(), weights: vec![0.0; weights.len()], warm_x: vec![0.0; row] };
        let mut dstates = dstates.chunks_exact(self.hidden);
        for (clip, (steps, _)) in self.run(x, batch, weights, warm_x).into_iter().enumerate() {
            let mut own: Vec<_> = dstates.by_ref().take(batch.states_of(clip)).collect();
            let mut dh = vec![0.0; self.hidden];
            let mut dc = vec![0.0; self.hidden];
            let mut rows = Vec::new();
            for (t, step) in steps.iter().enumerate().rev() {
                // Of a clip's last state first, which may be the only one.
                if let Some(d) = own.pop() {
                    dh.iter_mut().zip(d).for_each(|(dh, d)| *dh += d);
                }
                let d = self.step_back(step, batch, clip, weights, &mut dh, &mut dc, &mut out.weights);
                if t < batch.warm(clip) {
                    out.warm_x.iter_mut().zip(&d).for_each(|(o, d)| *o += d);
                } else {
                    rows.push(d);
                }
            }
            rows.reverse();
            out.x.extend(rows.concat());
        }
        out
    }

    /// One step back: replaces `dh` and `dc`, adds to `dw`, returns the gradient of the pre-activations.
    #[expect(clippy::too_many_arguments, reason = "the state of the backward recursion, spelled out")]
    fn step_back(
        self,
        step: &Step,
        batch: &Batch<'_>,
        clip: usize,
        weights: &[f64],
        dh: &mut [f64],
        dc: &mut [f64],
        dw: &mut [f64],
    ) -> Vec<f64> {
        let (n, gates) = (self.hidden, self.cell.gates());
        let (a, h) = (&step.a, &step.h);
        let mut d = vec![0.0; gates * n];
        let mut carry = vec![0.0; n];
        match self.cell {
            Cell::Rnn => (0..n).for_each(|j| d[j] = dh[j] * (1.0 - a[j] * a[j])),
            Cell::Lstm => {
                for j in 0..n {
                    let (i, f, g, o) = (a[j], a[n + j], a[2 * n + j], a[3 * n + j]);
                    let out = (f * step.c[j] + i * g).tanh();
                    let dcell = dc[j] + dh[j] * o * (1.0 - out * out);
                    d[j] = dcell * g * self.slope(i);
                    d[n + j] = dcell * step.c[j] * self.slope(f);
                    d[2 * n + j] = dcell * i * (1.0 - g * g);
                    d[3 * n + j] = dh[j] * out * self.slope(o);
                    dc[j] = dcell * f;
                }
            }
            Cell::Gru => {
                for j in 0..n {
                    let (z, c) = (a[j], a[2 * n + j]);
                    d[j] = dh[j] * (h[j] - c) * self.slope(z);
                    d[2 * n + j] = dh[j] * (1.0 - z) * (1.0 - c * c);
                    carry[j] = dh[j] * z;
                }
                let drh = self.back_through(&d, batch, clip, weights, 2);
                for j in 0..n {
                    let r = a[n + j];
                    d[n + j] = drh[j] * h[j] * self.slope(r);
                    carry[j] += drh[j] * r;
                }
            }
        }
        for gate in 0..gates {
            let reset: Vec<f64>;
            let left = if self.cell == Cell::Gru && gate == 2 {
                reset = (0..n).map(|j| a[n + j] * h[j]).collect();
                &reset
            } else {
                let back = self.back_through(&d, batch, clip, weights, gate);
                carry.iter_mut().zip(back).for_each(|(c, b)| *c += b);
                h
            };
            let left = self.masked(left, batch, gate, clip);
            for j in 0..n {
                let at = gate * n + j;
                (0..n).for_each(|k| dw[k * gates * n + at] += left[k] * d[at]);
                dw[n * gates * n + at] += d[at];
            }
        }
        dh.copy_from_slice(&carry);
        d
    }

    /// `mask ∘ (d[gate] · U[gate]^T)`
    fn back_through(self, d: &[f64], batch: &Batch<'_>, clip: usize, w: &[f64], gate: usize) -> Vec<f64> {
        let n = self.hidden;
        let row = self.cell.gates() * n;
        let product: Vec<f64> =
            (0..n).map(|k| (0..n).map(|j| d[gate * n + j] * w[k * row + gate * n + j]).sum()).collect();
        self.masked(&product, batch, gate, clip)
    }
}
