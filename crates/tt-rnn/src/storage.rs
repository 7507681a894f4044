//! candle's storage on the CPU as slices.

use crate::{Error, Result};
use candle_core::{CpuStorage, Layout, Storage};
use tt_core::apply::Rows;

fn contiguous<'a, T>(values: &'a [T], layout: &Layout, what: &'static str) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&values[start..end]),
        None => Err(Error::Unsupported(format!("{what}: a strided tensor"))),
    }
}

pub(crate) fn floats<'a>(storage: &'a CpuStorage, layout: &Layout, what: &'static str) -> Result<&'a [f32]> {
    contiguous(storage.as_slice::<f32>()?, layout, what)
}

pub(crate) fn rows_of<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Rows<'a>> {
    match storage {
        CpuStorage::U8(values) => Ok(Rows::U8(contiguous(values, layout, "frames")?)),
        CpuStorage::F32(values) => Ok(Rows::F32(contiguous(values, layout, "frames")?)),
        _ => Err(Error::Unsupported("frames are u8 or f32".into())),
    }
}

pub(crate) fn on_cpu(storage: &Storage) -> Result<&CpuStorage> {
    match storage {
        Storage::Cpu(storage) => Ok(storage),
        _ => Err(Error::Unsupported("kernels of the CPU are for tensors that lie there".into())),
    }
}
