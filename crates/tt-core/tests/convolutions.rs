//! Factorized convolutions: equal to the dense one of the whole kernel, with the gradients of f64 differences.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Conv2dConfig, Module, VarBuilder, VarMap};
use rand::RngExt;
use tt_core::decomposition::{Alternating, Core, Truncation};
use tt_core::network::format::{SplitCanonical, Train};
use tt_core::network::{Format, FormatShape, Modes, Options, ops};
use tt_core::{CpConv2d, TtConv2d, TtLinear, TtMatrix, TtTensor, cp_conv2d, rng, tt_conv2d};

fn tensor(purpose: &str, dims: &[usize], dtype: DType) -> Tensor {
    let mut stream = rng::stream(5, purpose);
    let values: Vec<f64> = (0..dims.iter().product()).map(|_| stream.random::<f64>() - 0.5).collect();
    Tensor::from_vec(values, dims, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// The largest difference, over the largest number of `b`.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (flat(a), flat(b));
    let most = b.iter().map(|value| value.abs()).fold(0.0, f64::max);
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / most
}

fn config(padding: usize, stride: usize, dilation: usize) -> Conv2dConfig {
    Conv2dConfig { padding, stride, dilation, ..Conv2dConfig::default() }
}

fn configs() -> [Conv2dConfig; 5] {
    [config(0, 1, 1), config(1, 1, 1), config(1, 2, 1), config(2, 1, 2), config(3, 3, 2)]
}

fn dense(x: &Tensor, kernel: &Tensor, bias: &Tensor, config: Conv2dConfig) -> Tensor {
    let y = x.conv2d(kernel, config.padding, config.stride, config.dilation, 1).unwrap();
    y.broadcast_add(&bias.reshape((1, (), 1, 1)).unwrap()).unwrap()
}

fn new_variables() -> VarBuilder<'static> {
    VarBuilder::from_varmap(&VarMap::new(), DType::F32, &Device::Cpu)
}

#[test]
fn each_is_the_dense_convolution_of_its_whole_kernel() {
    let x = tensor("x", &[2, 6, 9, 8], DType::F32);
    for config in configs() {
        for kernel in [(3, 3), (1, 1), (3, 2), (1, 4)] {
            let train = tt_conv2d((&[2, 3], &[4, 2]), kernel, 3, config, new_variables()).unwrap();
            let bias = train.layer().bias().unwrap();
            let expected = dense(&x, &train.kernel().unwrap(), bias, config);
            let wrong = difference(&train.forward(&x).unwrap(), &expected);
            assert!(wrong < 1e-5, "train, {kernel:?}, {config:?}: {wrong:e}");

            let terms = cp_conv2d((6, 8), kernel, 5, config, new_variables()).unwrap();
            let expected = dense(&x, &terms.kernel().unwrap(), terms.bias().unwrap(), config);
            let wrong = difference(&terms.forward(&x).unwrap(), &expected);
            assert!(wrong < 1e-5, "terms, {kernel:?}, {config:?}: {wrong:e}");
        }
    }
}

/// What `tt-rnn` multiplies out of a network's cores, these layers apply core by core.
#[test]
fn a_kernel_as_a_network_is_that_of_these_layers() {
    let (x, config) = (tensor("x", &[2, 6, 9, 8], DType::F32), config(1, 2, 1));
    let form = |format: &'static dyn Format, inputs: &[usize], outputs: &[usize]| {
        let modes = Modes { inputs: inputs.to_vec(), outputs: outputs.to_vec(), gates: 1 };
        let shape = FormatShape::uniform(format, &modes, &Options::default(), 3).unwrap();
        let cores = tensor(format.name(), &[shape.network().params()], DType::F32);
        let whole = ops::matrix(shape.network(), &cores).unwrap().reshape((3, 3, 6, 8)).unwrap();
        let whole = whole.permute((3, 2, 0, 1)).unwrap().contiguous().unwrap();
        let core = |k| {
            let range = shape.network().range(k);
            cores.narrow(0, range.start, range.len()).unwrap()
        };
        let cores: Vec<Tensor> = (0..shape.network().cores().len()).map(core).collect();
        (x.conv2d(&whole, 1, 2, 1, 1).unwrap(), cores)
    };
    let (expected, factors) = form(&SplitCanonical, &[3, 3, 6], &[8]);
    let factors = [2, 0, 1, 3].map(|at: usize| factors[at].reshape(((), 3)).unwrap());
    let terms = CpConv2d::new(factors, None, config).unwrap();
    assert!(difference(&terms.forward(&x).unwrap(), &expected) < 1e-5);

    let (inputs, outputs) = ([9, 2, 3], [1, 4, 2]);
    let (expected, cores) = form(&Train, &inputs, &outputs);
    let core = |(core, (left, mode, right)): (&Tensor, _)| {
        Core::new(left, mode, right, core.to_vec1::<f32>().unwrap()).unwrap()
    };
    let cores = cores.iter().zip([(1, 9, 3), (3, 8, 3), (3, 6, 1)]).map(core).collect();
    let matrix = TtMatrix::new(TtTensor::new(cores).unwrap(), &inputs, &outputs).unwrap();
    let (shape, packed) = matrix.to_layer().unwrap();
    let layer = TtLinear::new(&shape, Tensor::new(packed, &Device::Cpu).unwrap(), None).unwrap();
    let train = TtConv2d::new(layer, (3, 3), config).unwrap();
    assert!(difference(&train.forward(&x).unwrap(), &expected) < 1e-5);
}

