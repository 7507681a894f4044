//! A model folder as an ONNX graph: operators of opset 17 alone, bytes of frames in, probabilities out.
//!
//! A recurrent model has three forms ([`Form`]), since runtimes differ in what they know of recurrence. No transposition
//! is needed: the last core first, `r_{k-1}` stays next to `m_{k-1}` (`input.rs`).
//!
//! # Paper
//! Yang, Krompass, Tresp 2017. GRU and LSTM of ONNX are those of the released code with other names and another order of
//! blocks; the reset gate is applied before `U` (`linear_before_reset` = 0).

mod builder;
mod cells;
mod input;
mod schema;

use crate::folder::{Config, Numbers, Weights, numbers};
use crate::models::Readout;
use crate::recurrence::Cell;
use crate::{Error, Result};
use builder::{Axis, Builder, Setting};
use cells::{Pass, states};
use prost::Message;
use schema::{Entry, FLOAT, Model, OperatorSet, UINT8};
use std::str::FromStr;

/// Version of the operators.
const OPSET: i64 = 17;
/// Version of the file format.
const IR: i64 = 8;

/// How an exported model walks through time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All frames of a clip by the operator `Scan`: every runtime that knows it gets the same numbers.
    Scan,
    /// All frames of a clip by the operator `RNN`, `GRU` or `LSTM`.
    Operator,
    /// One frame: state in, state and probabilities out. No control flow.
    Step,
}

impl FromStr for Form {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "scan" => Ok(Self::Scan),
            "operator" => Ok(Self::Operator),
            "step" => Ok(Self::Step),
            _ => Err(Error::Unknown {
                what: "form of an ONNX model",
                name: name.into(),
                choices: "scan, operator, step",
            }),
        }
    }
}

/// Names of the graph's inputs and outputs.
pub const FRAMES: &str = "frames";
/// See [`FRAMES`]: one frame, of [`Form::Step`].
pub const FRAME: &str = "frame";
/// See [`FRAMES`].
pub const PROBABILITIES: &str = "probabilities";

/// A graph that is being built, and what it is built from.
struct Export<'a> {
    config: &'a Config,
    weights: &'a Weights,
    kept: Numbers,
    graph: Builder,
}

/// The bytes of an ONNX file: the model of a folder in a form, or in the one that it has (`Scan`; TT-MLP has no
/// recurrence).
///
/// # Shapes
/// `frames` u8 `[T, B, height, width, 3]` to `probabilities` `[B, K]`, T and B open. TT-MLP: `frames`
/// `[B, take, height, width, 3]`. [`Form::Step`]: `frame` `[B, height, width, 3]` and `h` `[B, H]` (LSTM: `c` too) to
/// `probabilities`, `h_next` (and `c_next`); of the layers above `layer.2.h` and so on; for a mean of states `sum`
/// `[B, H]` and `count` `[B, 1]`, for the largest `most` `[B, H]`. All states start at zero.
///
/// # Errors
/// [`Error::Unsupported`] for a form that the model cannot have.
pub fn export(config: &Config, weights: &Weights, form: Option<Form>, kept: Numbers) -> Result<Vec<u8>> {
    let graph = Builder::new("model", kept);
    let mut export = Export { config, weights, kept, graph };
    if config.frames.warm_up_to > 0 {
        return Err(Error::Unsupported(format!(
            "clips of fewer than {} frames begin with steps without input in this model (warm_up_to), which no ONNX \
             form has: export a model trained with train.warm_up_to = 0",
            config.frames.warm_up_to
        )));
    }
    match (config.cell()?, form) {
        (None, None) => export.mlp()?,
        (None, Some(_)) => {
            return Err(Error::Unsupported(format!(
                "{} has no recurrence and so no form of one: leave --form out",
                config.model
            )));
        }
        (Some(cell), Some(Form::Step)) => export.step(cell)?,
        (Some(cell), Some(Form::Operator)) => export.clip(cell, true)?,
        (Some(cell), None | Some(Form::Scan)) => export.clip(cell, false)?,
    }
    let entries =
        [("classes", serde_json::to_string(&config.classes)), ("config", serde_json::to_string(config))];
    let mut metadata_props = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let value = value.map_err(|error| Error::Unsupported(error.to_string()))?;
        metadata_props.push(Entry { key: key.into(), value });
    }
    let model = Model {
        ir_version: IR,
        producer_name: "tt-rnn".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: format!(
            "{} on frames of {} x {} pixels",
            config.model, config.frames.width, config.frames.height
        ),
        graph: Some(export.graph.finish()),
        opset_import: vec![OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props,
    };
    Ok(model.encode_to_vec())
}

