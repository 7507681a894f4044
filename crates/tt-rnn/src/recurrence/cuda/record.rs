//! What a training pass keeps on the device, and the gradient of the weights from it.

use super::super::Cell;
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
    /// Gradient of `[U | b]`, flat, from that of the pre-activations, `[n, G·H]`: products over all rows.
    ///
    /// # Errors
    /// A `dx` of another shape, or on another device.
    pub fn weight_gradient(&self, cell: Cell, dx: &Tensor) -> Result<Tensor> {
        let hidden = self.hidden.dim(1)?;
        let on_state = if cell == Cell::Gru { 2 } else { cell.gates() };
        let masks = self.mask.as_ref().map_or(Ok(0), |mask| mask.dim(0))?;
        // Gates side by side that met the same left factor are one product.
        let each = if masks > 1 { 1 } else { on_state };
        let mut blocks = Vec::new();
        for first in (0..on_state).step_by(each) {
            let left = match &self.mask {
                Some(mask) => self.hidden.mul(&self.factors(&mask.get(first)?)?)?,
                None => self.hidden.clone(),
            };
            blocks.push(product(&left, dx, first * hidden, each * hidden)?);
        }
        if let (Cell::Gru, Some(reset)) = (cell, &self.extra) {
            blocks.push(product(reset, dx, 2 * hidden, hidden)?);
        }
        let matrix = Tensor::cat(&blocks, 1)?.flatten_all()?;
        Ok(Tensor::cat(&[&matrix, &dx.sum(0)?], 0)?)
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

/// `left^T · dx[:, first..first + count]`
fn product(left: &Tensor, dx: &Tensor, first: usize, count: usize) -> Result<Tensor> {
    Ok(left.t()?.matmul(&dx.narrow(1, first, count)?.contiguous()?)?)
}
