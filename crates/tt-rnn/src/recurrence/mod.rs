//! The recurrence over packed clips as one operator: plain RNN, GRU (reset before `U`, as in the paper) and
//! LSTM, forward and hand-written back-propagation through time.
//!
//! Rows of all clips lie one after another, `[sum T_b, G·H]`: no padding, no masking of steps. Clips are dealt
//! to groups; a group walks through time with its clips as rows of one product, and shrinks as clips end.
//! Every number depends on its own clip only, and the gradient of the weights is one product over all rows in
//! a fixed order: results are bit-identical for any number of threads.
//!
//! # Paper
//! Yang, Krompass, Tresp (2017), TT-GRU and TT-LSTM. The update gate follows the released code,
//! `h' = z∘h + (1-z)∘c`: the same model as the paper's equation under `z -> 1-z`.

pub mod attention;
mod backward;
mod batch;
#[doc(hidden)]
pub mod cuda;
mod forward;
pub mod ops;
mod order;
mod pack;
mod products;
pub mod reference;
#[cfg(test)]
mod tests;
mod weight_gradient;

pub use crate::call::Output;
use crate::error::{Error, Result, check_size};
pub use batch::{Batch, Masks};
use pack::Packed;
pub(crate) use pack::each;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use tt_core::simd::Pool;
use tt_core::simd::{Buffer, Isa};

/// The recurrent cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cell {
    /// `h' = tanh(x + h·U + b)`
    Rnn,
    /// Gates `[z | r | c]`: `c = tanh(x_c + (r∘h)·U_c + b_c)`, `h' = z∘h + (1-z)∘c`.
    Gru,
    /// Gates `[i | f | g | o]`: `c' = f∘c + i∘tanh(g)`, `h' = o∘tanh(c')`.
    Lstm,
}

impl Cell {
    /// G, the number of gate blocks: 1, 3 or 4.
    pub fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }

    /// Whether block `gate` is a gate, with values in [0, 1], and not a candidate.
    pub fn squashes(self, gate: usize) -> bool {
        match self {
            Self::Rnn => false,
            Self::Gru => gate < 2,
            Self::Lstm => gate != 2,
        }
    }

    /// `rnn`, `gru` or `lstm`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rnn => "rnn",
            Self::Gru => "gru",
            Self::Lstm => "lstm",
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Cell {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "rnn" => Ok(Self::Rnn),
            "gru" => Ok(Self::Gru),
            "lstm" => Ok(Self::Lstm),
            _ => Err(Error::Unknown { what: "cell", name: name.into(), choices: "rnn, gru, lstm" }),
        }
    }
}

/// The squashing function of the gates; candidate, cell and output use tanh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GateActivation {
    /// `clip(0.2 x + 0.5, 0, 1)`, of the released code (PyTorch's Hardsigmoid has slope 1/6).
    HardSigmoid,
    /// `1 / (1 + e^-x)`, of the paper.
    Sigmoid,
}

impl fmt::Display for GateActivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HardSigmoid => "hard-sigmoid",
            Self::Sigmoid => "sigmoid",
        })
    }
}

impl FromStr for GateActivation {
    type Err = Error;
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "hard-sigmoid" => Ok(Self::HardSigmoid),
            "sigmoid" => Ok(Self::Sigmoid),
            _ => Err(Error::Unknown {
                what: "gate activation",
                name: name.into(),
                choices: "hard-sigmoid, sigmoid",
            }),
        }
    }
}

/// What the forward pass keeps for the backward pass; reusable, and grows to the largest batch seen.
///
/// # Cost
/// `2·H` values a row (`H` for the plain RNN), and `G·H` more a warm-up row.
#[derive(Debug, Default)]
pub struct Saved {
    /// The state before each step, `[sum (W_b + T_b), H]`.
    hidden: Buffer,
    /// GRU: the masked `r∘h` that met `U_c`; LSTM: the cell before each step. `[sum (W_b + T_b), H]`
    extra: Buffer,
    /// Activations, then gradients, of the warm-up rows, `[sum W_b, G·H]`.
    warm: Buffer,
}

/// Where the gradients of the parameters go; both are overwritten.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// `[U | b]`, as the weights.
    pub weights: &'a mut [f32],
    /// Of the input contribution of the warm-up steps, `[G·H]`.
    pub warm_x: Option<&'a mut [f32]>,
}

/// Memory of one call, kept for the next.
#[derive(Debug, Default)]
struct Workspace {
    packed: Packed,
    groups: Vec<Buffer>,
    a: Buffer,
    b: Buffer,
}

/// A recurrence of one cell type and size; holds no weights, only reusable workspaces.
///
/// # Shapes
/// Weights: one slice `[U | b]` with `U` `[H, G·H]` row-major and `b` `[G·H]`.
#[derive(Debug)]
pub struct Recurrence {
    layout: Layout,
    isa: Isa,
    workspaces: Pool<Workspace>,
}

