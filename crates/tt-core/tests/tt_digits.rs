//! The TT layer's forward pass by digits for compute capability 9.0, run by the emulation, against f64 loops.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests; one that cannot run says so"
)]

use tt_core::TtShape;
use tt_core::apply::halves::{Cut, Digits, Forward};
use tt_core::cuda::Stall;
use tt_core::cuda::emulation::Argument;
#[cfg(unix)]
use tt_core::cuda::nvrtc::Nvrtc;

mod forward;

use forward::{EXACT, Pass, SHARED, bits, cut, error, skipped};

/// The cut of a train of the paper, outputs 4 · 4 · 4 · 4.
fn paper(modes: &[usize], rank: usize, gates: usize) -> Cut {
    Cut::cheapest(&TtShape::uniform(modes, &[4; 4], rank, gates).unwrap())
}

const UCF11: [usize; 4] = [8, 20, 20, 18];
const HOLLYWOOD2: [usize; 4] = [10, 18, 13, 30];
const YOUTUBE: [usize; 4] = [4, 20, 20, 36];

/// Largest errors of T and y against their largest numbers, on a device of so many multiprocessors.
fn errors(pass: &mut Pass, shared: usize, blocks: usize) -> [f64; 2] {
    let forward = Digits::new(pass.cut, shared).unwrap().forward(pass.frames, blocks);
    let (found, expected) = (pass.found(&forward), pass.expected());
    let errors = [0, 1].map(|k| error(&found[k], &expected[k], &expected[k], &|_| 0));
    println!("{:?}, {} frames, {} parts: {errors:?}", pass.cut, pass.frames, forward.parts);
    errors
}

#[test]
fn frames_of_the_paper_are_exact() {
    if skipped() {
        return;
    }
    for (cut, frames, blocks) in [
        // Five frames: of the second four three are not there.
        (paper(&UCF11, 4, 3), 5, 1),
        (paper(&UCF11, 5, 4), 1, 1),
        // Rows of 390 bytes, and frames of 70,200, no multiple of 16.
        (paper(&HOLLYWOOD2, 4, 3), 3, 1),
        // The ranks in two parts.
        (paper(&YOUTUBE, 4, 3), 3, 2),
    ] {
        let errors = errors(&mut Pass::new(cut, frames), SHARED, blocks);
        // T is as good as its digits, 2^-23, and three roundings; y is split as in the other kernel.
        assert!(errors[0] <= 3e-7 && errors[1] <= EXACT, "{errors:?}");
    }
}

#[test]
fn edge_shapes_are_exact() {
    if skipped() {
        return;
    }
    for (cut, shared, frames, blocks) in [
        // One core: a frame is one row of 17 bytes; the last piece of memory is not whole.
        (cut(&[17], &[5], &[1, 1], 3, 0), SHARED, 13, 1),
        (cut(&[1, 16], &[1, 1], &[1, 1, 1], 1, 1), SHARED, 2, 1),
        // Primes, 17 columns on the right, and more frames than blocks take at once.
        (cut(&[17, 33], &[7, 17], &[1, 3, 1], 2, 1), SHARED, 23, 4),
        // Ranks in parts: six by five at most, and then because shared memory is scarce, for a single buffer too.
        (cut(&[9, 40], &[2, 5], &[1, 6, 1], 2, 1), SHARED, 5, 2),
        (cut(&[9, 40], &[2, 5], &[1, 6, 1], 2, 1), 16 << 10, 5, 2),
        (cut(&[33, 64], &[4, 4], &[1, 2, 1], 3, 1), 16 << 10, 9, 1),
    ] {
        let errors = errors(&mut Pass::new(cut, frames), shared, blocks);
        assert!(errors.iter().all(|error| *error <= EXACT), "{cut:?}: {errors:?}");
    }
}

/// Sums as large as they become, of both signs; and nothing of black frames.
#[test]
fn saturated_and_black_pixels() {
    if skipped() {
        return;
    }
    let cut = cut(&[17, 720], &[4, 4], &[1, 2, 1], 1, 1);
    let mut pass = Pass::new(cut, 2);
    pass.x.fill(255);
    let columns = cut.right_columns();
    for (k, right) in pass.right.iter_mut().enumerate() {
        // Columns of the largest number, of its negative, of both in turns; the others are drawn.
        match k % columns {
            0 => *right = 0.75,
            1 => *right = -1.5,
            2 => *right = if (k / columns).is_multiple_of(2) { 3.0 } else { -3.0 },
            _ => {}
        }
    }
    let errors = errors(&mut pass, SHARED, 1);
    assert!(errors.iter().all(|error| *error <= EXACT), "{errors:?}");
    pass.x.fill(0);
    let forward = Digits::new(cut, SHARED).unwrap().forward(2, 1);
    assert!(pass.found(&forward).iter().flatten().all(|number| *number == 0.0));
}

#[test]
fn numbers_of_any_size_are_exact() {
    if skipped() {
        return;
    }
    let cut = cut(&[17, 33], &[7, 17], &[1, 3, 1], 2, 1);
    for (right, left) in [(3e7, 1e-9), (1e-9, 2e8), (0.0, 0.0)] {
        let mut pass = Pass::new(cut, 3);
        pass.right.iter_mut().for_each(|v| *v *= right);
        pass.left.iter_mut().for_each(|v| *v *= left);
        if right == 0.0 {
            let forward = Digits::new(cut, SHARED).unwrap().forward(3, 1);
            assert!(pass.found(&forward).iter().flatten().all(|number| *number == 0.0));
        } else {
            let errors = errors(&mut pass, SHARED, 1);
            assert!(errors.iter().all(|error| *error <= EXACT), "{right} {left}: {errors:?}");
        }
    }
}

