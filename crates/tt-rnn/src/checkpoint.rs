//! Files that survive: safetensors written whole or not at all.

use crate::{Error, Result};
use candle_core::Tensor;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::Path;

/// Writes named tensors and one text entry (`state`) as a safetensors file: temporary file, fsync, rename,
/// fsync of the folder. A kill at any instant leaves the old file or the new one, and equal content gives
/// equal bytes.
///
/// # Errors
/// [`Error::File`] naming the file.
pub fn save(path: &Path, tensors: &[(String, Tensor)], state: &str) -> Result<()> {
    write(path, tensors, state).map_err(|source| Error::File { path: path.to_owned(), source })
}

fn write(path: &Path, tensors: &[(String, Tensor)], state: &str) -> io::Result<()> {
    let metadata = HashMap::from([("state".to_owned(), state.to_owned())]);
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    // safetensors renames too, and syncs nothing.
    settle(path, |temporary| {
        safetensors::serialize_to_file(named, Some(metadata), temporary).map_err(io::Error::other)
    })
}

/// Writes a file under a name that is nobody else's, syncs it, gives it its own name and syncs the folder.
pub(crate) fn settle(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut named = tempfile::Builder::new();
    #[cfg(unix)]
    // For everyone to read, as far as the process lets new files be.
    named.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let temporary = named.suffix(".tmp").tempfile_in(folder)?.into_temp_path();
    write(&temporary)?;
    File::open(&temporary)?.sync_all()?;
    temporary.persist(path)?;
    File::open(folder)?.sync_all()
}

/// Reads what [`save`] wrote: tensors by name, and the text entry.
///
/// # Errors
/// [`Error::File`] naming the file.
pub fn load(path: &Path) -> Result<(HashMap<String, Tensor>, String)> {
    let failed = |source: io::Error| Error::File { path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(failed)?;
    let (_, header) =
        safetensors::SafeTensors::read_metadata(&bytes).map_err(|error| failed(io::Error::other(error)))?;
    let state = header.metadata().as_ref().and_then(|entries| entries.get("state").cloned());
    let tensors = candle_core::safetensors::load_buffer(&bytes, &candle_core::Device::Cpu)
        .map_err(|error| failed(io::Error::other(error)))?;
    Ok((tensors, state.unwrap_or_default()))
}

/// Whether all numbers of a tensor are finite: those of a training that diverged are not.
///
/// # Errors
/// Of candle.
pub fn is_finite(tensor: &Tensor) -> Result<bool> {
    let values: Vec<f32> = tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?;
    Ok(values.into_iter().all(f32::is_finite))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn two_writers_of_one_file_both_succeed_and_leave_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoint.safetensors");
        std::thread::scope(|scope| {
            for state in ["a", "b"] {
                let path = &path;
                scope.spawn(move || {
                    let tensors = [("w".to_owned(), Tensor::zeros(1000, DType::F32, &Device::Cpu).unwrap())];
                    (0..50).for_each(|_| save(path, &tensors, state).unwrap());
                });
            }
        });
        let (tensors, state) = load(&path).unwrap();
        assert_eq!(tensors["w"].dims(), [1000]);
        assert!(["a", "b"].contains(&state.as_str()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
