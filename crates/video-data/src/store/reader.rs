//! A complete store, mapped into memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap};

use super::format::{FORMAT, FRAMES, INFO, MANIFEST, StoreInfo, StoredClip};
use super::manifest::{self, Row, class_names};
use crate::digest;
use crate::error::{Error, Result};

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
    /// [`Error::Corrupt`] if its files do not belong together.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::read(dir).map_err(|error| match error {
            Error::Corrupt { path, reason } => {
                let remedy = format!("remove {}, and its clips are decoded again", dir.display());
                Error::Corrupt { path, reason: format!("{reason}: {remedy}") }
            }
            other => other,
        })
    }

    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(INFO);
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        let info: StoreInfo =
            serde_json::from_slice(&text).map_err(|error| Error::corrupt(&path, error.to_string()))?;
        if info.format != FORMAT {
            return Err(Error::corrupt(&path, format!("format {}, expected {FORMAT}", info.format)));
        }
        if let Some(path) =
            [MANIFEST, FRAMES].map(|name| dir.join(name)).into_iter().find(|path| !path.is_file())
        {
            return Err(Error::corrupt(&path, "it is not there"));
        }
        let path = dir.join(MANIFEST);
        let text = fs::read(&path).map_err(Error::io("read", &path))?;
        if digest::of_bytes(&text) != info.manifest_sha256 {
            return Err(Error::corrupt(&path, "its SHA-256 is not the one in store.json"));
        }
        let rows = manifest::read(&text).map_err(|reason| Error::corrupt(&path, reason))?;
        if manifest::data_digest(&rows, &info.spec) != info.data_digest {
            let reason = "its data_digest is not that of manifest.csv";
            return Err(Error::corrupt(&dir.join(INFO), reason));
        }
        let named =
            |row: &Row| class_names(&row.labels, &info.classes).is_none_or(|names| names == row.classes);
        if let Some(row) = rows.iter().find(|row| !named(row)) {
            let reason = format!("its classes are not those of {:?} in manifest.csv", row.clip);
            return Err(Error::corrupt(&dir.join(INFO), reason));
        }
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

    /// Rows of good clips with flags.
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

    /// Where frame `frame` of clip `i` begins in the memory that the store is ([`AsRef`]).
    ///
    /// # Panics
    /// When there is no clip `i`.
    pub fn start(&self, i: usize, frame: usize) -> usize {
        (self.clips[i].offset + frame) * self.frame_bytes()
    }

    /// Asks the system to read some bytes from the disk, and does not wait for them.
    pub(crate) fn ask_for(&self, bytes: Range<usize>) {
        // A hint: without it the bytes come when they are read, only later.
        #[cfg(unix)]
        let _ = self.map.advise_range(Advice::WillNeed, bytes.start, bytes.len());
    }

    /// Waits until some bytes are in memory and mapped, so that whoever reads them next does not wait.
    pub(crate) fn fetch(&self, bytes: Range<usize>) {
        const PAGE: usize = 4096;
        let bytes = &self.map[bytes];
        let of_pages = bytes.iter().step_by(PAGE).chain(bytes.last());
        std::hint::black_box(of_pages.fold(0_u8, |all, byte| all ^ byte));
    }

    /// SHA-256 of what a model can see; the same for the same clips however the store was built.
    pub fn data_digest(&self) -> &str {
        &self.info.data_digest
    }

    /// Every row of the manifest, read from disk.
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

impl AsRef<[u8]> for Store {
    /// All frames, one after the other.
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

#[expect(unsafe_code, reason = "a memory map is unsafe by nature")]
fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    // SAFETY: nobody writes to a complete store: `store.json`, read before, was written last, and a store of other clips
    // has another folder. If someone truncates the file all the same, reading gets SIGBUS.
    unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))
}
