//! The layer by digits, on every unit that this machine has, against f64 loops: the paper's shapes, edge shapes, sizes of
//! numbers, and the same bits whatever computes them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::Once;

use rand::RngExt;
use tt_core::apply::{Affine, Apart, Fused, Path, Rows, Saved, Unit};
use tt_core::{TtShape, rng};

/// Units that this machine has; it says aloud which ones it has not.
fn units() -> Vec<Unit> {
    static MISSING: Once = Once::new();
    let (here, missing): (Vec<_>, Vec<_>) = Unit::ALL.into_iter().partition(|unit| unit.is_here());
    MISSING.call_once(|| {
        for unit in missing {
            eprintln!("skipped: {}", unit.check().unwrap_err());
        }
    });
    here
}

struct Case {
    shape: TtShape,
    affine: Affine,
    x: Vec<u8>,
    cores: Vec<f32>,
    dout: Vec<f32>,
}

impl Case {
    /// Cores as large as `size` on average, and as initial values are in mean and spread.
    fn new(shape: TtShape, rows: usize, affine: Affine, size: f32) -> Self {
        let mut stream = rng::stream(5, "tests/digits");
        let x = (0..rows * shape.in_features()).map(|_| stream.random()).collect();
        let mut draw = |n: usize| (0..n).map(|_| stream.random::<f32>() - 0.45).collect::<Vec<_>>();
        let mut cores = draw(shape.params());
        for core in &mut cores {
            *core *= size;
        }
        let dout = draw(rows * shape.out_features());
        Self { shape, affine, x, cores, dout }
    }

    fn rows(&self) -> usize {
        self.x.len() / self.shape.in_features()
    }

    /// Outputs and the gradient of the cores.
    fn run(&self, path: Path) -> [Vec<f32>; 2] {
        let fused = Fused::on(&self.shape, self.affine, path);
        let (mut saved, mut out) = (Saved::default(), vec![f32::NAN; self.dout.len()]);
        let rows = Rows::U8(&self.x);
        fused.forward(rows, &self.cores, &mut out, Some(&mut saved)).unwrap();
        let mut dcores = vec![f32::NAN; self.cores.len()];
        fused.backward(rows, &self.cores, &saved, &self.dout, &mut dcores, None).unwrap();
        let mut alone = vec![f32::NAN; out.len()];
        fused.forward(rows, &self.cores, &mut alone, None).unwrap();
        assert_eq!(bits(&alone), bits(&out), "saving changes nothing");
        // The rows in reverse order with gaps.
        let width = self.shape.in_features();
        let memory: Vec<u8> =
            self.x.chunks_exact(width).rev().flat_map(|row| [&[9; 3], row].concat()).collect();
        let starts: Vec<usize> = (0..self.rows()).rev().map(|at| at * (width + 3) + 3).collect();
        let rows = Rows::Apart(Apart::new(&memory, &starts, width).unwrap());
        let mut dcores_apart = vec![f32::NAN; dcores.len()];
        fused.forward(rows, &self.cores, &mut alone, Some(&mut saved)).unwrap();
        fused.backward(rows, &self.cores, &saved, &self.dout, &mut dcores_apart, None).unwrap();
        assert_eq!(bits(&alone), bits(&out), "rows that lie apart");
        assert_eq!(bits(&dcores_apart), bits(&dcores), "rows that lie apart");
        [out, dcores]
    }

    /// The same in f64, core by core.
    fn expected(&self) -> [Vec<f64>; 2] {
        let mut dcores = vec![0.0; self.cores.len()];
        let mut out = Vec::new();
        let (m, n) = (self.shape.in_features(), self.shape.out_features());
        for (x, dout) in self.x.chunks_exact(m).zip(self.dout.chunks_exact(n)) {
            let map = |p: &u8| f64::from(self.affine.scale) * f64::from(*p) + f64::from(self.affine.shift);
            out.extend(frame(&self.shape, &self.cores, x.iter().map(map).collect(), dout, &mut dcores));
        }
        [out, dcores]
    }
}

