//! The whole layer, projection and recurrence in one operator, as models call it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use candle_core::{DType, Device, Tensor, Var};
use rand::RngExt;
use safetensors::SafeTensors;
use std::sync::Arc;
use tt_core::apply::{Affine, reference};
use tt_core::{TtShape, rng};
use tt_rnn::layer::{LayerCall, RecurrentLayer, Sinks};
use tt_rnn::projection::{DenseProjection, GateLayout, InputDropout, Projection, TtProjection};
use tt_rnn::recurrence::reference::Reference;
use tt_rnn::recurrence::{Batch, Cell, GateActivation, Recurrence};

/// One problem: bytes in, last states and all gradients out.
struct Problem {
    cell: Cell,
    shape: TtShape,
    affine: Affine,
    lengths: Vec<usize>,
    rows: Vec<u8>,
    input: Vec<f32>,
    /// `[U | b]`
    recurrent: Vec<f32>,
    dlast: Vec<f32>,
}

/// `last [B, H]`, gradients of the input weights and of `[U | b]`.
type Solution = [Vec<f32>; 3];

impl Problem {
    fn draw(cell: Cell, shape: &TtShape, lengths: &[usize]) -> Self {
        let mut stream = rng::stream(21, "tests/layer");
        let rows =
            (0..lengths.iter().sum::<usize>() * shape.in_features()).map(|_| stream.random()).collect();
        let mut draw = |n: usize, size: f32| -> Vec<f32> {
            (0..n).map(|_| (stream.random::<f32>() - 0.5) * size).collect()
        };
        let hidden = shape.out_features() / cell.gates();
        Self {
            cell,
            shape: shape.clone(),
            affine: Affine { scale: 1.0 / 128.0, shift: -1.0 },
            lengths: lengths.to_vec(),
            rows,
            input: draw(shape.params(), 0.8),
            recurrent: draw((hidden + 1) * shape.out_features(), 2.0 / (hidden as f32).sqrt()),
            dlast: draw(lengths.len() * hidden, 1.0),
        }
    }

    fn hidden(&self) -> usize {
        self.shape.out_features() / self.cell.gates()
    }

    /// The layer; dense where `dense`.
    fn layer(&self, dense: bool) -> RecurrentLayer {
        let shape = &self.shape;
        let (features, width) = (shape.in_features(), shape.out_features());
        let projection: Arc<dyn Projection> = if dense {
            Arc::new(DenseProjection::new(features, width, self.cell.gates(), self.affine))
        } else {
            Arc::new(TtProjection::new(shape, GateLayout::Concatenated, self.affine).unwrap())
        };
        let recurrence = Recurrence::new(self.cell, GateActivation::Sigmoid, self.hidden());
        RecurrentLayer::new(projection, recurrence, Sinks::default())
    }

    /// Through the operator, with `input` as the matrix of a dense one.
    fn solve(&self, dense: bool) -> Solution {
        let (layer, hidden, features) = (self.layer(dense), self.hidden(), self.shape.in_features());
        let tensor = |values: &[f32], dims: &[usize]| Tensor::from_slice(values, dims, &Device::Cpu).unwrap();
        let rows = Tensor::from_slice(&self.rows, (self.rows.len() / features, features), &Device::Cpu);
        let input = Var::from_tensor(&tensor(&self.input, &[self.input.len()])).unwrap();
        let recurrent = Var::from_tensor(&tensor(&self.recurrent, &[self.recurrent.len()])).unwrap();
        let call = LayerCall { lengths: self.lengths.clone(), train: true, ..LayerCall::default() };
        let last = layer.forward(rows.unwrap(), &input, &recurrent, call).unwrap();
        let dlast = tensor(&self.dlast, &[self.lengths.len(), hidden]);
        let grads = (&last * &dlast).unwrap().sum_all().unwrap().backward().unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        [flat(&last), flat(grads.get(&input).unwrap()), flat(grads.get(&recurrent).unwrap())]
    }

