//! The TT layer as candle users know layers: built from a [`VarBuilder`], a [`Module`].

use candle_core::{DType, Result, Tensor};
use candle_nn::{Init, Module, VarBuilder};

use crate::apply::{Affine, Backend};
use crate::init::core_variance;
use crate::{Error, TtOperator, TtShape};

/// `y = x W + b` with W in Tensor-Train form.
///
/// # Examples
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Module, VarBuilder, VarMap};
/// use tt_core::{TtShape, tt_linear};
///
/// let variables = VarMap::new();
/// let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
/// // 784 x 100 numbers in three cores of rank 4.
/// let layer = tt_linear(&TtShape::uniform(&[7, 8, 14], &[4, 5, 5], 4, 1)?, vb.pp("hidden"))?;
/// let images = Tensor::zeros((32, 784), DType::F32, &Device::Cpu)?;
/// assert_eq!(layer.forward(&images)?.dims(), [32, 100]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct TtLinear {
    operator: TtOperator,
    cores: Tensor,
    bias: Option<Tensor>,
}

impl TtLinear {
    /// The layer of given weights: `cores [L]` as [`TtShape`] lays them out, `bias [N]`.
    ///
    /// Cores of f32 run on the device's own kernels, and of any other type on candle's operators.
    ///
    /// # Errors
    /// Tensors that do not fit the shape.
    pub fn new(shape: &TtShape, cores: Tensor, bias: Option<Tensor>) -> Result<Self> {
        let sizes = [("cores", shape.params(), Some(&cores)), ("bias", shape.out_features(), bias.as_ref())];
        for (what, expected, tensor) in sizes {
            if let Some(tensor) = tensor.filter(|tensor| tensor.dims() != [expected]) {
                let (expected, found) = (format!("[{expected}]"), format!("{:?}", tensor.dims()));
                return Err(candle_core::Error::wrap(Error::Size { what, expected, found }));
            }
        }
        let backend = if cores.dtype() == DType::F32 { Backend::Fused } else { Backend::Ops };
        Ok(Self { operator: TtOperator::new(shape, Affine::IDENTITY, backend), cores, bias })
    }

    /// The shape of W.
    pub fn shape(&self) -> &TtShape {
        self.operator.shape()
    }

    /// All cores in one vector.
    pub fn cores(&self) -> &Tensor {
        &self.cores
    }

    /// The bias, if there is one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }
}

impl Module for TtLinear {
    /// `x [.., M]` in the type of the cores (or u8), result `[.., N]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.operator.forward(x, &self.cores).map_err(candle_core::Error::wrap)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }
}

/// A layer with bias, its weights `cores` and `bias` from `vb`.
///
/// Where `vb` makes new variables, an entry of W has the variance of dense Glorot, `2 / (M + N)`, and the bias is
/// uniform within `1 / sqrt(M)`, as that of `candle_nn::linear`. candle's generator on the CPU cannot be seeded; for
/// values that can be repeated give [`crate::init::cores`] to [`TtLinear::new`].
///
/// # Errors
/// Candle's own, where `vb` holds other shapes or nothing.
#[expect(clippy::needless_pass_by_value, reason = "as the layers of candle_nn take it")]
pub fn tt_linear(shape: &TtShape, vb: VarBuilder) -> Result<TtLinear> {
    let bound = 1.0 / (shape.in_features() as f64).sqrt();
    let bias = vb.get_with_hints(shape.out_features(), "bias", Init::Uniform { lo: -bound, up: bound })?;
    TtLinear::new(shape, cores(shape, &vb)?, Some(bias))
}

/// As [`tt_linear`], without bias.
///
/// # Errors
/// As [`tt_linear`].
#[expect(clippy::needless_pass_by_value, reason = "as the layers of candle_nn take it")]
pub fn tt_linear_no_bias(shape: &TtShape, vb: VarBuilder) -> Result<TtLinear> {
    TtLinear::new(shape, cores(shape, &vb)?, None)
}

fn cores(shape: &TtShape, vb: &VarBuilder) -> Result<Tensor> {
    let bound = (3.0 * core_variance(shape)).sqrt();
    vb.get_with_hints(shape.params(), "cores", Init::Uniform { lo: -bound, up: bound })
}