#[test]
fn a_trained_kernel_is_kept_where_the_ranks_suffice() {
    let x = tensor("x", &[2, 6, 7, 8], DType::F32);
    let bias = tensor("bias", &[8], DType::F32);
    let config = config(1, 1, 1);
    let whole = tensor("kernel", &[8, 6, 3, 2], DType::F32);
    let exact = Truncation::RelativeError(1e-6);
    let train =
        TtConv2d::decompose((&whole, Some(bias.clone())), (&[2, 3], &[4, 2]), &exact, config).unwrap();
    assert!(difference(&train.kernel().unwrap(), &whole) < 1e-5);
    assert!(difference(&train.forward(&x).unwrap(), &dense(&x, &whole, &bias, config)) < 1e-5);

    // A kernel of three terms, which is what a random one is not.
    let few = cp_conv2d((6, 8), (3, 2), 3, config, new_variables()).unwrap().kernel().unwrap();
    let options = Alternating { sweeps: 2000, change: 1e-9, ..Alternating::default() };
    let (terms, error) = CpConv2d::decompose((&few, Some(bias.clone())), 3, &options, config).unwrap();
    assert!(error < 1e-5, "{error:e}");
    assert!(difference(&terms.kernel().unwrap(), &few) < 1e-4);
    assert!(difference(&terms.forward(&x).unwrap(), &dense(&x, &few, &bias, config)) < 1e-4);
    // Fewer numbers of both lose what was said to be lost.
    let (lossy, error) = CpConv2d::decompose((&whole, None), 3, &options, config).unwrap();
    let lost = (&lossy.kernel().unwrap() - &whole).unwrap().sqr().unwrap().sum_all().unwrap();
    let norm = whole.sqr().unwrap().sum_all().unwrap();
    assert!(((flat(&lost)[0] / flat(&norm)[0]).sqrt() - error).abs() < 1e-4, "{error}");
}

/// The loss of a convolution made of these weights: the images, then its own.
type Loss = fn(&[Tensor]) -> Tensor;

fn weighed(y: &Tensor) -> Tensor {
    (y * tensor("weights of the loss", y.dims(), y.dtype())).unwrap().sum_all().unwrap()
}

fn of_train(weights: &[Tensor]) -> Tensor {
    let shape = tt_core::TtShape::new(&[6, 2, 2], &[1, 2, 2], &[1, 2, 2, 1], 1).unwrap();
    let layer = TtLinear::new(&shape, weights[1].clone(), Some(weights[2].clone())).unwrap();
    weighed(&TtConv2d::new(layer, (3, 2), config(1, 2, 1)).unwrap().forward(&weights[0]).unwrap())
}

fn of_terms(weights: &[Tensor]) -> Tensor {
    let factors = [1, 2, 3, 4].map(|at: usize| weights[at].clone());
    let layer = CpConv2d::new(factors, Some(weights[5].clone()), config(1, 2, 1)).unwrap();
    weighed(&layer.forward(&weights[0]).unwrap())
}

#[test]
fn gradients_are_those_of_f64_differences() {
    let train: (Loss, Vec<Vec<usize>>) = (of_train, vec![vec![2, 4, 5, 4], vec![12 + 16 + 8], vec![4]]);
    let sizes = vec![vec![2, 4, 5, 4], vec![4, 3], vec![3, 3], vec![2, 3], vec![4, 3], vec![4]];
    for (name, (loss, sizes)) in [("train", train), ("terms", (of_terms as Loss, sizes))] {
        let values = |dtype| -> Vec<Tensor> {
            sizes.iter().enumerate().map(|(at, size)| tensor(&format!("{name}/{at}"), size, dtype)).collect()
        };
        let variables: Vec<Var> =
            values(DType::F32).iter().map(|value| Var::from_tensor(value).unwrap()).collect();
        let tensors: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
        let gradients = loss(&tensors).backward().unwrap();
        let exact = values(DType::F64);
        for (at, variable) in variables.iter().enumerate() {
            let found = flat(gradients.get(variable).unwrap());
            let most = found.iter().map(|value| value.abs()).fold(0.0, f64::max);
            let numbers = flat(&exact[at]);
            for place in (0..numbers.len()).step_by(numbers.len().div_ceil(12)) {
                let moved = |by: f64| {
                    let (mut all, mut numbers) = (exact.clone(), numbers.clone());
                    numbers[place] += by;
                    all[at] = Tensor::from_vec(numbers, sizes[at].as_slice(), &Device::Cpu).unwrap();
                    flat(&loss(&all))[0]
                };
                let expected = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let wrong = (found[place] - expected).abs() / most;
                assert!(wrong < 1e-4, "{name}, weights {at}, {place}: {wrong:e}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let said = |result: candle_core::Result<String>| result.unwrap_err().to_string();
    let train = |kernel, config| tt_conv2d((&[2, 3], &[4, 2]), kernel, 3, config, new_variables());
    let grouped = Conv2dConfig { groups: 2, ..Conv2dConfig::default() };
    assert!(said(train((3, 3), grouped).map(|layer| format!("{layer:?}"))).contains("in 2 groups"));
    assert!(said(train((3, 3), config(0, 0, 1)).map(|layer| format!("{layer:?}"))).contains("stride 0"));
    let small = tensor("x", &[1, 6, 2, 9], DType::F32);
    let layer = train((3, 3), config(0, 1, 1)).unwrap();
    assert!(said(layer.forward(&small).map(|y| format!("{y:?}"))).contains("reaches over 3 of 2 pixels"));
    let factor = |rows, rank| tensor("factor", &[rows, rank], DType::F32);
    let factors = [factor(6, 3), factor(3, 3), factor(3, 2), factor(8, 3)];
    let text = said(CpConv2d::new(factors, None, config(0, 1, 1)).map(|layer| format!("{layer:?}")));
    assert!(text.contains("a column for each term"), "{text}");
}
