//! A model frame by frame: what a camera needs.

use super::{Trained, squash};
use crate::call::LayerCall;
use crate::models::{Form, find};
use crate::projection::{Memory, Projection};
use crate::recurrence::{Cell, GateActivation};
use crate::{Error, Result};
use std::sync::Arc;
use tt_core::apply::Rows;

/// A recurrent model that is given one frame after the other and says after each what the clip so far shows.
///
/// # Cost
/// Per frame the projection of one row and one step. Memory is taken when the first frame comes, and not again.
#[derive(Debug)]
pub struct Stream {
    projection: Arc<dyn Projection>,
    input: Vec<f32>,
    memory: Memory,
    call: LayerCall,
    cell: Cell,
    hard: bool,
    multi_label: bool,
    /// `[U | b]`, `[H, G·H]` and `[G·H]`.
    recurrent: Vec<f32>,
    /// `[H, K]` and `[K]`.
    classifier: (Vec<f32>, Vec<f32>),
    bytes: usize,
    h: Vec<f32>,
    /// The LSTM's cell; of the GRU r∘h.
    c: Vec<f32>,
    /// Pre-activations, then activations, `[G·H]`.
    gates: Vec<f32>,
    scores: Vec<f64>,
}

impl Trained {
    /// The model as a stream, at the beginning of a clip.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model without recurrence, and for one that begins short clips with steps without
    /// input: how many, only the end of the clip tells.
    pub fn stream(&self) -> Result<Stream> {
        let (config, refused) = (&self.config, |reason: &str| {
            Err(Error::Unsupported(format!("{} cannot be given frame by frame: {reason}", self.config.model)))
        });
        let Form::Recurrent { cell, input, .. } = find(&config.model)?.form else {
            return refused("it has no recurrence");
        };
        if config.frames.warm_up_to > 0 {
            return refused("frames.warm_up_to is not 0");
        }
        let projection = (input.new)(&config.model_config()?, cell.gates())?;
        if projection.kernel().is_none() {
            return refused("its input matrix has no kernel for the CPU");
        }
        let value = |name: &str| -> Result<Vec<f32>> {
            let parameters = self.model.parameters();
            let found = parameters.iter().find(|parameter| parameter.name == name);
            let found = found.ok_or_else(|| Error::Unsupported(format!("no parameter is called {name}")))?;
            Ok(found.var.flatten_all()?.to_vec1()?)
        };
        let (hidden, classes) = (config.hidden(), config.classes.len());
        let activation = config.steps.as_ref().map_or("", |steps| steps.gate_activation.as_str());
        Ok(Stream {
            input: value(projection.weights().name)?,
            projection,
            memory: Memory::default(),
            call: LayerCall { lengths: vec![1], ..LayerCall::default() },
            cell,
            hard: activation.parse::<GateActivation>()? == GateActivation::HardSigmoid,
            multi_label: config.multi_label,
            recurrent: value("recurrent")?,
            classifier: (value("classifier.kernel")?, value("classifier.bias")?),
            bytes: config.frames.bytes(),
            h: vec![0.0; hidden],
            c: vec![0.0; hidden],
            gates: vec![0.0; cell.gates() * hidden],
            scores: vec![0.0; classes],
        })
    }
}

impl Stream {
    /// The next frame, `[height, width, 3]`; probabilities of the classes `[K]` of the clip so far.
    ///
    /// # Errors
    /// [`Error::Size`] for bytes that are not one frame; the state stays as it was.
    pub fn push(&mut self, frame: &[u8]) -> Result<&[f64]> {
        if frame.len() != self.bytes {
            return Err(Error::Size { what: "a frame", expected: self.bytes, found: frame.len() });
        }
        if let Some(kernel) = self.projection.kernel() {
            kernel.forward(Rows::U8(frame), &self.input, &mut self.gates, &mut self.memory, &self.call)?;
        }
        let (kernel, bias) = self.recurrent.split_at(self.h.len() * self.gates.len());
        self.gates.iter_mut().zip(bias).for_each(|(gate, bias)| *gate += bias);
        let gate = if self.hard { hard_sigmoid } else { sigmoid };
        step(self.cell, gate, kernel, &mut self.gates, &mut self.h, &mut self.c);
        let (kernel, bias) = &self.classifier;
        for (class, (score, first)) in self.scores.iter_mut().zip(bias).enumerate() {
            let column = kernel[class..].iter().step_by(bias.len());
            let sum: f32 = self.h.iter().zip(column).map(|(h, weight)| h * weight).sum();
            *score = f64::from(sum + first);
        }
        squash(&mut self.scores, self.multi_label);
        Ok(&self.scores)
    }

    /// Forgets the clip: the next frame is the first of another.
    pub fn restart(&mut self) {
        self.h.fill(0.0);
        self.c.fill(0.0);
    }
}

fn hard_sigmoid(x: f32) -> f32 {
    (0.2 * x + 0.5).clamp(0.0, 1.0)
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// `out += v · U` in some columns of `U` with rows of `width`.
fn add_product(v: &[f32], kernel: &[f32], width: usize, first: usize, out: &mut [f32]) {
    for (value, row) in v.iter().zip(kernel.chunks_exact(width)) {
        let row = &row[first..first + out.len()];
        out.iter_mut().zip(row).for_each(|(out, weight)| *out += value * weight);
    }
}

/// One step from `h` (LSTM: and `c`; of the GRU `c` is room for r∘h) with pre-activations in `gates`, bias included.
fn step(cell: Cell, gate: fn(f32) -> f32, kernel: &[f32], gates: &mut [f32], h: &mut [f32], c: &mut [f32]) {
    let (n, width) = (h.len(), gates.len());
    match cell {
        Cell::Rnn => {
            add_product(h, kernel, width, 0, gates);
            h.iter_mut().zip(gates).for_each(|(h, x)| *h = x.tanh());
        }
        Cell::Gru => {
            let (zr, candidate) = gates.split_at_mut(2 * n);
            add_product(h, kernel, width, 0, zr);
            for x in zr.iter_mut() {
                *x = gate(*x);
            }
            let (z, r) = zr.split_at(n);
            c.iter_mut().zip(r.iter().zip(&*h)).for_each(|(c, (r, h))| *c = r * h);
            add_product(c, kernel, width, 2 * n, candidate);
            for ((h, z), x) in h.iter_mut().zip(z).zip(candidate) {
                *h = z * *h + (1.0 - z) * x.tanh();
            }
        }
        Cell::Lstm => {
            add_product(h, kernel, width, 0, gates);
            for (at, (h, c)) in h.iter_mut().zip(c).enumerate() {
                let [i, f, g, o] = [0, 1, 2, 3].map(|block| gates[block * n + at]);
                *c = gate(f) * *c + gate(i) * g.tanh();
                *h = gate(o) * c.tanh();
            }
        }
    }
}
