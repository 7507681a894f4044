//! The layer in a candle graph: the backends agree, stacked layers get their gradients, nothing is paid twice.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Linear, Module, VarBuilder, VarMap};
use rand::RngExt;
use tt_core::apply::{Affine, Backend, ops, reference};
use tt_core::{TtLinear, TtOperator, TtShape, rng, tt_linear, tt_linear_no_bias};

fn draw(purpose: &str, len: usize) -> Vec<f32> {
    let mut stream = rng::stream(5, purpose);
    (0..len).map(|_| stream.random::<f32>() - 0.5).collect()
}

fn tensor(purpose: &str, dims: &[usize]) -> Tensor {
    Tensor::from_vec(draw(purpose, dims.iter().product()), dims, &Device::Cpu).unwrap()
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (a.to_dtype(DType::F64).unwrap(), b.to_dtype(DType::F64).unwrap());
    let most =
        |t: &Tensor| t.abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar::<f64>().unwrap();
    most(&(&a - &b).unwrap()) / most(&b)
}

fn shapes() -> Vec<TtShape> {
    let new = |m: &[usize], n: &[usize], r: &[usize], g| TtShape::new(m, n, r, g).unwrap();
    vec![
        new(&[7], &[5], &[1, 1], 3),
        new(&[1, 6, 1], &[3, 1, 2], &[1, 3, 2, 1], 1),
        new(&[2, 3, 4], &[4, 4, 4], &[1, 4, 4, 1], 4),
        new(&[2, 2, 3, 2, 3], &[2, 1, 3, 2, 1], &[1, 2, 4, 5, 2, 1], 3),
    ]
}

/// `ops` in f64 agrees with the specification to f64 rounding, gradients included: the test of the graph
/// itself, whose tolerance is 1e-13 of the largest entry for sums of a few hundred terms.
#[test]
fn operations_in_f64_match_the_reference() {
    for shape in shapes() {
        let affine = Affine { scale: 0.5, shift: -0.25 };
        let x =
            Var::from_tensor(&tensor("x", &[3, shape.in_features()]).to_dtype(DType::F64).unwrap()).unwrap();
        let cores = tensor("cores", &[shape.params()]).to_dtype(DType::F64).unwrap();
        let cores = Var::from_tensor(&cores).unwrap();
        let dy = tensor("dy", &[3, shape.out_features()]).to_dtype(DType::F64).unwrap();
        let y = ops::forward(&shape, affine, &x, &cores).unwrap();
        let grads = (&y * &dy).unwrap().sum_all().unwrap().backward().unwrap();

        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let mapped: Vec<f64> = flat(&x).iter().map(|p| 0.5 * p - 0.25).collect();
        let expected = reference::forward(&shape, &mapped, &flat(&cores)).unwrap();
        let wanted = reference::backward(&shape, &mapped, &flat(&cores), &flat(&dy)).unwrap();
        let dx: Vec<f64> = wanted.x.iter().map(|v| 0.5 * v).collect();
        for (found, expected) in
            [(&y, expected), (grads.get(&cores).unwrap(), wanted.cores), (grads.get(&x).unwrap(), dx)]
        {
            let expected = Tensor::from_vec(expected, found.dims(), &Device::Cpu).unwrap();
            assert!(difference(found, &expected) < 1e-13, "{shape:?}");
        }
    }
}

#[test]
fn all_backends_agree_in_a_graph() {
    for shape in shapes() {
        for u8_rows in [false, true] {
            let x = tensor("x", &[5, shape.in_features()]);
            let x = if u8_rows { x.affine(200.0, 128.0).unwrap().to_dtype(DType::U8).unwrap() } else { x };
            let affine = if u8_rows { Affine { scale: 1.0 / 255.0, shift: -0.5 } } else { Affine::IDENTITY };
            let dy = tensor("dy", &[5, shape.out_features()]);
            let run = |backend: Backend| {
                let cores = Var::from_tensor(&tensor("cores", &[shape.params()])).unwrap();
                let x = if u8_rows { x.clone() } else { Var::from_tensor(&x).unwrap().as_tensor().clone() };
                let y = TtOperator::new(&shape, affine, backend).forward(&x, &cores).unwrap();
                let grads = (&y * &dy).unwrap().sum_all().unwrap().backward().unwrap();
                let dx = grads.get(&x).cloned();
                assert!(u8_rows || dx.is_some());
                (y, grads.get(&cores).unwrap().clone(), dx)
            };
            let expected = run(Backend::Reference);
            for backend in [Backend::Ops, Backend::Fused] {
                let found = run(backend);
                // 1e-5 of the largest entry: 80 eps, for chains of up to five products of a few terms.
                assert!(difference(&found.0, &expected.0) < 1e-5, "{backend:?} {shape:?} y");
                assert!(difference(&found.1, &expected.1) < 1e-5, "{backend:?} {shape:?} dcores");
                if let (Some(found), Some(expected)) = (&found.2, &expected.2) {
                    assert!(difference(found, expected) < 1e-5, "{backend:?} {shape:?} dx");
                }
            }
        }
    }
}

