//! The CUDA kernels of the TT layer, run by the emulation, against f64 loops.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use rand::RngExt;
use tt_core::apply::Precision;
use tt_core::apply::halves::{Cut, Geometry};
use tt_core::cuda::Source;
use tt_core::cuda::emulation::{Argument, emulate};
#[cfg(unix)]
use tt_core::cuda::nvrtc::Nvrtc;
use tt_core::{TtShape, rng};

mod forward;

use forward::{EXACT, Pass, SHARED, bits, cut, error, skipped, sum};

struct Case {
    pass: Pass,
    geometry: Geometry,
    /// Multiprocessors of the imagined device.
    blocks: usize,
    between: Vec<f32>,
    dy: Vec<f32>,
}

/// Largest error against the largest number, of T, y and the gradient of the right half, and against the largest sum of
/// absolute products, of the gradient of the left half.
type Errors = [f64; 4];

impl Case {
    fn new(cut: Cut, geometry: Geometry, frames: usize, blocks: usize) -> Self {
        let mut stream = rng::stream(4, "tests/tt_kernels");
        let mut draw = |n: usize| (0..n).map(|_| stream.random::<f32>() - 0.5).collect::<Vec<_>>();
        let (between, dy) = (draw(frames * cut.between()), draw(frames * cut.outputs()));
        Self { pass: Pass::new(cut, frames), geometry, blocks, between, dy }
    }

    /// T `[n, N_R, r, M_L]`, y `[n, N_L, N_R]`, `dright [r N_R, M_R]`, with the gradient of T in `between`, and `dleft [N_L,
    /// r, M_L]`, with the gradient of y in `dy`; then the sums of the absolute products of `dleft`, which may cancel.
    fn expected(&self) -> ([Vec<f64>; 4], Vec<f64>) {
        let cut = self.pass.cut;
        let Cut { left_inputs, right_inputs, left_outputs, right_outputs, rank, .. } = cut;
        let columns = cut.right_columns();
        let [t, y] = self.pass.expected();
        let mut dright = vec![0.0; columns * right_inputs];
        let mut dleft = vec![0.0; left_outputs * rank * left_inputs];
        let mut dleft_sizes = dleft.clone();
        for (row, pixels) in self.pass.x.chunks(right_inputs).enumerate() {
            let (f, i) = (row / left_inputs, row % left_inputs);
            for q in 0..columns {
                let (a, j) = (q / right_outputs, q % right_outputs);
                let at = ((f * right_outputs + j) * rank + a) * left_inputs + i;
                for (m, &pixel) in pixels.iter().enumerate() {
                    dright[q * right_inputs + m] += f64::from(pixel) * f64::from(self.between[at]);
                }
                for l in 0..left_outputs {
                    let of = (f * left_outputs + l) * right_outputs + j;
                    let (to, term) = ((l * rank + a) * left_inputs + i, t[at] * f64::from(self.dy[of]));
                    dleft[to] += term;
                    dleft_sizes[to] += term.abs();
                }
            }
        }
        ([t, y, dright, dleft], dleft_sizes)
    }

    /// The kernels' numbers. What they do not write is NaN.
    fn found(&mut self) -> [Vec<f32>; 4] {
        let (source, frames) = (self.geometry.source(), self.pass.frames);
        let number = frames as i32;
        let [mut t, y] = self.pass.found(&self.geometry.forward(frames, self.blocks));
        let count = self.pass.right.len();
        let mut parts = vec![f32::NAN; self.geometry.gradient_parts(frames, self.blocks) * count];
        let arguments = &mut [
            Argument::U8(&mut self.pass.x),
            Argument::F32(&mut self.between),
            Argument::F32(&mut parts),
            Argument::Int(number),
        ];
        emulate(&source, &self.geometry.gradient(frames, self.blocks), arguments).unwrap();
        let left = self.pass.left.len();
        let mut left_parts = vec![f32::NAN; self.geometry.left_parts(frames, self.blocks) * left];
        let arguments = &mut [
            Argument::F32(&mut t),
            Argument::F32(&mut self.dy),
            Argument::F32(&mut left_parts),
            Argument::Int(number),
        ];
        emulate(&source, &self.geometry.left_gradient(frames, self.blocks), arguments).unwrap();
        [t, y, sum(&source, &mut parts, count), sum(&source, &mut left_parts, left)]
    }

    fn errors(&mut self) -> Errors {
        self.errors_by([&|_| 0; 4])
    }

