//! The encoder against plain loops in f64, and against itself on other threads.

use super::*;
use crate::config::{CnnKernels, CnnSize};
use candle_core::Var;
use plan::{GROUP, Unit};
use rand::RngExt;

const AFFINE: Affine = Affine { scale: 1.0 / 127.5, shift: -1.0 };

/// An encoder for frames of 13 × 11 pixels, two blocks behind its stem; weights that a stream draws, and frames.
fn problem(frames: usize) -> (Arc<Network>, Vec<f32>, Vec<u8>) {
    problem_of(frames, Seen::Means)
}

fn problem_of(frames: usize, seen: Seen) -> (Arc<Network>, Vec<f32>, Vec<u8>) {
    let plan = Plan::of_channels(&[16, 16, 32], 11, 13).unwrap();
    let mut draws = stream(4, "encoder");
    let mut weights: Vec<f32> = (0..plan.weights()).map(|_| draws.random_range(-0.5..0.5)).collect();
    for (_, unit) in plan.units() {
        weights[unit.scale()].iter_mut().for_each(|scale| *scale += 1.0);
    }
    let bytes = (0..frames * plan.frame()).map(|_| draws.random()).collect();
    (Arc::new(Network::new(plan, seen, AFFINE)), weights, bytes)
}

/// A convolution and the normalisation of what it puts out, by their definitions.
fn normalised(x: &[f64], unit: &Unit, weights: &[f64]) -> Vec<f64> {
    let conv = unit.conv;
    let (kernel, padding) = (&weights[unit.kernel()], conv.side / 2);
    let mut y = vec![0.0; conv.out_len()];
    for (at, y) in y.iter_mut().enumerate() {
        let (pixel, n) = (at / conv.outputs, at % conv.outputs);
        let (down, along) = (pixel / conv.out_width(), pixel % conv.out_width());
        for i in 0..conv.side {
            for j in 0..conv.side {
                let row = (down * conv.stride + i).wrapping_sub(padding);
                let column = (along * conv.stride + j).wrapping_sub(padding);
                if row < conv.height && column < conv.width {
                    for c in 0..conv.channels {
                        let weight = ((i * conv.side + j) * conv.channels + c) * conv.outputs + n;
                        *y += x[(row * conv.width + column) * conv.channels + c] * kernel[weight];
                    }
                }
            }
        }
    }
    let count = (conv.pixels() * GROUP) as f64;
    for group in 0..unit.groups() {
        let of_group = |at: &usize| at % conv.outputs / GROUP == group;
        let places: Vec<usize> = (0..y.len()).filter(of_group).collect();
        let mean = places.iter().map(|at| y[*at]).sum::<f64>() / count;
        let variance = places.iter().map(|at| (y[*at] - mean).powi(2)).sum::<f64>() / count;
        for at in places {
            let channel = at % conv.outputs;
            let normal = (y[at] - mean) / (variance + norm::EPSILON).sqrt();
            y[at] = normal * weights[unit.scale()][channel] + weights[unit.shift()][channel];
        }
    }
    y
}

fn relu(values: impl Iterator<Item = f64>) -> Vec<f64> {
    values.map(|value| value.max(0.0)).collect()
}

/// Features of one frame.
fn reference(network: &Network, bytes: &[u8], weights: &[f64]) -> Vec<f64> {
    let plan = &network.plan;
    let pixel = |byte: &u8| f64::from(AFFINE.scale) * f64::from(*byte) + f64::from(AFFINE.shift);
    let x: Vec<f64> = bytes.iter().map(pixel).collect();
    let mut x = relu(normalised(&x, &plan.stem, weights).into_iter());
    for block in &plan.blocks {
        let inner = relu(normalised(&x, &block.a, weights).into_iter());
        let beside = normalised(&x, &block.skip, weights);
        x = relu(normalised(&inner, &block.b, weights).iter().zip(&beside).map(|(a, b)| a + b));
    }
    if network.seen == Seen::Map {
        return x;
    }
    let (features, pixels) = (plan.features(), plan.places());
    (0..features).map(|f| x.iter().skip(f).step_by(features).sum::<f64>() / pixels as f64).collect()
}

/// Features, and the gradient of the weights for that of the features.
fn run(network: &Arc<Network>, weights: &[f32], bytes: &[u8], by_operators: bool) -> (Vec<f32>, Vec<f32>) {
    let device = Device::Cpu;
    let rows = Tensor::from_slice(bytes, ((), network.plan.frame()), &device).unwrap();
    let weights = Var::from_slice(weights, weights.len(), &device).unwrap();
    let features = if by_operators {
        ops::features(network, &rows, &weights).unwrap()
    } else {
        weights.apply_op1(EncoderOp { network: Arc::clone(network), rows: rows.into() }).unwrap()
    };
    let asked = Tensor::from_vec(asked(features.elem_count()), features.shape(), &device).unwrap();
    let grads = (&features * asked).unwrap().sum_all().unwrap().backward().unwrap();
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (flat(&features), flat(grads.get(&weights).unwrap()))
}

