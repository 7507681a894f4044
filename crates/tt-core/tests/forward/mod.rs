//! A forward pass of the TT layer's CUDA kernels, run by the emulation, and in f64 loops.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests; one that cannot run says so"
)]

use std::collections::BTreeMap;

use rand::RngExt;
use tt_core::apply::Precision;
use tt_core::apply::halves::{Cut, Forward, Geometry};
use tt_core::cuda::Source;
use tt_core::cuda::emulation::{Argument, available, emulate};
use tt_core::{TtShape, rng};

/// Shared memory of a block of an H100.
pub(crate) const SHARED: usize = 227 << 10;

/// Two terms of f16 leave 2^-22, and sums err as in f32: far below the 1e-5 that is promised.
pub(crate) const EXACT: f64 = 1e-6;

pub(crate) fn cut(modes: &[usize], outputs: &[usize], ranks: &[usize], gates: usize, bond: usize) -> Cut {
    Cut::at(&TtShape::new(modes, outputs, ranks, gates).unwrap(), bond)
}

pub(crate) fn skipped() -> bool {
    let skipped = !available();
    if skipped {
        println!("skipped: no C++ compiler for the emulation of CUDA kernels");
    }
    skipped
}

pub(crate) fn bits(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

/// Frames `[n, M_L, M_R]`, right half `[M_R, r N_R]` and left half `[r, N_L, M_L]`.
pub(crate) struct Pass {
    pub(crate) cut: Cut,
    pub(crate) frames: usize,
    pub(crate) x: Vec<u8>,
    pub(crate) right: Vec<f32>,
    pub(crate) left: Vec<f32>,
}

impl Pass {
    pub(crate) fn new(cut: Cut, frames: usize) -> Self {
        let mut stream = rng::stream(3, "tests/tt_kernels");
        let x = (0..frames * cut.left_inputs * cut.right_inputs).map(|_| stream.random()).collect();
        let mut draw = |n: usize| (0..n).map(|_| stream.random::<f32>() - 0.5).collect::<Vec<_>>();
        let (right, left) = (
            draw(cut.right_inputs * cut.right_columns()),
            draw(cut.rank * cut.left_outputs * cut.left_inputs),
        );
        Self { cut, frames, x, right, left }
    }

    /// T `[n, N_R, r, M_L]` and y `[n, N_L, N_R]`.
    pub(crate) fn expected(&self) -> [Vec<f64>; 2] {
        let Cut { left_inputs, right_inputs, left_outputs, right_outputs, rank, .. } = self.cut;
        let columns = self.cut.right_columns();
        let mut t = vec![0.0; self.frames * self.cut.between()];
        let mut y = vec![0.0; self.frames * self.cut.outputs()];
        for (row, pixels) in self.x.chunks(right_inputs).enumerate() {
            let (f, i) = (row / left_inputs, row % left_inputs);
            for q in 0..columns {
                let (a, j) = (q / right_outputs, q % right_outputs);
                let at = ((f * right_outputs + j) * rank + a) * left_inputs + i;
                for (m, &pixel) in pixels.iter().enumerate() {
                    t[at] += f64::from(pixel) * f64::from(self.right[m * columns + q]);
                }
                for l in 0..left_outputs {
                    let left = self.left[(a * left_outputs + l) * left_inputs + i];
                    y[(f * left_outputs + l) * right_outputs + j] += t[at] * f64::from(left);
                }
            }
        }
        [t, y]
    }

    /// The kernels' T and y. What they do not write is NaN.
    pub(crate) fn found(&mut self, forward: &Forward) -> [Vec<f32>; 2] {
        let mut t = vec![f32::NAN; self.frames * self.cut.between()];
        let y = self.run(forward, Argument::F32(&mut t));
        [t, y]
    }

    /// The kernels' y, its parts added, with T left where `between` says.
    pub(crate) fn run(&mut self, forward: &Forward, between: Argument<'_>) -> Vec<f32> {
        self.launch(forward, between).unwrap()
    }

    /// The same; where the kernel fails, why, and the word that it left.
    pub(crate) fn launch(
        &mut self,
        forward: &Forward,
        between: Argument<'_>,
    ) -> Result<Vec<f32>, (String, u64)> {
        let mut halves = vec![u32::MAX; forward.halves];
        let arguments =
            &mut [Argument::F32(&mut self.right), Argument::F32(&mut self.left), Argument::U32(&mut halves)];
        emulate(&forward.source, &forward.prepare, arguments).unwrap();
        let outputs = self.frames * self.cut.outputs();
        let mut y = vec![f32::NAN; forward.parts * outputs];
        let (frames, mut report) = (Argument::Int(self.frames as i32), [0; 2]);
        let mut arguments = vec![
            Argument::U8(&mut self.x),
            Argument::U32(&mut halves),
            Argument::F32(&mut y),
            between,
            frames,
        ];
        if forward.waits {
            arguments.push(Argument::U32(&mut report));
        }
        let failed = emulate(&forward.source, &forward.launch, &mut arguments);
        failed.map_err(|error| (error.to_string(), u64::from(report[1]) << 32 | u64::from(report[0])))?;
        if forward.parts == 1 {
            return Ok(y);
        }
        let geometry = Geometry::new(self.cut, Precision::F32, SHARED).unwrap();
        Ok(sum(&geometry.source(), &mut y, outputs))
    }
}

/// Parts of `count` numbers, added up by the kernel for that.
pub(crate) fn sum(source: &Source, parts: &mut [f32], count: usize) -> Vec<f32> {
    let mut sum = vec![f32::NAN; count];
    let number = Argument::Int((parts.len() / count) as i32);
    let arguments = &mut [Argument::F32(parts), Argument::F32(&mut sum), Argument::Int(count as i32), number];
    emulate(source, &Geometry::sum(count), arguments).unwrap();
    sum
}

/// Largest error against the largest number of the same group, the groups by the places of the numbers.
pub(crate) fn error(found: &[f32], expected: &[f64], sizes: &[f64], group: &dyn Fn(usize) -> usize) -> f64 {
    assert_eq!(found.len(), expected.len());
    let mut largest = BTreeMap::new();
    for (k, size) in sizes.iter().enumerate() {
        let largest = largest.entry(group(k)).or_insert(0.0_f64);
        *largest = largest.max(size.abs());
    }
    found.iter().zip(expected).enumerate().fold(0.0, |error, (k, (f, e))| {
        assert!(f.is_finite(), "{k} was not written");
        f64::max(error, (f64::from(*f) - e).abs() / largest[&group(k)])
    })
}
