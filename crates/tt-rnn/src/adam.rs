//! Adam in one pass over parameter, gradient and moments, with a state that can be stored and restored.
//!
//! # Paper
//! Kingma and Ba (2015), in the form of their section 2 that Keras uses: epsilon is added to `sqrt(v)` before
//! bias correction, `p -= lr·sqrt(1-β2^t)/(1-β1^t) · m / (sqrt(v) + ε)`. PyTorch adds it after.

#![expect(unsafe_code, reason = "vector loads and stores through pointers, each inside its slice")]

#[cfg(any(test, feature = "cuda"))]
pub(crate) mod card;

use crate::error::{Result, check_size};
use crate::gradient::Gradient;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tt_core::simd::{Buffer, Isa, Kernel, Simd};

/// Parameters and their first and second moments.
type Part<'a> = ((&'a mut [f32], &'a mut [f32]), &'a mut [f32]);

/// The constants of Adam.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdamConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Largest norm of all gradients together; a larger one is scaled down. `None`: no clipping.
    pub clip_norm: Option<f64>,
    /// Every step also takes this share of a weight, times the weight's own rate. 0: none.
    ///
    /// # Paper
    /// Loshchilov and Hutter 2019, AdamW, in the form of PyTorch: the share is no part of the gradient.
    pub weight_decay: f64,
}

impl AdamConfig {
    /// The learning rate of step `t` (from 1) with its bias correction.
    pub fn rate(&self, t: u64, lr: f64) -> f64 {
        let t = t.max(1) as f64;
        lr * (1.0 - self.beta2.powf(t)).sqrt() / (1.0 - self.beta1.powf(t))
    }
}

impl Default for AdamConfig {
    /// The constants of Keras, and so of the paper's code.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, clip_norm: None, weight_decay: 0.0 }
    }
}

/// The moments of one parameter.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdamState {
    /// First moment.
    pub m: Vec<f32>,
    /// Second moment.
    pub v: Vec<f32>,
}

impl AdamState {
    /// Zero moments for `len` values.
    pub fn new(len: usize) -> Self {
        Self { m: vec![0.0; len], v: vec![0.0; len] }
    }
}

/// The optimiser; the caller holds parameters, moments and the step count.
#[derive(Clone, Copy, Debug)]
pub struct Adam {
    config: AdamConfig,
    isa: Isa,
}

impl Adam {
    /// Adam on the best instruction set of this machine.
    pub fn new(config: AdamConfig) -> Self {
        Self::with_isa(config, Isa::best())
    }

    /// The same on a chosen instruction set.
    pub fn with_isa(config: AdamConfig, isa: Isa) -> Self {
        Self { config, isa }
    }

    /// The constants.
    pub fn config(&self) -> &AdamConfig {
        &self.config
    }

    /// The factor that brings a gradient of this norm within `clip_norm`; 1 without clipping.
    pub fn clip_scale(&self, norm: f64) -> f32 {
        match self.config.clip_norm {
            Some(limit) if norm > limit => (limit / norm) as f32,
            _ => 1.0,
        }
    }

