//! Convolutions whose kernel is factorized, as candle users know layers: built from a [`VarBuilder`], a [`Module`].
//!
//! Both read images `[B, C, H, W]` with candle's [`Conv2dConfig`], of one group, and are made of candle's operators and of
//! the TT layer: differentiable on every device.

use candle_core::{Result, Tensor};
use candle_nn::{Conv2dConfig, Init, Module, VarBuilder};

use crate::decomposition::{Alternating, Decomposed, Truncation, TtMatrix, canonical};
use crate::module::{TtLinear, tt_linear};
use crate::{Error, TtShape};

/// Rows and columns of a kernel, and where it is put.
#[derive(Debug, Clone, Copy)]
struct Places {
    kernel: (usize, usize),
    config: Conv2dConfig,
}

impl Places {
    fn new(kernel: (usize, usize), config: Conv2dConfig) -> Result<Self> {
        let Conv2dConfig { stride, dilation, groups, .. } = config;
        if kernel.0 * kernel.1 * stride * dilation == 0 || groups != 1 {
            return Err(wrong(format!(
                "a kernel of {kernel:?} at stride {stride}, dilation {dilation}, in {groups} groups: sizes must be at least 1, \
                 and there is one group"
            )));
        }
        Ok(Self { kernel, config })
    }

    /// How many places a kernel of `size` has along an axis of `length`.
    fn count(&self, size: usize, length: usize) -> Result<usize> {
        let (padded, reach) = (length + 2 * self.config.padding, self.config.dilation * (size - 1) + 1);
        if padded < reach {
            return Err(wrong(format!("a kernel that reaches over {reach} of {padded} pixels")));
        }
        Ok((padded - reach) / self.config.stride + 1)
    }

    fn padded(&self, x: &Tensor, axis: usize) -> Result<Tensor> {
        x.pad_with_zeros(axis, self.config.padding, self.config.padding)
    }

    /// What number `at` of a kernel reads along an axis of padded images, at every place.
    fn read(&self, padded: &Tensor, axis: usize, at: usize, places: usize) -> Result<Tensor> {
        let first = at * self.config.dilation;
        if self.config.stride == 1 {
            return padded.narrow(axis, first, places);
        }
        let list: Vec<u32> = (0..places).map(|place| (first + place * self.config.stride) as u32).collect();
        padded.contiguous()?.index_select(&Tensor::new(list, padded.device())?, axis)
    }
}

fn wrong(reason: String) -> candle_core::Error {
    candle_core::Error::wrap(Error::Shape(reason))
}

/// The numbers of a dense kernel `[S, C, k_1, k_2]`, in `f64`, with its axes in this order.
fn numbers(kernel: &Tensor, axes: [usize; 4]) -> Result<Vec<f64>> {
    kernel.to_dtype(candle_core::DType::F64)?.permute(axes)?.flatten_all()?.to_vec1()
}

/// A convolution whose kernel is a Tensor Train: channels split into modes, the spatial kernel a core of its own,
/// `K(i, j, c, s) = G_0(i, j) G_1(c_1, s_1) … G_d(c_d, s_d)`.
///
/// It is the TT layer on patches: rows of `[k_1 · k_2, C]` numbers with modes `k_1 · k_2, C_1 … C_d`.
///
/// # Cost
/// The layer's own ([`TtShape::macs_per_row`]) for every place of the kernel, and `k_1 · k_2` copies of the images.
///
/// # Paper
/// Garipov, Podoprikhin, Novikov and Vetrov, "Ultimate tensorization: compressing convolutional and FC layers alike", 2016,
/// arXiv 1611.03214, section 4.
#[derive(Debug, Clone)]
pub struct TtConv2d {
    layer: TtLinear,
    places: Places,
}

impl TtConv2d {
    /// The convolution by a layer of modes `k_1 · k_2, C_1 … C_d` and `1, S_1 … S_d`.
    ///
    /// # Errors
    /// A layer whose first modes are others; more than one group; a stride or dilation of 0.
    pub fn new(layer: TtLinear, kernel: (usize, usize), config: Conv2dConfig) -> Result<Self> {
        let places = Places::new(kernel, config)?;
        let first = (layer.shape().input_modes()[0], layer.shape().output_mode(0));
        if first != (kernel.0 * kernel.1, 1) {
            return Err(wrong(format!(
                "first modes {first:?} for a kernel of {kernel:?}: its places, and 1"
            )));
        }
        Ok(Self { layer, places })
    }

