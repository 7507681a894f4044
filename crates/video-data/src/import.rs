//! Builds a store from clips: a pool of worker processes, one writer, clips in order.
//!
//! Every thread runs its own [`Decoder`]. The clip whose turn it is streams straight to disk; later clips
//! wait in memory, together at most [`Options::buffer_bytes`]. So the store's bytes do not depend on the
//! number of workers, and memory does not depend on the clips.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::dataset::{ClipRef, Dataset};
use crate::decode::{Decoder, Limits, Outcome, SAMPLER_VERSION, SCALE_FLAGS, worker_for};
use crate::digest;
use crate::error::{Error, Result};
use crate::kind::{FrameSpec, Split};
use crate::seen::Contents;
use crate::store::{self, FORMAT, Row, Store, StoreInfo, Writer, class_names, store_dirs};

/// Number of clips whose headers are read to estimate the size of the store.
const PROBED: usize = 32;
/// Disk space left free, in bytes.
const SPARE_BYTES: u64 = 64 << 20;

/// How to build a store.
#[derive(Debug, Clone)]
pub struct Options {
    /// Worker processes; 0 means one per core.
    pub jobs: usize,
    /// The worker program; `None`: beside the running program.
    pub worker: Option<PathBuf>,
    /// What one clip may cost.
    pub limits: Limits,
    /// Frames that may wait in memory for their turn, in bytes.
    pub buffer_bytes: usize,
    /// How long to wait for another process that builds the same store.
    pub lock_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            jobs: 0,
            worker: None,
            limits: Limits::default(),
            buffer_bytes: 256 << 20,
            lock_wait: Duration::from_mins(10),
        }
    }
}

/// A clip that was just stored or left out.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// Clips done, this one included; clips of an earlier, interrupted build count.
    pub done: usize,
    /// Clips in all.
    pub total: usize,
    /// Clips left out so far.
    pub left_out: usize,
    /// Frames stored so far.
    pub frames: u64,
    /// The clip's row.
    pub row: &'a Row,
}

/// The folder that the store of these clips has below `data_root`: `stores/<name>-<digest12>`.
///
/// The digest covers names, contents (by SHA-256), labels, groups and split of the clips and everything that
/// decides the frames, so that a store is found again exactly if nothing changed. Clips touched since their
/// last import are read.
///
/// # Errors
/// [`Error::Invalid`] if the identity cannot be serialized, which no dataset causes.
pub fn store_dir(dataset: &Dataset, spec: &FrameSpec, data_root: &Path) -> Result<PathBuf> {
    let identity = identity(dataset, &Contents::of(dataset, data_root), spec)?;
    Ok(dir_of(dataset, &identity, data_root))
}

fn dir_of(dataset: &Dataset, identity: &str, data_root: &Path) -> PathBuf {
    data_root.join("stores").join(format!("{}-{}", dataset.name, &identity[..12]))
}

/// The complete store of exactly these clips, if there is one. No clip is read if the dataset has no store at
/// all.
///
/// # Errors
/// [`Error::Io`], [`Error::Corrupt`].
pub fn built_store(dataset: &Dataset, spec: &FrameSpec, data_root: &Path) -> Result<Option<Store>> {
    if store_dirs(&dataset.name, data_root)?.is_empty() {
        return Ok(None);
    }
    let dir = store_dir(dataset, spec, data_root)?;
    if Store::exists(&dir) { Store::open(&dir).map(Some) } else { Ok(None) }
}

fn identity<'a>(dataset: &'a Dataset, contents: &'a Contents, spec: &'a FrameSpec) -> Result<String> {
    #[derive(Serialize)]
    struct Clip<'a> {
        name: &'a str,
        sha256: &'a str,
        labels: &'a [usize],
        group: &'a str,
        split: Option<Split>,
    }
    #[derive(Serialize)]
    struct Identity<'a> {
        format: u32,
        sampler: u32,
        scale_flags: &'a str,
        spec: &'a FrameSpec,
        name: &'a str,
        classes: &'a [String],
        clips: Vec<Clip<'a>>,
        left_out: Vec<(&'a str, &'a str)>,
    }
    let clip = |(clip, sha256): (&'a ClipRef, &'a std::result::Result<String, String>)| Clip {
        name: &clip.name,
        sha256: sha256.as_deref().unwrap_or_default(),
        labels: &clip.labels,
        group: &clip.group,
        split: clip.split,
    };
    let identity = Identity {
        format: FORMAT,
        sampler: SAMPLER_VERSION,
        scale_flags: SCALE_FLAGS,
        spec,
        name: &dataset.name,
        classes: &dataset.classes,
        clips: dataset.clips.iter().zip(&contents.digests).map(clip).collect(),
        left_out: dataset.left_out.iter().map(|out| (out.name.as_str(), out.reason.as_str())).collect(),
    };
    let text = serde_json::to_vec(&identity).map_err(|error| Error::Invalid(error.to_string()))?;
    Ok(digest::of_bytes(&text))
}

