//! The learning rate of each weight.
//!
//! # Derivation
//! A step of Adam moves every weight by about its rate, whatever the gradient's size. A unit that sums `M` weighted
//! inputs is so moved by about `rate · Σ|x|`, which grows with `M`: inputs of size 1/2 and a rate of 1e-3 move a unit
//! of a recurrent layer (M = 256) by 0.13, and one that reads a frame (M = 57,600) by 29, far beyond the slopes of any
//! gate. The move stays the same where a matrix's rate falls as `1 / fan_in`. One rate for all weights can suit one
//! of the two only. Biases sum nothing and keep `lr`. A train's cores keep it too: their fan-ins, 18 to 80 for the
//! paper's shapes, are small, and nothing is known of products of cores; `docs/departures.md` says what was measured.
//! So do the cores of a recurrent matrix: at the paper's 256 units that is the rate of the dense one.
//!
//! # Paper
//! Yang, Hu et al. 2021, "Tensor Programs V", table 8: with Adam, the rates of hidden and output matrices fall with
//! their fan-in. The reference fan-in is ours: a rate that suits U of 256 units keeps its meaning.
//!
//! # Departs
//! The paper and its code have one rate for all weights: [`RateRule::Single`].

use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Fan-in of the matrix that `lr` is the rate of: the recurrent matrix of the paper's 256 units.
pub const REFERENCE_FAN_IN: usize = 256;

/// What a run of values is to the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Biases: one weight a unit.
    Vector,
    /// A matrix whose products sum over so many values.
    Matrix {
        /// Rows of the matrix.
        fan_in: usize,
    },
    /// The cores of a matrix in tensor form.
    Cores,
    /// A matrix that reads frames.
    InputMatrix {
        /// Features of a row.
        fan_in: usize,
    },
    /// The cores of a matrix that reads frames.
    InputCores,
}

impl Kind {
    /// What the weights of an input matrix are where they read states in place of frames.
    #[must_use]
    pub fn of_states(self) -> Self {
        match self {
            Self::InputMatrix { fan_in } => Self::Matrix { fan_in },
            Self::InputCores => Self::Cores,
            Self::Vector | Self::Matrix { .. } | Self::Cores => self,
        }
    }
}

/// How a rate depends on what a weight belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RateRule {
    /// A matrix has `lr · 256 / fan_in`, all else `lr`.
    FanIn,
    /// Every weight has `lr`.
    Single,
}

impl fmt::Display for RateRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FanIn => "fan-in",
            Self::Single => "single",
        })
    }
}

impl std::str::FromStr for RateRule {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "fan-in" => Ok(Self::FanIn),
            "single" => Ok(Self::Single),
            _ => Err(Error::Unknown {
                what: "rule of learning rates",
                name: name.to_owned(),
                choices: "fan-in, single",
            }),
        }
    }
}

/// The rates of one model's weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// See [`RateRule`].
    pub lr: f64,
    /// What a weight's rate depends on.
    pub rule: RateRule,
    /// Factor on the rate of the weights that read frames.
    pub input_factor: f64,
}

impl Rates {
    /// One rate for every weight.
    pub fn single(lr: f64) -> Self {
        Self { lr, rule: RateRule::Single, input_factor: 1.0 }
    }

    /// The rate of weights of a kind.
    pub fn of(&self, kind: Kind) -> f64 {
        let by_fan_in = |fan_in: usize| match self.rule {
            RateRule::FanIn => self.lr * REFERENCE_FAN_IN as f64 / fan_in as f64,
            RateRule::Single => self.lr,
        };
        match kind {
            Kind::Vector | Kind::Cores => self.lr,
            Kind::Matrix { fan_in } => by_fan_in(fan_in),
            Kind::InputMatrix { fan_in } => self.input_factor * by_fan_in(fan_in),
            Kind::InputCores => self.input_factor * self.lr,
        }
    }
}
