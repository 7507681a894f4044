//! The cores in the order that the kernels read, once per call, and their gradients back again.

use super::plan::{Pair, Plan, Step};
use crate::apply::Affine;
use crate::digits::Digits;
use crate::simd::Buffer;

/// Rank for which a transposed core is stored once instead of once per output.
pub(super) const NARROW: usize = 4;

/// The cores of one call.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// Core k as `[(i, a), width]`, columns (j, a'), zero-padded; the last times the scale.
    pub(super) forward: Vec<Buffer>,
    /// Contribution of the shift to every row of `T_{d-1}`, `[width]`.
    pub(super) bias: Buffer,
    /// Core k < d - 1 as `[i, c, lanes of (j, a)]`, or `[i, c, 4]` where rank k + 1 is [`NARROW`]; the last
    /// core as `[c, i]`, padded.
    pub(super) transposed: Vec<Buffer>,
    /// The last two cores' product in digits, where bytes are multiplied so.
    pub(super) product: Digits,
    /// `bias` for bytes that count from another one than zero.
    pub(super) centred_bias: Buffer,
}

/// Width of a row of the transposed core k.
pub(super) fn transposed_width(plan: &Plan, k: usize, lanes: usize) -> usize {
    match plan.steps.get(k + 1) {
        None => plan.steps[k].m.next_multiple_of(lanes),
        Some(_) if plan.steps[k].right == NARROW => NARROW,
        Some(next) => next.width,
    }
}

impl Packed {
    /// Packs the cores for the forward pass.
    pub(super) fn forward(&mut self, plan: &Plan, affine: Affine, cores: &[f32]) {
        let last = plan.steps.len() - 1;
        self.forward.resize_with(plan.steps.len(), Buffer::default);
        for (k, step) in plan.steps.iter().enumerate() {
            let factor = if k == last { affine.scale } else { 1.0 };
            let packed = &mut self.forward[k];
            packed.resize(step.m * step.right * step.width);
            for (row, to) in packed.chunks_exact_mut(step.width).enumerate() {
                let from = &cores[step.offset + row * step.columns..][..step.columns];
                for (a, from) in from.chunks_exact(step.n).enumerate() {
                    for (j, value) in from.iter().enumerate() {
                        to[j * step.left + a] = factor * value;
                    }
                }
            }
        }
        sum_last(&mut self.bias, plan, affine, cores);
    }

    /// Packs what the shift of bytes that count from their centre contributes.
    pub(super) fn centre(&mut self, plan: &Plan, centred: Affine, cores: &[f32]) {
        sum_last(&mut self.centred_bias, plan, centred, cores);
    }

    /// Packs the transposed cores for the backward pass, from the forward ones.
    pub(super) fn backward(&mut self, plan: &Plan, lanes: usize, with_x: bool) {
        self.transposed.resize_with(plan.steps.len(), Buffer::default);
        for (k, step) in plan.steps.iter().enumerate() {
            let width = transposed_width(plan, k, lanes);
            let (from, to) = (&self.forward[k], &mut self.transposed[k]);
            let Some(next) = plan.steps.get(k + 1) else {
                if with_x {
                    to.resize(step.columns * width);
                    for (c, row) in to.chunks_exact_mut(width).enumerate() {
                        for (i, value) in row[..step.m].iter_mut().enumerate() {
                            *value = from[i * step.width + c];
                        }
                    }
                }
                continue;
            };
            to.resize(step.m * step.columns * width);
            let used = if width == NARROW && step.right == NARROW { NARROW } else { next.columns };
            for (row, to) in to.chunks_exact_mut(width).enumerate() {
                let (i, c) = (row / step.columns, row % step.columns);
                for (lane, value) in to[..used].iter_mut().enumerate() {
                    *value = from[(i * step.right + lane % step.right) * step.width + c];
                }
            }
        }
    }
}

/// The contribution of a shift to every row of `T_{d-1}`.
fn sum_last(bias: &mut Buffer, plan: &Plan, affine: Affine, cores: &[f32]) {
    let step = plan.last();
    bias.resize(step.width);
    for a in 0..step.left {
        for j in 0..step.n {
            let rows = cores[step.offset..][..step.m * step.columns].chunks_exact(step.columns);
            let sum: f64 = rows.map(|row| f64::from(row[a * step.n + j])).sum();
            bias[j * step.left + a] = (f64::from(affine.shift) * sum) as f32;
        }
    }
}

/// Writes the gradients of an item's order `[(i, a), width]` in the order of the flat vector.
pub(super) fn unpack(plan: &Plan, affine: Affine, gradient: &[f32], shift: &[f64], dcores: &mut [f32]) {
    let last = plan.steps.len() - 1;
    for (k, step) in plan.steps.iter().enumerate() {
        for row in 0..step.m * step.right {
            let from = &gradient[step.gradient + row * step.width..][..step.columns];
            let to = &mut dcores[step.offset + row * step.columns..][..step.columns];
            for j in 0..step.n {
                for a in 0..step.left {
                    let c = j * step.left + a;
                    to[a * step.n + j] = if k == last {
                        (f64::from(affine.scale) * f64::from(from[c]) + shift[c]) as f32
                    } else {
                        from[c]
                    };
                }
            }
        }
    }
}

