//! A small forward pass of a kernel against the same by candle's operators: what no emulation can vouch for is the hardware.

use candle_core::{DType, Device, Result, Tensor};

use super::{Cut, product};

/// Rows of whole words of 8 bytes and rows that begin anywhere, several slices and products of a row, numbers left over
/// everywhere.
const CUTS: [Cut; 2] = [
    Cut { bond: 1, left_inputs: 33, right_inputs: 72, left_outputs: 24, right_outputs: 20, rank: 3 },
    Cut { bond: 1, left_inputs: 17, right_inputs: 90, left_outputs: 12, right_outputs: 16, rank: 4 },
];
const FRAMES: usize = 13;
/// Of the largest number: T and y are promised to a tenth of it.
const BOUND: f64 = 1e-5;

/// Whether `forward` (cut, frames, right and left half to y and T) does on a device what the operators do in f64.
pub(super) fn agrees(
    device: &Device,
    forward: impl Fn(&Cut, &Tensor, &Tensor, &Tensor) -> Result<[Tensor; 2]>,
) -> Result<bool> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    for cut in CUTS {
        let Cut { left_inputs, right_inputs, left_outputs, rank, .. } = cut;
        let x: Vec<u8> = (0..FRAMES * left_inputs * right_inputs).map(|_| next() as u8).collect();
        let mut numbers = |count| (0..count).map(|_| next() as f32 / 8e6 - 1.0).collect::<Vec<_>>();
        let right = numbers(right_inputs * cut.right_columns());
        let left = numbers(rank * left_outputs * left_inputs);
        let tensors = |device: &Device| -> Result<[Tensor; 3]> {
            Ok([
                Tensor::from_slice(&x, (FRAMES, left_inputs * right_inputs), device)?,
                Tensor::from_slice(&right, (right_inputs, cut.right_columns()), device)?,
                Tensor::from_slice(&left, (rank, left_outputs, left_inputs), device)?,
            ])
        };
        let [frames, right, left] = tensors(device)?;
        let found = forward(&cut, &frames, &right, &left)?;
        let [frames, right, left] = tensors(&Device::Cpu)?;
        let (y, between) =
            product::forward(&cut, &frames, &right.to_dtype(DType::F64)?, &left.to_dtype(DType::F64)?)?;
        for (found, expected) in found.iter().zip([y, between]) {
            let found = found.to_device(&Device::Cpu)?.to_dtype(DType::F64)?;
            let largest = expected.abs()?.max_all()?.to_scalar::<f64>()?;
            let errors = (found - expected)?.abs()?.flatten_all()?.to_vec1::<f64>()?;
            if !errors.iter().all(|error| *error <= BOUND * largest) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_errs_is_found_out() {
        let with = |change: fn(Tensor) -> Result<Tensor>| {
            agrees(&Device::Cpu, |cut, x, right, left| {
                let (y, between) = product::forward(cut, x, right, left)?;
                Ok([y, change(between)?])
            })
            .unwrap()
        };
        assert!(with(Ok));
        assert!(!with(|between| between * 1.0001));
        assert!(!with(|between| (between * 0.0)?.log()), "what is not finite agrees with nothing");
    }
}
