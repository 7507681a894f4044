//! The frame store: all frames of a dataset as u8 in one memory-mapped file, with a manifest.
//!
//! ```text
//! <name>-<digest12>/frames.bin    u8 [sum T, H, W, C], clips in manifest order
//!                   manifest.csv  a row per clip, left-out ones too
//!                   store.json    what the frames are; written last, so it marks a complete store
//! ```
//! Opening maps the file: it takes no time and no memory, whatever the size.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use crate::datasets::{FrameSpec, Metric, Split};
use crate::{Error, Result, digest};

mod disk;
mod manifest;
mod writer;

pub(crate) use disk::{free_bytes, lock, temporary, write_whole};
pub use manifest::{COLUMNS, Row, read as parse_manifest};
pub use writer::Writer;

const FRAMES: &str = "frames.bin";
const MANIFEST: &str = "manifest.csv";
const INFO: &str = "store.json";
const JOURNAL: &str = "journal";
/// Version of the files' format.
pub const FORMAT: u32 = 1;

/// What the frames of a store are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreInfo {
    /// [`FORMAT`].
    pub format: u32,
    /// The dataset's name.
    pub name: String,
    /// Size and rate of the frames.
    pub spec: FrameSpec,
    /// Class names; labels are indices into it.
    pub classes: Vec<String>,
    /// How the dataset is scored.
    pub metric: Metric,
    /// Whether a clip can have several labels, or none.
    pub multi_label: bool,
    /// What differs from the official dataset, one line each; empty when nothing does or there is no official.
    pub differences: Vec<String>,
    /// "rendered sample, not …" where the clips were rendered by this project.
    pub sample: Option<String>,
    /// Versions of libav that decoded the clips.
    pub libav: String,
    /// Scaler flags, as the command line spells them.
    pub scale_flags: String,
    /// Frames of all clips together.
    pub frames: u64,
    /// SHA-256 of `manifest.csv`.
    pub manifest_sha256: String,
    /// SHA-256 of what a model can see: names, labels, groups, split and frame digests of the good clips.
    pub data_digest: String,
}

/// One good clip of a store.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredClip {
    /// Path below the dataset's folder, escaped.
    pub name: String,
    /// Indices into the classes, ascending.
    pub labels: Vec<usize>,
    /// Clips of one group share person and scene; empty where nothing is known.
    pub group: String,
    /// The official split, where there is one.
    pub split: Option<Split>,
    /// Number of frames T.
    pub frames: usize,
    /// Frames before this clip in the file.
    pub offset: usize,
    /// Frames per second.
    pub fps: f64,
}

/// A complete store, mapped read-only.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    info: StoreInfo,
    clips: Vec<StoredClip>,
    left_out: Vec<Row>,
    flagged: Vec<Row>,
    duplicates: Vec<Vec<usize>>,
    map: Mmap,
}

impl Store {
    /// Whether `dir` holds a complete store.
    pub fn exists(dir: &Path) -> bool {
        dir.join(INFO).is_file()
    }

    /// Opens the store in `dir`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when its files do not belong together.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join(INFO);
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        let info: StoreInfo =
            serde_json::from_slice(&text).map_err(|error| Error::corrupt(&path, error.to_string()))?;
        if info.format != FORMAT {
            return Err(Error::corrupt(&path, format!("format {}, expected {FORMAT}", info.format)));
        }
        let path = dir.join(MANIFEST);
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        if digest::of_bytes(&text) != info.manifest_sha256 {
            return Err(Error::corrupt(&path, "its SHA-256 is not the one in store.json"));
        }
        let rows = manifest::read(&text).map_err(|reason| Error::corrupt(&path, reason))?;
        let path = dir.join(FRAMES);
        let map = map(&path)?;
        let frame_bytes = info.spec.frame_bytes() as u64;
        if info.frames.checked_mul(frame_bytes) != Some(map.len() as u64) {
            let reason = format!("{} bytes, expected {} frames of {frame_bytes}", map.len(), info.frames);
            return Err(Error::corrupt(&path, reason));
        }
        let flagged = rows.iter().filter(|row| row.is_ok() && !row.flags.is_empty()).cloned().collect();
        let (good, left_out): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(Row::is_ok);
        let clips: Vec<StoredClip> = good.iter().map(Row::to_clip).collect();
        let mut by_frames: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, row) in good.iter().enumerate() {
            by_frames.entry(&row.frame_digest).or_default().push(at);
        }
        let mut duplicates: Vec<Vec<usize>> = by_frames.into_values().filter(|same| same.len() > 1).collect();
        duplicates.sort();
        let inside = |clip: &StoredClip| clip.offset + clip.frames <= info.frames as usize;
        if !clips.iter().all(inside) || clips.iter().flat_map(|c| &c.labels).any(|l| *l >= info.classes.len())
        {
            return Err(Error::corrupt(&dir.join(MANIFEST), "a row points outside the store"));
        }
        Ok(Self { dir: dir.to_path_buf(), info, clips, left_out, flagged, duplicates, map })
    }

    /// The folder of the store.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the frames are.
    pub fn info(&self) -> &StoreInfo {
        &self.info
    }

    /// The good clips; a clip's index here is its index everywhere else.
    pub fn clips(&self) -> &[StoredClip] {
        &self.clips
    }

    /// Rows of the clips that were left out, each with its reason.
    pub fn left_out(&self) -> &[Row] {
        &self.left_out
    }

    /// Rows of good clips about which something was noticed.
    pub fn flagged(&self) -> &[Row] {
        &self.flagged
    }

    /// Sets of good clips with the same frames: copies of one file, or of its pictures.
    pub fn duplicates(&self) -> &[Vec<usize>] {
        &self.duplicates
    }

    /// Bytes of a frame, M = H·W·C.
    pub fn frame_bytes(&self) -> usize {
        self.info.spec.frame_bytes()
    }

    /// Frames of clip `i`, u8 `[T, H, W, C]`.
    ///
    /// # Panics
    /// When there is no clip `i`.
    pub fn frames(&self, i: usize) -> &[u8] {
        let clip = &self.clips[i];
        let m = self.frame_bytes();
        &self.map[clip.offset * m..(clip.offset + clip.frames) * m]
    }

    /// SHA-256 of what a model can see; the same for the same clips however the store was built.
    pub fn data_digest(&self) -> &str {
        &self.info.data_digest
    }

    /// Every row of the manifest, read anew.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`].
    pub fn rows(&self) -> Result<Vec<Row>> {
        let path = self.dir.join(MANIFEST);
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        manifest::read(&text).map_err(|reason| Error::corrupt(&path, reason))
    }

    /// Indices of the good clips whose frames no longer have the digest in the manifest. Reads everything.
    ///
    /// # Errors
    /// [`Error::Io`] when the manifest cannot be read.
    pub fn damaged(&self) -> Result<Vec<usize>> {
        let rows = self.rows()?;
        let good = rows.iter().filter(|row| row.is_ok()).enumerate();
        Ok(good
            .filter(|(i, row)| digest::of_bytes(self.frames(*i)) != row.frame_digest)
            .map(|(i, _)| i)
            .collect())
    }
}

#[expect(unsafe_code, reason = "a memory map is unsafe by nature")]
fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    // SAFETY: a complete store is never written again; it is only ever replaced as a whole folder. Whoever
    // truncates the file under a running program gets SIGBUS, which no store of this size can exclude.
    unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))
}
