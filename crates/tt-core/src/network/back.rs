//! The backward pass of a row, and from the gradients of what rows met to those of the cores.

use super::axes::SLACK;
use super::run::{Contracted, Prepared, Running, Workspace};
use super::step::Contraction;
use crate::apply::Row;
use crate::simd::Buffer;

impl Contracted {
    /// The backward pass of a row: adds to the gradients of what it met.
    pub(super) fn row_back(
        &self,
        row: Row,
        prepared: &Prepared,
        (saved, dout): (&[f32], &[f32]),
        (gradient, places): (&mut [f32], &[usize]),
        mut dx: Option<&mut [f32]>,
        work: &mut Workspace,
    ) {
        let Workspace { running, flow: [flow, other], slice_flow, room } = work;
        // What is not kept is computed again: of all slices where whole results follow from it, else slice by slice.
        let by_slice = self.kept.0 < self.sliced;
        running.whole = if by_slice { self.kept.0 } else { 0 };
        self.through(row, self.kept.0, prepared, running);
        let last = self.steps.len() - 1;
        let mut kept = saved;
        for k in self.kept.0..last {
            let (tensor, rest) = kept.split_at(self.result_len(k));
            running.tensors[k].resize(tensor.len() + SLACK);
            running.tensors[k][..tensor.len()].copy_from_slice(tensor);
            kept = rest;
        }
        flow.resize(self.steps[last].step.out_len + SLACK);
        for (value, place) in dout.iter().zip(&self.order) {
            flow[*place as usize] = *value;
        }
        for k in (self.sliced..=last).rev() {
            let step = &self.steps[k].step;
            let left = match k {
                0 => &running.row[..],
                _ => &running.tensors[k - 1][..],
            };
            let gradient = &mut gradient[places[k]..][..step.packed_len() + SLACK];
            step.right_gradient(left, flow, gradient);
            if k > 0 || dx.is_some() {
                other.resize(step.left_len + SLACK);
                step.left_gradient(flow, &prepared.backward[self.merges.len() + k], other, room);
                std::mem::swap(flow, other);
            }
        }
        if self.sliced == 0 {
            if let Some(dx) = dx {
                dx.iter_mut().zip(flow.iter()).for_each(|(dx, value)| *dx = self.affine.scale * value);
            }
            return;
        }
        for slice in 0..self.slices {
            if by_slice {
                self.steps(slice, 0..self.kept.0, prepared, running);
            }
            let width = self.inputs / self.slices;
            let dx = dx.as_mut().map(|dx| &mut dx[slice * width..][..width]);
            let flow = &flow[slice * self.steps[self.sliced - 1].step.out_len..];
            self.slice_back(slice, prepared, flow, (gradient, places), dx, (running, slice_flow, room));
        }
    }

    /// The sliced steps backwards, of a slice whose results are there.
    fn slice_back(
        &self,
        slice: usize,
        prepared: &Prepared,
        dout: &[f32],
        (gradient, places): (&mut [f32], &[usize]),
        dx: Option<&mut [f32]>,
        (running, [flow, other], room): (&Running, &mut [Buffer; 2], &mut Buffer),
    ) {
        for k in (0..self.sliced).rev() {
            let step = &self.steps[k].step;
            let left = match k {
                0 => &running.row[slice * step.left_len..],
                _ => &running.tensors[k - 1][self.start(slice, k - 1, running.whole)..],
            };
            let dout = if k + 1 == self.sliced { dout } else { &flow[..] };
            let gradient = &mut gradient[places[k]..][..step.packed_len() + SLACK];
            step.right_gradient(left, dout, gradient);
            if k > 0 || dx.is_some() {
                other.resize(step.left_len + SLACK);
                step.left_gradient(dout, &prepared.backward[self.merges.len() + k], other, room);
                std::mem::swap(flow, other);
            }
        }
        if let Some(dx) = dx {
            dx.iter_mut().zip(flow.iter()).for_each(|(dx, value)| *dx = self.affine.scale * value);
        }
    }

    /// From the gradients of what rows met to those of the cores.
    pub(super) fn cores_back(
        &self,
        cores: &[f32],
        prepared: &Prepared,
        (sum, places): (&[f32], &[usize]),
        dcores: &mut [f32],
    ) {
        let mut gradients: Vec<Buffer> = Vec::new();
        gradients.resize_with(self.cores.len() + self.merges.len(), Buffer::default);
        for (tensor, gradient) in gradients.iter_mut().enumerate() {
            gradient.resize(self.tensor(cores, &prepared.merged, tensor).len() + SLACK);
        }
        for (Contraction { right, step, .. }, place) in self.steps.iter().zip(places) {
            step.unpack(&sum[*place..][..step.packed_len()], &mut gradients[*right]);
        }
        let (mut packed, mut room) = (Buffer::default(), Buffer::default());
        for (k, Contraction { left, right, step }) in self.merges.iter().enumerate().rev() {
            let dout = std::mem::take(&mut gradients[self.cores.len() + k]);
            packed.resize(step.packed_len() + SLACK);
            packed.fill(0.0);
            let left_values = self.tensor(cores, &prepared.merged, *left);
            step.right_gradient(left_values, &dout, &mut packed);
            step.unpack(&packed[..step.packed_len()], &mut gradients[*right]);
            step.left_gradient(&dout, &prepared.backward[k], &mut gradients[*left], &mut room);
        }
        for (range, gradient) in self.cores.iter().zip(&gradients) {
            dcores[range.clone()].copy_from_slice(&gradient[..range.len()]);
        }
    }
}
