//! The weights in the order in which the kernels read them, packed once a call.

use super::Layout;
use rayon::prelude::*;
use tt_core::simd::Buffer;

/// `U` in panels, forward or transposed, and the rest padded to whole vectors.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// Forward: panel `(g, q)` is `[H, panel]`; backward: panel `q` of the transpose is `[G·H, panel]`.
    pub(super) panels: Buffer,
    /// b, each gate padded, `[G, padded]`.
    pub(super) bias: Buffer,
    /// The input of a warm-up step, `[G·H]`.
    pub(super) warm_x: Buffer,
}

impl Packed {
    /// Panels for `h · U`.
    pub(super) fn forward(&mut self, layout: &Layout, weights: &[f32], warm_x: Option<&[f32]>) {
        let Layout { hidden, gates, panel, padded, .. } = *layout;
        let row = layout.row();
        self.panels.resize(hidden * gates * padded);
        each(&mut self.panels, hidden * panel, |i, out| {
            let (gate, column) = (i / (padded / panel), i % (padded / panel) * panel);
            let count = panel.min(hidden - column);
            for (k, out) in out.chunks_exact_mut(panel).enumerate() {
                let from = k * row + gate * hidden + column;
                out[..count].copy_from_slice(&weights[from..from + count]);
                out[count..].fill(0.0);
            }
        });
        self.bias.resize(gates * padded);
        let bias = &weights[hidden * row..];
        for (out, bias) in self.bias.chunks_exact_mut(padded).zip(bias.chunks_exact(hidden)) {
            out[..hidden].copy_from_slice(bias);
            out[hidden..].fill(0.0);
        }
        self.warm_x.resize(row);
        match warm_x {
            Some(x) => self.warm_x.copy_from_slice(x),
            None => self.warm_x.fill(0.0),
        }
    }

    /// Panels for `d · U^T`.
    pub(super) fn backward(&mut self, layout: &Layout, weights: &[f32]) {
        /// Rows of a panel that stay in the first cache while its columns are filled.
        const BLOCK: usize = 64;
        let Layout { hidden, panel, padded, .. } = *layout;
        let row = layout.row();
        self.panels.resize(padded * row);
        each(&mut self.panels, row * panel, |q, out| {
            let count = panel.min(hidden - q * panel);
            for (block, out) in out.chunks_mut(BLOCK * panel).enumerate() {
                let rows = out.len() / panel;
                for unit in 0..panel {
                    let column = out[unit..].iter_mut().step_by(panel);
                    if unit < count {
                        let from = (q * panel + unit) * row + block * BLOCK;
                        column.zip(&weights[from..from + rows]).for_each(|(out, u)| *out = *u);
                    } else {
                        column.for_each(|out| *out = 0.0);
                    }
                }
            }
        });
    }
}

/// Calls `f` on every chunk, in parallel where there are threads.
pub(crate) fn each(all: &mut [f32], size: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if rayon::current_num_threads() == 1 {
        all.chunks_mut(size).enumerate().for_each(|(i, chunk)| f(i, chunk));
    } else {
        all.par_chunks_mut(size).enumerate().for_each(|(i, chunk)| f(i, chunk));
    }
}