    /// Largest error against the largest number of the same group, the groups by the places of the numbers.
    fn errors_by(&mut self, groups: [&dyn Fn(usize) -> usize; 4]) -> Errors {
        let (found, (expected, dleft_sizes)) = (self.found(), self.expected());
        std::array::from_fn(|which| {
            let sizes = if which == 3 { &dleft_sizes } else { &expected[which] };
            error(&found[which], &expected[which], sizes, groups[which])
        })
    }
}

#[test]
fn edge_shapes_are_exact() {
    if skipped() {
        return;
    }
    for (cut, shared, frames) in [
        // One core: no left half; rows that begin anywhere; a lone frame.
        (cut(&[7], &[5], &[1, 1], 3, 0), SHARED, 1),
        (cut(&[1, 1], &[1, 1], &[1, 1, 1], 1, 1), SHARED, 2),
        // Rows that begin anywhere, and frames that end with their memory: nothing is read past it.
        (cut(&[16, 33], &[6, 5], &[1, 2, 1], 1, 1), SHARED, 1),
        // Primes, an odd number of frames, 17 columns on the right.
        (cut(&[17, 33], &[7, 17], &[1, 3, 1], 2, 1), SHARED, 3),
        // More than 64 outputs on the left, several rounds of a warp, rows of two words.
        (cut(&[13, 17, 18], &[6, 4, 3], &[1, 2, 2, 1], 3, 2), SHARED, 2),
        // Ranks in parts, because shared memory is scarce.
        (cut(&[9, 40], &[2, 5], &[1, 6, 1], 2, 1), 20 << 10, 5),
    ] {
        let geometry = Geometry::new(cut, Precision::F32, shared).unwrap();
        let errors = Case::new(cut, geometry, frames, 2).errors();
        println!("{cut:?}: {errors:?}");
        assert!(errors.iter().all(|&error| error <= EXACT), "{cut:?}: {errors:?}");
    }
}

#[test]
fn frames_of_ucf11_at_each_precision() {
    if skipped() {
        return;
    }
    let cut = Cut::cheapest(&TtShape::uniform(&[8, 20, 20, 18], &[4, 4, 4, 4], 4, 3).unwrap());
    // One term leaves 2^-11 of each number; the errors of both factors add up.
    for (precision, frames, bound) in [(Precision::F32, 3, EXACT), (Precision::Tf32, 1, 2.0_f64.powi(-10))] {
        let geometry = Geometry::new(cut, precision, SHARED).unwrap();
        let errors = Case::new(cut, geometry, frames, 1).errors();
        println!("{precision:?}: {errors:?}");
        assert!(errors.iter().all(|&error| error <= bound), "{precision:?}: {errors:?}");
    }
}

/// What is scaled to suit f16 comes back: large and tiny numbers, and frames whose gradients differ in size.
#[test]
fn numbers_of_any_size_are_exact() {
    if skipped() {
        return;
    }
    let cut = cut(&[17, 33], &[7, 17], &[1, 3, 1], 2, 1);
    let geometry = Geometry::new(cut, Precision::F32, SHARED).unwrap();
    for (right, left, between) in [(3e7, 1e-9, 1e-20), (1e-9, 2e8, 1e12), (0.0, 0.0, 0.0)] {
        let mut case = Case::new(cut, geometry.clone(), 3, 1);
        case.pass.right.iter_mut().for_each(|v| *v *= right);
        case.pass.left.iter_mut().for_each(|v| *v *= left);
        let frame = cut.between();
        let sizes = [between, 1e-3 * between, 0.0];
        case.between.iter_mut().enumerate().for_each(|(k, v)| *v *= sizes[k / frame % 3]);
        if right == 0.0 {
            assert!(case.found().iter().flatten().all(|&v| v == 0.0));
        } else {
            let errors = case.errors();
            assert!(errors.iter().all(|&error| error <= EXACT), "{right} {left} {between}: {errors:?}");
        }
    }
    let mut case = Case::new(cut, geometry, 2, 1);
    case.pass.right[5] = f32::NAN;
    case.between[7] = f32::INFINITY;
    let found = case.found();
    assert!(found.iter().all(|values| values.iter().any(|v| !v.is_finite())), "nothing is hidden");
}

