//! The recurrence: a step by plain operators, and around it a `Scan`, or ONNX's own operator.

use super::builder::{Axis, Builder, Setting};
use super::schema::FLOAT;
use super::{Export, FRAMES};
use crate::Result;
use crate::folder::{Config, recurrent};
use crate::models::Place;
use crate::projection::{Matrix, Sides};
use crate::recurrence::{Cell, GateActivation};
use std::ops::Range;

/// A layer in one direction of time over all frames of clips.
pub(super) struct Pass {
    pub(super) cell: Cell,
    pub(super) place: Place,
    /// What it reads, `[T, B, …]`: pre-activations for `Scan`, for an operator what its input matrix reads.
    pub(super) x: String,
    /// Whether the state after every frame is asked for, `[T, B, H]`, or the last one, `[B, H]`.
    pub(super) whole: bool,
}

/// Names of the states of a place.
pub(super) fn states(cell: Cell, place: &str) -> Vec<String> {
    let names: &[&str] = if cell == Cell::Lstm { &["h", "c"] } else { &["h"] };
    names.iter().map(|name| format!("{place}{name}")).collect()
}

fn gate_activation(config: &Config) -> Result<GateActivation> {
    config.steps.as_ref().map_or(Ok(GateActivation::Sigmoid), |steps| steps.gate_activation.parse())
}

/// Some columns of a matrix with rows of `width`.
fn columns(matrix: &[f32], width: usize, range: Range<usize>) -> Vec<f32> {
    matrix.chunks_exact(width).flat_map(|row| &row[range.clone()]).copied().collect()
}

/// A matrix `[rows, columns]` with rows and columns exchanged, its `blocks` of columns in this order.
fn across(matrix: &[f32], rows: usize, columns: usize, blocks: &[usize]) -> Vec<f32> {
    let block = columns / blocks.len();
    let order = blocks.iter().flat_map(|b| b * block..(b + 1) * block);
    order.flat_map(|column| (0..rows).map(move |row| matrix[row * columns + column])).collect()
}

