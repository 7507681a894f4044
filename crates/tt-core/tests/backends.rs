//! Forward and backward of every backend and instruction set against f64 loops, on edge shapes.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use candle_core::{Device, Tensor, Var};
use proptest::prelude::*;
use rand::RngExt;
use tt_core::apply::{Affine, Apart, Fused, Isa, Rows, Saved, ops, reference};
use tt_core::{TtShape, rng};

/// Numbers of one comparison.
struct Case {
    shape: TtShape,
    affine: Affine,
    u8_rows: Vec<u8>,
    f32_rows: Vec<f32>,
    cores: Vec<f32>,
    dout: Vec<f32>,
}

impl Case {
    fn new(shape: TtShape, rows: usize, affine: Affine) -> Self {
        let mut stream = rng::stream(7, "tests/backends");
        let u8_rows = (0..rows * shape.in_features()).map(|_| stream.random()).collect();
        let mut draw = |n: usize| (0..n).map(|_| stream.random::<f32>() - 0.5).collect::<Vec<_>>();
        let (f32_rows, cores) = (draw(rows * shape.in_features()), draw(shape.params()));
        let dout = draw(rows * shape.out_features());
        Self { shape, affine, u8_rows, f32_rows, cores, dout }
    }

    /// The rows after the affine map, in f64.
    fn input(&self, rows: Rows) -> Vec<f64> {
        let map = |p: f64| f64::from(self.affine.scale) * p + f64::from(self.affine.shift);
        match rows {
            Rows::U8(values) => values.iter().map(|&p| map(f64::from(p))).collect(),
            Rows::F32(values) => values.iter().map(|&p| map(f64::from(p))).collect(),
            Rows::Apart(_) => unreachable!("cases hold their rows together"),
        }
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn absolute(values: &[f64]) -> Vec<f64> {
    values.iter().map(|v| v.abs()).collect()
}

/// Compares entry by entry: the error of a sum of products in any order is at most about
/// `eps * depth * sum |products|`, and `bound` holds those sums, computed by the reference from absolute
/// values. `depth` is the number of roundings on the longest path.
fn close(what: &str, found: &[f32], expected: &[f64], bound: &[f64], depth: usize) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (k, ((f, e), b)) in found.iter().zip(expected).zip(bound).enumerate() {
        let error = (f64::from(*f) - e).abs();
        let tolerance = f64::from(f32::EPSILON) * depth as f64 * b + 1e-30;
        assert!(error <= tolerance, "{what}[{k}]: {f} against {e}, error {error:e} above {tolerance:e}");
    }
}

/// Roundings on the longest path of forward or backward.
fn depth(shape: &TtShape, rows: usize) -> usize {
    let longest: usize = (0..shape.order()).map(|k| shape.core_matrix(k).0 + shape.core_matrix(k).1).sum();
    // The core gradients sum over all rows, input modes before and output modes after a core; sums that
    // long err like their square root, with ample room.
    let sums = (rows * shape.in_features() * shape.out_features()) as f64;
    2 * longest + sums.sqrt() as usize + 16
}

fn against_reference(case: &Case, isa: Isa, u8_input: bool) {
    let shape = &case.shape;
    let rows = if u8_input { Rows::U8(&case.u8_rows) } else { Rows::F32(&case.f32_rows) };
    let n = rows.len() / shape.in_features();
    let (x, cores, dout) = (case.input(rows), wide(&case.cores), wide(&case.dout));
    let bound_x: Vec<f64> = match rows {
        Rows::U8(values) => values.iter().map(|&p| f64::from(p)).collect(),
        Rows::F32(values) => values.iter().map(|&p| f64::from(p).abs()).collect(),
        Rows::Apart(_) => unreachable!("rows are chosen above"),
    };
    let affine = case.affine;
    let bound_x: Vec<f64> =
        bound_x.iter().map(|p| f64::from(affine.scale.abs()) * p + f64::from(affine.shift.abs())).collect();
    let (bound_cores, bound_dout) = (absolute(&cores), absolute(&dout));
    let what = format!("{shape:?} {isa:?} u8 {u8_input}");

    let fused = Fused::with_isa(shape, affine, isa);
    let mut saved = Saved::default();
    let mut out = vec![f32::NAN; n * shape.out_features()];
    fused.forward(rows, &case.cores, &mut out, Some(&mut saved)).unwrap();
    let expected = reference::forward(shape, &x, &cores).unwrap();
    let bound = reference::forward(shape, &bound_x, &bound_cores).unwrap();
    close(&what, &out, &expected, &bound, depth(shape, n));

    let mut plain = vec![f32::NAN; out.len()];
    fused.forward(rows, &case.cores, &mut plain, None).unwrap();
    assert_eq!(plain, out, "{what}: saving changes nothing");

    let expected = reference::backward(shape, &x, &cores, &dout).unwrap();
    let bound = reference::backward(shape, &bound_x, &bound_cores, &bound_dout).unwrap();
    let (mut dcores, mut dx) = (vec![f32::NAN; case.cores.len()], vec![f32::NAN; rows.len()]);
    fused.backward(rows, &case.cores, &saved, &case.dout, &mut dcores, Some(&mut dx)).unwrap();
    close(&format!("{what} dcores"), &dcores, &expected.cores, &bound.cores, depth(shape, n));
    let scale = f64::from(affine.scale);
    let dx64: Vec<f64> = expected.x.iter().map(|v| scale * v).collect();
    let bound: Vec<f64> = bound.x.iter().map(|v| scale.abs() * v).collect();
    close(&format!("{what} dx"), &dx, &dx64, &bound, depth(shape, n));

    for room in [0, saved.bytes() / 2] {
        let what = format!("{what}, room for {room} bytes");
        let mut some = Saved::with_room(room);
        fused.forward(rows, &case.cores, &mut plain, Some(&mut some)).unwrap();
        assert!(some.bytes() <= room, "{what}: {}", some.bytes());
        let (mut computed, mut dx_computed) = (vec![f32::NAN; dcores.len()], vec![f32::NAN; dx.len()]);
        fused.backward(rows, &case.cores, &some, &case.dout, &mut computed, Some(&mut dx_computed)).unwrap();
        assert!(plain == out && computed == dcores && dx_computed == dx, "{what}");
    }

    let mut fixed = Fused::with_isa(shape, affine, isa).fixed(&case.cores).unwrap();
    let mut again = vec![f32::NAN; out.len()];
    fixed.forward(rows, &mut again).unwrap();
    assert_eq!(again, out, "{what}: cores that were packed before");

    let mut alone = vec![f32::NAN; dcores.len()];
    fused.backward(rows, &case.cores, &saved, &case.dout, &mut alone, None).unwrap();
    assert_eq!(alone, dcores, "{what}: asking for dx changes nothing");

    if u8_input {
        let (memory, starts) = scattered(&case.u8_rows, shape.in_features());
        let rows = Rows::Apart(Apart::new(&memory, &starts, shape.in_features()).unwrap());
        let (mut dcores_apart, mut dx_apart) = (alone, vec![f32::NAN; dx.len()]);
        plain.fill(f32::NAN);
        dcores_apart.fill(f32::NAN);
        fused.forward(rows, &case.cores, &mut plain, Some(&mut saved)).unwrap();
        fused
            .backward(rows, &case.cores, &saved, &case.dout, &mut dcores_apart, Some(&mut dx_apart))
            .unwrap();
        assert!(plain == out && dcores_apart == dcores && dx_apart == dx, "{what}: rows that lie apart");
    }
}

/// The same rows in reverse order with gaps, and where each begins.
fn scattered(rows: &[u8], width: usize) -> (Vec<u8>, Vec<usize>) {
    let memory = rows.chunks_exact(width).rev().flat_map(|row| [&[7; 3], row].concat()).collect();
    (memory, (0..rows.len() / width).rev().map(|at| at * (width + 3) + 3).collect())
}

/// Shapes where loops degenerate: one core, rank 1, modes 1, primes, unequal ranks, many cores.
fn edge_shapes() -> Vec<TtShape> {
    let new = |m: &[usize], n: &[usize], r: &[usize], g| TtShape::new(m, n, r, g).unwrap();
    vec![
        new(&[1], &[1], &[1, 1], 1),
        new(&[7], &[5], &[1, 1], 3),
        new(&[40], &[37], &[1, 1], 4),
        new(&[3, 5], &[2, 3], &[1, 1, 1], 1),
        new(&[3, 5], &[2, 3], &[1, 4, 1], 3),
        new(&[1, 1, 1], &[1, 1, 1], &[1, 1, 1, 1], 1),
        new(&[1, 6, 1], &[3, 1, 2], &[1, 3, 2, 1], 1),
        new(&[2, 3, 4], &[4, 4, 4], &[1, 4, 4, 1], 3),
        new(&[2, 3, 4], &[4, 4, 4], &[1, 4, 4, 1], 4),
        new(&[5, 7, 3], &[3, 5, 2], &[1, 7, 5, 1], 1),
        new(&[2, 5, 3], &[2, 3, 7], &[1, 2, 5, 1], 3),
        new(&[3, 2, 6, 5], &[2, 2, 2, 2], &[1, 2, 4, 3, 1], 3),
        new(&[2, 2, 3, 4], &[2, 3, 2, 4], &[1, 6, 6, 6, 1], 1),
        new(&[2, 3, 2, 6], &[2, 2, 4, 4], &[1, 4, 4, 4, 1], 3),
        new(&[2, 2, 2, 2, 2, 2, 2], &[2, 1, 2, 1, 2, 1, 2], &[1, 2, 3, 4, 3, 2, 2, 1], 1),
        new(&[3, 4, 5], &[2, 2, 19], &[1, 2, 9, 1], 1),
        // Long enough for the gradient of the last two cores' product.
        new(&[17, 3, 5], &[2, 3, 2], &[1, 4, 5, 1], 1),
        new(&[2, 9, 3, 4], &[1, 2, 2, 3], &[1, 2, 3, 7, 1], 3),
        new(&[4, 5, 4, 3], &[2, 2, 4, 4], &[1, 3, 4, 4, 1], 1),
    ]
}

#[test]
fn edge_shapes_match_the_reference() {
    for isa in Isa::available() {
        for shape in edge_shapes() {
            for rows in [1, 9] {
                for affine in [Affine::IDENTITY, Affine { scale: 0.25, shift: -0.5 }] {
                    let case = Case::new(shape.clone(), rows, affine);
                    against_reference(&case, isa, true);
                    against_reference(&case, isa, false);
                }
            }
        }
    }
}

fn any_shape() -> impl Strategy<Value = TtShape> {
    (1_usize..5).prop_flat_map(|d| {
        let modes = (prop::collection::vec(1_usize..7, d), prop::collection::vec(1_usize..5, d));
        (modes, prop::collection::vec(1_usize..7, d - 1), 1_usize..4).prop_map(|((m, n), inner, gates)| {
            let ranks: Vec<usize> = [1].into_iter().chain(inner).chain([1]).collect();
            TtShape::new(&m, &n, &ranks, gates).unwrap()
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn random_shapes_match_the_reference(shape in any_shape(), rows in 1_usize..6, u8_input: bool) {
        let case = Case::new(shape, rows, Affine { scale: 1.0 / 255.0, shift: 0.1 });
        for isa in Isa::available() {
            against_reference(&case, isa, u8_input);
        }
    }
}

/// One frame of UCF11 is several blocks of the kernel, at rank 4 with the last two cores apart, at rank 8 through their
/// product. The reference would take hours; candle's operators in f64, which agree with it to 1e-13 (`tests/layer.rs`),
/// take its place, and give the bounds from absolute values.
#[test]
fn several_blocks_a_frame_match_operators_in_f64() {
    for rank in [4, 8] {
        let shape = TtShape::uniform(&[8, 20, 20, 18], &[4; 4], rank, 3).unwrap();
        let case = Case::new(shape.clone(), 3, Affine { scale: 1.0 / 255.0, shift: -0.5 });
        for u8_input in [true, false] {
            let rows = if u8_input { Rows::U8(&case.u8_rows) } else { Rows::F32(&case.f32_rows) };
            let x = case.input(rows);
            let (cores, dout) = (wide(&case.cores), wide(&case.dout));
            let [y, dcores, dx] = operators(&shape, &x, &cores, &dout);
            let [most_y, most_dcores, most_dx] =
                operators(&shape, &absolute(&x), &absolute(&cores), &absolute(&dout));
            let scale = f64::from(case.affine.scale);
            let scaled = |values: &[f64]| values.iter().map(|v| scale * v).collect::<Vec<_>>();
            for isa in Isa::available() {
                let fused = Fused::with_isa(&shape, case.affine, isa);
                let (mut saved, mut out) = (Saved::default(), vec![f32::NAN; y.len()]);
                fused.forward(rows, &case.cores, &mut out, Some(&mut saved)).unwrap();
                let (mut found, mut found_x) = (vec![f32::NAN; dcores.len()], vec![f32::NAN; dx.len()]);
                fused
                    .backward(rows, &case.cores, &saved, &case.dout, &mut found, Some(&mut found_x))
                    .unwrap();
                let what = format!("rank {rank} {isa:?} u8 {u8_input}");
                close(&what, &out, &y, &most_y, depth(&shape, 3));
                close(&format!("{what} dcores"), &found, &dcores, &most_dcores, depth(&shape, 3));
                close(&format!("{what} dx"), &found_x, &scaled(&dx), &scaled(&most_dx), depth(&shape, 3));
            }
        }
    }
}

/// `y`, and the gradients of cores and rows, by candle's operators in f64.
fn operators(shape: &TtShape, x: &[f64], cores: &[f64], dout: &[f64]) -> [Vec<f64>; 3] {
    let rows = x.len() / shape.in_features();
    let tensor = |values: &[f64], dims: &[usize]| Tensor::from_slice(values, dims, &Device::Cpu).unwrap();
    let x = Var::from_tensor(&tensor(x, &[rows, shape.in_features()])).unwrap();
    let cores = Var::from_tensor(&tensor(cores, &[cores.len()])).unwrap();
    let y = ops::forward(shape, Affine::IDENTITY, &x, &cores).unwrap();
    let dout = tensor(dout, &[rows, shape.out_features()]);
    let grads = (&y * &dout).unwrap().sum_all().unwrap().backward().unwrap();
    [&y, grads.get(&cores).unwrap(), grads.get(&x).unwrap()]
        .map(|tensor| tensor.flatten_all().unwrap().to_vec1().unwrap())
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let shape = TtShape::uniform(&[3, 4, 5, 6], &[4; 4], 4, 3).unwrap();
    let case = Case::new(shape.clone(), 37, Affine { scale: 0.1, shift: 0.2 });
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let fused = Fused::new(&shape, case.affine);
            let (mut saved, rows) = (Saved::default(), Rows::F32(&case.f32_rows));
            let mut out = vec![0.0; 37 * shape.out_features()];
            fused.forward(rows, &case.cores, &mut out, Some(&mut saved)).unwrap();
            let (mut dcores, mut dx) = (vec![0.0; case.cores.len()], vec![0.0; rows.len()]);
            fused.backward(rows, &case.cores, &saved, &case.dout, &mut dcores, Some(&mut dx)).unwrap();
            [out, dcores, dx].concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>()
        })
    };
    let one = run(1);
    for threads in [2, 3, 8] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let shape = TtShape::uniform(&[3, 4, 5], &[4; 3], 3, 2).unwrap();
    let case = Case::new(shape.clone(), 3, Affine::IDENTITY);
    let (m, n) = (shape.in_features(), shape.out_features());
    for isa in Isa::available() {
        for bad in [f32::NAN, f32::INFINITY] {
            let fused = Fused::with_isa(&shape, Affine::IDENTITY, isa);
            let (mut x, mut saved, mut out) = (case.f32_rows.clone(), Saved::default(), vec![0.0; 3 * n]);
            x[m + 7] = bad;
            fused.forward(Rows::F32(&x), &case.cores, &mut out, Some(&mut saved)).unwrap();
            let finite = |row: usize| out[row * n..(row + 1) * n].iter().filter(|v| v.is_finite()).count();
            assert_eq!([finite(0), finite(1), finite(2)], [n, 0, n], "{isa:?} {bad}");
            let mut dcores = vec![0.0; case.cores.len()];
            fused.backward(Rows::F32(&x), &case.cores, &saved, &case.dout, &mut dcores, None).unwrap();
            assert!(dcores.iter().any(|v| !v.is_finite()), "{isa:?} {bad}");

            let mut cores = case.cores.clone();
            cores[0] = bad;
            fused.forward(Rows::F32(&case.f32_rows), &cores, &mut out, None).unwrap();
            assert!(out.chunks(n).all(|row| row.iter().any(|v| !v.is_finite())), "{isa:?} {bad} core");
        }
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let shape = TtShape::uniform(&[2, 3, 4], &[2; 3], 2, 3).unwrap();
    let case = Case::new(shape.clone(), 2, Affine::IDENTITY);
    let fused = Fused::new(&shape, case.affine);
    let rows = Rows::F32(&case.f32_rows);
    let mut saved = Saved::default();
    let mut out = vec![0.0; 2 * shape.out_features()];
    assert!(fused.forward(Rows::U8(&[]), &case.cores, &mut [], None).is_err());
    assert!(fused.forward(Rows::F32(&case.f32_rows[1..]), &case.cores, &mut out, None).is_err());
    assert!(fused.forward(rows, &case.cores[1..], &mut out, None).is_err());
    assert!(fused.forward(rows, &case.cores, &mut out[1..], None).is_err());
    let mut dcores = vec![0.0; case.cores.len()];
    assert!(
        fused.backward(rows, &case.cores, &saved, &case.dout, &mut dcores, None).is_err(),
        "nothing saved"
    );
    fused.forward(rows, &case.cores, &mut out, Some(&mut saved)).unwrap();
    assert!(fused.backward(rows, &case.cores, &saved, &case.dout[1..], &mut dcores, None).is_err());
    assert!(fused.backward(rows, &case.cores, &saved, &case.dout, &mut dcores[1..], None).is_err());
    assert!(fused.backward(rows, &case.cores, &saved, &case.dout, &mut dcores, Some(&mut [0.0])).is_err());
    let one = rows.rows(0, 1, shape.in_features());
    assert!(fused.backward(one, &case.cores, &saved, &case.dout[..12], &mut dcores, None).is_err());
}

#[test]
fn a_saved_state_is_reused_for_smaller_batches() {
    let shape = TtShape::uniform(&[2, 3, 4], &[2; 3], 3, 1).unwrap();
    let mut saved = Saved::default();
    let fused = Fused::new(&shape, Affine::IDENTITY);
    for rows in [9, 2, 5] {
        let case = Case::new(shape.clone(), rows, Affine::IDENTITY);
        let mut out = vec![0.0; rows * shape.out_features()];
        fused.forward(Rows::F32(&case.f32_rows), &case.cores, &mut out, Some(&mut saved)).unwrap();
        assert_eq!(saved.bytes(), rows * fused.saved_bytes_per_row());
        let mut dcores = vec![0.0; case.cores.len()];
        let input = Rows::F32(&case.f32_rows);
        fused.backward(input, &case.cores, &saved, &case.dout, &mut dcores, None).unwrap();
        let expected =
            reference::backward(&shape, &wide(&case.f32_rows), &wide(&case.cores), &wide(&case.dout))
                .unwrap();
        let error =
            dcores.iter().zip(&expected.cores).map(|(f, e)| (f64::from(*f) - e).abs()).fold(0.0, f64::max);
        assert!(error < 1e-5, "{rows} rows: {error:e}");
    }
}