    /// The same in f64, by the specifications of both halves.
    fn expected(&self) -> [Vec<f64>; 3] {
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let Affine { scale, shift } = self.affine;
        let x: Vec<f64> =
            self.rows.iter().map(|&p| f64::from(scale) * f64::from(p) + f64::from(shift)).collect();
        let (cores, weights, dlast) = (wide(&self.input), wide(&self.recurrent), wide(&self.dlast));
        let gates = reference::forward(&self.shape, &x, &cores).unwrap();
        let batch = Batch::new(&self.lengths);
        let recurrence =
            Reference { cell: self.cell, gate_activation: GateActivation::Sigmoid, hidden: self.hidden() };
        let none = vec![0.0; self.shape.out_features()];
        let last = recurrence.forward(&gates, &batch, &weights, &none);
        let grads = recurrence.backward(&gates, &batch, &weights, &none, &dlast);
        let cores = reference::backward(&self.shape, &x, &cores, &grads.x).unwrap().cores;
        [last, cores, grads.weights]
    }
}

/// Errors relative to the largest value.
fn close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let size = expected.iter().fold(1e-30_f64, |m, v| m.max(v.abs()));
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*a) - b).abs() <= tolerance * size, "{what}[{i}]: {a} not {b}");
    }
}

/// Roundings of the train's sums (some hundred terms at most), carried through as many steps as a clip has.
fn tolerance(frames: usize) -> f64 {
    f64::from(f32::EPSILON) * 16.0 * (frames as f64).sqrt().max(4.0)
}