    /// Step `t` (from 1) of one parameter, along `grad_scale·grad + 2·l2·param`: the gradient of a loss with
    /// the term `l2·sum(param²)`. `rates` are runs of values and their learning rates.
    ///
    /// # Cost
    /// One sweep of parameter and moments, during which a gradient in pieces is computed: it is read from a cache.
    ///
    /// # Errors
    /// A gradient, a moment or runs of another size than the parameter.
    #[expect(clippy::too_many_arguments, reason = "one call a parameter and step, all of it varies")]
    pub fn update(
        &self,
        t: u64,
        rates: &[(usize, f64)],
        param: &mut [f32],
        grad: Gradient<'_>,
        state: &mut AdamState,
        l2: f32,
        grad_scale: f32,
    ) -> Result<()> {
        check_size("gradient", param.len(), grad.values())?;
        check_size("first moment", param.len(), state.m.len())?;
        check_size("second moment", param.len(), state.v.len())?;
        check_size("rates", param.len(), rates.iter().map(|(count, _)| count).sum())?;
        let rules: Vec<_> =
            rates.iter().map(|(count, lr)| (*count, self.rule(t, *lr, l2, grad_scale))).collect();
        let (isa, piece) = (self.isa, grad.piece());
        let step = |place: &mut Buffer, (index, ((param, m), v)): (usize, Part<'_>)| {
            let grad = grad.read(index, param.len(), place);
            let first = index * piece;
            let mut start = 0;
            for (count, rule) in &rules {
                let part = start.max(first)..(start + count).min(first + param.len());
                start += count;
                if !part.is_empty() {
                    let part = part.start - first..part.end - first;
                    let (m, v) = (&mut m[part.clone()], &mut v[part.clone()]);
                    isa.run(Chunk { rule: *rule, param: &mut param[part.clone()], grad: &grad[part], m, v });
                }
            }
        };
        let (m, v) = (&mut state.m, &mut state.v);
        if rayon::current_num_threads() == 1 || param.len() <= piece {
            let all = param.chunks_mut(piece).zip(m.chunks_mut(piece)).zip(v.chunks_mut(piece));
            let mut place = Buffer::default();
            all.enumerate().for_each(|part| step(&mut place, part));
        } else {
            let all = param.par_chunks_mut(piece).zip(m.par_chunks_mut(piece)).zip(v.par_chunks_mut(piece));
            all.enumerate().for_each_init(Buffer::default, step);
        }
        Ok(())
    }

    pub(crate) fn rule(&self, t: u64, lr: f64, l2: f32, grad_scale: f32) -> Rule {
        Rule {
            rate: self.config.rate(t, lr) as f32,
            keep1: self.config.beta1 as f32,
            new1: (1.0 - self.config.beta1) as f32,
            keep2: self.config.beta2 as f32,
            new2: (1.0 - self.config.beta2) as f32,
            epsilon: self.config.epsilon as f32,
            decay: 2.0 * l2,
            shrink: (lr * self.config.weight_decay) as f32,
            scale: grad_scale,
        }
    }
}

/// The Euclidean norm of all arrays together, summed in f64 in a fixed order.
pub fn global_norm(gradients: &[&[f32]]) -> f64 {
    let square = |chunk: &[f32]| {
        let mut sums = [0.0f64; 8];
        for part in chunk.chunks(8) {
            sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += f64::from(*x) * f64::from(*x));
        }
        sums.iter().sum::<f64>()
    };
    let parts: Vec<f64> =
        gradients.par_iter().flat_map(|g| g.par_chunks(Gradient::PIECE)).map(square).collect();
    parts.iter().sum::<f64>().sqrt()
}

/// The numbers of a step, the same for all values of a rate.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    rate: f32,
    keep1: f32,
    new1: f32,
    keep2: f32,
    new2: f32,
    epsilon: f32,
    decay: f32,
    shrink: f32,
    scale: f32,
}

struct Chunk<'a> {
    rule: Rule,
    param: &'a mut [f32],
    grad: &'a [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
}

