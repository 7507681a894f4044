//! The input projection: dense or Tensor Train, the only difference between a model and its TT twin.

use crate::dense::{Dense, InputMask};
use crate::{Error, Result};
use std::str::FromStr;
use std::sync::Mutex;
use tt_core::TtShape;
use tt_core::apply::{Affine, Fused, Rows, Saved};

/// How the gates of a TT projection share cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateLayout {
    /// One train whose first output mode carries the gates (the paper's TT-GRU and TT-LSTM).
    Concatenated,
    /// One train per gate (the deck's vanilla form).
    Separate,
}

impl FromStr for GateLayout {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "concatenated" => Ok(Self::Concatenated),
            "separate" => Ok(Self::Separate),
            _ => Err(Error::Unknown {
                what: "gate layout",
                name: name.to_owned(),
                choices: "concatenated, separate",
            }),
        }
    }
}

/// A linear map from rows `[n, M]` to pre-activations `[n, G·H]`, without bias.
#[derive(Debug)]
pub enum Projection {
    /// `W [M, G·H]`, row-major.
    Dense(DenseProjection),
    /// One train (concatenated gates) or G trains, one after the other in the weight vector (separate gates).
    Tt(TtProjection),
    /// The rows are the pre-activations already (another operator made them); the weight tensor is unused.
    Identity,
}

/// The dense kernel of a projection.
#[derive(Debug)]
pub struct DenseProjection {
    dense: Dense,
    gates: usize,
}

impl DenseProjection {
    /// A projection of M = `features` to G·H = `outputs`.
    pub fn new(features: usize, outputs: usize, gates: usize, affine: Affine) -> Self {
        Self { dense: Dense::new(features, outputs, affine), gates }
    }

    fn mask<'a>(&self, call: &ProjectionCall<'a>) -> Option<InputMask<'a>> {
        Some(call.dropout?.mask(self.gates, call.lengths))
    }
}

/// Dropout of the input features, one mask per gate and clip, constant over time.
#[derive(Debug, Clone, Copy)]
pub struct InputDropout {
    /// Share of the features that a gate does not see.
    pub probability: f32,
    /// Draws the masks.
    pub seed: u64,
}

impl InputDropout {
    /// The masks of these clips.
    pub(crate) fn mask(self, gates: usize, lengths: &[usize]) -> InputMask<'_> {
        InputMask { seed: self.seed, probability: self.probability, gates, lengths }
    }
}

/// The fused TT kernels of a projection, one per train.
#[derive(Debug)]
pub struct TtProjection {
    trains: Vec<Fused>,
    train_params: usize,
    train_outputs: usize,
}

/// What a forward pass keeps for the backward pass; reused across steps.
#[derive(Debug, Default)]
pub struct ProjectionSaved {
    trains: Vec<Saved>,
    scratch: Vec<f32>,
}

impl TtProjection {
    /// Builds the kernels; `shape` has the gate factor of all gates together.
    pub fn new(shape: &TtShape, layout: GateLayout, affine: Affine) -> Result<Self> {
        let trains = match layout {
            GateLayout::Concatenated => vec![shape.clone()],
            GateLayout::Separate => vec![shape.with_gates(1)?; shape.gates()],
        };
        Ok(Self {
            train_params: trains[0].params(),
            train_outputs: trains[0].out_features(),
            trains: trains.iter().map(|train| Fused::new(train, affine)).collect(),
        })
    }

    /// Weights of all trains together.
    pub fn params(&self) -> usize {
        self.train_params * self.trains.len()
    }