#[test]
fn the_layer_agrees_with_pytorch() {
    for cell in [Cell::Gru, Cell::Lstm] {
        for frames in [4, 16, 64] {
            let name = format!("tt_{}_{frames}", cell.name());
            let path = format!("{}/tests/golden/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
            let bytes = std::fs::read(path).unwrap();
            let golden = |name: &str| -> Vec<f32> {
                let tensors = SafeTensors::deserialize(&bytes).unwrap();
                let view = tensors.tensor(name).unwrap();
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
            };
            let problem = Problem {
                cell,
                shape: TtShape::new(&[2, 3, 4], &[2, 1, 3], &[1, 2, 3, 1], cell.gates()).unwrap(),
                affine: Affine { scale: 1.0 / 256.0, shift: -0.25 },
                lengths: golden("lengths").iter().map(|t| *t as usize).collect(),
                rows: golden("rows").iter().map(|p| *p as u8).collect(),
                input: golden("cores"),
                recurrent: [golden("u"), golden("b")].concat(),
                dlast: golden("dlast"),
            };
            let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
            let [last, dcores, drecurrent] = problem.solve(false);
            let (du, db) = drecurrent.split_at(golden("u").len());
            for (what, found, expected) in [
                ("last", &last[..], "last"),
                ("dcores", &dcores, "dcores"),
                ("du", du, "du"),
                ("db", db, "db"),
            ] {
                close(&format!("{name} {what}"), found, &wide(golden(expected)), tolerance(frames));
            }
        }
    }
}

#[test]
fn the_layer_agrees_with_the_specifications() {
    let new = |m: &[usize], n: &[usize], r: &[usize], g| TtShape::new(m, n, r, g).unwrap();
    for cell in [Cell::Rnn, Cell::Gru, Cell::Lstm] {
        let g = cell.gates();
        for (shape, lengths) in [
            (new(&[7], &[5], &[1, 1], g), &[1][..]),
            (new(&[3, 5], &[2, 3], &[1, 1, 1], g), &[2, 1, 5]),
            (new(&[1, 6, 1], &[3, 1, 2], &[1, 3, 2, 1], g), &[3, 3]),
            (new(&[2, 3, 2, 6], &[2, 2, 4, 1], &[1, 4, 4, 4, 1], g), &[9, 4, 1]),
            (new(&[17, 3, 5], &[2, 3, 2], &[1, 4, 5, 1], g), &[4, 7]),
        ] {
            let problem = Problem::draw(cell, &shape, lengths);
            let [last, dcores, drecurrent] = problem.solve(false);
            let expected = problem.expected();
            let longest = lengths.iter().copied().max().unwrap();
            let what = format!("{} {shape:?} {lengths:?}", cell.name());
            for (found, (part, expected)) in
                [last, dcores, drecurrent].iter().zip(["last", "dcores", "drecurrent"].iter().zip(&expected))
            {
                close(&format!("{what} {part}"), found, expected, 4.0 * tolerance(longest));
            }
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads() {
    let lengths: Vec<usize> = (0..11).map(|i| 1 + (i * 31) % 23).collect();
    for rank in [4, 8] {
        let shape = TtShape::uniform(&[4, 5, 6, 3], &[2, 4, 2, 4], rank, 3).unwrap();
        let mut problem = Problem::draw(Cell::Gru, &shape, &lengths);
        for dense in [false, true] {
            if dense {
                let mut stream = rng::stream(22, "tests/layer");
                let count = shape.in_features() * shape.out_features();
                problem.input = (0..count).map(|_| (stream.random::<f32>() - 0.5) * 0.1).collect();
            }
            let run = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| problem.solve(dense).concat().iter().map(|v| v.to_bits()).collect::<Vec<_>>())
            };
            let one = run(1);
            for threads in [2, 3, 8] {
                assert!(run(threads) == one, "{threads} threads, rank {rank}, dense {dense}");
            }
        }
    }
}

/// The paper's longest clip through the candle operator, forward and backward, in the stack that a thread of
/// the test runner has.
#[test]
fn the_longest_clip_of_the_paper_in_a_small_stack() {
    let run = || {
        for cell in [Cell::Gru, Cell::Lstm] {
            let shape = TtShape::uniform(&[2, 3, 2], &[2, 2, 2], 2, cell.gates()).unwrap();
            let problem = Problem::draw(cell, &shape, &[1492, 3]);
            let expected = problem.expected();
            for (found, expected) in problem.solve(false).iter().zip(&expected) {
                close(cell.name(), found, expected, tolerance(1492));
            }
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().unwrap();
}

#[test]
fn an_empty_batch_is_refused() {
    let shape = TtShape::uniform(&[2, 3], &[2, 2], 2, 3).unwrap();
    let projection = TtProjection::new(&shape, GateLayout::Concatenated, Affine::IDENTITY).unwrap();
    let recurrence = Recurrence::new(Cell::Gru, GateActivation::Sigmoid, 4);
    let layer = RecurrentLayer::new(Arc::new(projection), recurrence, Sinks::default());
    let zeros = |n: usize| Tensor::zeros(n, DType::F32, &Device::Cpu).unwrap();
    let forward = |rows: usize, lengths: &[usize]| {
        let rows = Tensor::zeros((rows, 6), DType::U8, &Device::Cpu).unwrap();
        let call = LayerCall { lengths: lengths.to_vec(), ..LayerCall::default() };
        layer.forward(&rows, &zeros(shape.params()), &zeros(60), call)
    };
    assert!(forward(3, &[1, 2]).is_ok());
    assert!(forward(0, &[]).is_err(), "no clips");
    assert!(forward(3, &[3, 0]).is_err(), "a clip without frames");
    assert!(forward(3, &[2, 2]).is_err(), "lengths that do not add up");
}

#[test]
fn what_does_not_fit_is_refused() {
    let shape = TtShape::uniform(&[3, 5], &[2, 2], 2, 3).unwrap();
    let problem = Problem::draw(Cell::Gru, &shape, &[3]);
    let said = |input: usize, call: LayerCall| {
        let rows = Tensor::zeros((3, shape.in_features()), DType::U8, &Device::Cpu).unwrap();
        let flat = |count: usize| Tensor::zeros(count, DType::F32, &Device::Cpu).unwrap();
        let (input, recurrent) = (flat(input), flat(problem.recurrent.len()));
        problem.layer(false).forward(rows, &input, &recurrent, call).map_err(|error| error.to_string())
    };
    let call = || LayerCall { lengths: vec![3], train: true, ..LayerCall::default() };
    let weights = problem.input.len();
    assert!(said(weights, call()).is_ok());
    // Four times 2^62 is nothing in 64 bits.
    let wrapped = [vec![3], vec![1 << 62; 4]].concat();
    let dropout = |probability| Some(InputDropout { seed: 0, probability });
    for (weights, call, expected) in [
        (weights + 1, call(), "input weights"),
        (weights, LayerCall { lengths: wrapped, ..call() }, "more steps than can be counted"),
        (weights, LayerCall { warm_up: vec![1 << 62], ..call() }, "more steps than can be counted"),
        (weights, LayerCall { input_dropout: dropout(1.0), ..call() }, "input dropout of 1"),
        (weights, LayerCall { input_dropout: dropout(f32::NAN), ..call() }, "input dropout of NaN"),
    ] {
        let error = said(weights, call).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