/// Opens the store of a dataset, building what is missing of it.
///
/// `progress` is called for every clip, in order, from one thread at a time. A clip that cannot be decoded is
/// left out with its reason; the build continues. A killed build resumes after its last finished clip.
///
/// # Errors
/// [`Error::Worker`] without a working `video-worker`, [`Error::Space`], [`Error::Busy`], [`Error::Io`];
/// [`Error::Invalid`] when not a single clip could be decoded.
pub fn ensure_store(
    dataset: &Dataset,
    spec: &FrameSpec,
    data_root: &Path,
    options: &Options,
    progress: &(dyn Fn(&Progress<'_>) + Sync),
) -> Result<Store> {
    let stores = data_root.join("stores");
    std::fs::create_dir_all(&stores).map_err(Error::io("create", &stores))?;
    let contents = Contents::of(dataset, data_root);
    contents.keep()?;
    let identity = identity(dataset, &contents, spec)?;
    let dir = dir_of(dataset, &identity, data_root);
    if !Store::exists(&dir) {
        let _lock = store::lock(&dir.with_extension("lock"), options.lock_wait)?;
        // The previous holder of the lock may have finished the store.
        if !Store::exists(&dir) {
            build(dataset, &contents, &identity, spec, &dir, options, progress)?;
        }
    }
    let store = Store::open(&dir)?;
    if store.clips().is_empty() {
        let first = store.left_out().first();
        let first = first.map(|row| format!("; the first, {}: {}", row.clip, row.reason)).unwrap_or_default();
        let count = store.left_out().len();
        return Err(Error::Invalid(format!(
            "none of the {count} clips of {} can be decoded{first}",
            dataset.name
        )));
    }
    Ok(store)
}

fn build(
    dataset: &Dataset,
    contents: &Contents,
    identity: &str,
    spec: &FrameSpec,
    dir: &Path,
    options: &Options,
    progress: &(dyn Fn(&Progress<'_>) + Sync),
) -> Result<Store> {
    let program = worker_for(spec, options.worker.as_deref())?;
    let mut decoder = Decoder::new(&program, options.limits);
    let libav = if spec.content.is_decoded() { decoder.libav()? } else { String::new() };
    // Never mix frames of two versions of libav.
    let writer = Writer::open(dir, &format!("{identity} {libav}"), spec.frame_bytes())?;
    let info = StoreInfo {
        format: FORMAT,
        name: dataset.name.clone(),
        spec: *spec,
        classes: dataset.classes.clone(),
        metric: dataset.metric,
        multi_label: dataset.multi_label,
        differences: dataset
            .official
            .as_ref()
            .map(|official| official.differences.clone())
            .unwrap_or_default(),
        sample: dataset.sample.as_ref().map(|sample| sample.note.clone()),
        libav,
        scale_flags: SCALE_FLAGS.into(),
        derived: None,
        frames: 0,
        manifest_sha256: String::new(),
        data_digest: String::new(),
    };
    check_space(&dataset.clips[writer.rows().len()..], spec, dir, &mut decoder)?;
    drop(decoder);
    let first = writer.rows().len();
    let left_out = writer.rows().iter().filter(|row| !row.is_ok()).count();
    let frames = writer.rows().iter().map(|row| row.frames).sum();
    let state = State {
        writer,
        next: first,
        head: first,
        parked: BTreeMap::new(),
        used: 0,
        left_out,
        frames,
        error: None,
    };
    let pool = Pool {
        dataset,
        contents,
        spec,
        options,
        progress,
        program: &program,
        state: Mutex::new(state),
        turn: Condvar::new(),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = if options.jobs == 0 { cores } else { options.jobs };
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(dataset.clips.len() - first) {
            scope.spawn(|| pool.work());
        }
    });
    let state = pool.state.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = state.error {
        return Err(error);
    }
    let extra = dataset.left_out.iter().map(|out| Row {
        clip: out.name.clone(),
        reason: out.reason.clone(),
        ..Row::default()
    });
    state.writer.finish(info, extra.collect())
}

/// Frames that the clips of a dataset will have, by the headers of a few of them.
///
/// # Errors
/// [`Error::Worker`] where no worker can be started.
pub fn expected_frames(dataset: &Dataset, spec: &FrameSpec) -> Result<u64> {
    let mut decoder = Decoder::new(&worker_for(spec, None)?, Limits::default());
    promised(&dataset.clips, spec, &mut decoder)
}

/// Frames that headers promise: those to a byte of a few clips, times all bytes.
fn promised(clips: &[ClipRef], spec: &FrameSpec, decoder: &mut Decoder) -> Result<u64> {
    let size = |clip: &ClipRef| std::fs::metadata(&clip.path).map_or(0, |meta| meta.len());
    let mut frames_per_byte = Vec::new();
    for clip in clips.iter().step_by(clips.len().div_ceil(PROBED).max(1)) {
        let outcome = decoder.probe(&clip.path, spec)?;
        if outcome.reason.is_none() && outcome.frames > 0 {
            frames_per_byte.push(outcome.frames as f64 / size(clip) as f64);
        }
    }
    let all: u64 = clips.iter().map(size).sum();
    Ok((all as f64 * median(frames_per_byte)) as u64)
}

/// Refuses to begin a store for which there is no room.
fn check_space(clips: &[ClipRef], spec: &FrameSpec, dir: &Path, decoder: &mut Decoder) -> Result<()> {
    let need_bytes = promised(clips, spec, decoder)? * spec.frame_bytes() as u64 + SPARE_BYTES;
    let free_bytes = store::free_bytes(dir)?;
    if need_bytes > free_bytes {
        return Err(Error::Space { path: dir.to_path_buf(), need_bytes, free_bytes });
    }
    Ok(())
}

/// The median, since a header may promise hours where time jumps. 0 for no numbers.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

/// A decoded clip that waits for its turn.
struct Parked {
    row: Row,
    frames: Vec<u8>,
}

struct State {
    writer: Writer,
    /// Next clip to be decoded.
    next: usize,
    /// The clip whose turn it is to be written.
    head: usize,
    parked: BTreeMap<usize, Parked>,
    /// Bytes waiting in memory.
    used: usize,
    left_out: usize,
    frames: u64,
    error: Option<Error>,
}

struct Pool<'a> {
    dataset: &'a Dataset,
    contents: &'a Contents,
    spec: &'a FrameSpec,
    options: &'a Options,
    progress: &'a (dyn Fn(&Progress<'_>) + Sync),
    program: &'a Path,
    state: Mutex<State>,
    turn: Condvar,
}