    /// A trained kernel `[S, C, k_1, k_2]` as a train (TT-SVD), beside its bias. Computed in f32, whatever its type.
    ///
    /// # Errors
    /// Modes that do not multiply to the channels; as [`crate::decomposition::tt_svd`].
    pub fn decompose(
        (kernel, bias): (&Tensor, Option<Tensor>),
        (inputs, outputs): (&[usize], &[usize]),
        truncation: &Truncation,
        config: Conv2dConfig,
    ) -> Result<Self> {
        let (_, _, rows, columns) = kernel.dims4()?;
        let values: Vec<f32> = numbers(kernel, [2, 3, 1, 0])?.iter().map(|value| *value as f32).collect();
        let (inputs, outputs) = modes(rows * columns, inputs, outputs);
        let matrix = TtMatrix::from_dense(&values, &inputs, &outputs, truncation);
        let (shape, packed) =
            matrix.and_then(|matrix| matrix.to_layer()).map_err(candle_core::Error::wrap)?;
        let cores = Tensor::new(packed, kernel.device())?.to_dtype(kernel.dtype())?;
        Self::new(TtLinear::new(&shape, cores, bias)?, (rows, columns), config)
    }

    /// The layer on patches.
    pub fn layer(&self) -> &TtLinear {
        &self.layer
    }

    /// The whole kernel, `[S, C, k_1, k_2]`, apart from any graph. Computed in f32, whatever the type.
    ///
    /// # Errors
    /// Weights that are no numbers.
    pub fn kernel(&self) -> Result<Tensor> {
        let (shape, cores) = (self.layer.shape(), self.layer.cores());
        let packed: Vec<f32> = cores.to_dtype(candle_core::DType::F32)?.to_vec1()?;
        let matrix = TtMatrix::from_layer(shape, &packed).map_err(candle_core::Error::wrap)?;
        let ((rows, columns), outputs) = (self.places.kernel, shape.out_features());
        let whole = Tensor::from_vec(matrix.reconstruct(), (rows, columns, (), outputs), cores.device())?;
        whole.to_dtype(cores.dtype())?.permute((3, 2, 0, 1))?.contiguous()
    }
}

/// Modes of the layer on patches.
fn modes(places: usize, inputs: &[usize], outputs: &[usize]) -> (Vec<usize>, Vec<usize>) {
    ([&[places], inputs].concat(), [&[1], outputs].concat())
}

impl Module for TtConv2d {
    /// `x [B, C, H, W]`, result `[B, S, H', W']`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, channels, height, width) = x.dims4()?;
        let (rows, columns) = self.places.kernel;
        let (down, along) = (self.places.count(rows, height)?, self.places.count(columns, width)?);
        let padded = self.places.padded(&self.places.padded(x, 2)?, 3)?;
        let mut taps = Vec::with_capacity(rows * columns);
        for i in 0..rows {
            let band = self.places.read(&padded, 2, i, down)?;
            for j in 0..columns {
                taps.push(self.places.read(&band, 3, j, along)?);
            }
        }
        let patches = Tensor::stack(&taps, 1)?.permute((0, 3, 4, 1, 2))?; // [B, H', W', k_1 k_2, C]
        let patches = patches.reshape((batch * down * along, rows * columns * channels))?;
        let y = self.layer.forward(&patches)?.reshape((batch, down, along, ()))?;
        y.permute((0, 3, 1, 2))?.contiguous()
    }
}

