//! An LSTM that attends to places of what a CNN sees of each frame, trained end to end: what the paper stands beside in its
//! table of published scores.
//!
//! # Paper
//! Sharma, Kiros and Salakhutdinov 2015, "Action Recognition using Visual Attention": see
//! [`crate::recurrence::attention`]. Cross-entropy after every frame, and a prediction that is the mean of those after all
//! frames; a penalty `λ sum_i (1 - sum_t l_{t,i})²` on places that are looked at more, or less, than once.
//!
//! # Departs
//! The CNN is small, begins at random and is trained too ([`crate::encoder`]). One linear classifier, without a hidden layer.
//! Cross-entropy and penalty of a clip are both divided by its frames, so that a long clip counts no more than a short one.

use super::pass::Dropout;
use super::recurrent::Saturated;
use super::state_weights::StateWeights;
use super::{AttentionMaps, Classifier, Mode, Model, ModelConfig, PackedFrames, RecurrentForm, Scores};
use crate::encoder::{Encoder, Plan, Seen};
use crate::layer::LayerCall;
use crate::parameters::{Parameter, glorot_uniform};
use crate::rates::Kind;
use crate::recurrence::Cell;
use crate::recurrence::attention::{Attention, Weights};
use crate::{Error, Result, encoder, packed};
use candle_core::{D, Device, Tensor};
use tt_core::rng::stream;

/// What an LSTM with attention consists of: the encoder that it looks at, its sizes, and no weights.
///
/// # Errors
/// As [`encoder::plan`]; layers, directions, a read-out, a U or padding that it does not have.
pub fn sizes(config: &ModelConfig) -> Result<(Plan, Attention)> {
    let not_dense = (config.recurrent != RecurrentForm::Dense).then_some("model.recurrent");
    let padded = (config.warm_up_to > 0).then_some("train.warm_up_to");
    if let Some(key) = config.stack.unusual().or(not_dense).or(padded) {
        return Err(Error::Unsupported(format!(
            "attention-lstm is one layer with a full U that reads forward, and predicts after every frame: leave {key} out"
        )));
    }
    let plan = encoder::plan(config)?;
    let attention = Attention {
        gate_activation: config.gate_activation,
        hidden: config.dense_hidden,
        places: plan.places(),
        features: plan.features(),
    };
    Ok((plan, attention))
}

/// An encoder, an LSTM that attends to its maps, and a classifier.
#[derive(Debug)]
pub(super) struct AttentionLstm {
    encoder: Encoder,
    attention: Attention,
    input: Parameter,
    recurrent: StateWeights,
    /// From the state to places.
    places: Parameter,
    /// From mean features to the first state and cell.
    start: Parameter,
    start_bias: Parameter,
    classifier: Classifier,
    dropout: Dropout,
    penalty: f32,
}

impl AttentionLstm {
    pub(super) fn new(config: &ModelConfig, device: &Device, seed: u64) -> Result<Self> {
        let (_, attention) = sizes(config)?;
        let Attention { hidden, places, features, .. } = attention;
        let matrix = |name: &str, kind: Kind, (rows, to, columns): (usize, usize, usize), purpose: &str| {
            let values = glorot_uniform(rows, to, columns, &mut stream(seed, purpose));
            Parameter::new(name, kind, values, &[rows, columns], device)
        };
        let (reads, width) = (Kind::InputMatrix { fan_in: features }, 4 * hidden);
        let of_states = Kind::Matrix { fan_in: hidden };
        let bias = vec![0.0; 2 * hidden];
        Ok(Self {
            encoder: Encoder::new(config, Seen::Map, device, seed)?,
            attention,
            input: matrix("input.kernel", reads, (features, width, width), "init/input")?,
            recurrent: StateWeights::new(None, (Cell::Lstm, hidden), "", device, seed)?,
            places: matrix("attention.kernel", of_states, (hidden, places, places), "init/attention")?,
            start: matrix("start.kernel", reads, (features, hidden, 2 * hidden), "init/start")?,
            start_bias: Parameter::new("start.bias", Kind::Vector, bias, &[2 * hidden], device)?,
            classifier: Classifier::new(hidden, config, device, seed)?,
            dropout: Dropout::new(config, true),
            penalty: config.attention_penalty,
        })
    }

