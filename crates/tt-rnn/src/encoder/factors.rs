//! The kernel of a convolution as small factors, of which it is multiplied out once a call: gradients reach the factors
//! through that product.
//!
//! # Paper
//! Garipov et al. 2016, section 4 (trains: channels split into modes, the kernel's places a core of their own); Lebedev et
//! al. 2015 (four thin factors: rows, columns, input and output channels).

use crate::Result;
use crate::config::CnnKernels;
use crate::parameters::Parameter;
use candle_core::Tensor;
use tt_core::decomposition::balanced_modes;
use tt_core::network::format::{SplitCanonical, Train};
use tt_core::network::{Format, FormatShape, Modes, Options, ops};

/// Modes that channels are split into.
const MODES: usize = 2;

/// The factors of a kernel `[k·k·C, S]` of `[k, C, S]`, larger ranks than possible reduced; none for a dense one, and for one
/// that has no more numbers than they.
///
/// # Shapes
/// `tt`: cores over `k·k`, `C_1 S_1` and `C_2 S_2` (without the first for k = 1); `cp`: `[k, R]`, `[k, R]`, `[C, R]`, `[S, R]`
/// (without the first two).
///
/// # Errors
/// A rank of 0.
pub fn factors([side, channels, outputs]: [usize; 3], kernels: CnnKernels) -> Result<Option<FormatShape>> {
    let places = usize::from(side > 1);
    let (format, rank, inputs, outputs): (&'static dyn Format, _, _, _) = match kernels {
        CnnKernels::Dense => return Ok(None),
        CnnKernels::Tt { rank } => {
            let split = |place: usize, channels| -> Result<Vec<usize>> {
                Ok([vec![place; places], balanced_modes(channels, MODES)?].concat())
            };
            (&Train, rank, split(side * side, channels)?, split(1, outputs)?)
        }
        CnnKernels::Cp { rank } => {
            (&SplitCanonical, rank, [vec![side; 2 * places], vec![channels]].concat(), vec![outputs])
        }
    };
    let modes = Modes { inputs, outputs, gates: 1 };
    let shape = FormatShape::uniform(format, &modes, &Options::default(), rank)?;
    let network = shape.network();
    let whole = network.in_features() * network.out_features();
    Ok((network.params() < whole).then_some(shape))
}

/// All numbers of a kernel, flat.
pub(super) fn whole(kernel: &Parameter, factors: Option<&FormatShape>) -> Result<Tensor> {
    Ok(match factors {
        None => kernel.var.flatten_all()?,
        Some(shape) => ops::matrix(shape.network(), &kernel.var)?.flatten_all()?,
    })
}