/// A column that is not finite is NaN, and what it is no part of keeps its bits.
#[test]
fn a_column_costs_its_neighbours_nothing() {
    if skipped() {
        return;
    }
    let cut = cut(&[17, 33], &[7, 17], &[1, 3, 1], 2, 1);
    let forward = Digits::new(cut, SHARED).unwrap().forward(2, 1);
    // One number of the column `(a, j) = (1, 4)`.
    let at = 5 * cut.right_columns() + cut.right_outputs + 4;
    let with = |number: Option<f32>| {
        let mut pass = Pass::new(cut, 2);
        pass.right[at] = number.unwrap_or(pass.right[at]);
        pass.found(&forward)
    };
    let [t, y] = with(None);
    for number in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let [t_other, y_other] = with(Some(number));
        for (k, (a, b)) in t.iter().zip(&t_other).enumerate() {
            let of = (k / cut.left_inputs % cut.rank, k / cut.left_inputs / cut.rank % cut.right_outputs);
            assert!(if of == (1, 4) { b.is_nan() } else { a.to_bits() == b.to_bits() }, "T {k}");
        }
        for (k, (a, b)) in y.iter().zip(&y_other).enumerate() {
            let of = k % cut.right_outputs;
            assert!(if of == 4 { b.is_nan() } else { a.to_bits() == b.to_bits() }, "y {k}");
        }
    }
}

#[test]
fn neither_blocks_nor_buffers_nor_saving_change_a_bit() {
    if skipped() {
        return;
    }
    let cut = cut(&[17, 33], &[7, 17], &[1, 3, 1], 2, 1);
    let run = |shared, blocks| {
        let forward = Digits::new(cut, shared).unwrap().forward(30, blocks);
        Pass::new(cut, 30).found(&forward).map(bits)
    };
    let first = run(SHARED, 4);
    assert_eq!(run(SHARED, 2), first);
    assert_eq!(run(15 << 10, 4), first, "one buffer");
    let forward = Digits::new(cut, SHARED).unwrap().forward(30, 4);
    assert_eq!(bits(Pass::new(cut, 30).run(&forward, Argument::Null)), first[1]);
}

/// A block that waits for a copy which never arrives gives up, and says which of its turns it was: 0 is that of the digits.
#[test]
fn a_copy_that_never_arrives_is_reported() {
    if skipped() {
        return;
    }
    let cut = cut(&[17, 33], &[7, 17], &[1, 3, 1], 2, 1);
    let whole = Digits::new(cut, SHARED).unwrap().forward(3, 1);
    for (lost, step) in [(0, 0), (1, 1), (17, 2)] {
        let forward = Forward { source: whole.source.clone().define("LOST_COPY", lost), ..whole.clone() };
        let (error, word) = Pass::new(cut, 3).launch(&forward, Argument::Null).unwrap_err();
        assert!(error.contains("the kernel gave up"), "{lost}: {error}");
        assert_eq!(Stall::from_word(word), Some(Stall { block: 0, step }), "{lost}");
    }
}

/// NVRTC compiles for a GPU what the emulation runs, where `TT_NVRTC` is the path of `libnvrtc.so`: no register spills,
/// and no product is made to wait for the one before.
#[cfg(unix)]
#[test]
fn the_kernel_compiles_for_gpus() {
    let Some(library) = std::env::var_os("TT_NVRTC") else {
        println!(
            "skipped: the forward pass by digits is not compiled for GPUs (TT_NVRTC names no libnvrtc.so)"
        );
        return;
    };
    let nvrtc = Nvrtc::open(library.as_ref()).unwrap();
    for cut in [
        paper(&UCF11, 1, 3),
        paper(&UCF11, 2, 3),
        paper(&UCF11, 3, 3),
        paper(&UCF11, 4, 3),
        paper(&HOLLYWOOD2, 4, 3),
        paper(&YOUTUBE, 4, 3),
        cut(&[17, 33], &[7, 17], &[1, 3, 1], 2, 1),
    ] {
        let forward = Digits::new(cut, SHARED).unwrap().forward(1, 1);
        let (binary, log) = nvrtc.compile(&forward.source, "sm_90a").unwrap();
        assert!(binary.starts_with(b"\x7fELF"));
        assert!(log.is_empty(), "{cut:?}: {log}");
    }
    // Five ranks, or four gates: what spills, two to four registers, does so outside of the products.
    for cut in [paper(&UCF11, 5, 3), paper(&UCF11, 4, 4)] {
        let forward = Digits::new(cut, SHARED).unwrap().forward(1, 1);
        let (_, log) = nvrtc.compile(&forward.source, "sm_90a").unwrap();
        let spills = "ptxas warning : Registers are spilled to local memory in function 'tt_digits'";
        assert!(log.lines().all(|line| line.is_empty() || line.starts_with(spills)), "{cut:?}: {log}");
    }
}
