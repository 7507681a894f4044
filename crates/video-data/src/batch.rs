//! Batches of packed frames, read ahead of training on a separate thread.

use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::RngExt;

use crate::augment::{Lens, View};
use crate::kind::Content;
use crate::store::Store;

/// Which frames stay where a clip has more than may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Window {
    /// Those at its start.
    #[default]
    First,
    /// Evenly spaced ones.
    Even,
    /// Neighbours from anywhere: the place is drawn in training, and is the middle of the clip else.
    Random,
}

/// Thinning in time, without decoding again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// Keep every n-th frame, starting with the first; at least 1.
    pub every: usize,
    /// Keep at most this many of them; `None` keeps all.
    pub max_frames: Option<usize>,
    /// Which of them, where there are more.
    pub window: Window,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { every: 1, max_frames: None, window: Window::First }
    }
}

impl Sampling {
    /// Number of frames of `total` before any is cut off.
    pub fn thinned(&self, total: usize) -> usize {
        total.div_ceil(self.every)
    }

    /// Number of frames kept out of `total`.
    pub fn count(&self, total: usize) -> usize {
        self.thinned(total).min(self.max_frames.unwrap_or(usize::MAX))
    }

    /// The frames kept out of `total`, in order. A random window is drawn where there is a generator.
    pub fn frames(&self, total: usize, rng: Option<&mut impl rand::Rng>) -> Vec<u32> {
        let (all, count) = (self.thinned(total), self.count(total));
        let frames: Vec<u32> = match (self.window, rng) {
            (Window::Even, _) => even_frames(all, count),
            (Window::First, _) => neighbours(0, count),
            (Window::Random, None) => neighbours((all - count) / 2, count),
            (Window::Random, Some(rng)) => neighbours(rng.random_range(0..=all - count), count),
        };
        frames.into_iter().map(|frame| frame * self.every as u32).collect()
    }
}

fn neighbours(first: usize, count: usize) -> Vec<u32> {
    (first as u32..(first + count) as u32).collect()
}

/// `n` of `total` frames drawn at random, in time order; the last is repeated if the clip is shorter.
///
/// # Paper
/// Input of the TT-MLP baseline, n = 6.
pub fn random_frames(total: usize, n: usize, rng: &mut impl rand::Rng) -> Vec<u32> {
    // Selection sampling: every set of n frames is equally likely, and they come out in order.
    let mut frames = Vec::with_capacity(n);
    for index in 0..total {
        let (missing, left) = (n - frames.len(), total - index);
        if rng.random_range(0..left) < missing {
            frames.push(index as u32);
        }
    }
    repeat_last(frames, n)
}

/// `n` evenly spaced frames of `total` (the middles of `n` equal parts); the last is repeated if the clip is
/// shorter.
pub fn even_frames(total: usize, n: usize) -> Vec<u32> {
    if total <= n {
        return repeat_last((0..total as u32).collect(), n);
    }
    (0..n).map(|i| ((2 * i + 1) * total / (2 * n)) as u32).collect()
}

fn repeat_last(mut frames: Vec<u32>, n: usize) -> Vec<u32> {
    let last = frames.last().copied().unwrap_or(0);
    frames.resize(n, last);
    frames
}

/// One clip of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pick {
    /// Index in the store.
    pub clip: usize,
    /// Its frames in this order, each below the clip's number of frames.
    pub frames: Vec<u32>,
    /// How they are seen; none for pictures as they are, and for all else.
    pub view: Option<View>,
}

impl Pick {
    /// Frames as they are stored.
    pub fn stored(clip: usize, frames: Vec<u32>) -> Self {
        Self { clip, frames, view: None }
    }
}

/// Numbers of frames.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// As they are in a store of pictures or bytes.
    Bytes(Vec<u8>),
    /// Of a store of floats, or standardized.
    Floats(Vec<f32>),
}

impl Default for Values {
    fn default() -> Self {
        Self::Bytes(Vec::new())
    }
}

/// What every number of a frame is brought to: `(x - mean) · scale`, `[M]` each.
#[derive(Debug, Clone, PartialEq)]
pub struct Standard {
    /// Means.
    pub mean: Vec<f32>,
    /// Factors.
    pub scale: Vec<f32>,
}

/// What a batch holds of its frames.
#[derive(Debug, Clone, Default)]
pub enum Form {
    /// Their numbers.
    #[default]
    Numbers,
    /// Their numbers, each brought to a mean and a deviation.
    Standardized(Arc<Standard>),
    /// Where they lie in a store of pictures or bytes, whose pages are in memory by then.
    Stored,
}

