//! The input projection of a recurrent layer: a linear map from rows to pre-activations, the only difference between
//! a model and its twin.
//!
//! A further factorization that is a tensor network is one file in `tt_core::network::format` and a line in the list beside
//! it: [`NetworkProjection`] is the projection of all of them. Anything else is one file that implements
//! [`Projection`] and one line beside [`DENSE`] and [`TRAIN`].

mod alone;
mod dense;
mod gates;
mod matrix;
pub(crate) mod network;
mod train;

pub use crate::call::InputDropout;
use crate::call::LayerCall;
pub use crate::config::GateLayout;
use crate::config::ModelConfig;
pub use crate::gradient::Pieces;
use crate::rates::Kind;
use crate::{Error, Result};
pub(crate) use alone::Alone;
use candle_core::Tensor;
pub use dense::{DenseProjection, unit_for_frames};
pub use matrix::Matrix;
pub(crate) use matrix::{Factors, Sides};
pub use network::NetworkProjection;
use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;
pub(crate) use train::shape_of_model as shape_of_train;
pub use train::{TtProjection, kernels_for_frames};
use tt_core::apply::{Affine, Rows};
use tt_core::decomposition::balanced_modes;

/// A full matrix.
pub const DENSE: Factorization = Factorization { name: "dense", new: dense::of_model };
/// A Tensor Train, or one per gate.
pub const TRAIN: Factorization = Factorization { name: "train", new: train::of_model };

/// A form of the input matrix that models can be built with.
#[derive(Debug, Clone, Copy)]
pub struct Factorization {
    /// What it is called.
    pub name: &'static str,
    /// Makes the projection of a model whose cell has so many gates.
    pub new: fn(&ModelConfig, usize) -> Result<Arc<dyn Projection>>,
}

impl Factorization {
    /// The projections of a stack of layers, the lowest first: the others read the states below them as they are, in
    /// modes planned for their number, with the same ranks or budget. Both directions of a layer have one of the same
    /// sizes.
    ///
    /// # Errors
    /// No layer, or sizes that the form cannot have.
    pub fn of_layers(&self, config: &ModelConfig, gates: usize) -> Result<Vec<Arc<dyn Projection>>> {
        if config.stack.layers == 0 {
            return Err(Error::Unsupported("a recurrent model has at least one layer".into()));
        }
        let lowest = (self.new)(config, gates)?;
        let features = config.stack.directions() * lowest.outputs() / gates;
        let mut layers = vec![lowest];
        while layers.len() < config.stack.layers {
            let input_modes = balanced_modes(features, config.output_modes.len())?;
            let between = ModelConfig { features, input_modes, affine: Affine::IDENTITY, ..config.clone() };
            layers.push((self.new)(&between, gates)?);
        }
        Ok(layers)
    }
}

impl PartialEq for Factorization {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Factorization {}

impl Matrix {
    /// The projection of such a matrix.
    ///
    /// # Errors
    /// As [`Matrix::factors`].
    pub(crate) fn projection(&self, sides: Sides, affine: Affine) -> Result<Arc<dyn Projection>> {
        let Sides { features, gates, hidden } = sides;
        Ok(match self.factors(gates)? {
            None => Arc::new(DenseProjection::new(features, gates * hidden, gates, affine)),
            Some(Factors::Train(shape)) => {
                // A layer of trains of their own is told the gates of all.
                let layout = if self.count() == 1 { GateLayout::Concatenated } else { GateLayout::Separate };
                Arc::new(TtProjection::new(&shape.with_gates(gates)?, layout, affine)?)
            }
            Some(Factors::Network(shape)) => Arc::new(NetworkProjection::new(&shape, self.count(), affine)),
        })
    }
}

/// A linear map from rows `[n, M]` of bytes or f32 to pre-activations `[n, G·H]`, without bias. It holds sizes and
/// workspaces; the weights are given with each call.
pub trait Projection: Debug + Send + Sync {
    /// M, numbers of a row.
    fn features(&self) -> usize;

    /// G·H, pre-activations of a row.
    fn outputs(&self) -> usize;

    /// Multiply-accumulates a row.
    fn macs_per_row(&self) -> usize;

    /// What the weights are.
    fn weights(&self) -> Weights;

    /// Initial values of the weights, from the streams of `seed`.
    fn initial(&self, seed: u64) -> Vec<f32>;

    /// The form of the matrix in words, where a model folder has a place for it.
    ///
    /// # Errors
    /// None for sizes that were made.
    fn matrix(&self) -> Result<Option<Matrix>> {
        Ok(None)
    }

