//! The TT layer through its CUDA kernels on a GPU, against f64 on the CPU: output and gradient of the cores.
#![cfg(feature = "cuda")]
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "helpers of tests; one that cannot run says so"
)]

use candle_core::{DType, Device, Tensor, Var};
use rand::RngExt;
use tt_core::apply::Precision;
use tt_core::apply::{Affine, halves};
use tt_core::{TtShape, rng};

fn gpu() -> Option<Device> {
    let device = Device::new_cuda(0);
    if let Err(error) = &device {
        println!("skipped: no GPU for the CUDA kernels ({error})");
    }
    device.ok()
}

struct Case {
    shape: TtShape,
    rows: usize,
    pixels: Vec<u8>,
    cores: Vec<f32>,
    dout: Vec<f32>,
}

impl Case {
    fn new(shape: TtShape, rows: usize) -> Self {
        let mut stream = rng::stream(5, "tests/halves_cuda");
        let pixels = (0..rows * shape.in_features()).map(|_| stream.random()).collect();
        let mut draw = |n: usize| (0..n).map(|_| stream.random::<f32>() - 0.5).collect::<Vec<_>>();
        let (cores, dout) = (draw(shape.params()), draw(rows * shape.out_features()));
        Self { shape, rows, pixels, cores, dout }
    }

    /// Output and gradient of the cores.
    fn run(&self, device: &Device, dtype: DType, precision: Precision) -> [Vec<f64>; 2] {
        let affine = Affine { scale: 1.0 / 255.0, shift: -0.5 };
        let x = Tensor::from_slice(&self.pixels, (self.rows, self.shape.in_features()), device).unwrap();
        let tensor =
            |values: &[f32]| Tensor::from_slice(values, values.len(), device).unwrap().to_dtype(dtype);
        let cores = Var::from_tensor(&tensor(&self.cores).unwrap()).unwrap();
        let y = halves::forward(&self.shape, affine, precision, &x, cores.as_tensor()).unwrap();
        let dout = tensor(&self.dout).unwrap().reshape(y.shape()).unwrap();
        let grads = (&y * dout).unwrap().sum_all().unwrap().backward().unwrap();
        let plain = halves::forward(&self.shape, affine, precision, &x, &cores.detach()).unwrap();
        assert_eq!(numbers(&plain), numbers(&y), "saving changes nothing");
        [numbers(&y), numbers(grads.get(cores.as_tensor()).unwrap())]
    }
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Largest error against the largest number.
fn error(found: &[f64], expected: &[f64]) -> f64 {
    let largest = expected.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    let error = found.iter().zip(expected).fold(0.0_f64, |a, (f, e)| a.max((f - e).abs()));
    assert!(found.iter().all(|f| f.is_finite()));
    error / largest
}

#[test]
fn a_gpu_agrees_with_the_reference() {
    let Some(gpu) = gpu() else { return };
    let new = |m: &[usize], n: &[usize], r: &[usize], g| TtShape::new(m, n, r, g).unwrap();
    let uniform = |m: &[usize], r, g| TtShape::uniform(m, &[4, 4, 4, 4], r, g).unwrap();
    for (shape, rows) in [
        (new(&[1], &[1], &[1, 1], 1), 1),
        (new(&[7], &[5], &[1, 1], 3), 3),
        (new(&[3, 5], &[2, 3], &[1, 1, 1], 1), 2),
        (new(&[1, 6, 1], &[3, 1, 2], &[1, 3, 2, 1], 1), 5),
        (new(&[17, 33], &[7, 17], &[1, 3, 1], 2), 30),
        (new(&[5, 7, 3], &[3, 5, 2], &[1, 7, 5, 1], 1), 9),
        (new(&[2, 2, 2, 2, 2, 2, 2], &[2, 1, 2, 1, 2, 1, 2], &[1, 2, 3, 4, 3, 2, 2, 1], 1), 4),
        // No kernel: the right half is too large for shared memory.
        (new(&[6_000], &[8], &[1, 1], 3), 2),
        (uniform(&[8, 20, 20, 18], 4, 3), 1),
        (uniform(&[8, 20, 20, 18], 4, 4), 301),
        (uniform(&[8, 20, 20, 18], 5, 3), 7),
        (uniform(&[10, 18, 13, 30], 4, 3), 40),
        (uniform(&[4, 20, 20, 36], 4, 3), 40),
        (uniform(&[8, 20, 20, 18], 64, 3), 3),
    ] {
        let case = Case::new(shape, rows);
        let expected = case.run(&Device::Cpu, DType::F64, Precision::F32);
        for (precision, bound) in [(Precision::F32, 1e-5), (Precision::Tf32, 5e-3)] {
            let found = case.run(&gpu, DType::F32, precision);
            let errors = [0, 1].map(|k| error(&found[k], &expected[k]));
            println!("{:?} {rows} rows {precision:?}: {errors:?}", case.shape);
            assert!(errors.iter().all(|&e| e <= bound), "{:?} {precision:?}: {errors:?}", case.shape);
            assert_eq!(case.run(&gpu, DType::F32, precision), found, "the same bits again");
        }
    }
}

#[test]
fn frames_that_begin_anywhere_are_taken() {
    let Some(gpu) = gpu() else { return };
    let case = Case::new(TtShape::new(&[16, 24], &[4, 4], &[1, 4, 1], 3).unwrap(), 6);
    let (inputs, skip) = (case.shape.in_features(), 3);
    let all = Tensor::from_slice(&case.pixels, case.pixels.len(), &gpu).unwrap();
    let part = all.narrow(0, skip, 4 * inputs).unwrap().reshape((4, inputs)).unwrap();
    let same = Tensor::from_slice(&case.pixels[skip..skip + 4 * inputs], (4, inputs), &gpu).unwrap();
    let cores = Tensor::from_slice(&case.cores, case.cores.len(), &gpu).unwrap();
    let run = |x: &Tensor| halves::forward(&case.shape, Affine::IDENTITY, Precision::F32, x, &cores).unwrap();
    assert_eq!(numbers(&run(&part)), numbers(&run(&same)));
}