/// A batch of B clips.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Packed frames `[sum T_b, M]`: one clip after the other, no padding. None where they stay in the store.
    pub frames: Values,
    /// Where each frame begins in the memory of the store, `[sum T_b]`, if they stay there.
    pub starts: Vec<usize>,
    /// Frames of each clip, `[B]`.
    pub lengths: Vec<usize>,
    /// Labels of each clip, `[B]` lists of class indices.
    pub labels: Vec<Vec<usize>>,
    /// The clips' indices in the store, `[B]`.
    pub clips: Vec<usize>,
}

impl Batch {
    /// Brings the frames of `picks` into this form, in the buffers this batch already has.
    ///
    /// # Panics
    /// When a pick names a clip or a frame that is not there, floats or views are to stay in the store, or views are of
    /// something else than pictures.
    pub fn fill(&mut self, store: &Store, picks: &[Pick], form: &Form) {
        self.lengths.clear();
        self.labels.clear();
        self.clips.clear();
        self.starts.clear();
        for pick in picks {
            self.lengths.push(pick.frames.len());
            self.labels.push(store.clips()[pick.clip].labels.clone());
            self.clips.push(pick.clip);
        }
        let count = store.info().spec.numbers() * self.lengths.iter().sum::<usize>();
        let before = std::mem::take(&mut self.frames);
        self.frames = match (form, store.info().spec.content) {
            (Form::Stored, content) => {
                assert!(!content.is_floats(), "floats are read into numbers, which alignment needs");
                for pick in picks {
                    assert!(pick.view.is_none(), "a view is computed, and lies in no store");
                    runs(store, pick).for_each(|run| store.fetch(run));
                    let start = |frame: &u32| store.start(pick.clip, *frame as usize);
                    self.starts.extend(pick.frames.iter().map(start));
                }
                Values::default()
            }
            (form, content) if content.is_floats() => {
                let mut values = before.floats(count);
                seen(store, picks, |part| {
                    let part = part.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four));
                    match form {
                        Form::Standardized(standard) => values.extend(standard.of(part)),
                        _ => values.extend(part),
                    }
                });
                Values::Floats(values)
            }
            (Form::Standardized(standard), _) => {
                let mut values = before.floats(count);
                seen(store, picks, |part| {
                    values.extend(standard.of(part.iter().map(|byte| f32::from(*byte))));
                });
                Values::Floats(values)
            }
            (Form::Numbers, _) => {
                let mut values = before.bytes(count);
                seen(store, picks, |part| values.extend_from_slice(part));
                Values::Bytes(values)
            }
        };
    }
}

/// Shows the bytes of all frames, in order: one whole frame or more at a time.
fn seen(store: &Store, picks: &[Pick], mut show: impl FnMut(&[u8])) {
    let memory = store.as_ref();
    for pick in picks {
        let Some(view) = pick.view else {
            runs(store, pick).for_each(|run| show(&memory[run]));
            continue;
        };
        let spec = &store.info().spec;
        assert!(spec.content == Content::Rgb, "views are of pictures");
        let mut lens = Lens::new(view, (spec.width as usize, spec.height as usize));
        for frame in runs(store, pick).flat_map(|run| memory[run].chunks_exact(store.frame_bytes())) {
            show(lens.see(frame));
        }
    }
}

/// The frames of a pick, as ranges of the store's memory; neighbours together.
fn runs<'a>(store: &'a Store, pick: &'a Pick) -> impl Iterator<Item = Range<usize>> + 'a {
    assert!(
        pick.frames.iter().all(|frame| (*frame as usize) < store.clips()[pick.clip].frames),
        "a frame that the clip does not have"
    );
    pick.frames.chunk_by(|frame, next| frame + 1 == *next).map(move |run| {
        let start = store.start(pick.clip, run[0] as usize);
        start..start + run.len() * store.frame_bytes()
    })
}

impl Standard {
    /// Whole frames, standardized.
    fn of(&self, values: impl Iterator<Item = f32>) -> impl Iterator<Item = f32> {
        let each = self.mean.iter().zip(&self.scale).cycle();
        values.zip(each).map(|(value, (mean, scale))| (value - mean) * scale)
    }
}

impl Values {
    fn bytes(self, count: usize) -> Vec<u8> {
        if let Self::Bytes(values) = self { emptied(values, count) } else { Vec::with_capacity(count) }
    }

    fn floats(self, count: usize) -> Vec<f32> {
        if let Self::Floats(values) = self { emptied(values, count) } else { Vec::with_capacity(count) }
    }
}

/// The buffer with room for so many numbers: a new one where it has less, since growing would copy what nobody reads.
fn emptied<T>(mut values: Vec<T>, count: usize) -> Vec<T> {
    if values.capacity() < count {
        return Vec::with_capacity(count);
    }
    values.clear();
    values
}

