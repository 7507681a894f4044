//! Tensor networks: a matrix as a contraction of small cores with labelled indices, whatever their topology.
//!
//! [`Network`] says which core has which indices. [`Plan`] finds the cheapest order in which a row and the cores are
//! contracted, [`Contracted`] runs it on the CPU, forward and backward. [`format`](mod@format) holds the factorizations
//! that the literature names, each a function from modes and ranks to a network, with its definition as plain loops.

mod axes;
mod back;
mod build;
pub mod draw;
mod fixed;
pub mod format;
mod lanes;
#[cfg(feature = "candle")]
pub mod ops;
mod panels;
mod plan;
mod products;
mod run;
mod step;

use crate::error::count;
use crate::rng::Stream;
use crate::{Error, Result};
pub use fixed::FixedNetwork;
pub use format::{FORMATS, Format, FormatShape, Modes, Options};
pub use plan::{Merge, Objective, Plan};
pub use products::{Operand, Product};
use rand::RngExt;
pub use run::{Contracted, SavedRows};
use std::ops::Range;

/// A core: a tensor whose axes carry labels, row-major in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Core {
    /// What formulas call it.
    pub name: String,
    /// Its axes, as indices of [`Network::labels`].
    pub labels: Vec<usize>,
}

/// An index that cores share, or that the network shows outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// What formulas call it.
    pub name: String,
    /// How many values it takes.
    pub size: usize,
}

/// A matrix `W [M, G·N]` as a sum over inner indices of products of cores.
///
/// An index is the input's (`m_1 … m_d`, `M` their product, the last fastest), the output's (`n_1 … n_e`, the gates in
/// the first) or inner. Inner indices of any number of cores are summed over once: of two cores it is a bond, of more the
/// common index of a canonical decomposition.
///
/// # Layout
/// The weights are one flat vector, the cores one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    labels: Vec<Label>,
    inputs: Vec<usize>,
    outputs: Vec<usize>,
    cores: Vec<Core>,
    /// Where each core begins in the weights, and where the last one ends.
    starts: Vec<usize>,
}

impl Network {
    /// A network of these input and output sizes, without a core yet.
    pub(crate) fn open(inputs: &[usize], outputs: &[usize]) -> Self {
        let label = |kind: &str, k: usize, size: usize| Label { name: format!("{kind}{}", k + 1), size };
        let mut labels: Vec<Label> = inputs.iter().enumerate().map(|(k, m)| label("m", k, *m)).collect();
        labels.extend(outputs.iter().enumerate().map(|(k, n)| label("n", k, *n)));
        let (inputs, outputs) = (inputs.len(), outputs.len());
        Self {
            labels,
            inputs: (0..inputs).collect(),
            outputs: (inputs..inputs + outputs).collect(),
            cores: Vec::new(),
            starts: vec![0],
        }
    }

    /// A new inner index.
    pub(crate) fn inner(&mut self, name: impl Into<String>, size: usize) -> usize {
        self.labels.push(Label { name: name.into(), size });
        self.labels.len() - 1
    }

    /// A further core.
    pub(crate) fn core(&mut self, name: impl Into<String>, labels: &[usize]) {
        self.cores.push(Core { name: name.into(), labels: labels.to_vec() });
        let sizes = labels.iter().map(|label| self.labels[*label].size);
        let len = sizes.fold(1, usize::saturating_mul);
        self.starts.push(self.params().saturating_add(len));
    }

    /// Refuses what no plan can be made for or a machine cannot count.
    pub(crate) fn finished(self) -> Result<Self> {
        let sizes =
            |of: &[usize]| -> Vec<usize> { of.iter().map(|label| self.labels[*label].size).collect() };
        if self.labels.len() > 64 || self.cores.len() > MOST_CORES {
            return Err(Error::Shape(format!(
                "{} cores and {} indices: orders are searched for up to {MOST_CORES} cores and 64 indices",
                self.cores.len(),
                self.labels.len()
            )));
        }
        if let Some(label) = self.labels.iter().find(|label| label.size == 0) {
            return Err(Error::Shape(format!("index {} has size 0: all must be at least 1", label.name)));
        }
        count("input features", &sizes(&self.inputs))?;
        count("output features", &sizes(&self.outputs))?;
        for core in &self.cores {
            count("a core", &sizes(&core.labels))?;
        }
        Ok(self)
    }

    /// All indices: of the input, of the output, inner ones.
    pub fn labels(&self) -> &[Label] {
        &self.labels
    }

    /// The indices of the input, slowest first.
    pub fn inputs(&self) -> &[usize] {
        &self.inputs
    }

    /// The indices of the output, slowest first.
    pub fn outputs(&self) -> &[usize] {
        &self.outputs
    }

    /// The cores in the order of the weights.
    pub fn cores(&self) -> &[Core] {
        &self.cores
    }

    fn product(&self, labels: &[usize]) -> usize {
        labels.iter().map(|label| self.labels[*label].size).product()
    }

    /// Input features M.
    pub fn in_features(&self) -> usize {
        self.product(&self.inputs)
    }

    /// Output features, all gates together.
    pub fn out_features(&self) -> usize {
        self.product(&self.outputs)
    }

    /// Where core `k` lies in the weights.
    pub fn range(&self, k: usize) -> Range<usize> {
        self.starts[k]..self.starts[k + 1]
    }

    /// Numbers in all cores together.
    pub fn params(&self) -> usize {
        self.starts[self.starts.len() - 1]
    }

    /// Terms of an entry of W: the product of all inner sizes.
    pub fn paths(&self) -> f64 {
        self.labels[self.inputs.len() + self.outputs.len()..].iter().map(|label| label.size as f64).product()
    }

    /// Entry `at` of core `k`, an index for each of its axes.
    pub(crate) fn value(&self, cores: &[f64], k: usize, at: &[usize]) -> f64 {
        let labels = &self.cores[k].labels;
        assert_eq!(labels.len(), at.len(), "an index for each axis");
        let place = labels.iter().zip(at).fold(0, |place, (label, i)| place * self.labels[*label].size + i);
        cores[self.starts[k] + place]
    }

    /// Initial values: uniform, such that an entry of W has the variance of dense Glorot, `2 / (M + G·N)`.
    pub fn initial(&self, stream: &mut Stream) -> Vec<f32> {
        self.with_variance(2.0 / (self.in_features() + self.out_features()) as f64, stream)
    }

    /// Uniform numbers, such that an entry of W has this variance.
    ///
    /// An entry is a sum of P products of K independent factors of zero mean, P the product of the inner sizes and K the
    /// number of cores: its variance is `P σ^(2K)`.
    pub fn with_variance(&self, target: f64, stream: &mut Stream) -> Vec<f32> {
        let variance = (target / self.paths()).powf(1.0 / self.cores.len() as f64);
        let bound = (3.0 * variance).sqrt();
        (0..self.params()).map(|_| (bound * (2.0 * stream.random::<f64>() - 1.0)) as f32).collect()
    }

    /// The same cores with every outer index among those of the output: its rows have one number, and what becomes of 1 is
    /// the matrix W, row after row.
    #[cfg(feature = "candle")]
    fn put_out(&self) -> Self {
        Self { inputs: Vec::new(), outputs: [&self.inputs[..], &self.outputs].concat(), ..self.clone() }
    }
}

/// Cores that a plan can be searched for: the search looks at `3^cores` pairs of sets.
const MOST_CORES: usize = 15;
