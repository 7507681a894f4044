//! From samples to rows of log-mel energies.
//!
//! A row is the sound around one of `per_second` equal steps: its window, of two steps, overlaps those beside it by half, so
//! that every sample counts as much as any other. Before the first sample and after the last there is silence.

use std::sync::Arc;

use rustfft::num_complex::Complex;
use rustfft::{Fft, FftPlanner};

/// Samples a second.
pub(crate) const RATE: usize = 16_000;
/// Energy of what counts as silence: about -100 dB of a full scale.
const FLOOR: f32 = 1e-10;
/// And of what no sound has: samples of floats can hold anything.
const CEILING: f32 = 1e10;

/// Rows of samples that come in parts.
pub(crate) struct LogMel {
    /// Samples from row to row.
    step: usize,
    /// Hann, whose sum is 1.
    window: Vec<f32>,
    /// First bin and weights of each band.
    bands: Vec<(usize, Vec<f32>)>,
    fft: Arc<dyn Fft<f32>>,
    /// From the start of the next row's window on.
    samples: Vec<f32>,
    spectrum: Vec<Complex<f32>>,
    scratch: Vec<Complex<f32>>,
    read: usize,
    rows: u64,
}

impl LogMel {
    /// Rows of so many bands, so many a second, which divides [`RATE`].
    pub(crate) fn new(bands: usize, per_second: usize) -> Self {
        let step = RATE / per_second;
        let length = (2 * step).next_power_of_two();
        let angle = |i: usize| std::f64::consts::PI * (i as f64 + 0.5) / step as f64;
        // The sum of a Hann window over 2·step samples is `step`.
        let window = (0..2 * step).map(|i| ((0.5 - 0.5 * angle(i).cos()) / step as f64) as f32).collect();
        let fft = FftPlanner::new().plan_fft_forward(length);
        Self {
            step,
            window,
            bands: triangles(bands, length),
            scratch: vec![Complex::default(); fft.get_inplace_scratch_len()],
            spectrum: vec![Complex::default(); length],
            fft,
            samples: vec![0.0; step / 2],
            read: 0,
            rows: 0,
        }
    }

    /// Rows made so far.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes samples, and adds the rows that they complete to `out`.
    pub(crate) fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.read += samples.len();
        self.samples.extend_from_slice(samples);
        let mut start = 0;
        while self.samples.len() - start >= self.window.len() {
            self.row(start, out);
            start += self.step;
        }
        self.samples.drain(..start);
    }

    /// Adds the rows whose windows end in silence: as many in all as there were steps of samples, rounded, and at least one
    /// of any sound.
    pub(crate) fn finish(&mut self, out: &mut Vec<f32>) {
        let wanted = ((self.read + self.step / 2) / self.step).max(usize::from(self.read > 0)) as u64;
        while self.rows < wanted {
            self.samples.resize(self.window.len(), 0.0);
            self.row(0, out);
            self.samples.drain(..self.step);
        }
    }

    fn row(&mut self, start: usize, out: &mut Vec<f32>) {
        self.spectrum.fill(Complex::default());
        let window = self.samples[start..].iter().zip(&self.window);
        for (to, (sample, weight)) in self.spectrum.iter_mut().zip(window) {
            to.re = sample * weight;
        }
        self.fft.process_with_scratch(&mut self.spectrum, &mut self.scratch);
        for (first, weights) in &self.bands {
            let bins = self.spectrum[*first..].iter().zip(weights);
            let energy: f32 = bins.map(|(bin, weight)| weight * bin.norm_sqr()).sum();
            let energy = if energy.is_nan() { FLOOR } else { energy.clamp(FLOOR, CEILING) };
            out.push(energy.ln());
        }
        self.rows += 1;
    }
}

