//! Files that survive: safetensors written whole or not at all.

use crate::{Error, Result};
use candle_core::Tensor;
use std::collections::HashMap;
use std::path::Path;

/// Writes named tensors and one text entry (`state`) as a safetensors file: temporary file, fsync, rename,
/// fsync of the folder. A kill at any instant leaves the old file or the new one, and equal content gives
/// equal bytes.
///
/// # Errors
/// [`Error::File`] naming the file.
pub fn save(path: &Path, tensors: &[(String, Tensor)], state: &str) -> Result<()> {
    let metadata = HashMap::from([("state".to_owned(), state.to_owned())]);
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let written = files::replace(path, |temporary| {
        safetensors::serialize_to_file(named, Some(metadata), temporary).map_err(std::io::Error::other)
    });
    written.map_err(|source| Error::File { path: path.to_owned(), source })
}

/// Reads what [`save`] wrote: tensors by name, and the text entry.
///
/// # Errors
/// [`Error::File`] naming the file.
pub fn load(path: &Path) -> Result<(HashMap<String, Tensor>, String)> {
    let failed = |source: std::io::Error| Error::File { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(failed)?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)
        .map_err(|error| failed(std::io::Error::other(error)))?;
    let state = header.metadata().as_ref().and_then(|entries| entries.get("state").cloned());
    let tensors = candle_core::safetensors::load_buffer(&bytes, &candle_core::Device::Cpu)
        .map_err(|error| failed(std::io::Error::other(error)))?;
    Ok((tensors, state.unwrap_or_default()))
}