/// Batches that are done with, whose memory the next ones take: a batch of long clips has some hundred MB, and memory
/// new from the system costs more time than the copy into it.
#[derive(Debug, Clone, Default)]
pub struct Spare(Arc<Mutex<Vec<Batch>>>);

impl Spare {
    fn take(&self) -> Batch {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Takes back a batch.
    pub fn give(&self, batch: Batch) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(batch);
    }
}

/// Reads the batches of one pass ahead of their use.
///
/// At most `ahead` batches wait while one is being read and one is in use; give used ones to [`Spare`] so that
/// their memory is reused, in this pass and the next.
#[derive(Debug)]
pub struct BatchLoader {
    batches: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
    waited: Duration,
}

impl BatchLoader {
    /// Starts to read `plan`, one list of picks per batch, in that order, into the memory of `spare` batches.
    pub fn new(store: Arc<Store>, plan: Vec<Vec<Pick>>, ahead: usize, spare: Spare, form: Form) -> Self {
        let (send, batches) = sync_channel(ahead);
        let thread = std::thread::spawn(move || {
            for (at, picks) in plan.iter().enumerate() {
                // The disk reads the batch after this one meanwhile.
                for pick in plan.get(at + 1).into_iter().flatten() {
                    runs(&store, pick).for_each(|run| store.ask_for(run));
                }
                let mut batch = spare.take();
                batch.fill(&store, picks, &form);
                if let Err(unsent) = send.send(batch) {
                    return spare.give(unsent.0);
                }
            }
        });
        Self { batches: Some(batches), thread: Some(thread), waited: Duration::ZERO }
    }

    /// Time spent waiting for batches so far.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for BatchLoader {
    type Item = Batch;

    /// # Panics
    /// If the reading thread panicked, for example on a pick that is not in the store.
    fn next(&mut self) -> Option<Batch> {
        let start = Instant::now();
        let batch = self.batches.as_ref().and_then(|batches| batches.recv().ok());
        self.waited += start.elapsed();
        if batch.is_none()
            && let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
        {
            std::panic::resume_unwind(panic);
        }
        batch
    }
}

impl Drop for BatchLoader {
    fn drop(&mut self) {
        // Closing the channel ends the thread at its next batch.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            // Nobody is left to see a panic of the thread.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    proptest! {
        #[test]
        fn drawn_frames_are_in_order_and_inside(total in 1usize..300, n in 1usize..9, seed: u64) {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            for frames in [random_frames(total, n, &mut rng), even_frames(total, n)] {
                prop_assert_eq!(frames.len(), n);
                prop_assert!(frames.iter().all(|f| (*f as usize) < total));
                let distinct = n.min(total);
                prop_assert!(frames[..distinct].windows(2).all(|w| w[0] < w[1]));
                prop_assert!(frames[distinct..].iter().all(|f| *f as usize == total - 1));
            }
        }
    }

    #[test]
    fn every_frame_is_drawn_equally_often() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let mut counts = [0; 20];
        for _ in 0..4000 {
            for frame in random_frames(20, 6, &mut rng) {
                counts[frame as usize] += 1;
            }
        }
        // 1,200 expected each, standard deviation 29.
        assert!(counts.iter().all(|n| (1080..1320).contains(n)), "{counts:?}");
    }

    /// Every 3rd of 20 frames are those of 0, 3, ..., 18: seven.
    #[test]
    fn a_clip_that_is_too_long_is_cut_as_the_window_says() {
        let of = |max_frames, window| Sampling { every: 3, max_frames, window };
        assert_eq!([1, 3, 4, 10, 100].map(|t| of(Some(4), Window::Even).count(t)), [1, 1, 2, 4, 4]);
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let middle = |max, window| of(max, window).frames(20, None::<&mut ChaCha8Rng>);
        assert_eq!(middle(None, Window::First), [0, 3, 6, 9, 12, 15, 18]);
        assert_eq!(middle(Some(3), Window::First), [0, 3, 6]);
        assert_eq!(middle(Some(3), Window::Even), [3, 9, 15]);
        assert_eq!(middle(Some(3), Window::Random), [6, 9, 12]);
        let mut drawn: Vec<Vec<u32>> =
            (0..200).map(|_| of(Some(3), Window::Random).frames(20, Some(&mut rng))).collect();
        drawn.sort();
        drawn.dedup();
        assert_eq!(drawn, [[0, 3, 6], [3, 6, 9], [6, 9, 12], [9, 12, 15], [12, 15, 18]]);
        for window in [Window::First, Window::Even, Window::Random] {
            let short = |rng| of(Some(9), window).frames(20, rng);
            assert_eq!(short(Some(&mut rng)), middle(None, Window::First), "{window:?} cuts what is short");
            assert!(of(Some(3), window).frames(0, Some(&mut rng)).is_empty());
        }
    }
}