/// The outputs of a frame, in f64; adds to the gradient. `T_k [i_1.., i_{k}, j_{k+1}.., j_d, a_k]`, core by core.
fn frame(shape: &TtShape, cores: &[f32], x: Vec<f64>, dout: &[f32], dcores: &mut [f64]) -> Vec<f64> {
    let d = shape.order();
    let sizes = |k: usize| {
        let left: usize = shape.input_modes()[..k].iter().product();
        let right: usize = (k + 1..d).map(|l| shape.output_mode(l)).product();
        (left, shape.input_modes()[k], shape.output_mode(k), right, shape.ranks()[k], shape.ranks()[k + 1])
    };
    // Core k holds G(i, j)[a, b] at `(i r_{k+1} + b) r_k n + a n + j`.
    let visit = |k: usize, mut visit: Box<dyn FnMut(usize, usize, usize) + '_>| {
        let (left, m, n, right, before, after) = sizes(k);
        for l in 0..left {
            for i in 0..m {
                for j in 0..n {
                    for a in 0..before {
                        for b in 0..after {
                            let core = shape.core_offset(k) + (i * after + b) * before * n + a * n + j;
                            for r in 0..right {
                                let from = ((l * m + i) * right + r) * after + b;
                                visit(core, from, ((l * n + j) * right + r) * before + a);
                            }
                        }
                    }
                }
            }
        }
    };
    let mut tensors = vec![x];
    for k in (0..d).rev() {
        let (left, _, n, right, before, _) = sizes(k);
        let mut to = vec![0.0; left * n * right * before];
        let from = &tensors[d - 1 - k];
        visit(k, Box::new(|core, at, place| to[place] += from[at] * f64::from(cores[core])));
        tensors.push(to);
    }
    let mut flow: Vec<f64> = dout.iter().map(|v| f64::from(*v)).collect();
    for k in 0..d {
        let from = &tensors[d - 1 - k];
        let mut back = vec![0.0; from.len()];
        visit(
            k,
            Box::new(|core, at, place| {
                dcores[core] += from[at] * flow[place];
                back[at] += flow[place] * f64::from(cores[core]);
            }),
        );
        flow = back;
    }
    tensors.swap_remove(d)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Largest error against the largest number.
fn error(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    let most = found.iter().zip(expected).map(|(f, e)| (f64::from(*f) - e).abs());
    // A NaN is an error without bounds.
    most.map(|error| if error.is_nan() { f64::INFINITY } else { error }).fold(0.0, f64::max) / largest
}

const PIXELS: Affine = Affine { scale: 1.0 / 255.0, shift: 0.0 };
const CENTRED: Affine = Affine { scale: 1.0 / 255.0, shift: -0.5 };
/// What the layer promises by digits, of the largest number.
const EXACT: f64 = 5e-7;
/// The same of gradients: those of the first cores are sums in f32, and the last two's are separated in f32.
const GRADIENT: f64 = 1e-6;

fn paper(modes: [usize; 4], rank: usize) -> TtShape {
    TtShape::uniform(&modes, &[4; 4], rank, 3).unwrap()
}

/// Errors of outputs, of all gradients against the largest, and of those of the last two cores against each one's largest.
fn errors(case: &Case, found: &[Vec<f32>; 2], expected: &[Vec<f64>; 2]) -> [f64; 3] {
    let d = case.shape.order();
    let last = (d - 2..d).map(|k| {
        let range = case.shape.core_offset(k)..case.shape.core_offset(k) + case.shape.core_len(k);
        error(&found[1][range.clone()], &expected[1][range])
    });
    [error(&found[0], &expected[0]), error(&found[1], &expected[1]), last.fold(0.0, f64::max)]
}

#[test]
fn the_papers_shapes_are_as_exact_as_promised() {
    let units = units();
    let unit = *units.last().unwrap();
    for (modes, rank) in [
        ([8, 20, 20, 18], 2),
        ([8, 20, 20, 18], 4),
        ([8, 20, 20, 18], 5),
        ([8, 20, 20, 18], 16),
        ([10, 18, 13, 30], 4),
        ([4, 20, 20, 36], 4),
    ] {
        for affine in [PIXELS, CENTRED] {
            let case = Case::new(paper(modes, rank), if rank > 8 { 1 } else { 5 }, affine, 0.5);
            let expected = case.expected();
            let found = errors(&case, &case.run(Path::Digits(unit)), &expected);
            let in_f32 = errors(&case, &case.run(Path::F32), &expected);
            eprintln!(
                "{modes:?} rank {rank} shift {}: {} {found:?}, f32 {in_f32:?}",
                affine.shift,
                unit.name()
            );
            let [y, dcores, last] = found;
            assert!(y <= EXACT && dcores.max(last) <= GRADIENT, "{modes:?} {rank}: {found:?}");
        }
    }
}