impl Kernel for Chunk<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let rule = self.rule;
        let all = self.param.chunks_mut(S::LANES).zip(self.grad.chunks(S::LANES));
        let moments = self.m.chunks_mut(S::LANES).zip(self.v.chunks_mut(S::LANES));
        for ((param, grad), (m, v)) in all.zip(moments) {
            let n = param.len();
            // SAFETY: the four pieces have the same length, at most one vector.
            unsafe {
                let p = S::load_partial(param.as_ptr(), n);
                let g = S::mul(S::load_partial(grad.as_ptr(), n), S::splat(rule.scale));
                let g = S::fma(p, S::splat(rule.decay), g);
                let first = S::mul(g, S::splat(rule.new1));
                let first = S::fma(S::load_partial(m.as_ptr(), n), S::splat(rule.keep1), first);
                let second = S::mul(S::mul(g, g), S::splat(rule.new2));
                let second = S::fma(S::load_partial(v.as_ptr(), n), S::splat(rule.keep2), second);
                let step = S::div(first, S::add(S::sqrt(second), S::splat(rule.epsilon)));
                S::store_partial(m.as_mut_ptr(), first, n);
                S::store_partial(v.as_mut_ptr(), second, n);
                // Without decay p itself, to the last bit.
                let kept = S::fma(p, S::splat(-rule.shrink), p);
                S::store_partial(param.as_mut_ptr(), S::fma(step, S::splat(-rule.rate), kept), n);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    fn values(n: usize, purpose: &str) -> Vec<f32> {
        let mut rng = tt_core::rng::stream(3, purpose);
        (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect()
    }

    #[test]
    fn follows_the_rule_in_f64() {
        let config = AdamConfig { epsilon: 1e-3, weight_decay: 0.3, ..AdamConfig::default() };
        for isa in Isa::available() {
            let (mut p, n) = (values(101, "p"), 101);
            let mut wide: Vec<f64> = p.iter().map(|x| f64::from(*x)).collect();
            let (mut m, mut v) = (vec![0.0; n], vec![0.0; n]);
            let mut state = AdamState::new(n);
            for t in 1..=20u32 {
                let grad = values(n, &format!("g{t}"));
                Adam::with_isa(config, isa)
                    .update(
                        u64::from(t),
                        &[(40, 0.01), (61, 0.002)],
                        &mut p,
                        Gradient::Values(&grad),
                        &mut state,
                        0.05,
                        0.5,
                    )
                    .unwrap();
                let unbiased = (1.0 - 0.999f64.powf(f64::from(t))).sqrt() / (1.0 - 0.9f64.powf(f64::from(t)));
                for i in 0..n {
                    let lr = if i < 40 { 0.01 } else { 0.002 };
                    let g = 0.5 * f64::from(grad[i]) + 2.0 * 0.05 * wide[i];
                    m[i] = 0.9 * m[i] + 0.1 * g;
                    v[i] = 0.999 * v[i] + 0.001 * g * g;
                    wide[i] -= lr * unbiased * m[i] / (v[i].sqrt() + 1e-3) + lr * 0.3 * wide[i];
                }
            }
            // Twenty steps of at most 0.01, each with a handful of roundings.
            for (a, b) in p.iter().zip(&wide) {
                assert!((f64::from(*a) - b).abs() < 2e-6, "{}: {a} not {b}", isa.name());
            }
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads_and_resume_is_exact() {
        let n = 3 * Gradient::PIECE + 5;
        let grads: Vec<Vec<f32>> = (0..4).map(|t| values(n, &format!("g{t}"))).collect();
        let adam = Adam::new(AdamConfig::default());
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (mut p, mut state) = (values(n, "p"), AdamState::new(n));
                for (t, grad) in (1..).zip(&grads) {
                    adam.update(t, &[(n, 1e-3)], &mut p, Gradient::Values(grad), &mut state, 0.0, 1.0)
                        .unwrap();
                    // As after a restart: only the moments' values survive.
                    state = AdamState { m: state.m.clone(), v: state.v.clone() };
                }
                (p, state, global_norm(&[&grads[0], &grads[1][..7]]).to_bits())
            })
        };
        let one = run(1);
        for threads in [2, 3, 8] {
            assert!(run(threads) == one, "{threads} threads");
        }
    }

    #[test]
    fn norm_and_clipping() {
        assert_eq!(global_norm(&[&[3.0], &[], &[0.0, 4.0]]), 5.0);
        assert_eq!(global_norm(&[]), 0.0);
        let adam = Adam::new(AdamConfig { clip_norm: Some(2.0), ..AdamConfig::default() });
        assert_eq!(adam.clip_scale(8.0), 0.25);
        assert_eq!(adam.clip_scale(1.0), 1.0);
        let refused = |grad: &[f32], runs| {
            let grad = Gradient::Values(grad);
            adam.update(1, &[(runs, 0.1)], &mut [1.0], grad, &mut AdamState::new(1), 0.0, 1.0).is_err()
        };
        assert!(refused(&[1.0, 2.0], 1) && refused(&[1.0], 2) && !refused(&[1.0], 1));
    }
}