/// Sizes that every kernel needs.
#[derive(Clone, Copy, Debug)]
struct Layout {
    cell: Cell,
    hard: bool,
    /// H
    hidden: usize,
    /// G
    gates: usize,
    /// Two vectors' width.
    panel: usize,
    /// H rounded up to whole panels.
    padded: usize,
}

impl Layout {
    /// Values in a row of pre-activations, G·H.
    fn row(&self) -> usize {
        self.gates * self.hidden
    }

    fn weights(&self) -> usize {
        (self.hidden + 1) * self.row()
    }

    /// Values of `Saved::extra` a row.
    fn extra(&self) -> usize {
        if self.cell == Cell::Rnn { 0 } else { self.hidden }
    }
}

impl Recurrence {
    /// A recurrence with `hidden` units on the best instruction set of this machine.
    ///
    /// # Panics
    /// If `hidden` is zero.
    pub fn new(cell: Cell, gate_activation: GateActivation, hidden: usize) -> Self {
        Self::with_isa(cell, gate_activation, hidden, Isa::best())
    }

    /// The same on a chosen instruction set.
    pub fn with_isa(cell: Cell, gate_activation: GateActivation, hidden: usize, isa: Isa) -> Self {
        assert!(hidden > 0, "a recurrence needs at least one unit");
        let panel = 2 * isa.lanes();
        let layout = Layout {
            cell,
            hard: gate_activation == GateActivation::HardSigmoid,
            hidden,
            gates: cell.gates(),
            panel,
            padded: hidden.next_multiple_of(panel),
        };
        Self { layout, isa, workspaces: Pool::default() }
    }

    /// The cell.
    pub fn cell(&self) -> Cell {
        self.layout.cell
    }

    /// H.
    pub fn hidden(&self) -> usize {
        self.layout.hidden
    }

    /// Runs all clips from a zero state and writes the last state of each to `states`, `[B, H]`, or all of them,
    /// `[sum T_b, H]`: see [`Batch::output`].
    ///
    /// `x` holds the pre-activations without bias, `[sum T_b, G·H]`; with `saved` (training) it leaves with
    /// the gate activations that [`Self::backward`] wants back, without it is untouched.
    ///
    /// # Errors
    /// An empty batch, a clip without frames, or a buffer of the wrong size.
    pub fn forward(
        &self,
        x: &mut [f32],
        batch: &Batch<'_>,
        weights: &[f32],
        states: &mut [f32],
        saved: Option<&mut Saved>,
    ) -> Result<()> {
        batch.check(self.layout.hidden, self.layout.gates)?;
        check_size("pre-activations", batch.frames() * self.layout.row(), x.len())?;
        check_size("recurrent weights", self.layout.weights(), weights.len())?;
        check_size("states", batch.states() * self.layout.hidden, states.len())?;
        self.workspaces.with(|workspace| {
            forward::run(&self.layout, self.isa, workspace, x, batch, weights, states, saved);
        });
        Ok(())
    }

    /// Turns the activations in `x` into the gradient with respect to the pre-activations, in place.
    ///
    /// `dstates` is the gradient with respect to the states that were returned. `saved` must come from the
    /// [`Self::forward`] of the same batch; its warm-up rows are consumed.
    ///
    /// # Errors
    /// An empty batch, a clip without frames, or a buffer of the wrong size.
    pub fn backward(
        &self,
        x: &mut [f32],
        batch: &Batch<'_>,
        weights: &[f32],
        saved: &mut Saved,
        dstates: &[f32],
        gradients: Gradients<'_>,
    ) -> Result<()> {
        let layout = &self.layout;
        batch.check(layout.hidden, layout.gates)?;
        check_size("activations", batch.frames() * layout.row(), x.len())?;
        check_size("recurrent weights", layout.weights(), weights.len())?;
        check_size("gradient of the states", batch.states() * layout.hidden, dstates.len())?;
        check_size("gradient of the weights", layout.weights(), gradients.weights.len())?;
        if let Some(d) = &gradients.warm_x {
            check_size("gradient of the warm-up input", layout.row(), d.len())?;
        }
        check_size("saved states", batch.steps() * layout.hidden, saved.hidden.len())?;
        check_size("saved cells", batch.steps() * layout.extra(), saved.extra.len())?;
        check_size("saved warm-up rows", batch.warm_steps() * layout.row(), saved.warm.len())?;
        self.workspaces.with(|workspace| {
            backward::run(layout, self.isa, workspace, x, batch, weights, saved, dstates);
            weight_gradient::run(layout, self.isa, workspace, x, batch, saved, gradients);
        });
        Ok(())
    }
}
