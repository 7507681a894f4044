//! A store of rows that are computed from the frames of another, such as features of a pretrained network.
//!
//! It lies beside the store of the frames and has the same clips with the same labels, groups and split, in the same order:
//! every fold of the one is a fold of the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest;
use crate::error::{Error, Result};
use crate::kind::{Content, FrameSpec};
use crate::store::{self, Derived, Row, Store, StoreInfo, Writer};

/// Makes the rows of a clip, f32 `[T, width]`, of its frames.
type Rows<'a, E> = dyn FnMut(&[u8]) -> std::result::Result<Vec<f32>, E> + 'a;

/// What rows are computed by, and how many f32 each has.
#[derive(Debug, Clone, Copy)]
pub struct Origin<'a> {
    /// The store of the frames.
    pub frames: &'a Store,
    /// What makes rows of frames, with the digest of its weights: another one makes another store.
    pub by: &'a str,
    /// Numbers of a row.
    pub width: u32,
}

impl Origin<'_> {
    fn spec(&self) -> FrameSpec {
        FrameSpec::rows(Content::Floats, self.width)
    }

    fn derived(&self) -> Derived {
        Derived { frames: self.frames.data_digest().to_owned(), by: self.by.to_owned() }
    }

    fn identity(&self) -> String {
        let Derived { frames, by } = self.derived();
        digest::of_bytes(format!("{} derived {frames} by {by}, {}", store::FORMAT, self.width).as_bytes())
    }

    /// Its folder: `<name>-<digest12>` beside that of the frames.
    pub fn dir(&self) -> PathBuf {
        let name = format!("{}-{}", self.frames.info().name, &self.identity()[..12]);
        self.frames.dir().with_file_name(name)
    }

    /// The complete store, if there is one.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where the folder holds rows by something else, or of other frames.
    pub fn open(&self) -> Result<Option<Store>> {
        let dir = self.dir();
        if !Store::exists(&dir) {
            return Ok(None);
        }
        let store = Store::open(&dir)?;
        let said = |made: Option<&Derived>| {
            made.map_or("frames of clips".to_owned(), |made| {
                format!("by {}, of frames {}", made.by, made.frames)
            })
        };
        let (found, expected) = (store.info().derived.as_ref(), self.derived());
        if found != Some(&expected) || store.info().spec != self.spec() {
            let reason =
                format!("holds rows {}, not {}: remove the folder", said(found), said(Some(&expected)));
            return Err(Error::corrupt(&dir, reason));
        }
        Ok(Some(store))
    }

    /// Opens the store, computing what is missing of it: `rows` makes those of a clip of its frames. A killed
    /// call resumes after its last finished clip. `progress` is told how many of how many clips are done.
    ///
    /// # Errors
    /// [`Error::Space`], [`Error::Busy`] after `wait`, [`Error::Io`]; those of `rows`.
    pub fn ensure<E: From<Error>>(
        &self,
        wait: Duration,
        rows: &mut Rows<'_, E>,
        progress: &dyn Fn(usize, usize),
    ) -> std::result::Result<Store, E> {
        if let Some(store) = self.open()? {
            return Ok(store);
        }
        let dir = self.dir();
        let _lock = store::lock(&dir.with_extension("lock"), wait)?;
        // The previous holder of the lock may have finished the store.
        if let Some(store) = self.open()? {
            return Ok(store);
        }
        self.build(&dir, rows, progress)
    }

    fn build<E: From<Error>>(
        &self,
        dir: &Path,
        rows: &mut Rows<'_, E>,
        progress: &dyn Fn(usize, usize),
    ) -> std::result::Result<Store, E> {
        let mut writer = Writer::open(dir, &self.identity(), self.spec().frame_bytes())?;
        let (good, left_out): (Vec<Row>, Vec<Row>) = self.frames.rows()?.into_iter().partition(Row::is_ok);
        let first = writer.rows().len();
        let missing: u64 = good[first..].iter().map(|row| row.frames).sum();
        let (need_bytes, free_bytes) = (missing * self.spec().frame_bytes() as u64, store::free_bytes(dir)?);
        if need_bytes > free_bytes {
            return Err(Error::Space { path: dir.to_path_buf(), need_bytes, free_bytes }.into());
        }
        for (clip, row) in good.iter().enumerate().skip(first) {
            let values = rows(self.frames.frames(clip))?;
            let expected = row.frames as usize * self.width as usize;
            if values.len() != expected {
                let reason = format!("{}: {} numbers, expected {expected}", row.clip, values.len());
                return Err(Error::Invalid(reason).into());
            }
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            writer.append(&bytes)?;
            writer.commit(Row { frame_digest: digest::of_bytes(&bytes), ..row.clone() })?;
            progress(clip + 1, good.len());
        }
        let info = StoreInfo {
            spec: self.spec(),
            derived: Some(self.derived()),
            frames: 0,
            manifest_sha256: String::new(),
            data_digest: String::new(),
            ..self.frames.info().clone()
        };
        Ok(writer.finish(info, left_out)?)
    }
}
