//! To and from candle tensors, safetensors files, and the packed cores of a layer.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use super::{Core, Scalar, Truncation, TtMatrix, TtTensor, tt_svd};
use crate::{Error, Result, TtShape};

impl<T: Scalar> TtTensor<T> {
    /// Decomposes a candle tensor of the same number type.
    ///
    /// # Errors
    /// As [`tt_svd`]; candle's own for another type.
    pub fn from_tensor(tensor: &Tensor, truncation: &Truncation) -> Result<Self> {
        tt_svd(&tensor.flatten_all()?.to_vec1::<T>()?, tensor.dims(), truncation)
    }

    /// The whole tensor on a device.
    ///
    /// # Errors
    /// Candle's own.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.reconstruct(), self.modes(), device)?)
    }

    /// Writes the cores, `core.0` … as `[r_{k-1}, n_k, r_k]`, into a safetensors file.
    ///
    /// # Errors
    /// Candle's own, of the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        save(path, self.cores.iter().map(|core| (core, vec![core.left, core.mode, core.right])))
    }

    /// Reads what [`TtTensor::save`] wrote.
    ///
    /// # Errors
    /// Candle's own, of the file; [`Error::Shape`] for cores that do not fit.
    pub fn load(path: &Path) -> Result<Self> {
        let cores =
            load(path, 3)?.into_iter().map(|(dims, values)| Core::new(dims[0], dims[1], dims[2], values));
        Self::new(cores.collect::<Result<_>>()?)
    }
}

impl<T: Scalar> TtMatrix<T> {
    /// Writes the cores, `core.0` … as `[r_{k-1}, m_k, n_k, r_k]`, into a safetensors file.
    ///
    /// # Errors
    /// Candle's own, of the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let modes = self.input_modes().iter().zip(self.output_modes());
        let cores = self.train().cores().iter().zip(modes);
        save(path, cores.map(|(core, (m, n))| (core, vec![core.left, *m, *n, core.right])))
    }

    /// Reads what [`TtMatrix::save`] wrote.
    ///
    /// # Errors
    /// Candle's own, of the file; [`Error::Shape`] for cores that do not fit.
    pub fn load(path: &Path) -> Result<Self> {
        let (mut cores, mut inputs, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for (dims, values) in load(path, 4)? {
            cores.push(Core::new(dims[0], dims[1] * dims[2], dims[3], values)?);
            inputs.push(dims[1]);
            outputs.push(dims[2]);
        }
        Self::new(TtTensor::new(cores)?, &inputs, &outputs)
    }
}

impl TtMatrix<f32> {
    /// The shape and packed cores of the layer that computes `x · W`; see [`TtShape`] for the layout.
    ///
    /// # Errors
    /// As [`TtShape::new`].
    pub fn to_layer(&self) -> Result<(TtShape, Vec<f32>)> {
        let ranks = self.train().ranks();
        let shape = TtShape::new(self.input_modes(), self.output_modes(), &ranks, 1)?;
        let mut packed = vec![0.0; shape.params()];
        for (k, core) in self.train().cores().iter().enumerate() {
            for (at, value) in core.values.iter().enumerate() {
                packed[packed_at(&shape, k, at)] = *value;
            }
        }
        Ok((shape, packed))
    }

    /// The matrix that a layer of packed cores computes; the gate factor stays in the first output mode.
    ///
    /// # Errors
    /// [`Error::Size`] for the wrong number of weights, [`Error::NotFinite`].
    pub fn from_layer(shape: &TtShape, packed: &[f32]) -> Result<Self> {
        if packed.len() != shape.params() {
            return Err(Error::Size {
                what: "cores",
                expected: shape.params().to_string(),
                found: packed.len().to_string(),
            });
        }
        let outputs: Vec<usize> = (0..shape.order()).map(|k| shape.output_mode(k)).collect();
        let core = |k: usize| {
            let values = (0..shape.core_len(k)).map(|at| packed[packed_at(shape, k, at)]).collect();
            Core::new(shape.ranks()[k], shape.input_modes()[k] * outputs[k], shape.ranks()[k + 1], values)
        };
        let train = TtTensor::new((0..shape.order()).map(core).collect::<Result<_>>()?)?;
        Self::new(train, shape.input_modes(), &outputs)
    }
}

/// Where number `at` of core `k`, `[r_{k-1}, m_k, n_k, r_k]`, lies in a layer's flat vector.
fn packed_at(shape: &TtShape, k: usize, at: usize) -> usize {
    let (n, right) = (shape.output_mode(k), shape.ranks()[k + 1]);
    let (b, j) = (at % right, at / right % n);
    let (i, a) = (at / right / n % shape.input_modes()[k], at / right / n / shape.input_modes()[k]);
    shape.core_offset(k) + (i * right + b) * shape.core_matrix(k).1 + a * n + j
}

fn save<'a, T: Scalar>(path: &Path, cores: impl Iterator<Item = (&'a Core<T>, Vec<usize>)>) -> Result<()> {
    let tensors: HashMap<String, Tensor> = cores
        .enumerate()
        .map(|(k, (core, dims))| {
            Ok((format!("core.{k}"), Tensor::from_slice(&core.values, dims, &Device::Cpu)?))
        })
        .collect::<Result<_>>()?;
    Ok(candle_core::safetensors::save(&tensors, path)?)
}

fn load<T: Scalar>(path: &Path, rank: usize) -> Result<Vec<(Vec<usize>, Vec<T>)>> {
    let tensors = candle_core::safetensors::load(path, &Device::Cpu)?;
    (0..tensors.len())
        .map(|k| {
            let core = tensors.get(&format!("core.{k}")).filter(|core| core.dims().len() == rank);
            let core = core.ok_or_else(|| {
                Error::Shape(format!("{}: no core.{k} of {rank} dimensions", path.display()))
            })?;
            Ok((core.dims().to_vec(), core.flatten_all()?.to_vec1::<T>()?))
        })
        .collect()
}
