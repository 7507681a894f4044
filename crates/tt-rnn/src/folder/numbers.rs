//! Weights in fewer bytes: half precision, and whole numbers with a scale per output.

use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, SafeTensors, View};
use std::borrow::Cow;
use std::collections::HashMap;
use std::str::FromStr;

/// How weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbers {
    /// As they were trained.
    #[default]
    F32,
    /// Half precision.
    F16,
    /// Matrices as whole numbers from -127 to 127 with a scale per column, an output each; the rest in half precision.
    Int8,
}

impl FromStr for Numbers {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "int8" => Ok(Self::Int8),
            _ => {
                Err(Error::Unknown { what: "kind of weights", name: name.into(), choices: "f32, f16, int8" })
            }
        }
    }
}

/// What follows a matrix's name in the name of its scales.
const SCALE: &str = ".scale";

/// Whole numbers and the scale of each of `outputs`, of a tensor whose axes behind that of the outputs have `inner`
/// numbers.
pub(crate) fn whole(values: &[f32], outputs: usize, inner: usize) -> (Vec<i8>, Vec<f32>) {
    let output = |at: usize| at / inner % outputs;
    let mut scales = vec![0.0_f32; outputs];
    for (at, value) in values.iter().enumerate() {
        let scale = &mut scales[output(at)];
        *scale = scale.max(value.abs() / 127.0);
    }
    let number = |(at, value): (usize, &f32)| match scales[output(at)] {
        0.0 => 0,
        scale => (value / scale).round() as i8,
    };
    (values.iter().enumerate().map(number).collect(), scales)
}

/// Numbers in half precision, little-endian.
pub(crate) fn half(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect()
}

/// Refuses numbers that half precision has no place for.
///
/// # Errors
/// [`Error::Unsupported`] naming the tensor.
pub(crate) fn fits_half(name: &str, values: &[f32]) -> Result<()> {
    match values.iter().find(|value| value.abs() > half::f16::MAX.to_f32()) {
        Some(value) => Err(Error::Unsupported(format!(
            "tensor {name:?} holds {value}, more than half precision has: keep the weights in f32"
        ))),
        None => Ok(()),
    }
}

/// A tensor as it lies in a file.
#[derive(Debug)]
pub(super) struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for &Stored {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// A tensor as a file keeps it: with its scales where it is whole numbers.
pub(super) fn store(name: &str, tensor: &Tensor, numbers: Numbers) -> Result<Vec<(String, Stored)>> {
    let shape = tensor.dims().to_vec();
    let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
    let (dtype, bytes) = match numbers {
        Numbers::Int8 if name.ends_with(".kernel") => {
            let columns = tensor.dim(1)?;
            let (whole, scales) = whole(&values, columns, 1);
            let bytes = whole.into_iter().map(|number| number as u8).collect();
            let scales = scales.into_iter().flat_map(f32::to_le_bytes).collect();
            return Ok(vec![
                (name.to_owned(), Stored { dtype: Dtype::I8, shape, bytes }),
                (format!("{name}{SCALE}"), Stored { dtype: Dtype::F32, shape: vec![columns], bytes: scales }),
            ]);
        }
        Numbers::F32 => (Dtype::F32, values.into_iter().flat_map(f32::to_le_bytes).collect()),
        Numbers::F16 | Numbers::Int8 => {
            fits_half(name, &values)?;
            (Dtype::F16, half(&values))
        }
    };
    Ok(vec![(name.to_owned(), Stored { dtype, shape, bytes })])
}

/// The tensors of a file in f32; the reason names a tensor that is kept in no way known here.
pub(super) fn read(bytes: &[u8]) -> std::result::Result<super::Weights, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = HashMap::new();
    let mut scales = Vec::new();
    for (name, view) in file.iter() {
        let raw = |dtype| Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu);
        let tensor = match view.dtype() {
            Dtype::F32 => raw(DType::F32),
            Dtype::F16 => raw(DType::F16).and_then(|tensor| tensor.to_dtype(DType::F32)),
            Dtype::I8 => {
                scales.push(name.to_owned());
                let numbers: Vec<f32> = view.data().iter().map(|byte| f32::from(*byte as i8)).collect();
                Tensor::from_vec(numbers, view.shape(), &Device::Cpu)
            }
            other => {
                return Err(format!("tensor {name:?} is of type {other:?}; f32, f16 and int8 are known"));
            }
        };
        tensors.insert(name.to_owned(), tensor.map_err(|error| error.to_string())?);
    }
    for name in scales {
        let scale = tensors.remove(&format!("{name}{SCALE}"));
        let scale = scale.ok_or_else(|| format!("tensor \"{name}{SCALE}\" is missing"))?;
        if let Some(tensor) = tensors.get_mut(&name) {
            if tensor.dims().last() != Some(&scale.elem_count()) || scale.rank() != 1 {
                let (kernel, found) = (tensor.dims(), scale.dims());
                return Err(format!(
                    "tensor \"{name}{SCALE}\" is {found:?}: one number for each column of {kernel:?}"
                ));
            }
            *tensor = tensor.broadcast_mul(&scale).map_err(|error| error.to_string())?;
        }
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_one_a_column() {
        let stored = |dtype, shape: &[usize], bytes| Stored { dtype, shape: shape.to_vec(), bytes };
        let file = |scales: &[usize]| {
            let count: usize = scales.iter().product();
            let tensors = [
                ("a.kernel".to_owned(), stored(Dtype::I8, &[2, 3], vec![1; 6])),
                (format!("a.kernel{SCALE}"), stored(Dtype::F32, scales, vec![0; 4 * count])),
            ];
            let views = tensors.iter().map(|(name, stored)| (name.as_str(), stored));
            read(&safetensors::serialize(views, None).unwrap()).map(|read| read.len())
        };
        assert_eq!(file(&[3]), Ok(1));
        for wrong in [&[9, 1][..], &[1, 3], &[2], &[]] {
            let error = file(wrong).unwrap_err();
            assert!(error.contains("one number for each column of [2, 3]"), "{error}");
        }
    }

    #[test]
    fn whole_numbers_are_off_by_half_a_step_at_most() {
        let matrix = [0.5, -3.0, 0.0, 0.25, 1.0, 0.0];
        let (numbers, scales) = whole(&matrix, 3, 1);
        assert_eq!(numbers, [127, -127, 0, 64, 42, 0]);
        for (at, value) in matrix.iter().enumerate() {
            let scale = scales[at % 3];
            assert!((f32::from(numbers[at]) * scale - value).abs() <= 0.5001 * scale, "{value}");
        }
    }
}