#[test]
fn stacked_layers_pass_gradients_down() {
    let below = TtShape::uniform(&[3, 4], &[2, 5], 3, 1).unwrap();
    let above = TtShape::uniform(&[2, 5], &[3, 2], 2, 2).unwrap();
    let run = |backend: Backend| {
        let first = Var::from_tensor(&tensor("first", &[below.params()])).unwrap();
        let second = Var::from_tensor(&tensor("second", &[above.params()])).unwrap();
        let x = tensor("x", &[2, 3, 12]);
        let (lower, upper) = (
            TtOperator::new(&below, Affine::IDENTITY, backend),
            TtOperator::new(&above, Affine::IDENTITY, backend),
        );
        let hidden = lower.forward(&x, &first).unwrap().tanh().unwrap();
        let y = upper.forward(&hidden, &second).unwrap();
        assert_eq!(y.dims(), [2, 3, 12]);
        let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(grads.get(&x).is_none(), "an untracked input gets no gradient");
        [grads.get(&first).unwrap().clone(), grads.get(&second).unwrap().clone()]
    };
    let expected = run(Backend::Reference);
    for backend in [Backend::Ops, Backend::Fused] {
        for (found, expected) in run(backend).iter().zip(&expected) {
            assert!(difference(found, expected) < 1e-5, "{backend:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let shape = TtShape::uniform(&[2, 3], &[2, 2], 2, 1).unwrap();
    let cores = tensor("cores", &[shape.params()]);
    for backend in [Backend::Reference, Backend::Ops, Backend::Fused] {
        let layer = TtOperator::new(&shape, Affine::IDENTITY, backend);
        assert!(layer.forward(&tensor("x", &[0, 6]), &cores).is_err(), "{backend:?}: empty");
        assert!(layer.forward(&tensor("x", &[2, 5]), &cores).is_err(), "{backend:?}: columns");
        assert!(layer.forward(&tensor("x", &[2, 6]), &tensor("cores", &[3])).is_err(), "{backend:?}: cores");
    }
    let layer = TtOperator::new(&shape, Affine::IDENTITY, Backend::Fused);
    let wide = tensor("x", &[2, 6]).to_dtype(DType::F64).unwrap();
    let text = layer.forward(&wide, &cores).unwrap_err().to_string();
    assert!(text.contains("F64"), "{text}");
    assert!(ops::forward(&shape, Affine::IDENTITY, &tensor("x", &[0, 6]), &cores).is_err());
}

/// A layer from a `VarBuilder` against its dense matrix: names, value, gradients, in both types and for any batch.
#[test]
fn a_module_is_its_dense_matrix() {
    let shape = TtShape::uniform(&[3, 4], &[2, 5], 3, 1).unwrap();
    for dtype in [DType::F32, DType::F64] {
        let variables = VarMap::new();
        let vb = VarBuilder::from_varmap(&variables, dtype, &Device::Cpu);
        let layer = tt_linear(&shape, vb.pp("block").pp("hidden")).unwrap();
        let mut names: Vec<String> = variables.data().lock().unwrap().keys().cloned().collect();
        names.sort();
        assert_eq!(names, ["block.hidden.bias", "block.hidden.cores"]);

        let wide = |tensor: &Tensor| tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
        let w = reference::dense(&shape, &wide(layer.cores()).to_vec1().unwrap()).unwrap();
        let w = Tensor::from_vec(w, (12, 10), &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        let x = Var::from_tensor(&tensor("x", &[2, 3, 12]).to_dtype(dtype).unwrap()).unwrap();
        let dense = Linear::new(w.t().unwrap(), layer.bias().cloned());
        let tolerance = if dtype == DType::F32 { 1e-5 } else { 1e-13 };
        let (found, expected) = (layer.forward(&x).unwrap(), dense.forward(&x).unwrap());
        assert_eq!(found.dims(), [2, 3, 10]);
        assert!(difference(&found, &expected) < tolerance, "{dtype:?}");

        let gradients = |y: &Tensor| y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let (of_train, of_dense) = (gradients(&found), gradients(&expected));
        for leaf in [layer.bias().unwrap(), x.as_tensor()] {
            assert!(difference(of_train.get(leaf).unwrap(), of_dense.get(leaf).unwrap()) < tolerance);
        }
        let dy = wide(&(found * 2.0).unwrap()).to_vec1().unwrap();
        let (x, cores) = (wide(&x).to_vec1().unwrap(), wide(layer.cores()).to_vec1().unwrap());
        let wanted = reference::backward(&shape, &x, &cores, &dy).unwrap().cores;
        let wanted = Tensor::from_vec(wanted, shape.params(), &Device::Cpu).unwrap();
        assert!(difference(of_train.get(layer.cores()).unwrap(), &wanted) < tolerance, "{dtype:?} cores");
    }
}

#[test]
fn a_module_says_which_weights_do_not_fit() {
    let shape = TtShape::uniform(&[3, 4], &[2, 5], 3, 1).unwrap();
    let (cores, bias) = (tensor("cores", &[shape.params()]), tensor("bias", &[10]));
    assert!(TtLinear::new(&shape, cores.clone(), Some(bias.clone())).is_ok());
    let text = TtLinear::new(&shape, bias, None).unwrap_err().to_string();
    assert!(text.contains(&format!("cores: expected [{}], found [10]", shape.params())), "{text}");
    let text = TtLinear::new(&shape, cores.clone(), Some(cores)).unwrap_err().to_string();
    assert!(text.contains("bias: expected [10]"), "{text}");
    let stored =
        VarBuilder::from_tensors([("cores".to_owned(), tensor("c", &[3]))].into(), DType::F32, &Device::Cpu);
    assert!(tt_linear_no_bias(&shape, stored).is_err());
}