    /// Whether it can show each gate other features of a row, as [`LayerCall::input_dropout`] asks for.
    fn masks_by_gate(&self) -> bool {
        false
    }

    /// Pre-activations by candle's operators, on any device; differentiable with respect to the weights, and to the
    /// rows where they are tracked.
    ///
    /// # Errors
    /// Tensors that do not fit.
    fn forward(&self, rows: &Tensor, weights: &Tensor, call: &LayerCall) -> Result<Tensor>;

    /// Kernels of the CPU, if there are some: projection and recurrence are one operator then.
    fn kernel(&self) -> Option<&dyn Kernel> {
        None
    }

    /// The map with weights that stay as they are, for one row at a time on the CPU, if there is such a kernel.
    ///
    /// # Errors
    /// Weights of the wrong size.
    fn fixed(&self, _weights: Vec<f32>) -> Result<Option<Box<dyn Fixed>>> {
        Ok(None)
    }
}

/// The weights of a projection, as a parameter of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weights {
    /// Name in checkpoints.
    pub name: &'static str,
    /// Shape of the tensor.
    pub shape: Vec<usize>,
    /// Runs of values and what each is, in order: what their learning rates follow from.
    pub parts: Vec<(usize, Kind)>,
    /// Whether the gradient is left in a sink, because it is too large for candle's store: as factors, where the kernel is
    /// an [`OuterProduct`].
    pub sink: bool,
}

impl Weights {
    /// How many.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A projection on the CPU, forward and backward on slices.
pub trait Kernel {
    /// `out [n, G·H] = rows [n, M] · W`; with [`LayerCall::train`], a backward pass will find in `memory` what this
    /// one leaves there.
    ///
    /// # Errors
    /// A buffer of the wrong size.
    fn forward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        out: &mut [f32],
        memory: &mut Memory,
        call: &LayerCall,
    ) -> Result<()>;

    /// Gradients from that of the pre-activations, `dout [n, G·H]`.
    ///
    /// # Errors
    /// A buffer of the wrong size.
    fn backward(
        &self,
        rows: Rows<'_>,
        weights: &[f32],
        memory: &mut Memory,
        dout: &[f32],
        gradients: ProjectionGradients<'_>,
        call: &LayerCall,
    ) -> Result<()>;

    /// The two gradients apart, if that of the weights can wait.
    fn outer_product(&self) -> Option<&dyn OuterProduct> {
        None
    }
}

/// A kernel whose gradient of the weights is a product of two factors that are there anyway, the rows and the gradient of
/// the pre-activations: it can wait until the optimiser reads it.
pub trait OuterProduct {
    /// Gradient of the rows, `drows [n, M]`, overwritten.
    ///
    /// # Errors
    /// A buffer of the wrong size.
    fn rows_back(&self, weights: &[f32], dout: &[f32], drows: &mut [f32], call: &LayerCall) -> Result<()>;

    /// Gradient of the weights from rows `[n, M]` and `dout [n, G·H]`, to be computed in pieces.
    ///
    /// # Errors
    /// A buffer of the wrong size.
    fn weights_back<'a>(
        &'a self,
        rows: Rows<'a>,
        dout: &[f32],
        memory: &'a mut Memory,
        call: &'a LayerCall,
    ) -> Result<Box<dyn Pieces + 'a>>;
}

/// A projection with its weights, for one row at a time on the thread that asks.
pub trait Fixed: Debug + Send {
    /// Pre-activations `out [G·H]` of a row `[M]`, without bias. Memory is taken for the first row, and not again.
    ///
    /// # Errors
    /// A buffer of the wrong size.
    fn forward(&mut self, row: Rows<'_>, out: &mut [f32]) -> Result<()>;
}

/// Where a backward pass leaves its gradients.
#[derive(Debug)]
pub struct ProjectionGradients<'a> {
    /// Gradient of the weights, overwritten.
    pub weights: &'a mut [f32],
    /// Gradient of the rows, overwritten where asked for.
    pub rows: Option<&'a mut [f32]>,
}

/// What a kernel keeps from its forward pass for its backward pass, of a type of its own; reused across steps.
#[derive(Debug, Default)]
pub struct Memory(Option<Box<dyn Any + Send>>);

impl Memory {
    /// The memory of this type: as it was left, or new.
    pub fn of<T: Any + Send + Default>(&mut self) -> &mut T {
        if !self.0.as_ref().is_some_and(|memory| memory.is::<T>()) {
            self.0 = Some(Box::<T>::default());
        }
        match self.0.as_mut().and_then(|memory| memory.downcast_mut()) {
            Some(memory) => memory,
            None => unreachable!("the memory has this type since the line above"),
        }
    }
}
