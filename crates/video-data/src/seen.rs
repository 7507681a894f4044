//! SHA-256 of every clip's file, remembered as long as the file is untouched.
//!
//! A file counts as untouched while its size, its times and its inode are what they were when it was read. No
//! program can set back the time of the last status change, so two files that swapped names are noticed even
//! if their sizes and modification times are equal.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::dataset::{ClipRef, Dataset};
use crate::digest;
use crate::error::{Error, Result};
use crate::store::write_whole;

/// Time resolution of file systems: a file changed this shortly before it was read may change again without a
/// new time.
const STEP_NS: i64 = 2_000_000_000;

/// A clip's file as it was when it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    clip: String,
    bytes: u64,
    modified_ns: i64,
    changed_ns: i64,
    inode: u64,
    read_ns: i64,
    sha256: String,
}

impl Seen {
    fn is_of(&self, meta: &Metadata) -> bool {
        let (modified_ns, changed_ns) = times(meta);
        (self.bytes, self.modified_ns, self.changed_ns, self.inode)
            == (meta.len(), modified_ns, changed_ns, meta.ino())
    }

    fn is_old(&self) -> bool {
        self.changed_ns.saturating_add(STEP_NS) < self.read_ns
    }
}

fn times(meta: &Metadata) -> (i64, i64) {
    let ns = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    (ns(meta.mtime(), meta.mtime_nsec()), ns(meta.ctime(), meta.ctime_nsec()))
}

/// SHA-256 of every clip of a dataset, in its order.
#[derive(Debug)]
pub(crate) struct Contents {
    file: PathBuf,
    /// Digests, or why there is none.
    pub(crate) digests: Vec<std::result::Result<String, String>>,
    seen: Vec<Option<Seen>>,
}

impl Contents {
    /// Reads the clips that may have changed, on all cores.
    pub(crate) fn of(dataset: &Dataset, data_root: &Path) -> Self {
        let root = dataset.root.canonicalize().unwrap_or_else(|_| dataset.root.clone());
        let place = digest::of_bytes(root.as_os_str().as_encoded_bytes());
        let file = data_root.join("stores").join(format!("{}-{}.seen", dataset.name, &place[..12]));
        let known = read(&file);
        let of_clips: Vec<(std::result::Result<String, String>, Option<Seen>)> =
            dataset.clips.par_iter().map(|clip| look(clip, known.get(&clip.name))).collect();
        let (digests, seen) = of_clips.into_iter().unzip();
        Self { file, digests, seen }
    }

    /// Whether clip `index` is still what was read.
    pub(crate) fn holds(&self, index: usize, clip: &ClipRef) -> bool {
        let seen = self.seen[index].as_ref();
        let stands = fs::metadata(&clip.path).is_ok_and(|meta| seen.is_some_and(|seen| seen.is_of(&meta)));
        // Permissions and links change the file's times, too.
        stands || digest::of_regular_file(&clip.path) == self.digests[index]
    }

    /// Saves the digests.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn keep(&self) -> Result<()> {
        let mut out = csv::Writer::from_writer(Vec::new());
        for seen in self.seen.iter().flatten() {
            out.serialize(seen).map_err(|error| Error::Invalid(error.to_string()))?;
        }
        let text = out.into_inner().map_err(|error| Error::Invalid(error.to_string()))?;
        // Usually nothing changed.
        if fs::read(&self.file).is_ok_and(|there| there == text) {
            Ok(())
        } else {
            write_whole(&self.file, &text)
        }
    }
}

fn look(clip: &ClipRef, known: Option<&Seen>) -> (std::result::Result<String, String>, Option<Seen>) {
    // Taken before reading: a later change has a later time.
    let read_ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as i64);
    let Ok(meta) = fs::metadata(&clip.path) else { return (digest::of_regular_file(&clip.path), None) };
    if let Some(seen) = known.filter(|seen| seen.is_of(&meta) && seen.is_old()) {
        return (Ok(seen.sha256.clone()), Some(seen.clone()));
    }
    let sha256 = digest::of_regular_file(&clip.path);
    let (modified_ns, changed_ns) = times(&meta);
    let seen = sha256.clone().ok().map(|sha256| Seen {
        clip: clip.name.clone(),
        bytes: meta.len(),
        modified_ns,
        changed_ns,
        inode: meta.ino(),
        read_ns,
        sha256,
    });
    (sha256, seen)
}

/// The saved digests; none if the file cannot be read, which only costs time.
fn read(file: &Path) -> BTreeMap<String, Seen> {
    let Ok(reader) = csv::Reader::from_path(file) else { return BTreeMap::new() };
    let rows = reader.into_deserialize::<Seen>();
    rows.map_while(std::result::Result::ok).map(|seen| (seen.clip.clone(), seen)).collect()
}
