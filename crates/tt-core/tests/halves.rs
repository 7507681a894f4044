//! The TT layer through two halves of the train against the f64 reference, value and gradient, on the CPU.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use candle_core::{DType, Device, Tensor, Var};
use rand::RngExt;
use tt_core::apply::Precision;
use tt_core::apply::{Affine, halves, ops, reference};
use tt_core::{TtShape, rng};

struct Case {
    shape: TtShape,
    affine: Affine,
    rows: usize,
    pixels: Vec<u8>,
    cores: Vec<f64>,
    dout: Vec<f64>,
}

impl Case {
    fn new(shape: &TtShape, rows: usize, affine: Affine) -> Self {
        let mut stream = rng::stream(11, "tests/halves");
        let pixels = (0..rows * shape.in_features()).map(|_| stream.random()).collect();
        // Numbers that f32 holds too, so that both precisions see the same.
        let mut draw = |n: usize| (0..n).map(|_| f64::from(stream.random::<f32>() - 0.5)).collect::<Vec<_>>();
        let (cores, dout) = (draw(shape.params()), draw(rows * shape.out_features()));
        Self { shape: shape.clone(), affine, rows, pixels, cores, dout }
    }

    /// Output and gradient of the cores, in the type that candle computes in.
    fn found(&self, dtype: DType) -> (Vec<f64>, Vec<f64>) {
        let device = &Device::Cpu;
        let x = Tensor::from_slice(&self.pixels, (self.rows, self.shape.in_features()), device).unwrap();
        let cores =
            Tensor::from_slice(&self.cores, self.cores.len(), device).unwrap().to_dtype(dtype).unwrap();
        let cores = Var::from_tensor(&cores).unwrap();
        let y = halves::forward(&self.shape, self.affine, Precision::F32, &x, cores.as_tensor()).unwrap();
        let plain = halves::forward(&self.shape, self.affine, Precision::F32, &x, &cores.detach()).unwrap();
        assert!(!plain.track_op());
        assert_eq!(numbers(&y), numbers(&plain), "a gradient changes nothing");
        let dout = Tensor::from_slice(&self.dout, (self.rows, self.shape.out_features()), device).unwrap();
        let loss = (&y * dout.to_dtype(dtype).unwrap()).unwrap().sum_all().unwrap();
        let grads = loss.backward().unwrap();
        assert!(grads.get(&x).is_none());
        (numbers(&y), numbers(grads.get(cores.as_tensor()).unwrap()))
    }

    /// The same by the reference, with the sums of absolute products that bound the errors.
    fn expected(&self) -> [(Vec<f64>, Vec<f64>); 2] {
        let (scale, shift) = (f64::from(self.affine.scale), f64::from(self.affine.shift));
        let absolute = |values: &[f64]| values.iter().map(|v| v.abs()).collect::<Vec<_>>();
        let x: Vec<f64> = self.pixels.iter().map(|&p| scale * f64::from(p) + shift).collect();
        let bound_x: Vec<f64> =
            self.pixels.iter().map(|&p| scale.abs() * f64::from(p) + shift.abs()).collect();
        let sides = [
            (x, self.cores.clone(), self.dout.clone()),
            (bound_x, absolute(&self.cores), absolute(&self.dout)),
        ];
        sides.map(|(x, cores, dout)| {
            let y = reference::forward(&self.shape, &x, &cores).unwrap();
            (y, reference::backward(&self.shape, &x, &cores, &dout).unwrap().cores)
        })
    }

