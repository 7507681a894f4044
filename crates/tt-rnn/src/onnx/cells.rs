//! The recurrence: a step by plain operators, and around it a `Scan`, or ONNX's own operator.

use super::Export;
use super::builder::{Axis, Builder, Setting};
use super::schema::FLOAT;
use crate::Result;
use crate::folder::Config;
use crate::recurrence::{Cell, GateActivation};

/// A matrix whose columns are outputs.
pub(super) struct Matrix {
    name: String,
    dims: [usize; 2],
    values: Vec<f32>,
}

/// One step from `h` (and `c`) with pre-activations `x` `[B, G·H]`, bias included: the next `h` (and `c`).
pub(super) fn step(
    graph: &mut Builder,
    config: &Config,
    cell: Cell,
    kernels: &[Matrix],
    x: &str,
) -> Result<Vec<String>> {
    let n = config.hidden();
    // In the graph of the step itself: OpenVINO takes what a body finds around it for states.
    let kernels: Vec<String> =
        kernels.iter().map(|m| graph.weight(&m.name, &m.dims, &m.values, Some(1))).collect();
    let activation = gate_activation(config)?;
    let squash = |graph: &mut Builder, value: &str| match activation {
        GateActivation::HardSigmoid => {
            let settings = [("alpha", Setting::Float(0.2)), ("beta", Setting::Float(0.5))];
            graph.op("HardSigmoid", &[value], &settings)
        }
        GateActivation::Sigmoid => graph.op("Sigmoid", &[value], &[]),
    };
    if cell == Cell::Gru {
        let parts = graph.split(x, &[2 * n, n]);
        let pre = graph.op("MatMul", &["h", &kernels[0]], &[]);
        let pre = graph.op("Add", &[&parts[0], &pre], &[]);
        let gates = squash(graph, &pre);
        let gates = graph.split(&gates, &[n, n]);
        let reset = graph.op("Mul", &[&gates[1], "h"], &[]);
        let pre = graph.op("MatMul", &[&reset, &kernels[1]], &[]);
        let pre = graph.op("Add", &[&parts[1], &pre], &[]);
        let candidate = graph.op("Tanh", &[&pre], &[]);
        let step = graph.op("Sub", &["h", &candidate], &[]);
        let kept = graph.op("Mul", &[&gates[0], &step], &[]);
        return Ok(vec![graph.op("Add", &[&candidate, &kept], &[])]); // z∘h + (1-z)∘c
    }
    let pre = graph.op("MatMul", &["h", &kernels[0]], &[]);
    let pre = graph.op("Add", &[x, &pre], &[]);
    if cell == Cell::Rnn {
        return Ok(vec![graph.op("Tanh", &[&pre], &[])]);
    }
    let parts = graph.split(&pre, &[2 * n, n, n]);
    let gates = squash(graph, &parts[0]);
    let gates = graph.split(&gates, &[n, n]);
    let candidate = graph.op("Tanh", &[&parts[1]], &[]);
    let output = squash(graph, &parts[2]);
    let kept = graph.op("Mul", &[&gates[1], "c"], &[]);
    let new = graph.op("Mul", &[&gates[0], &candidate], &[]);
    let c = graph.op("Add", &[&kept, &new], &[]);
    let shown = graph.op("Tanh", &[&c], &[]);
    Ok(vec![graph.op("Mul", &[&output, &shown], &[]), c])
}

fn gate_activation(config: &Config) -> Result<GateActivation> {
    config.steps.as_ref().map_or(Ok(GateActivation::Sigmoid), |steps| steps.gate_activation.parse())
}

/// Some columns of a matrix with rows of `width`.
fn columns(matrix: &[f32], width: usize, range: std::ops::Range<usize>) -> Vec<f32> {
    matrix.chunks_exact(width).flat_map(|row| &row[range.clone()]).copied().collect()
}

