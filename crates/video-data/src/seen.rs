//! What the clips hold: SHA-256 of every file, remembered as long as the file is untouched.
//!
//! A file is taken to be untouched while its size, its times of change and its inode are what they were when it was
//! read. A time of change cannot be set back by a program, so two files exchanged under each other's names are
//! noticed also where sizes and modification times are the same.

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

/// File systems count time in steps as long as this: a file changed so shortly before it was read may have changed
/// after it without a new time.
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
    /// The digest, or why there is none.
    pub(crate) digests: Vec<std::result::Result<String, String>>,
    seen: Vec<Option<Seen>>,
}

impl Contents {
    /// Reads the clips that are not known to be untouched, on all cores.
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

    /// Whether clip `index` still is what was read.
    pub(crate) fn holds(&self, index: usize, clip: &ClipRef) -> bool {
        let seen = self.seen[index].as_ref();
        let stands = fs::metadata(&clip.path).is_ok_and(|meta| seen.is_some_and(|seen| seen.is_of(&meta)));
        // Other rights or another link change the file's times too.
        stands || digest::of_regular_file(&clip.path) == self.digests[index]
    }

    /// Remembers what was read.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn keep(&self) -> Result<()> {
        let mut out = csv::Writer::from_writer(Vec::new());
        for seen in self.seen.iter().flatten() {
            out.serialize(seen).map_err(|error| Error::Invalid(error.to_string()))?;
        }
        let text = out.into_inner().map_err(|error| Error::Invalid(error.to_string()))?;
        // Most runs find what the last one left.
        if fs::read(&self.file).is_ok_and(|there| there == text) {
            Ok(())
        } else {
            write_whole(&self.file, &text)
        }
    }
}

fn look(clip: &ClipRef, known: Option<&Seen>) -> (std::result::Result<String, String>, Option<Seen>) {
    // Before the file is read: what changes meanwhile has another time.
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

/// What is remembered; nothing where the file cannot be read, which costs time alone.
fn read(file: &Path) -> BTreeMap<String, Seen> {
    let Ok(reader) = csv::Reader::from_path(file) else { return BTreeMap::new() };
    let rows = reader.into_deserialize::<Seen>();
    rows.map_while(std::result::Result::ok).map(|seen| (seen.clip.clone(), seen)).collect()
}