/// A [`TtConv2d`] of one rank between all cores, with bias; weights `cores` and `bias` from `vb`, new ones as those of
/// [`tt_linear`].
///
/// # Examples
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use candle_nn::{Conv2dConfig, Module, VarBuilder, VarMap};
/// use tt_core::tt_conv2d;
///
/// let variables = VarMap::new();
/// let vb = VarBuilder::from_varmap(&variables, DType::F32, &Device::Cpu);
/// let config = Conv2dConfig { padding: 1, ..Conv2dConfig::default() };
/// // 64 to 128 channels, 3 x 3: 5,192 numbers in the place of 73,728.
/// let layer = tt_conv2d((&[8, 8], &[8, 16]), (3, 3), 8, config, vb.pp("conv"))?;
/// assert_eq!(layer.layer().shape().params(), 9 * 8 + 8 * 8 * 8 * 8 + 8 * 8 * 16);
/// let images = Tensor::zeros((2, 64, 12, 10), DType::F32, &Device::Cpu)?;
/// assert_eq!(layer.forward(&images)?.dims(), [2, 128, 12, 10]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`TtConv2d::new`]; candle's own, where `vb` holds other shapes or nothing.
pub fn tt_conv2d(
    (inputs, outputs): (&[usize], &[usize]),
    kernel: (usize, usize),
    rank: usize,
    config: Conv2dConfig,
    vb: VarBuilder,
) -> Result<TtConv2d> {
    let (inputs, outputs) = modes(kernel.0 * kernel.1, inputs, outputs);
    let shape = TtShape::uniform(&inputs, &outputs, rank, 1).map_err(candle_core::Error::wrap)?;
    TtConv2d::new(tt_linear(&shape, vb)?, kernel, config)
}

/// A convolution whose kernel is a sum of products of vectors,
/// `K(s, c, i, j) = sum over r of S(s, r) C(c, r) V(i, r) H(j, r)`: four thin convolutions, 1×1 to R channels, down and
/// along each channel, and 1×1 from R.
///
/// # Cost
/// `R · (C + S + k_1 + k_2)` multiply-adds a place, where the dense kernel takes `C · S · k_1 · k_2`; at a stride the first
/// two run on more places than are put out.
///
/// # Paper
/// Lebedev, Ganin, Rakhuba, Oseledets and Lempitsky, "Speeding-up convolutional neural networks using fine-tuned
/// CP-decomposition", ICLR 2015, arXiv 1412.6553.
#[derive(Debug, Clone)]
pub struct CpConv2d {
    /// `[C, R]`, `[k_1, R]`, `[k_2, R]`, `[S, R]`.
    factors: [Tensor; 4],
    bias: Option<Tensor>,
    places: Places,
}

impl CpConv2d {
    /// The convolution by factors of the input channels `[C, R]`, of the kernel's rows `[k_1, R]` and columns `[k_2, R]`, and
    /// of the output channels `[S, R]`; bias `[S]`.
    ///
    /// # Errors
    /// Factors of different ranks, a bias of another size; more than one group; a stride or dilation of 0.
    pub fn new(factors: [Tensor; 4], bias: Option<Tensor>, config: Conv2dConfig) -> Result<Self> {
        let (_, rank) = factors[0].dims2()?;
        let sizes = [&factors[1], &factors[2], &factors[3]].map(Tensor::dims2);
        let [(rows, _), (columns, _), (outputs, _)] = match sizes {
            [Ok(down), Ok(along), Ok(out)] if [down.1, along.1, out.1] == [rank; 3] => [down, along, out],
            _ => {
                let found: Vec<_> = factors.iter().map(Tensor::dims).collect();
                return Err(wrong(format!(
                    "factors {found:?}: each is a matrix with a column for each term"
                )));
            }
        };
        if let Some(bias) = bias.as_ref().filter(|bias| bias.dims() != [outputs]) {
            return Err(wrong(format!("a bias of {:?} for {outputs} channels", bias.dims())));
        }
        Ok(Self { factors, bias, places: Places::new((rows, columns), config)? })
    }

    /// A trained kernel `[S, C, k_1, k_2]` as `rank` terms (alternating least squares with steps that never enlarge the error),
    /// beside its bias; and the error, relative to the kernel.
    ///
    /// # Errors
    /// As [`canonical`].
    pub fn decompose(
        (kernel, bias): (&Tensor, Option<Tensor>),
        rank: usize,
        options: &Alternating,
        config: Conv2dConfig,
    ) -> Result<(Self, f64)> {
        let (outputs, inputs, rows, columns) = kernel.dims4()?;
        let sizes = [inputs, rows, columns, outputs];
        let fit = canonical(&numbers(kernel, [1, 2, 3, 0])?, &sizes, rank, options)
            .map_err(candle_core::Error::wrap)?;
        let mut factors = Vec::with_capacity(4);
        for (factor, size) in fit.found.balanced().iter().zip(sizes) {
            let factor = Tensor::from_slice(factor.values(), (size, rank), kernel.device())?;
            factors.push(factor.to_dtype(kernel.dtype())?);
        }
        let factors = factors.try_into().map_err(|_| wrong(format!("{} modes", fit.found.modes().len())))?;
        Ok((Self::new(factors, bias, config)?, fit.relative_error))
    }