/// A gradient of features.
fn asked(count: usize) -> Vec<f32> {
    (0..count).map(|at| (at as f32 * 0.7).sin()).collect()
}

/// 40 frames: shares of two and three, more than a group together.
#[test]
fn features_and_gradients_are_those_of_plain_loops() {
    check(Seen::Means);
}

#[test]
fn maps_and_gradients_are_those_of_plain_loops() {
    check(Seen::Map);
}

fn check(seen: Seen) {
    let (network, weights, bytes) = problem_of(40, seen);
    let plan = &network.plan;
    let of = |weights: &[f64]| -> Vec<f64> {
        bytes.chunks_exact(plan.frame()).flat_map(|frame| reference(&network, frame, weights)).collect()
    };
    let mut exact: Vec<f64> = weights.iter().map(|weight| f64::from(*weight)).collect();
    let expected = of(&exact);
    let mut draws = stream(5, "weights");
    for by_operators in [false, true] {
        let (features, gradient) = run(&network, &weights, &bytes, by_operators);
        for (found, expected) in features.iter().zip(&expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "{found} not {expected}");
        }
        for (name, unit) in plan.units() {
            for (part, range) in [("kernel", unit.kernel()), ("scale", unit.scale()), ("shift", unit.shift())]
            {
                let largest = gradient[range.clone()].iter().fold(0.0_f32, |max, g| max.max(g.abs()));
                assert!(largest > 0.0, "{name}.{part}");
                for _ in 0..4 {
                    let at = draws.random_range(range.clone());
                    let (was, step) = (exact[at], 1e-6);
                    let mut side = |value: f64| {
                        exact[at] = value;
                        let asked = asked(expected.len());
                        of(&exact).iter().zip(asked).map(|(f, g)| f * f64::from(g)).sum::<f64>()
                    };
                    let expected = (side(was + step) - side(was - step)) / (2.0 * step);
                    exact[at] = was;
                    let error = (f64::from(gradient[at]) - expected).abs();
                    assert!(
                        error < 1e-4 * f64::from(largest).max(1.0),
                        "{name}.{part} {at}, operators {by_operators}: {} not {expected}",
                        gradient[at]
                    );
                }
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let (network, weights, bytes) = problem(70);
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(&network, &weights, &bytes, false))
    };
    let one = on(1);
    for threads in [2, 3, 7] {
        assert!(on(threads) == one, "{threads} threads");
    }
}

/// The encoder of [`problem`] with kernels in this form.
fn factorized(kernels: CnnKernels, by_operators: bool) -> Encoder {
    let plan = Plan::of_channels(&[16, 16, 32], 11, 13).unwrap().with_kernels(kernels).unwrap();
    Encoder::of(Network::new(plan, Seen::Means, AFFINE), by_operators, &Device::Cpu, 3).unwrap()
}

/// Features, and the gradient of every parameter for that of the features.
fn run_of(encoder: &Encoder, bytes: &[u8]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let rows = Tensor::from_slice(bytes, ((), encoder.plan().frame()), &Device::Cpu).unwrap();
    let features = encoder.features(&rows.into()).unwrap();
    let asked = Tensor::from_vec(asked(features.elem_count()), features.shape(), &Device::Cpu).unwrap();
    let grads = (&features * asked).unwrap().sum_all().unwrap().backward().unwrap();
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let of = |parameter: &Parameter| flat(grads.get(&parameter.var).unwrap());
    (flat(&features), encoder.parameters().iter().map(of).collect())
}

const FORMS: [CnnKernels; 2] = [CnnKernels::Tt { rank: 3 }, CnnKernels::Cp { rank: 7 }];