impl Export<'_> {
    /// The axes of frames behind the leading ones.
    fn frames(&mut self, name: &str, leading: &[Axis]) {
        let frames = &self.config.frames;
        let picture = [frames.height, frames.width, 3].map(Axis::Of);
        self.graph.input(name, UINT8, &[leading, &picture].concat());
    }

    fn values(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        let tensor =
            self.weights.get(name).ok_or_else(|| Error::Unsupported(format!("no tensor {name:?}")))?;
        let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        self.check(name, &values)?;
        Ok((tensor.dims().to_vec(), values))
    }

    /// Refuses weights that cannot be kept as asked for.
    fn check(&self, name: &str, values: &[f32]) -> Result<()> {
        if self.kept == Numbers::F32 { Ok(()) } else { numbers::fits_half(name, values) }
    }

    /// A matrix under its name in the folder.
    fn matrix(&mut self, name: &str) -> Result<String> {
        let (dims, values) = self.values(name)?;
        Ok(self.graph.weight(name, &dims, &values, Some(1)))
    }

    /// A bias, added.
    fn add(&mut self, value: &str, bias: &str) -> Result<String> {
        let (dims, values) = self.values(bias)?;
        let bias = self.graph.weight(bias, &dims, &values, None);
        Ok(self.graph.op("Add", &[value, &bias], &[]))
    }

    /// From what is read of the states, `[B, D·H]`, to the output.
    fn classify(&mut self, hidden: &str) -> Result<()> {
        let classes = self.config.classes.len();
        let kernel = self.matrix("classifier.kernel")?;
        let scores = self.graph.op("MatMul", &[hidden, &kernel], &[]);
        let scores = self.add(&scores, "classifier.bias")?;
        if self.config.multi_label {
            self.graph.node("Sigmoid", &[&scores], &[PROBABILITIES], &[]);
        } else {
            self.graph.node("Softmax", &[&scores], &[PROBABILITIES], &[("axis", Setting::Int(-1))]);
        }
        self.graph.output(PROBABILITIES, &[Axis::Named("B"), Axis::Of(classes)]);
        Ok(())
    }

    fn mlp(&mut self) -> Result<()> {
        let take = self.config.frames.take.unwrap_or(1);
        self.frames(FRAMES, &[Axis::Named("B"), Axis::Of(take)]);
        let x = self.pixels(FRAMES);
        let matrices = self.config.row_matrices()?;
        let x = self.project(&x, 1, matrices[0], "input")?; // [B, H]
        let x = self.add(&x, "input.bias")?;
        let hidden = self.graph.op("Tanh", &[&x], &[]);
        self.classify(&hidden)
    }

    /// One frame.
    fn step(&mut self, cell: Cell) -> Result<()> {
        let (config, batch) = (self.config, Axis::Named("B"));
        if config.directions().len() > 1 {
            return Err(Error::Unsupported(format!(
                "{} reads clips back to front too (layers.bidirectional), and form step is given the first frame first: \
                 forms scan and operator have it",
                config.model
            )));
        }
        let state = [batch, Axis::Of(config.hidden())];
        self.frames(FRAME, &[batch]);
        let mut rows = self.pixels(FRAME);
        let mut next: Vec<(String, String, Axis)> = Vec::new();
        for (place, matrix) in config.places().zip(config.row_matrices()?) {
            let place = place.name();
            let states = states(cell, &place);
            for name in &states {
                self.graph.input(name, FLOAT, &state);
            }
            let x = self.pre_activations(&rows, 1, matrix, &place)?; // [B, G·H]
            let values = self.cell(cell, &place, &x, &states)?;
            rows.clone_from(&values[0]);
            next.extend(states.into_iter().zip(values).map(|(name, value)| (name, value, state[1])));
        }
        let read = self.read_so_far(&rows, &mut next);
        self.classify(&read)?;
        for (name, value, units) in next {
            let output = format!("{name}_next");
            self.graph.node("Identity", &[&value], &[&output], &[]);
            self.graph.output(&output, &[batch, units]);
        }
        Ok(())
    }

    /// What the classifier reads of the states up to the one of this frame, and what that takes from frame to frame.
    fn read_so_far(&mut self, h: &str, next: &mut Vec<(String, String, Axis)>) -> String {
        let units = Axis::Of(self.config.hidden());
        let state = |graph: &mut Builder, name: &str, units: Axis| {
            graph.input(name, FLOAT, &[Axis::Named("B"), units]);
        };
        let one = |graph: &mut Builder| graph.floats("one", &[], &[1.0]);
        match self.config.readout() {
            Readout::Last => h.to_owned(),
            Readout::Mean => {
                state(&mut self.graph, "sum", units);
                state(&mut self.graph, "count", Axis::Of(1));
                let one = one(&mut self.graph);
                let sum = self.graph.op("Add", &["sum", h], &[]);
                let count = self.graph.op("Add", &["count", &one], &[]);
                next.push(("sum".into(), sum.clone(), units));
                next.push(("count".into(), count.clone(), Axis::Of(1)));
                self.graph.op("Div", &[&sum, &count], &[])
            }
            // States are above -1: with one added, zeros are below all of them.
            Readout::Max => {
                state(&mut self.graph, "most", units);
                let one = one(&mut self.graph);
                let above = self.graph.op("Add", &[h, &one], &[]);
                let most = self.graph.op("Max", &["most", &above], &[]);
                next.push(("most".into(), most.clone(), units));
                self.graph.op("Sub", &[&most, &one], &[])
            }
        }
    }

    /// All frames of clips of one length.
    fn clip(&mut self, cell: Cell, operator: bool) -> Result<()> {
        self.frames(FRAMES, &[Axis::Named("T"), Axis::Named("B")]);
        let mut rows = self.pixels(FRAMES);
        let (matrices, readout) = (self.config.row_matrices()?, self.config.readout());
        for (layer, matrix) in matrices.iter().enumerate() {
            let whole = layer + 1 < matrices.len() || readout != Readout::Last;
            let mut states = Vec::new();
            for place in self.config.places().filter(|place| place.layer == layer) {
                let x = self.features(&rows, *matrix, place, operator)?;
                let pass = Pass { cell, place, x, whole };
                states.push(if operator { self.operator(&pass, *matrix)? } else { self.scan(&pass)? });
            }
            rows = match &states[..] {
                [one] => one.clone(),
                two => {
                    let two: Vec<&str> = two.iter().map(String::as_str).collect();
                    self.graph.op("Concat", &two, &[("axis", Setting::Int(-1))])
                }
            };
        }
        let over_time = [("axes", Setting::Ints(&[0])), ("keepdims", Setting::Int(0))];
        let read = match readout {
            Readout::Last => rows,
            Readout::Mean => self.graph.op("ReduceMean", &[&rows], &over_time),
            Readout::Max => self.graph.op("ReduceMax", &[&rows], &over_time),
        };
        self.classify(&read)
    }
}