    fn forward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        out: &mut [f32],
        saved: &mut ProjectionSaved,
        keep: bool,
    ) -> Result<()> {
        saved.trains.resize_with(self.trains.len(), Saved::default);
        if let [train] = self.trains.as_slice() {
            return Ok(train.forward(rows, weights, out, keep.then_some(&mut saved.trains[0]))?);
        }
        let gates = self.trains.len();
        let n = out.len() / (gates * self.train_outputs);
        saved.scratch.resize(n * self.train_outputs, 0.0);
        for (gate, train) in self.trains.iter().enumerate() {
            let cores = &weights[gate * self.train_params..][..self.train_params];
            train.forward(rows, cores, &mut saved.scratch, keep.then_some(&mut saved.trains[gate]))?;
            let columns = saved.scratch.chunks_exact(self.train_outputs);
            for (row, part) in out.chunks_exact_mut(gates * self.train_outputs).zip(columns) {
                row[gate * self.train_outputs..][..self.train_outputs].copy_from_slice(part);
            }
        }
        Ok(())
    }

    fn backward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        saved: &mut ProjectionSaved,
        dout: &[f32],
        dweights: &mut [f32],
        mut dx: Option<&mut [f32]>,
    ) -> Result<()> {
        if let [train] = self.trains.as_slice() {
            return Ok(train.backward(rows, weights, &saved.trains[0], dout, dweights, dx)?);
        }
        let gates = self.trains.len();
        let n = dout.len() / (gates * self.train_outputs);
        let mut part_dx = dx.as_ref().map(|dx| vec![0.0; dx.len()]);
        if let Some(dx) = dx.as_deref_mut() {
            dx.fill(0.0);
        }
        saved.scratch.resize(n * self.train_outputs, 0.0);
        for (gate, train) in self.trains.iter().enumerate() {
            let range = gate * self.train_params..(gate + 1) * self.train_params;
            let columns = saved.scratch.chunks_exact_mut(self.train_outputs);
            for (row, part) in dout.chunks_exact(gates * self.train_outputs).zip(columns) {
                part.copy_from_slice(&row[gate * self.train_outputs..][..self.train_outputs]);
            }
            let (cores, dcores) = (&weights[range.clone()], &mut dweights[range]);
            train.backward(
                rows,
                cores,
                &saved.trains[gate],
                &saved.scratch,
                dcores,
                part_dx.as_deref_mut(),
            )?;
            if let (Some(dx), Some(part)) = (dx.as_deref_mut(), part_dx.as_ref()) {
                dx.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
        Ok(())
    }
}

impl Projection {
    /// `out [n, G·H] = rows [n, M] · W`; `keep` says whether a backward pass will follow.
    pub(crate) fn forward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        out: &mut [f32],
        saved: &mut ProjectionSaved,
        call: &ProjectionCall<'_>,
    ) -> Result<()> {
        match (self, rows) {
            (Self::Dense(projection), rows) => {
                let mask = projection.mask(call);
                projection.dense.forward(rows, mask.as_ref(), weights, out)
            }
            (Self::Tt(tt), rows) => tt.forward(rows, weights, out, saved, call.keep),
            (Self::Identity, Rows::F32(rows)) => {
                out.copy_from_slice(rows);
                Ok(())
            }
            (Self::Identity, Rows::U8(_)) => {
                Err(Error::Unsupported("pre-activations are f32, found u8".into()))
            }
        }
    }

    /// Gradients of the weights (overwritten) and, where asked for, of the rows.
    pub(crate) fn backward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        saved: &mut ProjectionSaved,
        dout: &[f32],
        grads: ProjectionGrads<'_>,
        call: &ProjectionCall<'_>,
    ) -> Result<()> {
        match self {
            Self::Dense(projection) => {
                let mask = projection.mask(call);
                if let Some(dx) = grads.rows {
                    projection.dense.input_gradient(dout, mask.as_ref(), weights, dx)?;
                }
                projection.dense.weight_gradient(rows, mask.as_ref(), dout, grads.weights)
            }
            Self::Tt(tt) => tt.backward(rows, weights, saved, dout, grads.weights, grads.rows),
            Self::Identity => {
                if let Some(dx) = grads.rows {
                    dx.copy_from_slice(dout);
                }
                grads.weights.fill(0.0);
                Ok(())
            }
        }
    }
}

/// What a projection needs to know of one call.
#[derive(Debug)]
pub(crate) struct ProjectionCall<'a> {
    /// Frames per clip `[B]`.
    pub(crate) lengths: &'a [usize],
    /// Dropout of the input features; dense projections only.
    pub(crate) dropout: Option<InputDropout>,
    /// Whether a backward pass will follow.
    pub(crate) keep: bool,
}

/// Where a backward pass leaves its gradients.
#[derive(Debug)]
pub(crate) struct ProjectionGrads<'a> {
    /// Gradient of the weights, overwritten.
    pub(crate) weights: &'a mut [f32],
    /// Gradient of the rows, overwritten where asked for.
    pub(crate) rows: Option<&'a mut [f32]>,
}

/// A pool of reusable boxes: what a pass needs is taken and given back.
#[derive(Debug)]
pub(crate) struct Pool<T>(Mutex<Vec<T>>);

impl<T: Default> Pool<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(crate) fn take(&self) -> T {
        self.0.lock().ok().and_then(|mut free| free.pop()).unwrap_or_default()
    }

    /// Keeps one item; more would only hold memory.
    pub(crate) fn give(&self, item: T) {
        if let Ok(mut free) = self.0.lock()
            && free.is_empty()
        {
            free.push(item);
        }
    }
}
