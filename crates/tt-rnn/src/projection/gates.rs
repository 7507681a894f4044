//! A matrix of small cores for all gates, or one of the same shape for each, their cores one after the other.

use super::{Fixed, Kernel, Memory, ProjectionGradients};
use crate::Result;
use crate::call::LayerCall;
use crate::error::check_size;
use std::fmt::Debug;
use tt_core::apply::{FixedCores, Fused, Rows, Saved};
use tt_core::network::{Contracted, FixedNetwork, SavedRows};

/// A matrix of small cores on the CPU, forward and backward.
pub(super) trait Cores: Debug {
    /// What its forward pass keeps for the backward pass.
    type Saved: Debug + Default + Send + 'static;

    fn forward(
        &self,
        rows: Rows<'_>,
        cores: &[f32],
        out: &mut [f32],
        saved: Option<&mut Self::Saved>,
    ) -> tt_core::Result<()>;

    fn backward(
        &self,
        rows: Rows<'_>,
        cores: &[f32],
        saved: &Self::Saved,
        dout: &[f32],
        dcores: &mut [f32],
        dx: Option<&mut [f32]>,
    ) -> tt_core::Result<()>;
}

/// The methods of that name that a kernel has, and the same with cores that stay as they are.
macro_rules! cores {
    ($kernel:ty, $saved:ty, $fixed:ty) => {
        impl Cores for $kernel {
            type Saved = $saved;

            fn forward(
                &self,
                rows: Rows<'_>,
                cores: &[f32],
                out: &mut [f32],
                saved: Option<&mut $saved>,
            ) -> tt_core::Result<()> {
                <$kernel>::forward(self, rows, cores, out, saved)
            }

            fn backward(
                &self,
                rows: Rows<'_>,
                cores: &[f32],
                saved: &$saved,
                dout: &[f32],
                dcores: &mut [f32],
                dx: Option<&mut [f32]>,
            ) -> tt_core::Result<()> {
                <$kernel>::backward(self, rows, cores, saved, dout, dcores, dx)
            }
        }

        impl Fixed for $fixed {
            fn forward(&mut self, row: Rows<'_>, out: &mut [f32]) -> Result<()> {
                Ok(<$fixed>::forward(self, row, out)?)
            }
        }
    };
}

cores!(Fused, Saved, FixedCores);
cores!(Contracted, SavedRows, FixedNetwork);

/// Matrices that stay as they are, one beside the other.
#[derive(Debug)]
pub(super) struct Beside<F>(pub(super) Vec<F>);

impl<F: Fixed> Fixed for Beside<F> {
    fn forward(&mut self, row: Rows<'_>, out: &mut [f32]) -> Result<()> {
        let width = out.len() / self.0.len();
        for (matrix, out) in self.0.iter_mut().zip(out.chunks_exact_mut(width)) {
            matrix.forward(row, out)?;
        }
        Ok(())
    }
}

/// Matrices of one shape side by side: as many as share the gates.
#[derive(Debug)]
pub(super) struct ByGate<K> {
    pub(super) kernel: K,
    /// How many.
    pub(super) matrices: usize,
    /// Weights of one.
    pub(super) params: usize,
    /// Outputs of one.
    pub(super) width: usize,
}

/// What the kernel keeps, for each matrix, and room for the columns of one.
#[derive(Debug, Default)]
struct Kept<S> {
    matrices: Vec<S>,
    columns: Vec<f32>,
}

impl<K: Cores> Kernel for ByGate<K> {
    fn forward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        out: &mut [f32],
        memory: &mut Memory,
        call: &LayerCall,
    ) -> Result<()> {
        let Self { kernel, matrices, params, width } = self;
        let Kept::<K::Saved> { matrices: saved, columns } = memory.of();
        saved.resize_with(*matrices, K::Saved::default);
        if let [saved] = saved.as_mut_slice() {
            return Ok(kernel.forward(rows, weights, out, call.train.then_some(saved))?);
        }
        columns.resize(out.len() / matrices, 0.0);
        for (gate, saved) in saved.iter_mut().enumerate() {
            let cores = &weights[gate * params..][..*params];
            kernel.forward(rows, cores, columns, call.train.then_some(saved))?;
            for (row, part) in out.chunks_exact_mut(matrices * width).zip(columns.chunks_exact(*width)) {
                row[gate * width..][..*width].copy_from_slice(part);
            }
        }
        Ok(())
    }

    fn backward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        memory: &mut Memory,
        dout: &[f32],
        gradients: ProjectionGradients<'_>,
        _: &LayerCall,
    ) -> Result<()> {
        let Self { kernel, matrices, params, width } = self;
        let Kept::<K::Saved> { matrices: saved, columns } = memory.of();
        let ProjectionGradients { weights: dweights, rows: mut dx } = gradients;
        check_size("matrices of the forward pass", *matrices, saved.len())?;
        if let [saved] = saved.as_slice() {
            return Ok(kernel.backward(rows, weights, saved, dout, dweights, dx)?);
        }
        let mut part_dx = dx.as_ref().map(|dx| vec![0.0; dx.len()]);
        if let Some(dx) = dx.as_deref_mut() {
            dx.fill(0.0);
        }
        columns.resize(dout.len() / matrices, 0.0);
        for (gate, saved) in saved.iter().enumerate() {
            let range = gate * params..(gate + 1) * params;
            for (row, part) in dout.chunks_exact(matrices * width).zip(columns.chunks_exact_mut(*width)) {
                part.copy_from_slice(&row[gate * width..][..*width]);
            }
            let (cores, dcores) = (&weights[range.clone()], &mut dweights[range]);
            kernel.backward(rows, cores, saved, columns, dcores, part_dx.as_deref_mut())?;
            if let (Some(dx), Some(part)) = (dx.as_deref_mut(), part_dx.as_ref()) {
                dx.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
            }
        }
        Ok(())
    }
}
