//! Builds a store clip by clip; a killed build resumes where it stopped.
//!
//! Frames go to `frames.bin`; a clip counts once its row is in the journal. On opening, everything after the
//! last journaled clip is cut off, so the finished store has the same bytes however often the build was
//! interrupted.

use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::disk::{sync_folder, write_whole};
use super::format::{FRAMES, INFO, JOURNAL, MANIFEST, StoreInfo};
use super::manifest::{self, Row};
use super::reader::Store;
use crate::digest;
use crate::error::{Error, Result};

/// Frames and journal are synced after this many bytes.
const SYNC_BYTES: u64 = 256 << 20;
/// And after this time.
const SYNC_TIME: Duration = Duration::from_secs(5);
/// Journal line that marks everything before it as synced.
const SYNCED: &str = "synced";

/// A store being built. One process at a time: the caller holds the lock.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    frame_bytes: u64,
    frames: File,
    journal: File,
    rows: Vec<Row>,
    /// Bytes of journaled clips.
    committed: u64,
    /// Bytes of the current clip.
    pending: u64,
    unsynced: u64,
    synced_at: Instant,
}

impl Writer {
    /// Opens `dir` for building, keeping the clips that an earlier build with the same `identity` finished.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(dir: &Path, identity: &str, frame_bytes: usize) -> Result<Self> {
        fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
        for entry in fs::read_dir(dir).map_err(Error::io("read", dir))?.flatten() {
            // Left by a kill between write and rename.
            if entry.path().extension().is_some_and(|ending| ending == "tmp") {
                let _ = fs::remove_file(entry.path());
            }
        }
        let frame_bytes = frame_bytes as u64;
        let mut frames = open(&dir.join(FRAMES))?;
        let mut journal = open(&dir.join(JOURNAL))?;
        let (rows, kept) = replay(dir, identity, frame_bytes, &mut frames, &mut journal)?;
        let committed = rows.iter().map(|row| row.frames).sum::<u64>() * frame_bytes;
        cut(&mut frames, &dir.join(FRAMES), committed)?;
        cut(&mut journal, &dir.join(JOURNAL), kept)?;
        let mut writer = Self {
            dir: dir.to_path_buf(),
            frame_bytes,
            frames,
            journal,
            rows,
            committed,
            pending: 0,
            unsynced: 0,
            synced_at: Instant::now(),
        };
        if kept == 0 {
            writer.log(identity)?;
        }
        writer.sync()?;
        Ok(writer)
    }

    /// Rows of the clips that are in, in order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Adds frames, u8 `[n, H, W, C]`, to the current clip.
    ///
    /// # Errors
    /// [`Error::Io`], for example if the disk is full; earlier clips stay intact.
    pub fn append(&mut self, frames: &[u8]) -> Result<()> {
        self.frames.write_all(frames).map_err(Error::io("write", &self.dir.join(FRAMES)))?;
        self.pending += frames.len() as u64;
        Ok(())
    }

    /// Ends the current clip: fills `frames` and `offset` of its row and journals it. The frames of a clip
    /// that is left out are cut off again.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Invalid`] if the bytes are not a whole number of frames.
    pub fn commit(&mut self, mut row: Row) -> Result<&Row> {
        if row.is_ok() {
            if !self.pending.is_multiple_of(self.frame_bytes) || self.pending == 0 {
                let reason = format!("{}: {} bytes are not a whole number of frames", row.clip, self.pending);
                return Err(Error::Invalid(reason));
            }
        } else {
            self.pending = 0;
            cut(&mut self.frames, &self.dir.join(FRAMES), self.committed)?;
        }
        row.offset = self.committed / self.frame_bytes;
        row.frames = self.pending / self.frame_bytes;
        let line = serde_json::to_string(&row).map_err(|error| Error::Invalid(error.to_string()))?;
        self.log(&line)?;
        self.committed += self.pending;
        self.unsynced += self.pending;
        self.pending = 0;
        self.rows.push(row);
        if self.unsynced >= SYNC_BYTES || self.synced_at.elapsed() >= SYNC_TIME {
            self.sync()?;
        }
        Ok(&self.rows[self.rows.len() - 1])
    }

    /// Completes the store; `extra` rows (files that are not clips) end the manifest.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`].
    pub fn finish(mut self, mut info: StoreInfo, extra: Vec<Row>) -> Result<Store> {
        self.sync()?;
        let mut rows = std::mem::take(&mut self.rows);
        info.frames = self.committed / self.frame_bytes;
        info.data_digest = manifest::data_digest(&rows, &info.spec);
        rows.extend(extra.into_iter().map(|row| Row { offset: info.frames, ..row }));
        let text = manifest::write(&rows);
        info.manifest_sha256 = digest::of_bytes(&text);
        write_whole(&self.dir.join(MANIFEST), &text)?;
        let json = serde_json::to_vec_pretty(&info).map_err(|error| Error::Invalid(error.to_string()))?;
        write_whole(&self.dir.join(INFO), &json)?;
        let journal = self.dir.join(JOURNAL);
        fs::remove_file(&journal).map_err(Error::io("remove", &journal))?;
        Store::open(&self.dir)
    }

    fn log(&mut self, text: &str) -> Result<()> {
        let line = format!("{} {text}\n", &digest::of_bytes(text.as_bytes())[..16]);
        self.journal.write_all(line.as_bytes()).map_err(Error::io("write", &self.dir.join(JOURNAL)))
    }

    fn sync(&mut self) -> Result<()> {
        self.frames.sync_data().map_err(Error::io("sync", &self.dir.join(FRAMES)))?;
        self.log(SYNCED)?;
        self.journal.sync_data().map_err(Error::io("sync", &self.dir.join(JOURNAL)))?;
        if self.rows.is_empty() {
            sync_folder(&self.dir)?;
        }
        self.unsynced = 0;
        self.synced_at = Instant::now();
        Ok(())
    }
}