    /// Lets `run` have the maps of these frames and the weights.
    fn with<T>(
        &self,
        frames: &PackedFrames,
        call: &LayerCall,
        run: impl FnOnce(&Tensor, Weights<'_>) -> Result<T>,
    ) -> Result<T> {
        let maps = self.encoder.features(&frames.rows)?; // [sum T_b, P·F]
        let recurrent = self.recurrent.joined(call.train)?;
        run(
            &maps,
            Weights {
                input: &self.input.var,
                recurrent: &recurrent,
                places: &self.places.var,
                start: &self.start.var,
                start_bias: &self.start_bias.var,
            },
        )
    }

    /// States `[sum T_b, H]`, and the shares of places that were read, `[sum T_b, P]`.
    fn read(&self, frames: &PackedFrames, call: &LayerCall) -> Result<(Tensor, Tensor)> {
        let Attention { hidden, places, .. } = self.attention;
        let read = self.with(frames, call, |maps, weights| self.attention.forward(maps, weights, call))?;
        Ok((read.narrow(1, 0, hidden)?.contiguous()?, read.narrow(1, hidden, places)?.contiguous()?))
    }

    /// Mean over the clips of `λ / T_b · sum_i (1 - sum_t l_{t,i})²`.
    fn penalty(&self, shares: &Tensor, lengths: &[usize]) -> Result<Tensor> {
        let clips = (lengths.len(), 1);
        let of_clips = |f: &dyn Fn(f32) -> f32| -> Result<Tensor> {
            let values = lengths.iter().map(|length| f(*length as f32)).collect();
            Ok(Tensor::from_vec(values, clips, shares.device())?)
        };
        let sums = packed::mean(shares, lengths)?.broadcast_mul(&of_clips(&|length| length)?)?; // [B, P]
        let of_places = ((sums - 1.0)?.sqr()?.sum_keepdim(D::Minus1)? * of_clips(&f32::recip)?)?; // [B, 1]
        Ok((of_places.mean_all()? * f64::from(self.penalty))?)
    }
}

impl Model for AttentionLstm {
    fn logits(&self, frames: &PackedFrames, mode: Mode<'_>) -> Result<Tensor> {
        self.scores(frames, mode)?.logits()
    }

    fn scores(&self, frames: &PackedFrames, mode: Mode<'_>) -> Result<Scores> {
        let lengths = &frames.lengths;
        let plain = LayerCall { lengths: lengths.clone(), ..LayerCall::default() };
        let call = match mode {
            Mode::Train(stream) => self.dropout.drawn((Cell::Lstm, self.attention.hidden), plain, stream),
            Mode::Evaluate => plain,
        };
        let (states, shares) = self.read(frames, &call)?;
        let penalised = call.train && self.penalty > 0.0;
        Ok(Scores {
            rows: self.classifier.logits(&states)?, // [sum T_b, K]
            steps: Some(lengths.clone()),
            penalty: penalised.then(|| self.penalty(&shares, lengths)).transpose()?,
        })
    }

    fn parameters(&self) -> Vec<Parameter> {
        let own = [&self.input, &self.places, &self.start, &self.start_bias].map(Clone::clone);
        let parts =
            [self.encoder.parameters(), &own, &self.recurrent.parameters(), &self.classifier.parameters()];
        parts.concat()
    }

    /// All between a frame and the gates, and what makes of its features the first state.
    fn input_parameters(&self) -> usize {
        let matrices = [&self.input, &self.start].map(|parameter| parameter.var.elem_count());
        self.encoder.plan().kernels() + matrices.iter().sum::<usize>()
    }

    fn reads_stored(&self) -> bool {
        self.encoder.reads_stored()
    }

    fn saturated_gates(&self, frames: &PackedFrames) -> Result<Option<f64>> {
        let call = LayerCall { lengths: frames.lengths.clone(), ..LayerCall::default() };
        let of = |maps: &Tensor, weights: Weights<'_>| self.attention.activations(maps, weights, &call);
        let activations = self.with(frames, &call, of)?.flatten_all()?.to_vec1::<f32>()?;
        let mut found = Saturated::default();
        found.count(&activations, Cell::Lstm, self.attention.hidden);
        Ok(found.share())
    }

    fn attention(&self, frames: &PackedFrames) -> Result<Option<AttentionMaps>> {
        let call = LayerCall { lengths: frames.lengths.clone(), ..LayerCall::default() };
        let (_, shares) = self.read(frames, &call)?;
        let (height, width) = self.encoder.plan().grid();
        Ok(Some(AttentionMaps { height, width, shares: shares.to_vec2()? }))
    }
}