/// Two cores, primes, one row, columns that fill no tile, rows that fill several; gates slowest.
fn edge_shapes() -> Vec<TtShape> {
    let new = |m: &[usize], n: &[usize], r: &[usize], g| TtShape::new(m, n, r, g).unwrap();
    vec![
        new(&[1, 1], &[1, 1], &[1, 1, 1], 1),
        new(&[3, 5], &[2, 3], &[1, 4, 1], 3),
        new(&[40, 17], &[7, 5], &[1, 3, 1], 1),
        new(&[1, 6, 1], &[3, 1, 2], &[1, 3, 2, 1], 1),
        new(&[5, 7, 3], &[3, 5, 2], &[1, 7, 5, 1], 1),
        new(&[33, 3, 22], &[2, 3, 3], &[1, 2, 2, 1], 3),
        new(&[3, 11, 6, 5], &[2, 2, 2, 2], &[1, 2, 4, 3, 1], 3),
        new(&[2, 2, 2, 2, 2, 2, 2], &[2, 1, 2, 1, 2, 1, 2], &[1, 2, 3, 4, 3, 2, 2, 1], 1),
        new(&[2, 9, 3, 4], &[1, 2, 2, 3], &[1, 2, 3, 7, 1], 3),
    ]
}

#[test]
fn edge_shapes_are_exact_and_all_units_come_to_the_same_bits() {
    for shape in edge_shapes() {
        for (rows, affine) in [(1, CENTRED), (9, PIXELS), (130, Affine { scale: -0.25, shift: 40.0 })] {
            let case = Case::new(shape.clone(), rows, affine, 1.0);
            let expected = case.expected();
            let emulated = case.run(Path::Digits(Unit::Emulated));
            let [y, dcores, _] = errors(&case, &emulated, &expected);
            assert!(y <= EXACT && dcores <= GRADIENT, "{shape:?} {rows}: {y:e} {dcores:e}");
            for unit in units() {
                let found = case.run(Path::Digits(unit));
                assert_eq!(found.map(|v| bits(&v)), emulated.clone().map(|v| bits(&v)), "{shape:?} {unit:?}");
            }
        }
    }
}

/// The gradient of the bytes, which is taken with respect to the stored numbers.
#[test]
fn the_inputs_gradient_is_that_of_f32() {
    for shape in edge_shapes() {
        let case = Case::new(shape, 9, CENTRED, 1.0);
        let run = |path: Path| {
            let fused = Fused::on(&case.shape, case.affine, path);
            let (mut saved, mut out) = (Saved::default(), vec![0.0; case.dout.len()]);
            let rows = Rows::U8(&case.x);
            fused.forward(rows, &case.cores, &mut out, Some(&mut saved)).unwrap();
            let (mut dcores, mut dx) = (vec![0.0; case.cores.len()], vec![f32::NAN; case.x.len()]);
            fused.backward(rows, &case.cores, &saved, &case.dout, &mut dcores, Some(&mut dx)).unwrap();
            (dcores, dx)
        };
        let ((dcores, dx), (_, wanted)) = (run(Path::Digits(Unit::Emulated)), run(Path::F32));
        assert_eq!(bits(&dx), bits(&wanted), "{:?}", case.shape);
        assert_eq!(bits(&dcores), bits(&case.run(Path::Digits(Unit::Emulated))[1]), "asking changes nothing");
    }
}

