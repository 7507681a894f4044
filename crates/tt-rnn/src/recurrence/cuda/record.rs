//! What a training pass keeps on the device, and the gradient of the weights from it.

use super::super::Cell;
use super::super::products::weight_gradient;
use super::Plan;
use crate::error::Result;
use candle_core::Tensor;

/// What the forward pass leaves for the backward pass, rows packed as the input's.
#[derive(Clone, Debug)]
pub struct Record {
    /// Activations of the gates, `[n, G·H]`.
    pub activations: Tensor,
    /// The state before each step, `[n, H]`.
    pub hidden: Tensor,
    /// GRU: the masked `r∘h` that met `U_c`; LSTM: the cell before each step. `[n, H]`
    pub extra: Option<Tensor>,
    /// Dropout factors, `[1, B, H]` for all gates or `[G, B, H]`.
    pub mask: Option<Tensor>,
    /// T_b
    pub lengths: Vec<usize>,
    /// Index, first row and frames of each clip, the longest first, `[B, 3]`.
    pub sorted: Tensor,
    /// How the forward pass was dealt.
    pub plan: Plan,
}

impl Record {
    /// Gradient of `[U | b]`, flat, from that of the pre-activations, `[n, G·H]`.
    ///
    /// # Errors
    /// A `dx` of another shape, or on another device.
    pub fn weight_gradient(&self, cell: Cell, dx: &Tensor) -> Result<Tensor> {
        let masks = self.mask.as_ref().map_or(Ok(0), |mask| mask.dim(0))?;
        let on_state = if cell == Cell::Gru { 2 } else { cell.gates() };
        let each = if masks > 1 { 1 } else { on_state };
        let reset = self.extra.as_ref().filter(|_| cell == Cell::Gru);
        weight_gradient(dx, &self.hidden, reset, each, |gate| {
            self.mask.as_ref().map(|mask| self.factors(&mask.get(gate)?)).transpose()
        })
    }

    /// The factors of one gate for every row, `[n, H]`.
    fn factors(&self, mask: &Tensor) -> Result<Tensor> {
        let clips = self.lengths.iter().enumerate();
        let rows: Vec<u32> =
            clips.flat_map(|(clip, &length)| std::iter::repeat_n(clip as u32, length)).collect();
        let count = rows.len();
        Ok(mask.index_select(&Tensor::from_vec(rows, count, mask.device())?, 0)?)
    }
}
