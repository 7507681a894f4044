//! Named parameters, their initial values and their optimiser.

#[cfg(feature = "cuda")]
use crate::adam::card;
use crate::adam::{Adam, AdamConfig, AdamState, global_norm};
use crate::error::check_size;
use crate::gradient::Gradient;
use crate::rates::{Kind, Rates};
use crate::sink::GradientSink;
use crate::{Error, Result};
use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, D, Device, InplaceOp1, Layout, Tensor, Var};
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
    /// Runs of values and what each is, in order: what their rates follow from.
    parts: Vec<(usize, Kind)>,
}

impl Parameter {
    /// A parameter with the given initial values, all of one kind.
    pub fn new(name: &str, kind: Kind, values: Vec<f32>, shape: &[usize], device: &Device) -> Result<Self> {
        let parts = vec![(values.len(), kind)];
        Self::of_parts(name, parts, values, shape, device)
    }

    /// A parameter whose values are of several kinds: runs of so many, one after the other.
    ///
    /// # Errors
    /// Runs that are not as long as the values together.
    pub fn of_parts(
        name: &str,
        parts: Vec<(usize, Kind)>,
        values: Vec<f32>,
        shape: &[usize],
        device: &Device,
    ) -> Result<Self> {
        check_size("values of the parts", values.len(), parts.iter().map(|(count, _)| count).sum())?;
        let var = Var::from_tensor(&Tensor::from_vec(values, shape, device)?)?;
        Ok(Self { name: name.to_owned(), var, l2: 0.0, sink: None, parts })
    }

    /// Runs of values that share a rate, and the rate.
    pub fn rates(&self, rates: &Rates) -> Vec<(usize, f64)> {
        self.parts.iter().map(|(count, kind)| (*count, rates.of(*kind))).collect()
    }

    /// Takes over a value, from whatever device.
    ///
    /// # Errors
    /// A value of another shape.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        Ok(self.var.set(&value.to_device(self.var.device())?)?)
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
///
/// # Panics
/// For more rows than columns.
pub fn orthogonal(rows: usize, columns: usize, stream: &mut Stream) -> Vec<f32> {
    assert!(rows <= columns, "{rows} orthogonal rows of {columns} numbers");
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

/// First and second moment of a parameter.
#[derive(Debug, Clone)]
enum Moments {
    /// For the CPU's one-pass kernel.
    Host(AdamState),
    /// For candle's operators, where the parameter is.
    Device(Tensor, Tensor),
}

/// Adam over the parameters of one model, in the order of their names.
///
/// On the CPU and on CUDA it is one pass of a kernel; elsewhere a dozen of candle's operators, without a copy to the host.
#[derive(Debug)]
pub struct Optimizer {
    adam: Adam,
    parameters: Vec<Parameter>,
    moments: Vec<Moments>,
    step: u64,
    rates: Rates,
}

struct Update<'a> {
    optimizer: &'a Adam,
    step: u64,
    /// Runs of values and their rates.
    rates: Vec<(usize, f64)>,
    l2: f32,
    scale: f32,
    gradient: Gradient<'a>,
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
            .update(self.step, &self.rates, values, self.gradient, &mut state, self.l2, self.scale)
            .map_err(candle_core::Error::wrap)
    }
}

fn gradient<'a>(parameter: &Parameter, grads: &'a GradStore) -> Result<&'a Tensor> {
    grads.get(&parameter.var).ok_or_else(|| Error::NoGradient(parameter.name.clone()))
}

