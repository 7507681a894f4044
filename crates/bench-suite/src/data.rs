//! The clips of a run: their frames in batches, their labels and folds.

use crate::places::Places;
use crate::record::{FINAL, LeftOut, Plan};
use crate::spec::{CROP, MIRROR, Spec};
use anyhow::{Result, bail};
use std::collections::BTreeSet;
use std::sync::Arc;
use tt_core::rng::stream;
use tt_rnn::models::FrameChoice;
use video_data::augment::Augment;
use video_data::batch::{
    Batch, BatchLoader, Form, Pick, Sampling, Spare, Values, Window, even_frames, random_frames,
};
use video_data::split;
use video_data::store::Store;

/// The clips and frames of a run, as far as they are known.
#[derive(Debug)]
pub enum Frames<'a> {
    /// A built store.
    Known(&'a Clips),
    /// Nothing is decoded yet: clips and frames estimated from the layout.
    Estimated {
        /// Class names.
        classes: Vec<String>,
        /// Clips listed.
        clips: usize,
        /// Frames expected.
        frames: usize,
    },
}

/// Batches read ahead.
const BATCHES_AHEAD: usize = 1;

/// Which frames of each clip a batch holds, of those that the experiment's sampling keeps.
#[derive(Debug, Clone, Copy)]
pub struct FramePick<'a> {
    /// The model's choice.
    pub choice: FrameChoice,
    /// Seed and purpose of the streams that draw frames and views, one each per clip, whose number is appended; none where
    /// nothing is drawn: in evaluation.
    pub drawn: Option<(u64, &'a str)>,
}

impl FramePick<'_> {
    /// The frames that a model sees in evaluation.
    pub(crate) fn evaluation(choice: FrameChoice) -> Self {
        Self { choice, drawn: None }
    }
}

/// The frames, labels and folds of a run.
#[derive(Debug)]
pub struct Clips {
    store: Arc<Store>,
    sampling: Sampling,
    augment: Augment,
    classes: Vec<String>,
    multi_label: bool,
    batch: usize,
    left_out: Vec<LeftOut>,
    with_errors: usize,
}

/// One fold: clip indices in store order, and the digest of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// Clips to train on.
    pub train: Vec<usize>,
    /// Clips to score on.
    pub test: Vec<usize>,
    /// SHA-256 over the names on both sides.
    pub digest: String,
}

/// Which frames of a clip an experiment keeps.
pub(crate) fn sampling(spec: &Spec) -> Sampling {
    let data = &spec.data;
    let window = match data.window.as_str() {
        "even" => Window::Even,
        "random" => Window::Random,
        _ => Window::First,
    };
    Sampling { every: data.every, max_frames: (data.max_frames > 0).then_some(data.max_frames), window }
}

/// What training does to the pictures of an experiment.
fn augment(spec: &Spec) -> Augment {
    let does = |name: &str| spec.train.augment.contains(name);
    Augment { mirror: does(MIRROR), crop: does(CROP) }
}

impl Clips {
    /// Wraps an open store for an experiment.
    pub fn new(store: Store, spec: &Spec, multi_label: bool) -> Self {
        let left_out = store.left_out().iter();
        Self {
            sampling: sampling(spec),
            augment: augment(spec),
            classes: store.info().classes.clone(),
            multi_label,
            batch: spec.train.batch,
            left_out: left_out
                .map(|row| LeftOut { clip: row.clip.clone(), reason: row.reason.clone() })
                .collect(),
            with_errors: store.flagged().iter().filter(|row| row.has_errors()).count(),
            store: Arc::new(store),
        }
    }

    /// Opens the store of a planned run.
    pub fn open(places: &Places, spec: &Spec, plan: &Plan) -> Result<Self> {
        let store = Store::open(&places.stores().join(&plan.store))?;
        if store.data_digest() != plan.data_digest {
            bail!("store {} is not the one that the run was planned with: plan again", plan.store);
        }
        Ok(Self::new(store, spec, plan.metric == "map"))
    }

