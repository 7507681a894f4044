//! Files that survive: safetensors written whole or not at all.

use crate::{Error, Result};
use candle_core::{Device, Tensor};
use safetensors::{SafeTensorError, SafeTensors, View};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;

/// The entry of a file's header.
const ENTRY: &str = "state";
/// Before the text in it: the digest of all that the file holds, in so many hexadecimal digits.
const MARK: &str = "sha256:";
const DIGITS: usize = 64;

/// Writes named tensors and one text entry (`state`) as a safetensors file: temporary file, fsync, rename,
/// fsync of the folder. A kill at any instant leaves the old file or the new one, and equal content gives
/// equal bytes. Before the text stands the digest of text and tensors.
///
/// # Errors
/// [`Error::File`] naming the file.
pub fn save(path: &Path, tensors: &[(String, Tensor)], state: &str) -> Result<()> {
    write(path, tensors, state).map_err(|reason| Error::File { path: path.to_owned(), reason })
}

fn write(path: &Path, tensors: &[(String, Tensor)], state: &str) -> io::Result<()> {
    let named = || tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let entry = format!("{MARK}{} {state}", digest(named().collect(), state));
    let metadata = HashMap::from([(ENTRY.to_owned(), entry)]);
    // safetensors renames too, and syncs nothing.
    settle(path, |temporary| {
        safetensors::serialize_to_file(named(), Some(metadata), temporary).map_err(|error| match error {
            SafeTensorError::IoError(error) => error,
            error => io::Error::other(error),
        })
    })
}

/// SHA-256 of tensors, with their names, types and shapes, and a text.
fn digest<V: View>(tensors: BTreeMap<&str, V>, state: &str) -> String {
    let mut hash = Sha256::new();
    for (name, tensor) in tensors {
        hash.update(format!("{name:?} {:?} {:?}\n", tensor.dtype(), tensor.shape()));
        hash.update(tensor.data());
    }
    hash.update(state);
    hash.finalize().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
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

/// Reads what [`save`] wrote: tensors by name, and the text entry. A file of another program has no digest, and none is
/// asked for.
///
/// # Errors
/// [`Error::File`] naming the file; one whose bytes are not those that were written.
pub fn load(path: &Path) -> Result<(HashMap<String, Tensor>, String)> {
    read(path).map_err(|reason| Error::File { path: path.to_owned(), reason })
}

fn read(path: &Path) -> io::Result<(HashMap<String, Tensor>, String)> {
    let bytes = std::fs::read(path)?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(io::Error::other)?;
    let entry =
        header.metadata().as_ref().and_then(|entries| entries.get(ENTRY).cloned()).unwrap_or_default();
    let marked = entry.strip_prefix(MARK).and_then(|rest| rest.split_at_checked(DIGITS));
    let state = match marked {
        None => entry,
        Some((expected, rest)) => {
            let state = rest.strip_prefix(' ').unwrap_or(rest);
            let file = SafeTensors::deserialize(&bytes).map_err(io::Error::other)?;
            if digest(file.iter().collect(), state) != expected {
                return Err(io::Error::other(
                    "its SHA-256 is not the one that it was written with: it is damaged",
                ));
            }
            state.to_owned()
        }
    };
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(io::Error::other)?;
    Ok((tensors, state))
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
    use candle_core::DType;

    #[test]
    fn a_flipped_bit_of_text_or_numbers_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weights.safetensors");
        let values = Tensor::arange(0_f32, 24.0, &Device::Cpu).unwrap();
        let tensors = [("b".to_owned(), values.reshape((4, 6)).unwrap()), ("a".to_owned(), values)];
        save(&path, &tensors, "{\"epoch\": 3}").unwrap();
        let (loaded, state) = load(&path).unwrap();
        assert_eq!((loaded.len(), state.as_str()), (2, "{\"epoch\": 3}"));
        let written = std::fs::read(&path).unwrap();
        let state_at = written.windows(5).position(|bytes| bytes == b"epoch").unwrap();
        for at in (state_at..state_at + 5).chain(written.len() - 192..written.len()) {
            let mut bytes = written.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let error = load(&path).unwrap_err().to_string();
            assert!(
                error.contains("weights.safetensors") && error.contains("it is damaged"),
                "{at}: {error}"
            );
        }
        // What other programs write has no digest.
        let views = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
        safetensors::serialize_to_file(views, None, &path).unwrap();
        assert_eq!(load(&path).unwrap().1, "");
    }

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