impl Export<'_> {
    /// Pre-activations of a place, bias included: `[…, M]` to `[…, G·H]`.
    pub(super) fn pre_activations(
        &mut self,
        rows: &str,
        leading: usize,
        matrix: (&Matrix, Sides),
        place: &str,
    ) -> Result<String> {
        let x = self.project(rows, leading, matrix, &format!("{place}input"))?;
        self.add(&x, &format!("{place}recurrent.bias"))
    }

    /// What a pass reads of its rows `[T, B, M]`: see [`Pass::x`].
    pub(super) fn features(
        &mut self,
        rows: &str,
        (matrix, sides): (&Matrix, Sides),
        place: Place,
        operator: bool,
    ) -> Result<String> {
        match (operator, matrix) {
            (false, _) => self.pre_activations(rows, 2, (matrix, sides), &place.name()),
            (true, Matrix::Dense) => Ok(self.graph.reshape(rows, &[0, 0, sides.features as i64])),
            (true, _) => self.project(rows, 2, (matrix, sides), &format!("{}input", place.name())),
        }
    }

    /// One step of a place from the states of these names with pre-activations `x` `[B, G·H]`, bias included: the next
    /// states.
    pub(super) fn cell(
        &mut self,
        cell: Cell,
        place: &str,
        x: &str,
        states: &[String],
    ) -> Result<Vec<String>> {
        let (n, h) = (self.config.hidden(), &states[0]);
        let activation = gate_activation(self.config)?;
        let squash = |graph: &mut Builder, value: &str| match activation {
            GateActivation::HardSigmoid => {
                let settings = [("alpha", Setting::Float(0.2)), ("beta", Setting::Float(0.5))];
                graph.op("HardSigmoid", &[value], &settings)
            }
            GateActivation::Sigmoid => graph.op("Sigmoid", &[value], &[]),
        };
        if cell == Cell::Gru {
            let parts = self.graph.split(x, &[2 * n, n]);
            let pre = self.of_state(h, place, 0..2)?;
            let pre = self.graph.op("Add", &[&parts[0], &pre], &[]);
            let gates = squash(&mut self.graph, &pre);
            let gates = self.graph.split(&gates, &[n, n]);
            let reset = self.graph.op("Mul", &[&gates[1], h], &[]);
            let pre = self.of_state(&reset, place, 2..3)?;
            let pre = self.graph.op("Add", &[&parts[1], &pre], &[]);
            let candidate = self.graph.op("Tanh", &[&pre], &[]);
            let step = self.graph.op("Sub", &[h, &candidate], &[]);
            let kept = self.graph.op("Mul", &[&gates[0], &step], &[]);
            return Ok(vec![self.graph.op("Add", &[&candidate, &kept], &[])]); // z∘h + (1-z)∘c
        }
        let pre = self.of_state(h, place, 0..cell.gates())?;
        let graph = &mut self.graph;
        let pre = graph.op("Add", &[x, &pre], &[]);
        if cell == Cell::Rnn {
            return Ok(vec![graph.op("Tanh", &[&pre], &[])]);
        }
        let parts = graph.split(&pre, &[2 * n, n, n]);
        let gates = squash(graph, &parts[0]);
        let gates = graph.split(&gates, &[n, n]);
        let candidate = graph.op("Tanh", &[&parts[1]], &[]);
        let output = squash(graph, &parts[2]);
        let kept = graph.op("Mul", &[&gates[1], &states[1]], &[]);
        let new = graph.op("Mul", &[&gates[0], &candidate], &[]);
        let c = graph.op("Add", &[&kept, &new], &[]);
        let shown = graph.op("Tanh", &[&c], &[]);
        Ok(vec![graph.op("Mul", &[&output, &shown], &[]), c])
    }

    /// A state `[B, H]` times the columns of U of some gates. A factorized U is applied factor by factor.
    fn of_state(&mut self, state: &str, place: &str, gates: Range<usize>) -> Result<String> {
        let (config, n) = (self.config, self.config.hidden());
        let name = format!("{place}recurrent");
        let Some((matrix, sides)) = config.state_matrix()? else {
            let (dims, kernel) = self.values(&format!("{name}.kernel"))?;
            let width = dims[1];
            let part = match gates {
                Range { start: 0, end } if end * n == width => "",
                Range { start: 0, .. } => ".gates",
                _ => ".candidate",
            };
            let values = columns(&kernel, width, gates.start * n..gates.end * n);
            let dims = [n, gates.len() * n];
            // In the graph of the step itself: OpenVINO takes what a body finds around it for states.
            let kernel = self.graph.weight(&format!("{name}.kernel{part}"), &dims, &values, Some(1));
            return Ok(self.graph.op("MatMul", &[state, &kernel], &[]));
        };
        if matrix.count() == 1 {
            let all = self.project(state, 1, (matrix, sides), &name)?;
            if gates.len() == sides.gates {
                return Ok(all);
            }
            let bounds = [gates.start * n, gates.end * n].map(|at| self.graph.integers(&[at as i64]));
            let axis = self.graph.integers(&[1]);
            return Ok(self.graph.op("Slice", &[&all, &bounds[0], &bounds[1], &axis], &[]));
        }
        let parts: Vec<String> = gates
            .map(|gate| self.factors(state, 1, (matrix, sides), &format!("{name}.gate.{gate}")))
            .collect::<Result<_>>()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        Ok(self.graph.op("Concat", &parts, &[("axis", Setting::Int(-1))]))
    }

    /// A pass by `Scan`: runtimes that know the operator need nothing else.
    pub(super) fn scan(&mut self, pass: &Pass) -> Result<String> {
        let Pass { cell, place, x, whole } = pass;
        let (n, prefix) = (self.config.hidden(), place.name());
        let (batch, states) = (Axis::Named("B"), states(*cell, &prefix));
        let graph = Builder::new(&format!("{prefix}step"), self.kept);
        let mut body = Export { config: self.config, weights: self.weights, kept: self.kept, graph };
        for name in &states {
            body.graph.input(name, FLOAT, &[batch, Axis::Of(n)]);
        }
        let row = format!("{prefix}x");
        body.graph.input(&row, FLOAT, &[batch, Axis::Of(cell.gates() * n)]);
        let next = body.cell(*cell, &prefix, &row, &states)?;
        for next in &next {
            body.graph.output(next, &[batch, Axis::Of(n)]);
        }
        let mut outputs: Vec<String> = states.iter().map(|name| format!("{name}.last")).collect();
        if *whole {
            let shown = body.graph.op("Identity", &[&next[0]], &[]);
            body.graph.output(&shown, &[batch, Axis::Of(n)]);
            outputs.push(format!("{prefix}h.all"));
        }
        let zeros = self.zeros(FRAMES);
        let mut inputs = vec![zeros.as_str(); states.len()];
        inputs.push(x);
        let mut settings =
            vec![("num_scan_inputs", Setting::Int(1)), ("body", Setting::Body(body.graph.finish()))];
        if place.backward {
            settings.push(("scan_input_directions", Setting::Ints(&[1])));
            settings.extend(whole.then_some(("scan_output_directions", Setting::Ints(&[1]))));
        }
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        self.graph.node("Scan", &inputs, &names, &settings);
        Ok(outputs.swap_remove(if *whole { states.len() } else { 0 }))
    }

    /// `[B, H]` of zeros, B as in `[T, B, …]`.
    fn zeros(&mut self, frames: &str) -> String {
        let shape = self.graph.op("Shape", &[frames], &[]);
        let (one, second) = (self.graph.integers(&[1]), self.graph.integers(&[1]));
        let batch = self.graph.op("Gather", &[&shape, &second], &[("axis", Setting::Int(0))]);
        let shape = self.graph.op("Concat", &[&batch, &one], &[("axis", Setting::Int(0))]);
        // Not ConstantOfShape, whose zeros are of another type in tract where none is given.
        let hidden = self.config.hidden();
        let row = self.graph.weight("zeros", &[1, hidden], &vec![0.0; hidden], None);
        self.graph.op("Expand", &[&row, &shape], &[])
    }

    /// A pass by the operator of the cell.
    pub(super) fn operator(&mut self, pass: &Pass, (matrix, sides): (&Matrix, Sides)) -> Result<String> {
        let Pass { cell, place, x, whole } = pass;
        let (n, gates, prefix) = (self.config.hidden(), cell.gates(), place.name());
        let width = gates * n;
        // Blocks of ONNX: z, r, h as here; i, o, f, c in the place of i, f, g, o.
        let (name, order): (_, &[usize]) = match cell {
            Cell::Rnn => ("RNN", &[0]),
            Cell::Gru => ("GRU", &[0, 1, 2]),
            Cell::Lstm => ("LSTM", &[0, 3, 1, 2]),
        };
        // Factors have multiplied already: then W only puts the blocks in order.
        let (features, kernel) = if *matrix == Matrix::Dense {
            (sides.features, self.values(&format!("{prefix}input.kernel"))?.1)
        } else {
            let identity = (0..width * width).map(|at| f32::from(u8::from(at / width == at % width)));
            (width, identity.collect())
        };
        let (state, bias) = recurrent(self.config, self.weights, &prefix)?;
        for (name, values) in [("kernel", &state), ("bias", &bias)] {
            self.check(&format!("{prefix}recurrent.{name}"), values)?;
        }
        let outputs = (*matrix == Matrix::Dense).then_some(1);
        let kernel = across(&kernel, features, width, order);
        let named = |name: &str| format!("{prefix}{name}");
        let w = self.graph.weight(&named("W"), &[1, width, features], &kernel, outputs);
        let r = across(&state, n, width, order);
        // A product of cores is kept as cores are: in half precision where others are whole numbers.
        let outputs = self.config.state_matrix()?.is_none().then_some(1);
        let r = self.graph.weight(&named("R"), &[1, width, n], &r, outputs);
        let mut biases = across(&bias, 1, width, order);
        biases.resize(2 * width, 0.0);
        let b = self.graph.weight(&named("B"), &[1, 2 * width], &biases, None);
        let hard = gate_activation(self.config)? == GateActivation::HardSigmoid;
        let gate = if hard { "HardSigmoid" } else { "Sigmoid" };
        let activations: &[&str] = match cell {
            Cell::Rnn => &["Tanh"],
            Cell::Gru => &[gate, "Tanh"],
            Cell::Lstm => &[gate, "Tanh", "Tanh"],
        };
        let mut settings =
            vec![("hidden_size", Setting::Int(n as i64)), ("activations", Setting::Strings(activations))];
        if hard && *cell != Cell::Rnn {
            settings.push(("activation_alpha", Setting::Floats(&[0.2])));
            settings.push(("activation_beta", Setting::Floats(&[0.5])));
        }
        if *cell == Cell::Gru {
            settings.push(("linear_before_reset", Setting::Int(0)));
        }
        if place.backward {
            settings.push(("direction", Setting::Text("reverse")));
        }
        // States of all frames have an axis of directions, the second; the last one has it first.
        let (states, axis) = if *whole { (named("h.all"), 1) } else { (named("h.last"), 0) };
        let names = if *whole { [states.as_str(), ""] } else { ["", states.as_str()] };
        self.graph.node(name, &[x, &w, &r, &b], &names, &settings);
        let axis = self.graph.integers(&[axis]);
        Ok(self.graph.op("Squeeze", &[&states, &axis], &[]))
    }
}
