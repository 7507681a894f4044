//! One contraction of two tensors: what is packed of the right one, and which of two forms the products have.
//!
//! The tensor on the left is read where it lies, so that the order of its axes costs nothing; the one on the right is
//! packed once a call. [`Panels`] multiplies numbers of the left with vectors of the right's own axes, [`Lanes`] vectors
//! of the left's last axes with vectors of the right. Each form takes vectors of the width that its numbers fill best.

use super::axes::{Axes, Packing, Planned, SLACK, Vectors};
use super::lanes::Lanes;
use super::panels::Panels;
use crate::simd::Buffer;

/// The form of a contraction's products.
#[derive(Debug)]
pub(super) enum Form {
    Panels(Panels),
    Lanes(Lanes),
}

/// A contraction in the form that suits it.
pub(super) type Step = Planned<Form>;

/// A contraction of a tensor so far (`left`: a merged one, or the row) with `right`, a core or a merged one.
#[derive(Debug)]
pub(super) struct Contraction {
    pub(super) left: usize,
    pub(super) right: usize,
    pub(super) step: Step,
}

impl Step {
    /// In the cheapest form; of the `first` step, whose left is the row itself, a gradient is rarely asked for.
    pub(super) fn new(axes: &Axes, vectors: Vectors, first: bool) -> Self {
        let panels = Panels::step(axes, vectors, first);
        match Lanes::step(axes, vectors, first) {
            Some(lanes) if lanes.cost < panels.cost => lanes.map(Form::Lanes),
            _ => panels.map(Form::Panels),
        }
    }

    /// Numbers of the packed right, and of its gradient.
    pub(super) fn packed_len(&self) -> usize {
        self.packing.rows * self.packing.width
    }

    /// Packs the right for [`Step::forward`].
    pub(super) fn pack(&self, right: &[f32], packed: &mut Buffer) {
        packed.resize(self.packed_len() + SLACK);
        let Packing { columns, width, places, .. } = &self.packing;
        for (row, places) in packed.chunks_exact_mut(*width).zip(places.chunks_exact(*columns)) {
            for (value, place) in row.iter_mut().zip(places) {
                *value = right[*place as usize];
            }
        }
    }

    /// Packs the right for [`Step::left_gradient`].
    pub(super) fn pack_back(&self, packed: &[f32], back: &mut Buffer) {
        match &self.form {
            Form::Panels(panels) => panels.pack_back(packed, back),
            Form::Lanes(_) => {
                back.resize(packed.len());
                back.copy_from_slice(packed);
            }
        }
    }

    /// Adds the gradient of the packed right to that of the right.
    pub(super) fn unpack(&self, gradient: &[f32], right: &mut [f32]) {
        let Packing { columns, width, places, .. } = &self.packing;
        for (row, places) in gradient.chunks_exact(*width).zip(places.chunks_exact(*columns)) {
            for (value, place) in row.iter().zip(places) {
                right[*place as usize] += *value;
            }
        }
    }

    /// Numbers behind an operand that whole vectors may read.
    fn read_beyond(&self) -> usize {
        match &self.form {
            Form::Panels(_) => 0,
            Form::Lanes(_) => SLACK,
        }
    }

    /// `out = left · right`.
    pub(super) fn forward(&self, left: &[f32], packed: &[f32], out: &mut [f32]) {
        assert!(left.len() >= self.left_len + self.read_beyond() && out.len() >= self.out_len + SLACK);
        assert!(packed.len() >= self.packed_len() + SLACK);
        match &self.form {
            Form::Panels(panels) => panels.forward(left, packed, out),
            Form::Lanes(lanes) => lanes.forward(left, packed, out),
        }
    }

    /// Adds to the gradient of the packed right.
    pub(super) fn right_gradient(&self, left: &[f32], dout: &[f32], dright: &mut [f32]) {
        assert!(left.len() >= self.left_len + self.read_beyond() && dout.len() >= self.out_len + SLACK);
        assert!(dright.len() >= self.packed_len() + SLACK);
        match &self.form {
            Form::Panels(panels) => panels.right_gradient(left, dout, dright),
            Form::Lanes(lanes) => lanes.right_gradient(left, dout, dright),
        }
    }

    /// The gradient of the left, `back` being packed by [`Step::pack_back`].
    pub(super) fn left_gradient(&self, dout: &[f32], back: &[f32], dleft: &mut [f32], room: &mut Buffer) {
        assert!(dout.len() >= self.out_len + self.read_beyond() && dleft.len() >= self.left_len + SLACK);
        match &self.form {
            Form::Panels(panels) => panels.left_gradient(dout, back, dleft, room),
            Form::Lanes(lanes) => {
                assert!(back.len() >= self.packed_len());
                lanes.left_gradient(dout, back, dleft);
            }
        }
    }
}
