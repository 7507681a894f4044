//! A group of frames through the encoder and back, on one thread.
#![expect(
    unsafe_code,
    reason = "convolutions are compiled for an instruction set, which a kernel knows to be there"
)]

use super::Seen;
use super::norm::{self, Statistics};
use super::plan::{GROUP, Plan, Unit};
use tt_core::apply::{Affine, Row, Rows};
use tt_core::simd::convolution::Panels;
use tt_core::simd::{Buffer, Kernel, Simd};

/// The kernels of all convolutions, packed once a pass.
#[derive(Debug, Default)]
pub(super) struct Packed(pub(super) Vec<Panels>);

/// Packs the kernels of a plan.
pub(super) struct Pack<'a> {
    pub(super) plan: &'a Plan,
    pub(super) weights: &'a [f32],
    pub(super) backward: bool,
    pub(super) packed: &'a mut Packed,
}

impl Kernel for Pack<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (_, unit) in self.plan.units() {
            let mut panels = Panels::default();
            // SAFETY: a kernel runs where its instruction set is.
            unsafe { panels.pack::<S>(&unit.conv, &self.weights[unit.kernel()], self.backward) };
            self.packed.0.push(panels);
        }
    }
}

/// What the frames of a group leave behind: memory that is used again.
#[derive(Debug, Default)]
pub(super) struct Work {
    frames: Vec<f32>,
    /// What each convolution puts out, and its statistics.
    units: Vec<Outputs>,
    /// What follows from it: of the stem, then of every block's first convolution and of the block.
    activations: Vec<Vec<f32>>,
    /// Gradients of what a block puts out, of its inner activation, and of what it reads.
    gradients: [Vec<f32>; 3],
    scratch: Buffer,
}

#[derive(Debug, Default)]
struct Outputs {
    values: Vec<f32>,
    statistics: Vec<Statistics>,
}

impl Work {
    /// Bytes that are held.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let outputs = self.units.iter().map(|unit| unit.values.capacity());
        let rest = self.activations.iter().chain(&self.gradients).chain([&self.frames]).map(Vec::capacity);
        4 * (outputs.chain(rest).sum::<usize>() + self.scratch.len())
    }
}

/// What is asked of a group.
pub(super) enum Task<'a> {
    /// Its features, `[n, F]` or `[n, P·F]`.
    Features(&'a mut [f32]),
    /// From the gradient of its features that of the weights, which is added.
    Gradient { features: &'a [f32], weights: &'a mut [f32] },
}

/// A group of frames.
pub(super) struct Group<'a> {
    pub(super) plan: &'a Plan,
    pub(super) seen: Seen,
    pub(super) affine: Affine,
    pub(super) weights: &'a [f32],
    pub(super) packed: &'a Packed,
    pub(super) rows: Rows<'a>,
    pub(super) work: &'a mut Work,
    pub(super) task: Task<'a>,
}

impl Kernel for Group<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        self.read();
        // SAFETY: a kernel runs where its instruction set is.
        unsafe { self.forward::<S>() };
        let n = self.rows.len() / self.plan.frame();
        match std::mem::replace(&mut self.task, Task::Features(&mut [])) {
            Task::Features(found) => {
                let last = self.work.activations.last().map_or(&[][..], |last| last);
                match self.seen {
                    Seen::Map => found.copy_from_slice(last),
                    Seen::Means => {
                        let frames = last.chunks_exact(last.len() / n);
                        for (found, pixels) in found.chunks_exact_mut(self.plan.features()).zip(frames) {
                            mean(pixels, found);
                        }
                    }
                }
            }
            // SAFETY: as above.
            Task::Gradient { features, weights } => unsafe { self.backward::<S>(n, features, weights) },
        }
    }
}

/// The mean of every channel.
#[inline(always)]
fn mean(pixels: &[f32], found: &mut [f32]) {
    found.fill(0.0);
    for pixel in pixels.chunks_exact(found.len()) {
        found.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
    }
    let share = found.len() as f32 / pixels.len() as f32;
    for sum in found {
        *sum *= share;
    }
}

/// Channels as the groups of a normalisation: loops over arrays become vectors where what they find is not yet written to
/// memory that may be what they read.
#[inline(always)]
fn parts(channels: &[f32]) -> std::slice::Iter<'_, [f32; GROUP]> {
    channels.as_chunks().0.iter()
}

#[inline(always)]
fn parts_mut(channels: &mut [f32]) -> std::slice::IterMut<'_, [f32; GROUP]> {
    channels.as_chunks_mut().0.iter_mut()
}

/// The larger of a number and zero. NaN stays NaN, so that a training that diverged is seen in its loss.
#[inline(always)]
fn rectified(value: f32) -> f32 {
    if value < 0.0 { 0.0 } else { value }
}

/// Lets nothing pass where the activation was zero.
#[inline(always)]
fn mask(gradient: &mut [f32], activation: &[f32]) {
    for (gradient, activation) in gradient.iter_mut().zip(activation) {
        *gradient = if *activation > 0.0 { *gradient } else { 0.0 };
    }
}