/// Kernels by the definition of their format, convolutions by plain loops.
#[test]
fn gradients_reach_the_factors_of_kernels() {
    let (_, _, bytes) = problem(5);
    for (kernels, by_operators) in FORMS.into_iter().flat_map(|form| [(form, false), (form, true)]) {
        let encoder = factorized(kernels, by_operators);
        let plan = encoder.plan();
        assert!(plan.factorized().map(|(name, _)| name).eq(["block1.a", "block1.b", "block2.a", "block2.b"]));
        let numbers = |parameter: &Parameter| -> Vec<f64> {
            let values = parameter.var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values.into_iter().map(f64::from).collect()
        };
        let mut exact: Vec<Vec<f64>> = encoder.parameters().iter().map(numbers).collect();
        assert_eq!(exact.iter().map(Vec::len).sum::<usize>(), plan.parameters());
        let of = |exact: &[Vec<f64>]| -> Vec<f64> {
            let whole = |(at, values): (usize, &Vec<f64>)| match &plan.factors[at / 3] {
                Some(shape) if at % 3 == 0 => shape.dense(values),
                _ => values.clone(),
            };
            let weights: Vec<f64> = exact.iter().enumerate().flat_map(whole).collect();
            bytes
                .chunks_exact(plan.frame())
                .flat_map(|frame| reference(&encoder.network, frame, &weights))
                .collect()
        };
        let (features, gradients) = run_of(&encoder, &bytes);
        for (found, expected) in features.iter().zip(of(&exact)) {
            assert!((f64::from(*found) - expected).abs() < 1e-4, "{kernels:?}: {found} not {expected}");
        }
        let mut draws = stream(5, "factors");
        for (place, gradient) in gradients.iter().enumerate() {
            let largest = gradient.iter().fold(0.0_f32, |max, g| max.max(g.abs()));
            assert!(largest > 0.0, "{}", encoder.parameters()[place].name);
            for _ in 0..4 {
                let at = draws.random_range(0..gradient.len());
                let (was, step) = (exact[place][at], 1e-6);
                let mut side = |value: f64| {
                    exact[place][at] = value;
                    let features = of(&exact);
                    features.iter().zip(asked(features.len())).map(|(f, g)| f * f64::from(g)).sum::<f64>()
                };
                let expected = (side(was + step) - side(was - step)) / (2.0 * step);
                exact[place][at] = was;
                let error = (f64::from(gradient[at]) - expected).abs();
                assert!(
                    error < 1e-4 * f64::from(largest).max(1.0),
                    "{kernels:?}, {} {at}: {} not {expected}",
                    encoder.parameters()[place].name,
                    gradient[at]
                );
            }
        }
    }
}

#[test]
fn bits_of_factors_do_not_depend_on_the_number_of_threads() {
    let (_, _, bytes) = problem(9);
    for kernels in FORMS {
        let encoder = factorized(kernels, false);
        let on = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| run_of(&encoder, &bytes))
        };
        let one = on(1);
        for threads in [2, 3, 7] {
            assert!(on(threads) == one, "{kernels:?}, {threads} threads");
        }
    }
}

/// Features are those of the frame, whichever frames are beside it.
#[test]
fn a_frame_does_not_depend_on_its_neighbours() {
    let (network, weights, bytes) = problem(7);
    let (together, _) = run(&network, &weights, &bytes, false);
    let (alone, _) = run(&network, &weights, &bytes[5 * network.plan.frame()..], false);
    assert_eq!(together[5 * network.plan.features()..], alone);
}

/// A training that diverged must be seen in what follows.
#[test]
fn weights_that_are_no_numbers_are_seen_in_the_features() {
    let (network, mut weights, bytes) = problem(2);
    weights[network.plan.stem.kernel().start] = f32::NAN;
    for by_operators in [false, true] {
        let (features, _) = run(&network, &weights, &bytes, by_operators);
        assert!(features.iter().all(|feature| feature.is_nan()), "operators {by_operators}");
    }
}

/// What a group leaves behind is what the plan says, at the size of real frames.
#[test]
fn a_group_holds_what_the_plan_says() {
    let plan = Plan::new(CnnSize::Small, 120, 160).unwrap();
    let weights: Vec<f32> = (0..plan.weights()).map(|at| (at as f32).sin() * 0.1).collect();
    let bytes: Vec<u8> = (0..GROUP_FRAMES * plan.frame()).map(|at| (at * 31 % 256) as u8).collect();
    let (mut work, mut packed) = (Work::default(), Packed::default());
    let isa = convolution::isa();
    isa.run(Pack { plan: &plan, weights: &weights, backward: true, packed: &mut packed });
    let features = vec![1.0; GROUP_FRAMES * plan.features()];
    let mut sum = vec![0.0; plan.weights()];
    let task = Task::Gradient { features: &features, weights: &mut sum };
    let (plan, packed, rows) = (&plan, &packed, Rows::U8(&bytes));
    isa.run(Group {
        plan,
        seen: Seen::Means,
        affine: AFFINE,
        weights: &weights,
        packed,
        rows,
        work: &mut work,
        task,
    });
    let (found, bound) = (work.bytes(), plan.group_bytes());
    assert!(found <= bound && 10 * found > 9 * bound, "{found} of {bound}");
}