/// A column beside one that is 1e7 times as large keeps its bits, and one beside an infinity its numbers.
#[test]
fn a_column_costs_its_neighbours_nothing() {
    if skipped() {
        return;
    }
    let cut = cut(&[17, 33], &[7, 17], &[1, 3, 1], 2, 1);
    let geometry = Geometry::new(cut, Precision::F32, SHARED).unwrap();
    let columns = cut.right_columns();
    // Scales the column `(a, j) = (1, 4)` of `right` and of the gradient of T, and output 3 of rank 1 of `left`.
    let scaled = |by: f32| {
        let mut case = Case::new(cut, geometry.clone(), 2, 1);
        case.pass.right.iter_mut().skip(cut.right_outputs + 4).step_by(columns).for_each(|v| *v *= by);
        let row = cut.rank * cut.left_inputs;
        for frame in 0..2 {
            let at = (frame * cut.right_outputs + 4) * row + cut.left_inputs;
            case.between[at..at + cut.left_inputs].iter_mut().for_each(|v| *v *= by);
        }
        let at = (cut.left_outputs + 3) * cut.left_inputs;
        case.pass.left[at..at + cut.left_inputs].iter_mut().for_each(|v| *v *= by);
        case
    };
    let (rank, inputs, outputs) = (cut.rank, cut.left_inputs, cut.right_outputs);
    let of_t = |k: usize| (k / inputs % rank, k / inputs / rank % outputs);
    let of_y = |k: usize| (k % outputs, k / outputs % cut.left_outputs);
    let errors = scaled(1e7).errors_by([
        &|k| usize::from(of_t(k) == (1, 4)),
        &|k| usize::from(of_y(k).0 == 4) + 2 * usize::from(of_y(k).1 == 3),
        &|k| k / cut.right_inputs,
        &|k| k / inputs % rank,
    ]);
    assert!(errors.iter().all(|&error| error <= EXACT), "{errors:?}");
    // Only what the large column is part of moves, and y where its output or its column is.
    let [t, y, dright, _] = scaled(1.0).found();
    let [t_large, y_large, dright_large, _] = scaled(f32::INFINITY).found();
    let same = |a: &[f32], b: &[f32], of: &dyn Fn(usize) -> bool| {
        a.iter().zip(b).enumerate().filter(|(k, _)| !of(*k)).all(|(_, (a, b))| a.to_bits() == b.to_bits())
    };
    assert!(same(&t, &t_large, &|k| of_t(k) == (1, 4)));
    assert!(same(&y, &y_large, &|k| of_y(k).0 == 4 || of_y(k).1 == 3));
    assert!(same(&dright, &dright_large, &|k| k / cut.right_inputs == outputs + 4));
    assert!(t_large.iter().chain(&y_large).chain(&dright_large).any(|v| !v.is_finite()));
}

#[test]
fn the_same_grid_gives_the_same_bits_and_blocks_do_not_change_the_output() {
    if skipped() {
        return;
    }
    let cut = cut(&[17, 33], &[7, 17], &[1, 3, 1], 2, 1);
    let geometry = Geometry::new(cut, Precision::F32, SHARED).unwrap();
    let run = |blocks| Case::new(cut, geometry.clone(), 30, blocks).found().map(bits);
    let first = run(4);
    assert_eq!(run(4), first);
    let other = run(2);
    assert_eq!(other[..2], first[..2]);
}

/// NVRTC compiles for a GPU what the emulation runs, where `TT_NVRTC` is the path of `libnvrtc.so`.
#[cfg(unix)]
#[test]
fn every_kernel_compiles_for_gpus() {
    let Some(library) = std::env::var_os("TT_NVRTC") else {
        println!(
            "skipped: the kernels of the TT layer are not compiled for GPUs (TT_NVRTC names no libnvrtc.so)"
        );
        return;
    };
    let nvrtc = Nvrtc::open(library.as_ref()).unwrap();
    let ucf11 = TtShape::uniform(&[8, 20, 20, 18], &[4, 4, 4, 4], 4, 3).unwrap();
    let (ucf11, primes) = (Cut::cheapest(&ucf11), cut(&[17, 33], &[70, 17], &[1, 3, 1], 1, 1));
    for (cut, precision, architecture) in [
        (ucf11, Precision::F32, "sm_80"),
        (ucf11, Precision::F32, "sm_90"),
        (primes, Precision::Tf32, "sm_90"),
    ] {
        let source = Geometry::new(cut, precision, SHARED).unwrap().source();
        let (binary, log) = nvrtc.compile(&source, architecture).unwrap();
        assert!(binary.starts_with(b"\x7fELF"));
        // What spills in `tt_forward`, some ten registers, does so outside of its inner loop.
        let spills = "ptxas warning : Registers are spilled to local memory in function 'tt_forward'";
        let known = |line: &str| line.is_empty() || line.starts_with(spills);
        assert!(log.lines().all(known), "{architecture}: {log}");
    }
    let text = nvrtc.compile(&Source::new("bad.cu", "int x = ;"), "sm_80").unwrap_err().to_string();
    assert!(text.contains("bad.cu") && text.contains("expected an expression"), "{text}");
}