fn open(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).open(path).map_err(Error::io("create", path))
}

fn cut(file: &mut File, path: &Path, length: u64) -> Result<()> {
    file.set_len(length).map_err(Error::io("truncate", path))?;
    file.seek(SeekFrom::Start(length)).map_err(Error::io("seek in", path))?;
    Ok(())
}

/// Rows that can be trusted, and the length of the journal that holds them (0: start afresh).
fn replay(
    dir: &Path,
    identity: &str,
    frame_bytes: u64,
    frames: &mut File,
    journal: &mut File,
) -> Result<(Vec<Row>, u64)> {
    let path = dir.join(JOURNAL);
    let mut bytes = Vec::new();
    journal.read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
    let length = frames.metadata().map_err(Error::io("read", &dir.join(FRAMES)))?.len();
    let mut lines = Lines { bytes: &bytes, end: 0 };
    let begun = lines.next();
    if begun != Some(identity) {
        if begun.is_some() {
            tracing::warn!("{}: half written by another version of libav, started over", dir.display());
        }
        return Ok((Vec::new(), 0));
    }
    let (mut rows, mut kept) = (Vec::<Row>::new(), lines.end as u64);
    let (mut synced, mut ends) = (0, Vec::new());
    while let Some(text) = lines.next() {
        if text == SYNCED {
            synced = rows.len();
        } else {
            let Ok(row) = serde_json::from_str::<Row>(text) else { break };
            if (row.offset + row.frames).saturating_mul(frame_bytes) > length {
                break;
            }
            rows.push(row);
        }
        ends.push((rows.len(), lines.end as u64));
    }
    // Rows after the last sync are there after a kill, but perhaps not after a power cut: look.
    let good = synced + rows[synced..].iter().take_while(|row| is_intact(row, frame_bytes, frames)).count();
    rows.truncate(good);
    if let Some((_, end)) = ends.iter().rev().find(|(count, _)| *count <= good) {
        kept = *end;
    }
    Ok((rows, kept))
}

fn is_intact(row: &Row, frame_bytes: u64, frames: &mut File) -> bool {
    if !row.is_ok() {
        return true;
    }
    let mut hash = Sha256::new();
    let read = frames.seek(SeekFrom::Start(row.offset * frame_bytes)).and_then(|_| {
        let mut part = BufReader::with_capacity(1 << 20, frames.take(row.frames * frame_bytes));
        std::io::copy(&mut part, &mut HashWriter(&mut hash))
    });
    read.is_ok() && digest::hex(hash) == row.frame_digest
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Whole lines `<digest16> <text>` whose digest is right; ends at the first that is not.
struct Lines<'a> {
    bytes: &'a [u8],
    end: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let rest = &self.bytes[self.end..];
        let length = rest.iter().position(|byte| *byte == b'\n')?;
        let (check, text) = std::str::from_utf8(&rest[..length]).ok()?.split_once(' ')?;
        if digest::of_bytes(text.as_bytes()).get(..16) != Some(check) {
            return None;
        }
        self.end += length + 1;
        Some(text)
    }
}
