//! To and from candle tensors and safetensors files.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, WithDType};

use super::{Core, Scalar, Truncation, TtMatrix, TtTensor, tt_svd};
use crate::error::count;
use crate::{Error, Result};

impl<T: Scalar + WithDType> TtTensor<T> {
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
    /// [`Error::Size`] for a tensor of more numbers than can be counted; candle's own.
    pub fn to_tensor(&self, device: &Device) -> Result<Tensor> {
        count("tensor", &self.modes())?;
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

impl<T: Scalar + WithDType> TtMatrix<T> {
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
            cores.push(Core::new(dims[0], count("core", &dims[1..3])?, dims[3], values)?);
            inputs.push(dims[1]);
            outputs.push(dims[2]);
        }
        Self::new(TtTensor::new(cores)?, &inputs, &outputs)
    }
}

fn save<'a, T: Scalar + WithDType>(
    path: &Path,
    cores: impl Iterator<Item = (&'a Core<T>, Vec<usize>)>,
) -> Result<()> {
    let tensors: HashMap<String, Tensor> = cores
        .enumerate()
        .map(|(k, (core, dims))| {
            Ok((format!("core.{k}"), Tensor::from_slice(&core.values, dims, &Device::Cpu)?))
        })
        .collect::<Result<_>>()?;
    Ok(candle_core::safetensors::save(&tensors, path)?)
}

fn load<T: Scalar + WithDType>(path: &Path, rank: usize) -> Result<Vec<(Vec<usize>, Vec<T>)>> {
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