    fn check(&self) {
        let [(y, dcores), (y_bound, dcores_bound)] = self.expected();
        let longest: usize =
            (0..self.shape.order()).map(|k| self.shape.core_matrix(k).0 + self.shape.core_matrix(k).1).sum();
        let sums = (self.rows * self.shape.in_features() * self.shape.out_features()) as f64;
        let depth = (2 * longest + 16) as f64 + sums.sqrt();
        for (dtype, eps) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
            let (found_y, found_dcores) = self.found(dtype);
            let what = format!("{:?} {dtype:?}", self.shape);
            close(&what, &found_y, &y, &y_bound, eps * depth);
            close(&format!("{what} dcores"), &found_dcores, &dcores, &dcores_bound, eps * depth);
        }
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Entry by entry: a sum in any order errs by at most the roundings on its longest path times the sum of the
/// absolute products, which is `bound`.
fn close(what: &str, found: &[f64], expected: &[f64], bound: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (k, ((f, e), b)) in found.iter().zip(expected).zip(bound).enumerate() {
        let error = (f - e).abs();
        assert!(error <= tolerance * b + 1e-30, "{what}[{k}]: {f} against {e}, error {error:e} of {b:e}");
    }
}

/// Shapes where loops degenerate: one core, rank 1, modes 1, primes, unequal ranks, many cores.
fn edge_shapes() -> Vec<TtShape> {
    let new = |m: &[usize], n: &[usize], r: &[usize], g| TtShape::new(m, n, r, g).unwrap();
    vec![
        new(&[1], &[1], &[1, 1], 1),
        new(&[7], &[5], &[1, 1], 3),
        new(&[3, 5], &[2, 3], &[1, 1, 1], 1),
        new(&[3, 5], &[2, 3], &[1, 4, 1], 3),
        new(&[1, 1, 1], &[1, 1, 1], &[1, 1, 1, 1], 1),
        new(&[1, 6, 1], &[3, 1, 2], &[1, 3, 2, 1], 1),
        new(&[2, 3, 4], &[4, 4, 4], &[1, 4, 4, 1], 4),
        new(&[5, 7, 3], &[3, 5, 2], &[1, 7, 5, 1], 1),
        new(&[2, 5, 3], &[2, 3, 7], &[1, 2, 5, 1], 3),
        new(&[3, 2, 6, 5], &[2, 2, 2, 2], &[1, 2, 4, 3, 1], 3),
        new(&[2, 2, 2, 2, 2, 2, 2], &[2, 1, 2, 1, 2, 1, 2], &[1, 2, 3, 4, 3, 2, 2, 1], 1),
    ]
}

#[test]
fn edge_shapes_match_the_reference() {
    for shape in edge_shapes() {
        for rows in [1, 7] {
            for affine in [Affine::IDENTITY, Affine { scale: 0.25, shift: -0.5 }] {
                Case::new(&shape, rows, affine).check();
            }
        }
    }
}

#[test]
fn finite_differences_agree() {
    let shape = TtShape::new(&[2, 3, 4], &[3, 2, 2], &[1, 3, 2, 1], 2).unwrap();
    let mut case = Case::new(&shape, 3, Affine { scale: 0.01, shift: -1.0 });
    let (_, dcores) = case.found(DType::F64);
    for (k, gradient) in dcores.iter().enumerate() {
        let mut loss = |step: f64| {
            case.cores[k] += step;
            let (y, _) = case.found(DType::F64);
            case.cores[k] -= step;
            y.iter().zip(&case.dout).map(|(y, d)| y * d).sum::<f64>()
        };
        // The loss is linear in each number.
        let slope = (loss(0.5) - loss(-0.5)) / 1.0;
        assert!((slope - gradient).abs() <= 1e-9 * (1.0 + gradient.abs()), "{k}: {slope} against {gradient}");
    }
}

#[test]
fn the_papers_shapes_agree_with_the_train() {
    for (modes, outputs, rank) in [
        ([8, 20, 20, 18], [4, 4, 4, 4], 4),
        ([10, 18, 13, 30], [4, 4, 4, 4], 4),
        ([4, 20, 20, 36], [4, 4, 4, 4], 4),
        ([8, 20, 20, 18], [4, 4, 4, 4], 5),
    ] {
        let shape = TtShape::uniform(&modes, &outputs, rank, 3).unwrap();
        let case = Case::new(&shape, 1, Affine { scale: 1.0 / 255.0, shift: -0.5 });
        let (found, dcores) = case.found(DType::F64);
        let cores = Var::from_slice(&case.cores, case.cores.len(), &Device::Cpu).unwrap();
        let x = Tensor::from_slice(&case.pixels, (1, shape.in_features()), &Device::Cpu).unwrap();
        let y = ops::forward(&shape, case.affine, &x, cores.as_tensor()).unwrap();
        let dout = Tensor::from_slice(&case.dout, (1, shape.out_features()), &Device::Cpu).unwrap();
        let grads = (&y * dout).unwrap().sum_all().unwrap().backward().unwrap();
        for (what, found, expected) in
            [("y", found, numbers(&y)), ("dcores", dcores, numbers(grads.get(cores.as_tensor()).unwrap()))]
        {
            let largest = expected.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
            close(&format!("{modes:?} {what}"), &found, &expected, &vec![largest; expected.len()], 1e-11);
        }
    }
}

#[test]
fn rows_of_numbers_and_wrong_sizes() {
    let shape = TtShape::new(&[2, 3], &[3, 2], &[1, 3, 1], 2).unwrap();
    let case = Case::new(&shape, 2, Affine::IDENTITY);
    let cores = Tensor::from_slice(&case.cores, case.cores.len(), &Device::Cpu).unwrap();
    let x = Tensor::from_slice(&case.pixels, (2, 6), &Device::Cpu).unwrap();
    let forward = |x: &Tensor| halves::forward(&shape, case.affine, Precision::F32, x, &cores);
    let tracked = Var::from_tensor(&x.to_dtype(DType::F64).unwrap()).unwrap();
    let y = forward(tracked.as_tensor()).unwrap();
    assert!(y.backward().unwrap().get(tracked.as_tensor()).is_some());
    close("f64 rows", &numbers(&y), &numbers(&forward(&x).unwrap()), &[1e3; 24], 1e-12);
    let text = forward(&x.reshape((3, 4)).unwrap()).unwrap_err().to_string();
    assert!(text.contains("expected [n >= 1, 6], found [3, 4]"), "{text}");
}