#[test]
fn sizes_of_weights_and_gradients_do_not_matter() {
    let shape = TtShape::uniform(&[6, 9, 8], &[4; 3], 4, 3).unwrap();
    for (size, gradient) in [(1e-8, 1.0), (1e8, 1e-8), (1.0, 1e20), (1e-3, 1e-20)] {
        let mut case = Case::new(shape.clone(), 9, CENTRED, size);
        for value in &mut case.dout {
            *value *= gradient;
        }
        // One core is much larger than the others, one column much smaller.
        for value in &mut case.cores[..10] {
            *value *= 1e3;
        }
        let [y, dcores, _] = errors(&case, &case.run(Path::Digits(Unit::Emulated)), &case.expected());
        assert!(y <= EXACT && dcores <= GRADIENT, "{size:e} {gradient:e}: {y:e} {dcores:e}");
    }
    // What no digits can hold goes through f32.
    for size in [1e-14_f32, 1e14] {
        let case = Case::new(shape.clone(), 3, CENTRED, size);
        let [by_digits, f32] = [Path::Digits(Unit::Emulated), Path::F32].map(|path| bits(&case.run(path)[0]));
        assert_eq!(by_digits, f32, "{size:e}");
    }
}

#[test]
fn saturated_and_black_frames_are_exact() {
    let shape = paper([8, 20, 20, 18], 4);
    for affine in [PIXELS, CENTRED] {
        let mut case = Case::new(shape.clone(), 3, affine, 0.5);
        let m = shape.in_features();
        case.x[..m].fill(255);
        case.x[m..2 * m].fill(0);
        let found = case.run(Path::Digits(*units().last().unwrap()));
        let [y, dcores, _] = errors(&case, &found, &case.expected());
        assert!(y <= EXACT && dcores <= GRADIENT, "{y:e} {dcores:e}");
        if affine == PIXELS {
            assert!(found[0][768..2 * 768].iter().all(|v| *v == 0.0), "black is zero");
        }
    }
}

#[test]
fn what_is_no_number_comes_out_as_in_f32() {
    let shape = TtShape::uniform(&[3, 4, 5], &[4; 3], 3, 2).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 70, shape.params() - 1] {
            let mut case = Case::new(shape.clone(), 3, PIXELS, 1.0);
            case.cores[at] = bad;
            let found = case.run(Path::Digits(Unit::Emulated));
            assert_eq!(found.map(|v| bits(&v)), case.run(Path::F32).map(|v| bits(&v)), "{bad} at {at}");
        }
        let mut case = Case::new(shape.clone(), 3, PIXELS, 1.0);
        case.dout[5] = bad;
        let [_, dcores] = case.run(Path::Digits(Unit::Emulated));
        assert!(dcores.iter().any(|v| !v.is_finite()), "{bad} in the output's gradient");
    }
}

#[test]
fn bits_depend_on_no_number_of_threads_and_rows_on_no_batch() {
    let shape = TtShape::uniform(&[6, 5, 7, 6], &[4; 4], 4, 3).unwrap();
    let case = Case::new(shape.clone(), 37, CENTRED, 1.0);
    let (m, n) = (shape.in_features(), shape.out_features());
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| case.run(Path::Digits(Unit::Emulated))).map(|v| bits(&v))
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert!(run(threads) == one, "{threads} threads");
    }
    let fused = Fused::on(&shape, case.affine, Path::Digits(Unit::Emulated));
    for each in [1, 2, 5, 36] {
        for (x, whole) in case.x.chunks(each * m).zip(one[0].chunks(each * n)) {
            let mut out = vec![f32::NAN; whole.len()];
            fused.forward(Rows::U8(x), &case.cores, &mut out, None).unwrap();
            assert!(bits(&out) == whole, "{each} rows at a time");
        }
    }
    let mut fixed = fused.fixed(&case.cores).unwrap();
    let mut out = vec![f32::NAN; n];
    fixed.forward(Rows::U8(&case.x[..m]), &mut out).unwrap();
    assert!(bits(&out) == one[0][..n], "cores that were packed before");
}

