//! A model frame by frame: what a camera needs.

use super::config::FrameWindow;
use super::step::Step;
use super::{Trained, recurrent, tensors};
use crate::models::{Matrices, Readout, squash};
use crate::parameters::Parameter;
use crate::projection::Fixed;
use crate::recurrence::{Cell, GateActivation};
use crate::row::RowProduct;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use tt_core::apply::Rows;
use tt_core::simd::Isa;

/// A recurrent model that is given one frame after the other and says after each what the clip so far shows.
///
/// # Cost
/// Per frame and layer the projection of one row and one step, on the thread that asks; a factorized U is multiplied out once.
/// Memory is taken when the first frame comes, and not again.
#[derive(Debug)]
pub struct Stream {
    /// The lowest first.
    layers: Vec<Layer>,
    isa: Isa,
    multi_label: bool,
    /// `[H, K]` and `[K]`.
    classifier: (Vec<f32>, Vec<f32>),
    bytes: usize,
    readout: Readout,
    /// Of the states so far, what the classifier reads: `[H]`.
    read: Vec<f32>,
    /// How many there were.
    frames: f32,
    logits: Vec<f32>,
    scores: Vec<f64>,
}

/// A layer with its state.
#[derive(Debug)]
struct Layer {
    input: Box<dyn Fixed>,
    cell: Cell,
    activation: GateActivation,
    /// U `[H, G·H]` and b `[G·H]`.
    recurrent: (Vec<f32>, Vec<f32>),
    h: Vec<f32>,
    /// The LSTM's cell; of the GRU r∘h.
    c: Vec<f32>,
    /// Pre-activations `[G·H]`.
    gates: Vec<f32>,
}

impl Trained {
    /// The model as a stream, at the beginning of a clip.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a model without recurrence, for one that reads clips back to front too, for one that begins
    /// short clips with steps without input, and for one that sees other frames of a long clip than the first: how many and
    /// which, only the end of the clip tells.
    pub fn stream(&self) -> Result<Stream> {
        let (config, refused) = (&self.config, |reason: &str| {
            Err(Error::Unsupported(format!("{} cannot be given frame by frame: {reason}", self.config.model)))
        });
        let Some(cell) = config.cell()? else { return refused("it has no recurrence") };
        if config.frames.warm_up_to > 0 {
            return refused("frames.warm_up_to is not 0");
        }
        if config.frames.window != FrameWindow::First {
            return refused("frames.window is not \"first\"");
        }
        if config.directions().len() > 1 {
            return refused("layers.bidirectional is true: it reads a clip from its end, too");
        }
        let on_cpu = |parameter: Parameter| -> Result<(String, Tensor)> {
            Ok((parameter.name, parameter.var.as_detached_tensor().to_device(&Device::Cpu)?))
        };
        let parameters = self.model.parameters().into_iter().map(on_cpu).collect::<Result<_>>()?;
        let named = tensors::from_checkpoint(config, &parameters)?.into_iter().collect();
        let flat = |name: &str| -> Result<Vec<f32>> {
            let found = parameters.get(name).map(Tensor::flatten_all).transpose()?;
            Ok(found
                .ok_or_else(|| Error::Unsupported(format!("no parameter is called {name}")))?
                .to_vec1()?)
        };
        let (hidden, classes) = (config.hidden(), config.classes.len());
        let activation = config.steps.as_ref().map_or("", |steps| steps.gate_activation.as_str()).parse()?;
        let Matrices { rows, .. } = config.matrices()?;
        let mut layers = Vec::with_capacity(rows.len());
        for (projection, place) in rows.iter().zip(config.places()) {
            let place = place.name();
            let weights = flat(&format!("{place}{}", projection.weights().name))?;
            let Some(input) = projection.fixed(weights)? else {
                return refused("its input matrix has no kernel for single frames");
            };
            layers.push(Layer {
                input,
                cell,
                activation,
                recurrent: recurrent(config, &named, &place)?,
                h: vec![0.0; hidden],
                c: vec![0.0; hidden],
                gates: vec![0.0; cell.gates() * hidden],
            });
        }
        Ok(Stream {
            layers,
            isa: Isa::best(),
            multi_label: config.multi_label,
            classifier: (flat("classifier.kernel")?, flat("classifier.bias")?),
            bytes: config.frames.bytes(),
            readout: config.readout(),
            read: vec![0.0; hidden],
            frames: 0.0,
            logits: vec![0.0; classes],
            scores: vec![0.0; classes],
        })
    }
}

impl Layer {
    /// The state after one more row.
    fn push(&mut self, row: Rows<'_>, isa: Isa) -> Result<()> {
        self.input.forward(row, &mut self.gates)?;
        let (kernel, bias) = &self.recurrent;
        self.gates.iter_mut().zip(bias).for_each(|(gate, bias)| *gate += bias);
        let (gates, h, c) = (&mut self.gates[..], &mut self.h[..], &mut self.c[..]);
        isa.run(Step { cell: self.cell, activation: self.activation, kernel, gates, h, c });
        Ok(())
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
        let mut row = Rows::U8(frame);
        for layer in &mut self.layers {
            layer.push(row, self.isa)?;
            row = Rows::F32(&layer.h);
        }
        self.frames += 1.0;
        let states = self.layers.last().map_or(&[][..], |layer| &layer.h);
        for (read, state) in self.read.iter_mut().zip(states) {
            *read = match self.readout {
                Readout::Mean => *read + (state - *read) / self.frames,
                Readout::Max if self.frames > 1.0 => read.max(*state),
                Readout::Last | Readout::Max => *state,
            };
        }
        let (kernel, bias) = &self.classifier;
        self.logits.copy_from_slice(bias);
        self.isa.run(RowProduct::of(&self.read, (kernel, bias.len()), 0, &mut self.logits));
        self.scores.iter_mut().zip(&self.logits).for_each(|(score, logit)| *score = f64::from(*logit));
        squash(&mut self.scores, self.multi_label);
        Ok(&self.scores)
    }

    /// Forgets the clip: the next frame is the first of another.
    pub fn restart(&mut self) {
        for layer in &mut self.layers {
            layer.h.fill(0.0);
            layer.c.fill(0.0);
        }
        self.read.fill(0.0);
        self.frames = 0.0;
    }
}