fn with_gradient<T>(
    parameter: &Parameter,
    grads: &GradStore,
    use_gradient: impl FnOnce(Gradient<'_>) -> Result<T>,
) -> Result<T> {
    if let Some(sink) = &parameter.sink {
        return sink.take_pieces(use_gradient)?.ok_or_else(|| Error::NoGradient(parameter.name.clone()))?;
    }
    let values = gradient(parameter, grads)?.flatten_all()?.to_vec1::<f32>()?;
    use_gradient(Gradient::Values(&values))
}

impl Optimizer {
    /// Zero moments for every parameter.
    ///
    /// # Errors
    /// A device without memory for the moments.
    pub fn new(config: AdamConfig, rates: Rates, parameters: Vec<Parameter>) -> Result<Self> {
        let by_operators = parameters.iter().any(|p| !p.var.device().is_cpu());
        Self::with(config, rates, parameters, by_operators)
    }

    fn with(
        config: AdamConfig,
        rates: Rates,
        mut parameters: Vec<Parameter>,
        by_operators: bool,
    ) -> Result<Self> {
        parameters.sort_by(|a, b| a.name.cmp(&b.name));
        let zero = |p: &Parameter| {
            Ok(if by_operators {
                Moments::Device(p.var.zeros_like()?, p.var.zeros_like()?)
            } else {
                Moments::Host(AdamState::new(p.var.elem_count()))
            })
        };
        let moments = parameters.iter().map(zero).collect::<Result<_>>()?;
        Ok(Self { adam: Adam::new(config), parameters, moments, step: 0, rates })
    }

    /// One update from the gradients of one backward pass.
    ///
    /// # Errors
    /// [`Error::NoGradient`] names a parameter that the loss did not depend on; nothing is changed then.
    pub fn step(&mut self, grads: &GradStore) -> Result<()> {
        for parameter in &self.parameters {
            match &parameter.sink {
                None => drop(gradient(parameter, grads)?),
                Some(sink) if sink.is_waiting() => {}
                Some(_) => return Err(Error::NoGradient(parameter.name.clone())),
            }
        }
        self.step += 1;
        if self.moments.iter().any(|moments| matches!(moments, Moments::Device(..))) {
            return self.step_by_operators(grads);
        }
        let clips = self.adam.config().clip_norm.is_some();
        let scale = if clips { self.adam.clip_scale(self.norm(grads)?) } else { 1.0 };
        for (parameter, moments) in self.parameters.iter().zip(&mut self.moments) {
            let Moments::Host(state) = moments else { continue };
            with_gradient(parameter, grads, |gradient| {
                let update = Update {
                    optimizer: &self.adam,
                    step: self.step,
                    rates: parameter.rates(&self.rates),
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

    /// The same rule as the kernel's; the norm is summed in f32, and nothing waits for the device.
    fn step_by_operators(&mut self, grads: &GradStore) -> Result<()> {
        let AdamConfig { beta1, beta2, epsilon, clip_norm, weight_decay } = *self.adam.config();
        let gradients: Vec<Tensor> = self
            .parameters
            .iter()
            .map(|parameter| Ok(gradient(parameter, grads)?.detach()))
            .collect::<Result<_>>()?;
        let scale = clip_norm.map(|limit| device_clip_scale(&gradients, limit)).transpose()?;
        for ((parameter, moments), g) in self.parameters.iter().zip(&mut self.moments).zip(gradients) {
            let Moments::Device(m, v) = moments else { continue };
            #[cfg(feature = "cuda")]
            if parameter.var.device().is_cuda() {
                let rates = parameter.rates(&self.rates);
                let rule =
                    |(count, lr): (usize, f64)| (count, self.adam.rule(self.step, lr, parameter.l2, 1.0));
                let rules = rates.into_iter().map(rule).collect();
                let update = card::Update { rules, gradient: &g, moments: [m, v], scale: scale.as_ref() };
                parameter.var.inplace_op1(&update)?;
                continue;
            }
            let p = parameter.var.as_detached_tensor();
            let mut g = match &scale {
                Some(scale) => g.broadcast_mul(scale)?,
                None => g,
            };
            if parameter.l2 > 0.0 {
                g = (g + (&p * (2.0 * f64::from(parameter.l2)))?)?;
            }
            *m = ((&*m * beta1)? + (&g * (1.0 - beta1))?)?;
            *v = ((&*v * beta2)? + (g.sqr()? * (1.0 - beta2))?)?;
            let step = (&*m / (v.sqrt()? + epsilon)?)?;
            let rates = parameter.rates(&self.rates);
            let moved = |step: &Tensor, p: &Tensor, lr: f64| {
                let moved = (step * self.adam.config().rate(self.step, lr))?;
                if weight_decay > 0.0 { moved + (p * (lr * weight_decay))? } else { Ok(moved) }
            };
            let step = if let [(_, lr)] = rates[..] {
                moved(&step, &p, lr)?
            } else {
                let (flat, values, mut start) = (step.flatten_all()?, p.flatten_all()?, 0);
                let scaled = rates.iter().map(|(count, lr)| {
                    let part = |all: &Tensor| all.narrow(0, start, *count);
                    let moved = moved(&part(&flat)?, &part(&values)?, *lr);
                    start += count;
                    moved
                });
                let scaled = scaled.collect::<candle_core::Result<Vec<_>>>()?;
                Tensor::cat(&scaled, 0)?.reshape(p.shape())?
            };
            parameter.var.set(&(p - step)?)?;
        }
        Ok(())
    }

    /// The norm of all gradients together. Updates are scaled by it, so no gradient is computed as it is used then: those
    /// in sinks become values here.
    fn norm(&self, grads: &GradStore) -> Result<f64> {
        let mut squares = 0.0;
        for parameter in &self.parameters {
            let square = |gradient: &[f32]| global_norm(&[gradient]).powi(2);
            squares += if let Some(sink) = &parameter.sink {
                let square = sink.take(square)?.ok_or_else(|| Error::NoGradient(parameter.name.clone()))?;
                sink.put_back();
                square
            } else {
                square(&gradient(parameter, grads)?.flatten_all()?.to_vec1::<f32>()?)
            };
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

    /// First and second moments, flat, in the order of the parameters.
    ///
    /// # Errors
    /// A tensor that cannot be made.
    pub fn moments(&self) -> Result<Vec<[Tensor; 2]>> {
        let flat = |values: &[f32]| Tensor::from_slice(values, values.len(), &Device::Cpu);
        let pair = |moments: &Moments| {
            Ok(match moments {
                Moments::Host(state) => [flat(&state.m)?, flat(&state.v)?],
                // A step writes to them in place.
                Moments::Device(m, v) => [m.flatten_all()?.copy()?, v.flatten_all()?.copy()?],
            })
        };
        self.moments.iter().map(pair).collect()
    }

    /// Continues from a checkpoint's moments, as [`Optimizer::moments`] gave them.
    ///
    /// # Errors
    /// Moments of another model; the optimiser stays as it was then.
    pub fn restore(&mut self, step: u64, moments: &[[Tensor; 2]]) -> Result<()> {
        check_size("parameters with moments", self.parameters.len(), moments.len())?;
        let mut restored = Vec::with_capacity(moments.len());
        for ((parameter, own), [m, v]) in self.parameters.iter().zip(&self.moments).zip(moments) {
            let var = parameter.var.as_tensor();
            for (what, moment) in [("first moment", m), ("second moment", v)] {
                check_size(what, var.elem_count(), moment.elem_count())?;
            }
            restored.push(match own {
                Moments::Host(_) => Moments::Host(AdamState { m: m.to_vec1()?, v: v.to_vec1()? }),
                Moments::Device(..) => {
                    let place =
                        |moment: &Tensor| moment.to_device(var.device())?.reshape(var.shape())?.copy();
                    Moments::Device(place(m)?, place(v)?)
                }
            });
        }
        (self.step, self.moments) = (step, restored);
        Ok(())
    }
}

/// `min(1, limit / norm)` of all gradients together, as a tensor of one number.
fn device_clip_scale(gradients: &[Tensor], limit: f64) -> Result<Tensor> {
    // Row by row first: a sum of everything is one block's work on a card.
    let square = |g: &Tensor| {
        let squares = g.sqr()?;
        if squares.rank() > 1 {
            squares.sum(D::Minus1)?.sum_all()?.reshape(1)
        } else {
            squares.sum_all()?.reshape(1)
        }
    };
    let squares = gradients.iter().map(square).collect::<candle_core::Result<Vec<_>>>()?;
    let norm = Tensor::cat(&squares, 0)?.sum_all()?.sqrt()?;
    // A norm of zero leaves infinity, which the minimum turns into one.
    Ok((norm.recip()? * limit)?.minimum(1.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rates::RateRule;

    /// Twenty steps on a quadratic, clipped and with a penalty, from moments that went through a checkpoint.
    fn run(by_operators: bool) -> Vec<f32> {
        let values: Vec<f32> = (0..12).map(|i| (i as f32 - 5.0) / 3.0).collect();
        let parts = vec![(7, Kind::Matrix { fan_in: 64 }), (5, Kind::Vector)];
        let mut parameter = Parameter::of_parts("a", parts, values, &[3, 4], &Device::Cpu).unwrap();
        parameter.l2 = 0.05;
        let var = parameter.var.clone();
        let config = AdamConfig { clip_norm: Some(0.7), weight_decay: 0.2, ..AdamConfig::default() };
        let rates = Rates { lr: 0.0125, rule: RateRule::FanIn, input_factor: 1.0 };
        let new = || Optimizer::with(config, rates, vec![parameter.clone()], by_operators).unwrap();
        let mut optimizer = new();
        for step in 0..20 {
            let grads =
                (var.as_tensor() - 0.5).unwrap().sqr().unwrap().sum_all().unwrap().backward().unwrap();
            optimizer.step(&grads).unwrap();
            if step == 10 {
                let moments = optimizer.moments().unwrap();
                let steps = optimizer.steps();
                optimizer = new();
                optimizer.restore(steps, &moments).unwrap();
            }
        }
        var.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn operators_follow_the_kernel() {
        for (a, b) in run(true).iter().zip(run(false)) {
            // Twenty steps of at most 0.05, each with a handful of roundings.
            assert!((a - b).abs() < 4e-6, "{a} not {b}");
        }
    }

    #[test]
    fn moments_of_another_model_are_refused() {
        let parameter = Parameter::new("a", Kind::Vector, vec![0.0; 3], &[3], &Device::Cpu).unwrap();
        let mut optimizer =
            Optimizer::new(AdamConfig::default(), Rates::single(0.1), vec![parameter]).unwrap();
        assert!(optimizer.restore(4, &[]).is_err());
        let twice = [optimizer.moments().unwrap(), optimizer.moments().unwrap()].concat();
        assert!(optimizer.restore(4, &twice).is_err());
        let short = Tensor::zeros(2, candle_core::DType::F32, &Device::Cpu).unwrap();
        let [[whole, _]] = &optimizer.moments().unwrap()[..] else { panic!("one parameter") };
        for wrong in [[whole.clone(), short.clone()], [short, whole.clone()]] {
            let text = optimizer.restore(4, &[wrong]).unwrap_err().to_string();
            assert!(text.ends_with("moment: expected 3 values, found 2"), "{text}");
        }
        assert_eq!(optimizer.steps(), 0);
    }
}