impl Pool<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut decoder = Decoder::new(self.program, self.options.limits);
        while let Some(index) = self.take() {
            if let Err(error) = self.clip(index, &mut decoder) {
                self.lock().error.get_or_insert(error);
                self.turn.notify_all();
                return;
            }
        }
    }

    fn take(&self) -> Option<usize> {
        let mut state = self.lock();
        if state.error.is_some() || state.next == self.dataset.clips.len() {
            return None;
        }
        state.next += 1;
        Some(state.next - 1)
    }

    fn clip(&self, index: usize, decoder: &mut Decoder) -> Result<()> {
        let clip = &self.dataset.clips[index];
        let mut row = Row {
            clip: clip.name.clone(),
            labels: clip.labels.clone(),
            classes: class_names(&clip.labels, &self.dataset.classes).unwrap_or_default(),
            group: clip.group.clone(),
            split: clip.split,
            ..Row::default()
        };
        let mut waiting = Vec::new();
        let mut hash = Sha256::new();
        let outcome = match &self.contents.digests[index] {
            Ok(sha256) => {
                row.sha256.clone_from(sha256);
                let outcome = decoder.decode(&clip.path, self.spec, &mut |frames| {
                    hash.update(frames);
                    self.offer(index, frames, &mut waiting)
                })?;
                if !self.contents.holds(index, clip) {
                    let path = clip.path.display();
                    return Err(Error::Invalid(format!(
                        "{path} was changed while it was imported: try again"
                    )));
                }
                outcome
            }
            Err(reason) => Outcome { reason: Some(reason.clone()), ..Outcome::default() },
        };
        row.fps = outcome.fps;
        row.flags = outcome.flags.join(" ");
        match outcome.reason {
            Some(reason) => row.reason = reason,
            None => row.frame_digest = digest::hex(hash),
        }
        self.deliver(index, Parked { row, frames: waiting })
    }

    /// Takes frames of clip `index`: to disk if it is its turn, else to memory within the limit.
    fn offer(&self, index: usize, frames: &[u8], waiting: &mut Vec<u8>) -> Result<()> {
        let mut state = self.lock();
        loop {
            if state.error.is_some() {
                return Err(Error::Invalid("another clip's error ended the import".into()));
            }
            if state.head == index {
                state.used -= waiting.len();
                state.writer.append(waiting)?;
                *waiting = Vec::new();
                state.writer.append(frames)?;
                self.turn.notify_all();
                return Ok(());
            }
            if state.used + frames.len() <= self.options.buffer_bytes {
                state.used += frames.len();
                waiting.extend_from_slice(frames);
                return Ok(());
            }
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes a finished clip, and writes all clips whose turn has come.
    fn deliver(&self, index: usize, parked: Parked) -> Result<()> {
        let mut state = self.lock();
        state.parked.insert(index, parked);
        loop {
            let head = state.head;
            let Some(Parked { row, frames }) = state.parked.remove(&head) else { break };
            state.used -= frames.len();
            if row.is_ok() {
                state.writer.append(&frames)?;
            }
            let state = &mut *state;
            let row = state.writer.commit(row)?;
            state.left_out += usize::from(!row.is_ok());
            state.frames += row.frames;
            state.head += 1;
            (self.progress)(&Progress {
                done: state.head,
                total: self.dataset.clips.len(),
                left_out: state.left_out,
                frames: state.frames,
                row,
            });
        }
        self.turn.notify_all();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn one_header_that_promises_hours_does_not_foresee_the_store() {
        assert!((median(vec![0.02, 900.0, 0.03, 0.01]) - 0.03).abs() < 1e-12);
        assert!(median(Vec::new()).abs() < 1e-12);
    }
}
