//! Compares clips with their state at the import.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use crate::dataset::{ClipRef, Dataset};
use crate::decode::{Decoder, worker_for};
use crate::digest;
use crate::error::{Error, Result};
use crate::import::Options;
use crate::kind::FrameSpec;
use crate::store::{Row, Store};

/// What became of a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As recorded or, without a record, decodable.
    Ok,
    /// Left out at the import, and still the same file.
    LeftOut,
    /// Cannot be decoded (there is no record to compare with).
    Bad,
    /// The file is not the one that was imported.
    Changed,
    /// The file decodes to other frames than it did.
    OtherFrames,
    /// The frames in the store are not the ones that were written.
    DamagedStore,
    /// The file is gone.
    Missing,
    /// The file came after the import.
    New,
    /// Not a clip of the dataset.
    NotTaken,
}

impl Verdict {
    /// The word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::LeftOut => "left-out",
            Self::Bad => "bad",
            Self::Changed => "changed",
            Self::OtherFrames => "other-frames",
            Self::DamagedStore => "damaged-store",
            Self::Missing => "missing",
            Self::New => "new",
            Self::NotTaken => "not-taken",
        }
    }

    /// Whether nothing is wrong.
    pub fn is_fine(self) -> bool {
        matches!(self, Self::Ok | Self::LeftOut | Self::NotTaken)
    }
}

/// One clip with its verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Path below the dataset's folder, escaped.
    pub clip: String,
    /// How it was found.
    pub verdict: Verdict,
    /// More about it, empty where the verdict says all.
    pub detail: String,
}

/// Compares every clip with the record in `store`: SHA-256 of the file and, unless `fast`, the frames that it
/// decodes to and the frames in the store. Without a store every clip is decoded.
///
/// `progress` is called for every clip, in any order. The result is sorted by name.
///
/// # Errors
/// [`Error::Worker`] without a working `video-worker`, [`Error::Io`] where the manifest cannot be read.
pub fn verify(
    dataset: &Dataset,
    spec: &FrameSpec,
    store: Option<&Store>,
    fast: bool,
    options: &Options,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<Checked>> {
    let program = worker_for(spec, options.worker.as_deref())?;
    let rows: Option<BTreeMap<String, Row>> = match store {
        Some(store) => Some(store.rows()?.into_iter().map(|row| (row.clip.clone(), row)).collect()),
        None => None,
    };
    let stored: BTreeMap<&str, usize> = store.map_or_else(BTreeMap::new, |store| {
        store.clips().iter().enumerate().map(|(at, clip)| (clip.name.as_str(), at)).collect()
    });
    let work = Work { spec, fast, store, rows: rows.as_ref(), stored: &stored };
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = if options.jobs == 0 { cores } else { options.jobs };
    std::thread::scope(|scope| -> Result<()> {
        let check = || -> Result<()> {
            let mut decoder = Decoder::new(&program, options.limits);
            while let Some(clip) = dataset.clips.get(next.fetch_add(1, Ordering::Relaxed)) {
                let checked = work.check(clip, &mut decoder)?;
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.push(checked);
                progress(done.len(), dataset.clips.len());
            }
            Ok(())
        };
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(check)).collect();
        for thread in threads {
            thread.join().map_err(|_| Error::Invalid("a verifying thread panicked".into()))??;
        }
        Ok(())
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    for row in rows.iter().flat_map(BTreeMap::values) {
        let there = |clip: &ClipRef| clip.name == row.clip;
        if !dataset.clips.iter().any(there) && !dataset.left_out.iter().any(|out| out.name == row.clip) {
            let (clip, detail) = (row.clip.clone(), String::new());
            done.push(Checked { clip, verdict: Verdict::Missing, detail });
        }
    }
    let left_out = dataset.left_out.iter();
    done.extend(left_out.map(|out| Checked {
        clip: out.name.clone(),
        verdict: Verdict::LeftOut,
        detail: out.reason.clone(),
    }));
    done.extend(dataset.not_taken.iter().map(|file| Checked {
        clip: file.name.clone(),
        verdict: Verdict::NotTaken,
        detail: file.reason.clone(),
    }));
    done.sort_by(|a, b| a.clip.cmp(&b.clip));
    Ok(done)
}

struct Work<'a> {
    spec: &'a FrameSpec,
    fast: bool,
    store: Option<&'a Store>,
    rows: Option<&'a BTreeMap<String, Row>>,
    stored: &'a BTreeMap<&'a str, usize>,
}

impl Work<'_> {
    fn check(&self, clip: &ClipRef, decoder: &mut Decoder) -> Result<Checked> {
        let (verdict, detail) = self.verdict(clip, decoder)?;
        Ok(Checked { clip: clip.name.clone(), verdict, detail })
    }

    fn verdict(&self, clip: &ClipRef, decoder: &mut Decoder) -> Result<(Verdict, String)> {
        let Some(rows) = self.rows else {
            let (_, outcome) = self.decode(clip, decoder)?;
            return Ok(match outcome {
                Some(reason) => (Verdict::Bad, reason),
                None => (Verdict::Ok, String::new()),
            });
        };
        let Some(row) = rows.get(&clip.name) else { return Ok((Verdict::New, String::new())) };
        match digest::of_regular_file(&clip.path) {
            Ok(sha256) if sha256 != row.sha256 => {
                return Ok((Verdict::Changed, format!("SHA-256 {sha256}, imported as {}", row.sha256)));
            }
            Err(reason) if row.is_ok() => return Ok((Verdict::Changed, reason)),
            _ => {}
        }
        if !row.is_ok() {
            return Ok((Verdict::LeftOut, row.reason.clone()));
        }
        if self.fast {
            return Ok((Verdict::Ok, String::new()));
        }
        if let (Some(store), Some(at)) = (self.store, self.stored.get(clip.name.as_str()))
            && digest::of_bytes(store.frames(*at)) != row.frame_digest
        {
            return Ok((Verdict::DamagedStore, store.dir().display().to_string()));
        }
        let (frames, reason) = self.decode(clip, decoder)?;
        Ok(match reason {
            Some(reason) => (Verdict::OtherFrames, reason),
            None if frames != row.frame_digest => {
                (Verdict::OtherFrames, "the same file decodes to other pixels: another FFmpeg?".into())
            }
            None => (Verdict::Ok, String::new()),
        })
    }

    fn decode(&self, clip: &ClipRef, decoder: &mut Decoder) -> Result<(String, Option<String>)> {
        let mut hash = Sha256::new();
        let outcome = decoder.decode(&clip.path, self.spec, &mut |frames| {
            hash.update(frames);
            Ok(())
        })?;
        Ok((digest::hex(hash), outcome.reason))
    }
}