/// A matrix `[rows, columns]` with rows and columns exchanged, its `blocks` of columns in this order.
fn across(matrix: &[f32], rows: usize, columns: usize, blocks: &[usize]) -> Vec<f32> {
    let block = columns / blocks.len();
    let order = blocks.iter().flat_map(|b| b * block..(b + 1) * block);
    order.flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

impl Export<'_> {
    /// The last state `[B, H]` by `Scan`: runtimes that know the operator need nothing else.
    pub(super) fn scan(&mut self, cell: Cell, pixels: &str) -> Result<String> {
        let n = self.config.hidden();
        let x = self.project(pixels, 2)?; // [T, B, G·H]
        let x = self.add(&x, "recurrent.bias")?;
        let kernels = self.recurrent_kernels(cell)?;
        let (batch, row) = (Axis::Named("B"), cell.gates() * n);
        let mut body = Builder::new("step", self.graph.numbers());
        let states: &[&str] = if cell == Cell::Lstm { &["h", "c"] } else { &["h"] };
        for name in states {
            body.input(name, FLOAT, &[batch, Axis::Of(n)]);
        }
        body.input("x", FLOAT, &[batch, Axis::Of(row)]);
        for next in step(&mut body, self.config, cell, &kernels, "x")? {
            body.output(&next, &[batch, Axis::Of(n)]);
        }
        let zeros = self.zeros(pixels);
        let mut inputs = vec![zeros.as_str(); states.len()];
        inputs.push(&x);
        let outputs: Vec<String> = states.iter().map(|name| format!("{name}.last")).collect();
        let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let settings = [("num_scan_inputs", Setting::Int(1)), ("body", Setting::Body(body.finish()))];
        self.graph.node("Scan", &inputs, &outputs, &settings);
        Ok(outputs[0].to_owned())
    }

    /// U; of the GRU the candidate's columns apart.
    pub(super) fn recurrent_kernels(&self, cell: Cell) -> Result<Vec<Matrix>> {
        let (dims, kernel) = self.values("recurrent.kernel")?;
        let (n, width) = (dims[0], dims[1]);
        let part = |name: &str, range: std::ops::Range<usize>| Matrix {
            name: format!("recurrent.kernel{name}"),
            dims: [n, range.len()],
            values: columns(&kernel, width, range),
        };
        Ok(match cell {
            Cell::Gru => vec![part(".gates", 0..2 * n), part(".candidate", 2 * n..width)],
            Cell::Rnn | Cell::Lstm => vec![part("", 0..width)],
        })
    }

    /// `[B, H]` of zeros, B as in `[T, B, …]`.
    fn zeros(&mut self, pixels: &str) -> String {
        let hidden = self.config.hidden() as i64;
        let shape = self.graph.op("Shape", &[pixels], &[]);
        let (second, hidden) = (self.graph.integers(&[1]), self.graph.integers(&[hidden]));
        let batch = self.graph.op("Gather", &[&shape, &second], &[("axis", Setting::Int(0))]);
        let shape = self.graph.op("Concat", &[&batch, &hidden], &[("axis", Setting::Int(0))]);
        self.graph.op("ConstantOfShape", &[&shape], &[])
    }

    /// The last state `[B, H]` by the operator of the cell.
    pub(super) fn operator(&mut self, cell: Cell, pixels: &str) -> Result<String> {
        let (n, gates) = (self.config.hidden(), cell.gates());
        let width = gates * n;
        // Blocks of ONNX: z, r, h as here; i, o, f, c in the place of i, f, g, o.
        let (name, order): (_, &[usize]) = match cell {
            Cell::Rnn => ("RNN", &[0]),
            Cell::Gru => ("GRU", &[0, 1, 2]),
            Cell::Lstm => ("LSTM", &[0, 3, 1, 2]),
        };
        // A train has multiplied already: then W only puts the blocks in order.
        let (x, features, kernel) = if self.config.train()?.is_some() {
            let identity = (0..width * width).map(|at| f32::from(u8::from(at / width == at % width)));
            (self.project(pixels, 2)?, width, identity.collect())
        } else {
            let features = self.config.input_features() as i64;
            let rows = self.graph.reshape(pixels, &[0, 0, features]);
            (rows, self.config.input_features(), self.values("input.kernel")?.1)
        };
        let (_, recurrent) = self.values("recurrent.kernel")?;
        let (_, bias) = self.values("recurrent.bias")?;
        let outputs = self.config.train()?.is_none().then_some(1);
        let kernel = across(&kernel, features, width, order);
        let w = self.graph.weight("W", &[1, width, features], &kernel, outputs);
        let r = self.graph.weight("R", &[1, width, n], &across(&recurrent, n, width, order), Some(1));
        let mut biases = across(&bias, 1, width, order);
        biases.resize(2 * width, 0.0);
        let b = self.graph.weight("B", &[1, 2 * width], &biases, None);
        let hard = gate_activation(self.config)? == GateActivation::HardSigmoid;
        let gate = if hard { "HardSigmoid" } else { "Sigmoid" };
        let activations: &[&str] = match cell {
            Cell::Rnn => &["Tanh"],
            Cell::Gru => &[gate, "Tanh"],
            Cell::Lstm => &[gate, "Tanh", "Tanh"],
        };
        let mut settings =
            vec![("hidden_size", Setting::Int(n as i64)), ("activations", Setting::Strings(activations))];
        if hard && cell != Cell::Rnn {
            settings.push(("activation_alpha", Setting::Floats(&[0.2])));
            settings.push(("activation_beta", Setting::Floats(&[0.5])));
        }
        if cell == Cell::Gru {
            settings.push(("linear_before_reset", Setting::Int(0)));
        }
        self.graph.node(name, &[&x, &w, &r, &b], &["", "h.last"], &settings);
        let first = self.graph.integers(&[0]);
        Ok(self.graph.op("Squeeze", &["h.last", &first], &[]))
    }
}
