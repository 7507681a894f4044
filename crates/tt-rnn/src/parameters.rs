//! Named parameters, their initial values and their optimiser.

use crate::adam::{Adam, AdamConfig, AdamState, global_norm};
use crate::layer::GradientSink;
use crate::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Tensor, Var};
use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};
use std::sync::{Mutex, PoisonError};
use tt_core::rng::Stream;

/// One trainable tensor.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Name in checkpoints, unique in its model.
    pub name: String,
    /// The value.
    pub var: Var,
    /// Factor alpha of the penalty `alpha · sum w²`; 0 for none.
    pub l2: f32,
    /// Where the gradient is left, if not in candle's gradient store.
    pub sink: Option<GradientSink>,
}

impl Parameter {
    /// A parameter with the given initial values.
    pub fn new(name: &str, values: Vec<f32>, shape: &[usize], device: &Device) -> Result<Self> {
        let var = Var::from_tensor(&Tensor::from_vec(values, shape, device)?)?;
        Ok(Self { name: name.to_owned(), var, l2: 0.0, sink: None })
    }
}

/// Dense Glorot uniform `[fan_in, fan_out]`: `U(-a, a)`, `a = sqrt(6 / (fan_in + fan_out))`.
///
/// # Paper
/// Glorot and Bengio 2010, equation 16; the default of Keras for dense kernels.
pub fn glorot_uniform(fan_in: usize, fan_out: usize, columns: usize, stream: &mut Stream) -> Vec<f32> {
    let bound = (6.0 / (fan_in + fan_out) as f32).sqrt();
    (0..fan_in * columns).map(|_| stream.random_range(-bound..bound)).collect()
}

/// A row-orthonormal matrix `[rows, columns]`, `rows <= columns`: the rows of a Gaussian matrix,
/// orthogonalised twice in f64 (modified Gram–Schmidt; "twice is enough").
///
/// # Paper
/// Saxe et al. 2014; Keras initialises the whole `H × G·H` recurrent kernel this way.
pub fn orthogonal(rows: usize, columns: usize, stream: &mut Stream) -> Vec<f32> {
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(rows);
    for _ in 0..rows {
        let mut row: Vec<f64> = (0..columns).map(|_| StandardNormal.sample(stream)).collect();
        for _ in 0..2 {
            for other in &basis {
                let dot: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
            }
        }
        let norm = row.iter().map(|a| a * a).sum::<f64>().sqrt();
        for value in &mut row {
            *value /= norm;
        }
        basis.push(row);
    }
    basis.into_iter().flatten().map(|v| v as f32).collect()
}

/// Adam over the parameters of one model, in the order of their names.
#[derive(Debug)]
pub struct Optimizer {
    adam: Adam,
    parameters: Vec<Parameter>,
    states: Vec<AdamState>,
    step: u64,
    lr: f64,
    clips: bool,
}

struct Update<'a> {
    optimizer: &'a Adam,
    step: u64,
    lr: f64,
    l2: f32,
    scale: f32,
    gradient: &'a [f32],
    state: Mutex<&'a mut AdamState>,
}

impl InplaceOp1 for Update<'_> {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, _layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::F32(values) = storage else {
            return Err(candle_core::Error::Msg("parameters are f32".into()));
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.optimizer
            .update(self.step, self.lr, values, self.gradient, &mut state, self.l2, self.scale)
            .map_err(candle_core::Error::wrap)
    }
}

fn with_gradient<T>(
    parameter: &Parameter,
    grads: &GradStore,
    use_gradient: impl FnOnce(&[f32]) -> Result<T>,
) -> Result<T> {
    if let Some(sink) = &parameter.sink {
        return sink.take(use_gradient).ok_or_else(|| Error::NoGradient(parameter.name.clone()))?;
    }
    let gradient = grads.get(&parameter.var).ok_or_else(|| Error::NoGradient(parameter.name.clone()))?;
    let values = gradient.flatten_all()?.to_vec1::<f32>()?;
    use_gradient(&values)
}

impl Optimizer {
    /// Zero moments for every parameter, and rate `lr`.
    pub fn new(config: AdamConfig, lr: f64, mut parameters: Vec<Parameter>) -> Self {
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        let states = parameters.iter().map(|p| AdamState::new(p.var.elem_count())).collect();
        Self { adam: Adam::new(config), parameters, states, step: 0, lr, clips: config.clip_norm.is_some() }
    }

    /// One update from the gradients of one backward pass.
    pub fn step(&mut self, grads: &GradStore) -> Result<()> {
        self.step += 1;
        let scale = if self.clips { self.adam.clip_scale(self.norm(grads)?) } else { 1.0 };
        for (parameter, state) in self.parameters.iter().zip(&mut self.states) {
            with_gradient(parameter, grads, |gradient| {
                let update = Update {
                    optimizer: &self.adam,
                    step: self.step,
                    lr: self.lr,
                    l2: parameter.l2,
                    scale,
                    gradient,
                    state: Mutex::new(state),
                };
                Ok(parameter.var.inplace_op1(&update)?)
            })?;
        }
        Ok(())
    }

    fn norm(&self, grads: &GradStore) -> Result<f64> {
        let mut squares = 0.0;
        for parameter in &self.parameters {
            squares += with_gradient(parameter, grads, |gradient| Ok(global_norm(&[gradient]).powi(2)))?;
            if let Some(sink) = &parameter.sink {
                sink.put_back();
            }
        }
        Ok(squares.sqrt())
    }

    /// The parameters, sorted by name.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Updates done so far.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// First and second moments, in the order of the parameters.
    pub fn states(&self) -> &[AdamState] {
        &self.states
    }

    /// Continues from a checkpoint's moments.
    pub fn restore(&mut self, step: u64, states: Vec<AdamState>) {
        self.step = step;
        self.states = states;
    }
}