/// What was not kept of the forward pass is computed again as it was: by digits where that was by digits.
#[test]
fn what_is_computed_again_has_the_same_bits() {
    let deep = TtShape::uniform(&[3, 5, 7, 6], &[4; 4], 4, 3).unwrap();
    // On its own, a machine with VNNI and without tile registers does rank 16 by digits forwards and in f32 backwards.
    for (shape, path) in [
        (deep, Path::Digits(Unit::Emulated)),
        (paper([8, 20, 20, 18], 16), Path::Automatic),
        (paper([8, 20, 20, 18], 4), Path::Automatic),
    ] {
        let case = Case::new(shape, 6, CENTRED, 0.5);
        let fused = Fused::on(&case.shape, case.affine, path);
        let gradient = |room: usize| {
            let (mut saved, mut out) = (Saved::with_room(room), vec![0.0; case.dout.len()]);
            let rows = Rows::U8(&case.x);
            fused.forward(rows, &case.cores, &mut out, Some(&mut saved)).unwrap();
            assert_eq!(saved.bytes(), room.min(6 * fused.saved_bytes_per_row()));
            let mut dcores = vec![f32::NAN; case.cores.len()];
            fused.backward(rows, &case.cores, &saved, &case.dout, &mut dcores, None).unwrap();
            (bits(&out), bits(&dcores))
        };
        let each = fused.saved_bytes_per_row();
        let whole = gradient(6 * each);
        for kept in [0, 1, 3] {
            assert!(gradient(kept * each) == whole, "{path:?}: {kept} rows kept");
        }
    }
}

/// Rows in f32 have no digits: they run as they would on [`Path::F32`].
#[test]
fn rows_of_f32_stay_f32() {
    let case = Case::new(TtShape::uniform(&[3, 4, 5], &[4; 3], 3, 2).unwrap(), 3, PIXELS, 1.0);
    let x: Vec<f32> = case.x.iter().map(|p| f32::from(*p)).collect();
    let [by_digits, f32] = [Path::Digits(Unit::Emulated), Path::F32].map(|path| {
        let mut out = vec![f32::NAN; case.rows() * case.shape.out_features()];
        Fused::on(&case.shape, PIXELS, path).forward(Rows::F32(&x), &case.cores, &mut out, None).unwrap();
        bits(&out)
    });
    assert_eq!(by_digits, f32);
}

#[test]
fn a_unit_that_is_missing_is_refused_by_name() {
    for unit in Unit::ALL.into_iter().filter(|unit| !unit.is_here()) {
        let case = Case::new(TtShape::uniform(&[3, 4], &[2; 2], 2, 1).unwrap(), 1, PIXELS, 1.0);
        let fused = Fused::on(&case.shape, PIXELS, Path::Digits(unit));
        let mut out = vec![0.0; case.dout.len()];
        let text = fused.forward(Rows::U8(&case.x), &case.cores, &mut out, None).unwrap_err().to_string();
        assert!(text.contains(unit.name()) && text.contains("the processor has no"), "{text}");
    }
}

/// What the environment variable asks of this process; run for each of its values by the test below.
#[test]
fn the_variable_of_this_process_is_obeyed() {
    let case = Case::new(paper([8, 20, 20, 18], 16), 1, PIXELS, 0.5);
    let fused = Fused::new(&case.shape, PIXELS);
    let mut out = vec![0.0; case.dout.len()];
    let result = fused.forward(Rows::U8(&case.x), &case.cores, &mut out, None);
    let kernels = fused.kernels_for_bytes();
    match std::env::var(Path::VARIABLE).ok().as_deref() {
        None if Unit::Amx.is_here() => assert_eq!(kernels, "amx"),
        None if Unit::Vnni.is_here() => assert!(kernels.starts_with("vnni forward"), "{kernels}"),
        None | Some("f32") => assert_eq!(kernels, fused.isa().name()),
        Some(name) => match Unit::ALL.into_iter().find(|unit| unit.name() == name) {
            Some(unit) if unit.is_here() => assert_eq!(kernels, name),
            Some(_) => assert!(result.unwrap_err().to_string().contains(name)),
            None => {
                let text = result.unwrap_err().to_string();
                assert!(text.contains("TT_FUSED") && text.contains("f32, emulated, vnni, amx"), "{text}");
            }
        },
    }
}

#[test]
fn the_variable_forces_a_path() {
    for value in ["f32", "emulated", "vnni", "amx", "fast"] {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_variable_of_this_process_is_obeyed"])
            .env(Path::VARIABLE, value)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{value}: {text}");
    }
}