impl Group<'_> {
    /// The frames as numbers, and room for what follows from them.
    #[inline(always)]
    fn read(&mut self) {
        let Self { plan, affine, rows, work, .. } = self;
        let n = rows.len() / plan.frame();
        work.frames.resize(rows.len(), 0.0);
        for (at, frame) in work.frames.chunks_exact_mut(plan.frame()).enumerate() {
            match rows.row(at, plan.frame()) {
                Row::U8(bytes) => {
                    for (to, byte) in frame.iter_mut().zip(bytes) {
                        *to = f32::from(*byte) * affine.scale + affine.shift;
                    }
                }
                Row::F32(values) => {
                    for (to, value) in frame.iter_mut().zip(values) {
                        *to = value * affine.scale + affine.shift;
                    }
                }
            }
        }
        work.units.resize_with(plan.units().count(), Outputs::default);
        for (outputs, (_, unit)) in work.units.iter_mut().zip(plan.units()) {
            outputs.values.resize(n * unit.conv.out_len(), 0.0);
            outputs.statistics.resize(n * unit.groups(), [0.0; 2]);
        }
        work.activations.resize_with(1 + 2 * plan.blocks.len(), Vec::new);
        let inner = plan.blocks.iter().flat_map(|block| [&block.a, &block.b]);
        for (activation, unit) in work.activations.iter_mut().zip(std::iter::once(&plan.stem).chain(inner)) {
            activation.resize(n * unit.conv.out_len(), 0.0);
        }
    }

    /// The weights of a unit's normalisation.
    #[inline(always)]
    fn norm(&self, unit: &Unit) -> (&[f32], &[f32]) {
        (&self.weights[unit.scale()], &self.weights[unit.shift()])
    }

    /// A convolution, and the statistics of what it puts out.
    #[inline(always)]
    unsafe fn convolve<S: Simd>(&mut self, at: usize, unit: &Unit, from: Option<usize>) {
        let Work { frames, units, activations, scratch, .. } = &mut *self.work;
        let Outputs { values, statistics } = &mut units[at];
        let x = from.map_or(&*frames, |from| &activations[from]);
        // SAFETY: the caller has the instruction set, with which the panels were packed.
        unsafe { unit.conv.forward::<S>(x, &self.packed.0[at], values, scratch) };
        let frames = values.chunks_exact(unit.conv.out_len());
        for (frame, statistics) in frames.zip(statistics.chunks_exact_mut(unit.groups())) {
            norm::statistics(frame, unit.conv.outputs, statistics);
        }
    }

    /// What follows from the convolution at `at`, and from the one at `beside` that is added: `relu` of both normalised.
    #[inline(always)]
    fn activate(&mut self, to: usize, (at, unit): (usize, &Unit), beside: Option<(usize, &Unit)>) {
        let (channels, groups, size) = (unit.conv.outputs, unit.groups(), unit.conv.out_len());
        let mut activation = std::mem::take(&mut self.work.activations[to]);
        let mut affine = vec![0.0; 4 * channels];
        let (factors, rest) = affine.split_at_mut(channels);
        let (summands, rest) = rest.split_at_mut(channels);
        let (factors2, summands2) = rest.split_at_mut(channels);
        for (n, activation) in activation.chunks_exact_mut(size).enumerate() {
            let outputs = |at: usize| {
                let Outputs { values, statistics } = &self.work.units[at];
                (&values[n * size..(n + 1) * size], &statistics[n * groups..(n + 1) * groups])
            };
            let (values, statistics) = outputs(at);
            norm::affine(statistics, self.norm(unit), factors, summands);
            let Some((beside, unit)) = beside else {
                let pixels = values.chunks_exact(channels);
                for (to, pixel) in activation.chunks_exact_mut(channels).zip(pixels) {
                    let lanes = parts_mut(to).zip(parts(pixel)).zip(parts(factors).zip(parts(summands)));
                    for ((to, pixel), (factors, summands)) in lanes {
                        let mut found = [0.0_f32; GROUP];
                        for at in 0..GROUP {
                            found[at] = rectified(pixel[at] * factors[at] + summands[at]);
                        }
                        *to = found;
                    }
                }
                continue;
            };
            let (values2, statistics) = outputs(beside);
            norm::affine(statistics, self.norm(unit), factors2, summands2);
            summands.iter_mut().zip(&*summands2).for_each(|(sum, more)| *sum += more);
            let pixels = values.chunks_exact(channels).zip(values2.chunks_exact(channels));
            for (to, (pixel, pixel2)) in activation.chunks_exact_mut(channels).zip(pixels) {
                let first = parts(pixel).zip(parts(factors));
                let second = parts(pixel2).zip(parts(factors2));
                let lanes = parts_mut(to).zip(first.zip(second)).zip(parts(summands));
                for ((to, ((pixel, factors), (pixel2, factors2))), summands) in lanes {
                    let mut found = [0.0_f32; GROUP];
                    for at in 0..GROUP {
                        let sum = pixel[at] * factors[at] + pixel2[at] * factors2[at];
                        found[at] = rectified(sum + summands[at]);
                    }
                    *to = found;
                }
            }
        }
        self.work.activations[to] = activation;
    }

    #[inline(always)]
    unsafe fn forward<S: Simd>(&mut self) {
        let plan = self.plan;
        // SAFETY: as the caller's.
        unsafe {
            self.convolve::<S>(0, &plan.stem, None);
            self.activate(0, (0, &plan.stem), None);
            for (at, block) in plan.blocks.iter().enumerate() {
                let (unit, x) = (1 + 3 * at, 2 * at);
                self.convolve::<S>(unit, &block.a, Some(x));
                self.activate(x + 1, (unit, &block.a), None);
                self.convolve::<S>(unit + 1, &block.b, Some(x + 1));
                self.convolve::<S>(unit + 2, &block.skip, Some(x));
                self.activate(x + 2, (unit + 1, &block.b), Some((unit + 2, &block.skip)));
            }
        }
    }

    /// From the gradient of what a convolution's normalisation puts out to that of what the convolution does, in its place;
    /// adds those of the weights.
    #[inline(always)]
    unsafe fn unit_back<S: Simd>(
        &mut self,
        (at, unit): (usize, &Unit),
        from: Option<usize>,
        gradient: &mut [f32],
        weights: &mut [f32],
    ) {
        let Work { frames, units, activations, scratch, .. } = &mut *self.work;
        let Outputs { values, statistics } = &units[at];
        let size = unit.conv.out_len();
        let (kernel, rest) = weights[unit.first..unit.shift().end].split_at_mut(unit.conv.weights());
        let (dscale, dshift) = rest.split_at_mut(unit.conv.outputs);
        let outputs = values.chunks_exact(size).zip(statistics.chunks_exact(unit.groups()));
        for ((values, statistics), gradient) in outputs.zip(gradient.chunks_exact_mut(size)) {
            let scale = &self.weights[unit.scale()];
            norm::backward(values, statistics, scale, gradient, (dscale, dshift));
        }
        let x = from.map_or(&*frames, |from| &activations[from]);
        // SAFETY: as the caller's.
        unsafe { unit.conv.kernel_gradient::<S>(x, gradient, kernel, scratch) };
    }

    /// Adds the gradient of what a convolution reads.
    #[inline(always)]
    unsafe fn input_back<S: Simd>(&mut self, (at, unit): (usize, &Unit), gradient: &[f32], sum: &mut [f32]) {
        // SAFETY: as the caller's; the panels have the transposed kernels wherever a gradient is asked for.
        unsafe { unit.conv.input_gradient::<S>(gradient, &self.packed.0[at], sum, &mut self.work.scratch) };
    }

    /// From the gradient of the features that of the last activation.
    #[inline(always)]
    fn features_back(&self, features: &[f32], out: &mut [f32]) {
        if self.seen == Seen::Map {
            return out.copy_from_slice(features);
        }
        let last = self.plan.last().conv;
        let share = 1.0 / last.pixels() as f32;
        let frames = out.chunks_exact_mut(last.out_len());
        for (frame, features) in frames.zip(features.chunks_exact(self.plan.features())) {
            for pixel in frame.chunks_exact_mut(features.len()) {
                pixel.iter_mut().zip(features).for_each(|(to, feature)| *to = share * feature);
            }
        }
    }

    #[inline(always)]
    unsafe fn backward<S: Simd>(&mut self, n: usize, features: &[f32], weights: &mut [f32]) {
        let plan = self.plan;
        let [mut out, mut inner, mut x] = std::mem::take(&mut self.work.gradients);
        resize(&mut out, n * plan.last().conv.out_len());
        self.features_back(features, &mut out);
        // SAFETY: as the caller's.
        unsafe {
            for (at, block) in plan.blocks.iter().enumerate().rev() {
                let (unit, from) = (1 + 3 * at, 2 * at);
                mask(&mut out, &self.work.activations[from + 2]);
                resize(&mut x, n * block.a.conv.in_len());
                resize(&mut inner, out.len());
                inner.copy_from_slice(&out);
                self.unit_back::<S>((unit + 2, &block.skip), Some(from), &mut inner, weights);
                self.input_back::<S>((unit + 2, &block.skip), &inner, &mut x);
                self.unit_back::<S>((unit + 1, &block.b), Some(from + 1), &mut out, weights);
                inner.fill(0.0);
                self.input_back::<S>((unit + 1, &block.b), &out, &mut inner);
                mask(&mut inner, &self.work.activations[from + 1]);
                self.unit_back::<S>((unit, &block.a), Some(from), &mut inner, weights);
                self.input_back::<S>((unit, &block.a), &inner, &mut x);
                std::mem::swap(&mut out, &mut x);
            }
            mask(&mut out, &self.work.activations[0]);
            self.unit_back::<S>((0, &plan.stem), None, &mut out, weights);
        }
        self.work.gradients = [out, inner, x];
    }
}

/// So many zeros.
#[inline(always)]
fn resize(values: &mut Vec<f32>, len: usize) {
    values.clear();
    values.resize(len, 0.0);
}