/// Triangles at equal distances on the mel scale (2595 log10(1 + f / 700)) up to half the rate, over the bins of an FFT.
fn triangles(bands: usize, length: usize) -> Vec<(usize, Vec<f32>)> {
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let top = mel(RATE as f64 / 2.0);
    let place = |bin: usize| mel(bin as f64 * RATE as f64 / length as f64) / top * (bands + 1) as f64;
    (1..=bands)
        .map(|band| {
            let weight = |bin: usize| (1.0 - (place(bin) - band as f64).abs()).max(0.0) as f32;
            let inside: Vec<usize> = (0..=length / 2).filter(|bin| weight(*bin) > 0.0).collect();
            (inside.first().copied().unwrap_or(0), inside.into_iter().map(weight).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BANDS: usize = 64;

    fn sine(hertz: f64, count: usize) -> Vec<f32> {
        let angle = |i: usize| 2.0 * std::f64::consts::PI * hertz * i as f64 / RATE as f64;
        (0..count).map(|i| angle(i).sin() as f32).collect()
    }

    fn rows(samples: &[f32], part: usize) -> Vec<f32> {
        let (mut mel, mut out) = (LogMel::new(BANDS, 25), Vec::new());
        samples.chunks(part).for_each(|part| mel.push(part, &mut out));
        mel.finish(&mut out);
        assert_eq!(out.len() as u64, BANDS as u64 * mel.rows());
        out
    }

    #[test]
    fn the_band_of_a_sine_is_the_loudest() {
        for (hertz, band) in [(200.0, 5), (1000.0, 22), (4000.0, 48)] {
            // By the formula: 65 · mel(f) / mel(8000), less one since bands count from 0.
            let place = 65.0 * (1.0_f64 + hertz / 700.0).ln() / (1.0_f64 + 8000.0 / 700.0).ln() - 1.0;
            assert!((place - f64::from(band)).abs() < 0.6, "{place}");
            let rows = rows(&sine(hertz, RATE), RATE);
            assert_eq!(rows.len(), 25 * BANDS);
            for row in rows.chunks(BANDS) {
                let loudest = (0..BANDS).max_by(|a, b| row[*a].total_cmp(&row[*b]));
                assert_eq!(loudest, Some(band as usize), "{hertz} Hz: {row:?}");
            }
        }
    }

    /// A sine of a full scale has (1/2)² of energy in each half of the spectrum, which the window spreads over a few bins.
    #[test]
    fn energies_are_of_the_sound_and_not_of_the_window() {
        for per_second in [25, 50] {
            let (mut mel, mut out) = (LogMel::new(BANDS, per_second), Vec::new());
            mel.push(&sine(1000.0, RATE), &mut out);
            let row = &out[4 * BANDS..5 * BANDS];
            let energy: f32 = row.iter().map(|value| value.exp()).sum();
            let bins = (2 * RATE / per_second).next_power_of_two() as f32 / (RATE / per_second) as f32;
            // Parseval: the bins of a Hann window's peak add up to 1.5 times its square, more of them in a longer FFT.
            let expected = 0.25 * 1.5 * bins / 2.0;
            assert!((energy / expected - 1.0).abs() < 0.02, "{energy} {expected}");
        }
    }

    #[test]
    fn parts_make_the_rows_of_the_whole() {
        let samples = sine(700.0, 5000);
        let whole = rows(&samples, 5000);
        for part in [1, 7, 640, 1281] {
            assert_eq!(rows(&samples, part), whole, "{part}");
        }
    }

    #[test]
    fn there_are_as_many_rows_as_steps_and_one_of_the_shortest_sound() {
        for (samples, expected) in [(0, 0), (1, 1), (319, 1), (640, 1), (960, 2), (16_000, 25)] {
            assert_eq!(rows(&vec![0.5; samples], 100).len(), expected * BANDS, "{samples}");
        }
    }

    #[test]
    fn silence_and_samples_that_are_no_numbers_have_rows_of_numbers() {
        for sample in [0.0, f32::NAN, f32::INFINITY, f32::MAX] {
            let rows = rows(&[sample; 2000], 2000);
            assert!(rows.iter().all(|value| (FLOOR.ln()..=CEILING.ln()).contains(value)), "{sample}");
        }
    }
}
