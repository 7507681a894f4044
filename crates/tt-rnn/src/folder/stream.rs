//! A model frame by frame: what a camera needs.

use super::Trained;
use super::config::FrameWindow;
use super::step::Step;
use crate::models::{Form, find, squash};
use crate::projection::Fixed;
use crate::recurrence::{Cell, GateActivation};
use crate::row::RowProduct;
use crate::{Error, Result};
use tt_core::simd::Isa;

/// A recurrent model that is given one frame after the other and says after each what the clip so far shows.
///
/// # Cost
/// Per frame the projection of one row and one step, on the thread that asks. Memory is taken when the first frame comes,
/// and not again.
#[derive(Debug)]
pub struct Stream {
    input: Box<dyn Fixed>,
    isa: Isa,
    cell: Cell,
    activation: GateActivation,
    multi_label: bool,
    /// `[U | b]`, `[H, G·H]` and `[G·H]`.
    recurrent: Vec<f32>,
    /// `[H, K]` and `[K]`.
    classifier: (Vec<f32>, Vec<f32>),
    bytes: usize,
    h: Vec<f32>,
    /// The LSTM's cell; of the GRU r∘h.
    c: Vec<f32>,
    /// Pre-activations `[G·H]`.
    gates: Vec<f32>,
    logits: Vec<f32>,
    scores: Vec<f64>,
}

impl Trained {
    /// The model as a stream, at the beginning of a clip.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model without recurrence, for one that begins short clips with steps without input, and
    /// for one that sees other frames of a long clip than the first: how many and which, only the end of the clip tells.
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
        if config.frames.window != FrameWindow::First {
            return refused("frames.window is not \"first\"");
        }
        let projection = (input.new)(&config.model_config()?, cell.gates())?;
        let value = |name: &str| -> Result<Vec<f32>> {
            let parameters = self.model.parameters();
            let found = parameters.iter().find(|parameter| parameter.name == name);
            let found = found.ok_or_else(|| Error::Unsupported(format!("no parameter is called {name}")))?;
            Ok(found.var.flatten_all()?.to_vec1()?)
        };
        let Some(input) = projection.fixed(value(projection.weights().name)?)? else {
            return refused("its input matrix has no kernel for single frames");
        };
        let (hidden, classes) = (config.hidden(), config.classes.len());
        let activation = config.steps.as_ref().map_or("", |steps| steps.gate_activation.as_str());
        Ok(Stream {
            input,
            isa: Isa::best(),
            cell,
            activation: activation.parse()?,
            multi_label: config.multi_label,
            recurrent: value("recurrent")?,
            classifier: (value("classifier.kernel")?, value("classifier.bias")?),
            bytes: config.frames.bytes(),
            h: vec![0.0; hidden],
            c: vec![0.0; hidden],
            gates: vec![0.0; cell.gates() * hidden],
            logits: vec![0.0; classes],
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
        self.input.forward(frame, &mut self.gates)?;
        let (kernel, bias) = self.recurrent.split_at(self.h.len() * self.gates.len());
        self.gates.iter_mut().zip(bias).for_each(|(gate, bias)| *gate += bias);
        let (gates, h, c) = (&mut self.gates[..], &mut self.h[..], &mut self.c[..]);
        self.isa.run(Step { cell: self.cell, activation: self.activation, kernel, gates, h, c });
        let (kernel, bias) = &self.classifier;
        self.logits.copy_from_slice(bias);
        self.isa.run(RowProduct::of(&self.h, (kernel, bias.len()), 0, &mut self.logits));
        self.scores.iter_mut().zip(&self.logits).for_each(|(score, logit)| *score = f64::from(*logit));
        squash(&mut self.scores, self.multi_label);
        Ok(&self.scores)
    }

    /// Forgets the clip: the next frame is the first of another.
    pub fn restart(&mut self) {
        self.h.fill(0.0);
        self.c.fill(0.0);
    }
}