    /// The factors: of the input channels, of rows and columns, of the output channels.
    pub fn factors(&self) -> &[Tensor; 4] {
        &self.factors
    }

    /// The bias, if there is one.
    pub fn bias(&self) -> Option<&Tensor> {
        self.bias.as_ref()
    }

    /// The whole kernel, `[S, C, k_1, k_2]`.
    ///
    /// # Errors
    /// Candle's own.
    pub fn kernel(&self) -> Result<Tensor> {
        let [input, down, along, output] = &self.factors;
        let (rank, inputs) = (input.dim(1)?, input.dim(0)?);
        let (rows, columns) = self.places.kernel;
        let spatial =
            down.unsqueeze(1)?.broadcast_mul(&along.unsqueeze(0)?)?.reshape((1, rows * columns, rank))?;
        let terms = input.unsqueeze(1)?.broadcast_mul(&spatial)?.reshape((inputs * rows * columns, rank))?;
        output.matmul(&terms.t()?)?.reshape(((), inputs, rows, columns))
    }

    /// Each channel along one axis by its own column of `[k, R]`.
    fn thin(&self, x: &Tensor, factor: &Tensor, axis: usize) -> Result<Tensor> {
        let (size, rank) = factor.dims2()?;
        let places = self.places.count(size, x.dim(axis)?)?;
        let padded = self.places.padded(x, axis)?;
        let tap = |at: usize| -> Result<Tensor> {
            let weights = factor.narrow(0, at, 1)?.reshape((1, rank, 1, 1))?;
            self.places.read(&padded, axis, at, places)?.broadcast_mul(&weights)
        };
        (1..size).try_fold(tap(0)?, |sum, at| sum + tap(at)?)
    }
}

/// A 1×1 convolution of `x [B, C, H, W]` by `[S, C]`.
fn mixed(x: &Tensor, matrix: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let pixels = x.reshape((batch, channels, height * width))?;
    matrix.contiguous()?.broadcast_matmul(&pixels)?.reshape((batch, (), height, width))
}

impl Module for CpConv2d {
    /// `x [B, C, H, W]`, result `[B, S, H', W']`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [input, down, along, output] = &self.factors;
        let terms = self.thin(&self.thin(&mixed(x, &input.t()?)?, down, 2)?, along, 3)?;
        let y = mixed(&terms, output)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(&bias.reshape((1, (), 1, 1))?),
            None => Ok(y),
        }
    }
}

/// A [`CpConv2d`] from `inputs` to `outputs` channels with bias; weights `input`, `down`, `along`, `output` and `bias` from `vb`.
///
/// Where `vb` makes new variables, an entry of the kernel has the variance of dense Glorot, and the bias is uniform within
/// `1 / sqrt(fan-in)`.
///
/// # Errors
/// As [`CpConv2d::new`]; candle's own, where `vb` holds other shapes or nothing.
#[expect(clippy::needless_pass_by_value, reason = "as the layers of candle_nn take it")]
pub fn cp_conv2d(
    (inputs, outputs): (usize, usize),
    kernel: (usize, usize),
    rank: usize,
    config: Conv2dConfig,
    vb: VarBuilder,
) -> Result<CpConv2d> {
    if rank == 0 || kernel.0 == 0 || kernel.1 == 0 {
        return Err(wrong(format!("a kernel of {kernel:?} of rank {rank}: all must be at least 1")));
    }
    let places = (kernel.0 * kernel.1) as f64;
    let entry = 2.0 / (places * (inputs + outputs) as f64);
    // Four factors whose product, summed over the terms, has that variance; a uniform number has a third of its square.
    let bound = (3.0 * (entry / rank as f64).powf(0.25)).sqrt();
    let factor = |name: &str, rows: usize| {
        vb.get_with_hints((rows, rank), name, Init::Uniform { lo: -bound, up: bound })
    };
    let factors = [
        factor("input", inputs)?,
        factor("down", kernel.0)?,
        factor("along", kernel.1)?,
        factor("output", outputs)?,
    ];
    let bound = 1.0 / (places * inputs as f64).sqrt();
    let bias = vb.get_with_hints(outputs, "bias", Init::Uniform { lo: -bound, up: bound })?;
    CpConv2d::new(factors, Some(bias), config)
}