    /// Their store.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Versions of libav that decoded the clips.
    pub fn libav(&self) -> &str {
        &self.store.info().libav
    }

    /// The store's folder name.
    pub fn store_name(&self) -> String {
        self.store.dir().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Batches of clips in this order and form, read ahead into `spare` memory; `pick` selects the frames of each clip.
    pub fn batches(&self, order: &[usize], pick: &FramePick<'_>, spare: Spare, form: Form) -> BatchLoader {
        BatchLoader::new(Arc::clone(&self.store), self.picks(order, pick), BATCHES_AHEAD, spare, form)
    }

    /// The content of each batch.
    pub(crate) fn picks(&self, order: &[usize], pick: &FramePick<'_>) -> Vec<Vec<Pick>> {
        let pick_of = |clip: usize| {
            let draws = |(seed, purpose)| stream(seed, &format!("{purpose}/clip{clip}"));
            let mut rng = pick.drawn.map(draws);
            let kept = self.sampling.frames(self.store.clips()[clip].frames, rng.as_mut());
            let of_kept = |list: Vec<u32>| list.into_iter().map(|at| kept[at as usize]).collect();
            let frames = match (pick.choice, &mut rng) {
                (FrameChoice::All, _) => kept,
                (FrameChoice::Drawn(n), Some(rng)) => of_kept(random_frames(kept.len(), n, rng)),
                (FrameChoice::Even(n) | FrameChoice::Drawn(n), _) => of_kept(even_frames(kept.len(), n)),
            };
            let view = pick.drawn.filter(|_| self.is_augmented()).map(|(seed, purpose)| {
                let size = &self.store.info().spec;
                let mut rng = stream(seed, &format!("{purpose}/view/clip{clip}"));
                self.augment.view((size.width as usize, size.height as usize), &mut rng)
            });
            Pick { clip, frames, view }
        };
        order.chunks(self.batch).map(|clips| clips.iter().copied().map(pick_of).collect()).collect()
    }

    /// Whether training sees other pictures than the stored ones.
    pub(crate) fn is_augmented(&self) -> bool {
        !self.augment.is_none()
    }

    /// Numbers of a frame, M.
    pub(crate) fn features(&self) -> usize {
        self.store.info().spec.numbers()
    }

    /// Sets of clips with the same frames.
    pub fn duplicates(&self) -> &[Vec<usize>] {
        self.store.duplicates()
    }

    /// Usable clips.
    pub fn len(&self) -> usize {
        self.store.clips().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Total frames of all clips, as batched.
    pub fn frames(&self) -> usize {
        (0..self.len()).map(|clip| self.length(clip)).sum()
    }

    /// Frames of a clip, as batched.
    pub fn length(&self, clip: usize) -> usize {
        self.sampling.count(self.store.clips()[clip].frames)
    }

    /// The most frames of a clip before any is cut off.
    pub(crate) fn longest(&self) -> usize {
        self.store.clips().iter().map(|clip| self.sampling.thinned(clip.frames)).max().unwrap_or(0)
    }

    /// Class names.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Whether clips can have several labels.
    pub fn multi_label(&self) -> bool {
        self.multi_label
    }

    /// Labels of a clip.
    pub fn labels(&self, clip: usize) -> &[usize] {
        &self.store.clips()[clip].labels
    }

    /// Group of a clip; empty where nothing is known.
    pub fn group(&self, clip: usize) -> &str {
        &self.store.clips()[clip].group
    }

    /// Name of a clip.
    pub fn name(&self, clip: usize) -> &str {
        &self.store.clips()[clip].name
    }

    /// All stored frames of a clip, u8 `[T, H, W, C]`.
    pub(crate) fn frames_of(&self, clip: usize) -> &[u8] {
        self.store.frames(clip)
    }

    /// The memory that all frames lie in.
    pub(crate) fn memory(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// Whether the numbers of frames are bytes.
    pub(crate) fn are_bytes(&self) -> bool {
        !self.store.info().spec.content.is_floats()
    }

    /// All stored frames of a clip: T, and the numbers `[T, M]`, standardized where that is asked for.
    pub(crate) fn values(&self, clip: usize, form: &Form) -> (usize, Values) {
        let length = self.store.clips()[clip].frames;
        let mut batch = Batch::default();
        batch.fill(&self.store, &[Pick::stored(clip, (0..length as u32).collect())], form);
        (length, batch.frames)
    }

    /// Clips left out, each with its reason.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Clips kept although their decoder reported errors.
    pub fn with_errors(&self) -> usize {
        self.with_errors
    }

    /// Names of the clips with the same frames, in sets.
    pub fn copies(&self) -> Vec<Vec<String>> {
        let names = |same: &Vec<usize>| same.iter().map(|clip| self.name(*clip).to_owned()).collect();
        self.duplicates().iter().map(names).collect()
    }

    /// Digest of everything that a model can see.
    pub fn data_digest(&self) -> &str {
        self.store.data_digest()
    }

    /// Clips per step.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Deals `clips` into the experiment's number of folds, by clips or by groups.
    fn split(&self, spec: &Spec, kind: &str, clips: &[usize], purpose: &str) -> Result<Vec<Vec<usize>>> {
        let (k, mut rng) = (spec.protocol.folds, stream(spec.protocol.split_seed, purpose));
        let stored = || clips.iter().map(|clip| &self.store.clips()[*clip]);
        let parts = if kind == "groups" {
            split::require_groups(clips.iter().map(|clip| (self.name(*clip), self.group(*clip))))?;
            let groups: Vec<String> = stored().map(|clip| clip.group.clone()).collect();
            let labels: Vec<Vec<usize>> = stored().map(|clip| clip.labels.clone()).collect();
            split::folds_by_groups(&groups, &labels, k, &mut rng)?
        } else {
            split::folds_by_clips(clips.len(), k, &mut rng)?
        };
        Ok(parts.into_iter().map(|part| part.into_iter().map(|at| clips[at]).collect()).collect())
    }

    /// The clips of fold `fold` under the experiment's protocol.
    pub fn fold(&self, spec: &Spec, fold: usize) -> Result<Fold> {
        let kind = spec.protocol.kind.as_str();
        let all: Vec<usize> = (0..self.len()).collect();
        if kind == FINAL {
            let digest = split::split_digest(|clip| self.name(clip), &[all.clone(), Vec::new()]);
            return Ok(Fold { train: all, test: Vec::new(), digest });
        }
        let folds = match kind {
            "official" => split::official(self.store.clips())?,
            _ => self.split(spec, kind, &all, &format!("folds/{kind}"))?,
        };
        let mut test = folds.get(fold).cloned().unwrap_or_default();
        let mut train = split::train_clips(self.len(), &test);
        if spec.protocol.inner {
            // Of an official split too, near-copies are not to stand on both sides.
            let groups: BTreeSet<&str> = train.iter().map(|clip| self.group(*clip)).collect();
            let known = groups.len() >= spec.protocol.folds && !groups.contains("");
            let kind = if kind == "groups" || kind == "official" && known { "groups" } else { "clips" };
            let parts = self.split(spec, kind, &train, &format!("inner/{kind}/fold{fold}"))?;
            test = parts.into_iter().next().unwrap_or_default();
            train.retain(|clip| !test.contains(clip));
        }
        // The released Hollywood2 script holds out the end of its list of training rows.
        train.truncate((train.len() as f64 * (1.0 - spec.protocol.hold_out)) as usize);
        if train.is_empty() || test.is_empty() {
            bail!(
                "fold {fold} of protocol {:?} has {} training and {} test clips: both sides need at least one",
                spec.protocol.kind,
                train.len(),
                test.len()
            );
        }
        let digest = split::split_digest(|clip| self.name(clip), &[train.clone(), test.clone()]);
        Ok(Fold { train, test, digest })
    }
}
