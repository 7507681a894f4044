//! Normalisation over groups of channels of one frame, forward and backward, as plain loops over `[P, C]` pixels.
//!
//! # Paper
//! Wu and He 2018, "Group Normalization": 16 channels a group, its best setting. A frame is normalised by itself, so that
//! nothing depends on which frames are computed together, and nothing is remembered between steps: statistics over a batch of
//! video would differ between chunks, and would have to be kept for a resumed run.

use super::plan::GROUP;

/// Added to the variance.
pub(super) const EPSILON: f64 = 1e-5;
/// Pixels whose numbers are summed in f32 before they go into f64.
const RUN: usize = 64;

/// Mean, and one over the deviation.
pub(super) type Statistics = [f32; 2];

/// The channels of a group.
#[inline(always)]
fn part(channels: &[f32], group: usize) -> &[f32; GROUP] {
    &channels.as_chunks().0[group]
}

/// Sums over a group of `f` of its numbers.
#[inline(always)]
fn sum(pixels: &[f32], channels: usize, group: usize, f: impl Fn(f32) -> f32) -> f64 {
    let mut sum = 0.0;
    for run in pixels.chunks(RUN * channels) {
        let mut lanes = [0.0_f32; GROUP];
        for pixel in run.chunks_exact(channels) {
            for (lane, value) in lanes.iter_mut().zip(part(pixel, group)) {
                *lane += f(*value);
            }
        }
        sum += lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>();
    }
    sum
}

/// Statistics of every group of a frame.
#[inline(always)]
pub(super) fn statistics(pixels: &[f32], channels: usize, found: &mut [Statistics]) {
    let count = (pixels.len() / channels * GROUP) as f64;
    for (group, found) in found.iter_mut().enumerate() {
        let mean = (sum(pixels, channels, group, |value| value) / count) as f32;
        let variance = sum(pixels, channels, group, |value| (value - mean) * (value - mean)) / count;
        *found = [mean, (1.0 / (variance + EPSILON).sqrt()) as f32];
    }
}

/// The normalisation of a frame as one factor and one summand for each channel.
#[inline(always)]
pub(super) fn affine(
    statistics: &[Statistics],
    (scale, shift): (&[f32], &[f32]),
    factors: &mut [f32],
    summands: &mut [f32],
) {
    for (channel, (factor, summand)) in factors.iter_mut().zip(summands).enumerate() {
        let [mean, inverse] = statistics[channel / GROUP];
        *factor = inverse * scale[channel];
        *summand = shift[channel] - mean * *factor;
    }
}

/// Turns the gradient of a normalised frame into that of the frame, and adds to those of scale and shift.
#[inline(always)]
pub(super) fn backward(
    pixels: &[f32],
    statistics: &[Statistics],
    scale: &[f32],
    gradient: &mut [f32],
    (dscale, dshift): (&mut [f32], &mut [f32]),
) {
    let channels = scale.len();
    let count = (pixels.len() / channels * GROUP) as f64;
    for (group, [mean, inverse]) in statistics.iter().copied().enumerate() {
        let range = group * GROUP..(group + 1) * GROUP;
        // Of each channel the sums of the gradient, and of it times the normalised number.
        let mut sums = [[0.0_f64; GROUP]; 2];
        for (run, gradient) in pixels.chunks(RUN * channels).zip(gradient.chunks(RUN * channels)) {
            let mut lanes = [[0.0_f32; GROUP]; 2];
            for (pixel, gradient) in run.chunks_exact(channels).zip(gradient.chunks_exact(channels)) {
                let (pixel, gradient) = (part(pixel, group), part(gradient, group));
                for lane in 0..GROUP {
                    lanes[0][lane] += gradient[lane];
                    lanes[1][lane] += gradient[lane] * ((pixel[lane] - mean) * inverse);
                }
            }
            for (sums, lanes) in sums.iter_mut().zip(lanes) {
                sums.iter_mut().zip(lanes).for_each(|(sum, lane)| *sum += f64::from(lane));
            }
        }
        let mut means = [0.0_f64; 2];
        for (lane, channel) in range.clone().enumerate() {
            for (mean, sums) in means.iter_mut().zip(&sums) {
                *mean += f64::from(scale[channel]) * sums[lane] / count;
            }
            dshift[channel] += sums[0][lane] as f32;
            dscale[channel] += sums[1][lane] as f32;
        }
        let [of_gradient, of_product] = means.map(|mean| mean as f32);
        let scale = part(scale, group);
        for (pixel, gradient) in pixels.chunks_exact(channels).zip(gradient.chunks_exact_mut(channels)) {
            let (pixel, gradient) = (part(pixel, group), &mut gradient.as_chunks_mut::<GROUP>().0[group]);
            let mut found = [0.0; GROUP];
            for lane in 0..GROUP {
                let normalised = (pixel[lane] - mean) * inverse;
                found[lane] =
                    inverse * (gradient[lane] * scale[lane] - of_gradient - normalised * of_product);
            }
            *gradient = found;
        }
    }
}