/// What a constant `shift` in every input adds to the gradients: the summed output gradient carried back
/// through cores summed over their input mode.
pub(super) struct FlowSums {
    /// Sum of dT_{d-2} over q and all rows, `[rho, columns]` of the second to last step.
    pub(super) before: Vec<f64>,
    /// Sum of dT_{d-1} times the shift: what every row of the last core's gradient gains, `[columns]`.
    pub(super) last: Vec<f64>,
}

/// Computes [`FlowSums`].
pub(super) fn flow_sums(plan: &Plan, packed: &Packed, affine: Affine, dout: &[f32]) -> FlowSums {
    let last = plan.last();
    let (inner, before) = match &plan.steps[..] {
        [inner @ .., before, _] => (inner.len(), before.rho * before.columns),
        _ => (0, 0),
    };
    if affine.shift == 0.0 {
        return FlowSums { before: vec![0.0; before], last: vec![0.0; last.columns] };
    }
    let mut natural = vec![0.0; plan.outputs];
    for row in dout.chunks_exact(plan.outputs) {
        for (sum, value) in natural.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    let mut flow = vec![0.0; plan.outputs]; // [rho, columns], step by step
    for (&place, value) in plan.order.iter().zip(natural) {
        flow[place as usize] = value;
    }
    let mut before = Vec::new();
    for (k, step) in plan.steps[..plan.steps.len() - 1].iter().enumerate() {
        if k == inner {
            before.clone_from(&flow);
        }
        flow = carry(step, &plan.steps[k + 1], &packed.forward[k], &flow);
    }
    FlowSums { before, last: flow.iter().map(|value| f64::from(affine.shift) * value).collect() }
}

/// Turns the gradient `dM [(i, i'), (j', (j, a))]` of the last two cores' product into theirs, in the places
/// where [`unpack`] looks for them. `sums` are [`FlowSums::before`].
pub(super) fn separate(
    plan: &Plan,
    (packed, bias): (&Packed, &[f32]),
    pair: Pair,
    sums: &[f64],
    gradient: &mut [f32],
) {
    let [.., before, last] = &plan.steps[..] else { return };
    let (cores, product) = gradient.split_at_mut(pair.start);
    let (head, last_gradient) = cores.split_at_mut(last.gradient);
    let before_gradient = &mut head[before.gradient..];
    let [.., before_core, last_core] = &packed.forward[..] else { return };
    let (columns, width, rank) = (before.columns, before.width, before.right);
    // The scaled pixels: the last core is packed with the scale.
    for (row, dm) in product.chunks_exact(before.rho * pair.width).take(before.m * last.m).enumerate() {
        let (i, i_last) = (row / last.m, row % last.m);
        for (j, dm) in dm.chunks_exact(pair.width).enumerate() {
            for a in 0..rank {
                let at = i_last * last.width + j * rank + a;
                let core_row = (i * rank + a) * width;
                let weight = last_core[at];
                let to = &mut before_gradient[core_row..][..columns];
                to.iter_mut().zip(&dm[..columns]).for_each(|(to, dm)| *to += weight * dm);
                last_gradient[at] += dot(&before_core[core_row..][..columns], &dm[..columns]);
            }
        }
    }
    // The shift, which every pixel has.
    for a in 0..rank {
        for c in 0..columns {
            let term = |j: usize| f64::from(bias[j * rank + a]) * sums[j * columns + c];
            let sum: f64 = (0..before.rho).map(term).sum();
            for i in 0..before.m {
                before_gradient[(i * rank + a) * width + c] += sum as f32;
            }
        }
    }
}

/// A sum of products in eight chains.
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 8];
    for (x, y) in x.chunks(8).zip(y.chunks(8)) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum()
}

/// One step of [`flow_sums`]: `[rho, c] -> [rho', (j, a)]`.
fn carry(step: &Step, next: &Step, core: &[f32], flow: &[f64]) -> Vec<f64> {
    let mut summed = vec![0.0; step.right * step.columns]; // [a, c]
    for (row, values) in core.chunks_exact(step.width).enumerate() {
        let to = &mut summed[row % step.right * step.columns..][..step.columns];
        for (sum, value) in to.iter_mut().zip(values) {
            *sum += f64::from(*value);
        }
    }
    let mut result = vec![0.0; next.rho * next.columns];
    for (row, from) in flow.chunks_exact(step.columns).enumerate() {
        for (a, weights) in summed.chunks_exact(step.columns).enumerate() {
            result[row * step.right + a] = from.iter().zip(weights).map(|(x, w)| x * w).sum();
        }
    }
    result
}
