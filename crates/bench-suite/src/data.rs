//! From an experiment to its clips: which folder, which sample, which store, which fold.

use crate::places::{Places, frame_spec, kind_of};
use crate::plan::Frames;
use crate::progress::Meter;
use crate::record::{DataKind, FINAL, LeftOut, Plan};
use crate::sound;
use crate::spec::{Overrides, Spec};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tt_core::decomposition::balanced_modes;
use tt_core::rng::stream;
use tt_rnn::models::FrameChoice;
use video_data::batch::{BatchLoader, Frames as ClipFrames, Pick, Sampling, even_frames, random_frames};
use video_data::datasets::{self, Dataset, Kind};
use video_data::import::{self, Options, ensure_store};
use video_data::sample::{self, Layout, SampleInfo};
use video_data::split;
use video_data::store::Store;

/// Seed of rendered samples: part of what a sample is, not of a run.
const SAMPLE_SEED: u64 = 0;

/// An experiment with its clips found.
#[derive(Debug)]
pub struct Resolved {
    /// The experiment.
    pub spec: Spec,
    /// Folder of the clips.
    pub folder: PathBuf,
    /// What the clips are, in one sentence.
    pub data: String,
    /// What the clips are, in one word.
    pub data_kind: DataKind,
    /// Clips listed, and how many the dataset has if it is official; 0 before a sample is rendered.
    pub clips: ClipCount,
    /// Whether clips can have several labels.
    pub multi_label: bool,
    /// Whether the clips are to be rendered first.
    pub render: Option<Layout>,
}

/// Clips that were found, before any is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipCount {
    /// Clips there.
    pub found: usize,
    /// Clips that should be there.
    pub expected: usize,
}

/// What the command line says of the clips.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice<'a> {
    /// `--data`: their folder or its parent.
    pub data: Option<&'a Path>,
    /// `--split`: the list that names them.
    pub split: Option<&'a Path>,
    /// `--allow-partial`: not all need be there.
    pub allow_partial: bool,
}

/// Finds the clips of an experiment: `--data`, else its folder under `data/`.
///
/// Where the clips come with a split of their own (folders `train` and `test`, a list), and neither the experiment nor
/// the command line says otherwise, it is the protocol.
pub fn resolve(
    root: &Path,
    name: &str,
    choice: Choice<'_>,
    overrides: &Overrides,
) -> Result<(Resolved, Option<Dataset>)> {
    let mut spec = Spec::load(root, name, overrides)?;
    plan_modes(&mut spec)?;
    let places = Places::of_root(root);
    let own = places.data.join(&spec.data.folder);
    let kind = kind_of(&spec.data.dataset)?;
    if !spec.data.render.is_empty() {
        let render = &spec.data.render;
        if choice.data.is_some() || choice.split.is_some() {
            bail!("experiment {name:?} renders its own clips: --data and --split do not apply");
        }
        let data =
            format!("{}: clips that this program renders itself, in data/{}/", spec.title, spec.data.folder);
        let multi_label = kind == Kind::Hollywood2;
        let render = Some(Layout::from_name(render).context("no sample has that layout")?);
        let data_kind = DataKind::Sample;
        let clips = ClipCount { found: 0, expected: 0 };
        return Ok((Resolved { spec, folder: own, data, data_kind, clips, multi_label, render }, None));
    }
    if choice.split.is_some() && kind != Kind::Folder {
        bail!("--split goes with clips of loader folder: {name} has labels and a split of its own");
    }
    let folder = match choice.data {
        Some(folder) => folder.to_owned(),
        None if own.is_dir() => own,
        None => bail!(
            "experiment {name:?} has no clips: give their folder with --data DIR, or put them into data/{}/",
            spec.data.folder
        ),
    };
    let dataset = match choice.split {
        Some(list) => datasets::scan_listed(&folder, list)?,
        None => datasets::scan(kind, &folder)?,
    };
    if !choice.allow_partial {
        dataset
            .require_complete()
            .context("the dataset is not whole (--allow-partial would run on what is there)")?;
    }
    let asked =
        overrides.protocol.is_some() || overrides.set.iter().any(|set| set.starts_with("protocol.kind"));
    if kind == Kind::Folder && dataset.has_split() && !asked && spec.protocol.kind == "clips" {
        let official = Overrides { protocol: Some("official".into()), ..overrides.clone() };
        spec = Spec::load(root, name, &official)?;
        plan_modes(&mut spec)?;
        tracing::info!(
            "the clips have a split of their own: protocol official (--protocol clips deals folds)"
        );
    }
    sound::scanned(&spec, &dataset)?;
    let (data, data_kind) = clips_listed(&spec, &dataset);
    let found = dataset.clips.len();
    let clips = ClipCount { found, expected: dataset.official.as_ref().map_or(found, |o| o.expected) };
    let multi_label = dataset.multi_label;
    Ok((Resolved { spec, folder, data, data_kind, clips, multi_label, render: None }, Some(dataset)))
}

/// Gives a specification that leaves them open (`[]`) input modes as equal as the frame's size allows.
fn plan_modes(spec: &mut Spec) -> Result<()> {
    let (features, order) = (spec.features(), spec.model.output_modes.len());
    let frames = spec.model.mlp_frames;
    for (key, modes, size) in [
        ("model.input_modes", &mut spec.model.input_modes, features),
        ("model.mlp_input_modes", &mut spec.model.mlp_input_modes, frames * features),
    ] {
        if !modes.is_empty() {
            continue;
        }
        *modes = balanced_modes(size, order)?;
        tracing::info!("{key} planned: {modes:?}");
        if modes.iter().any(|mode| *mode as f64 > 2.0 * (size as f64).powf(1.0 / order as f64)) {
            tracing::warn!(
                "{key}: {size} has large prime factors; a neighbouring width or height splits better"
            );
        }
    }
    Ok(())
}

fn clips_listed(spec: &Spec, dataset: &Dataset) -> (String, DataKind) {
    let clips = dataset.clips.len();
    let kind = match &dataset.official {
        None => DataKind::Folder,
        // All that a list of one's own names is no official dataset.
        Some(official) if official.is_complete() && dataset.kind == Kind::Folder => DataKind::Folder,
        Some(official) if official.is_complete() => DataKind::Official,
        Some(_) => DataKind::Partial,
    };
    let which = match &dataset.official {
        Some(official) if kind == DataKind::Partial => {
            let whose = if dataset.kind == Kind::Folder { "listed" } else { "official" };
            format!("INCOMPLETE, {clips} of the {whose} {} clips", official.expected)
        }
        _ => format!("{clips} clips of {} classes", dataset.classes.len()),
    };
    (format!("{}: {which}", spec.title), kind)
}

/// Makes sure that the frames of an experiment are stored, and opens them.
pub fn prepare(places: &Places, resolved: &Resolved, dataset: Option<Dataset>, jobs: usize) -> Result<Store> {
    let dataset = match (resolved.render, dataset) {
        (None, Some(dataset)) => dataset,
        (render, _) => {
            let layout = render.context("clips that were neither found nor are to be rendered")?;
            let meter = Meter::new("rendering");
            let mut show = |done, total| meter.show(done, total);
            sample::ensure(layout, &resolved.folder, SAMPLE_SEED, jobs, None, &mut show)?;
            datasets::scan(layout.kind(), &resolved.folder)?
        }
    };
    let meter = Meter::new("decoding");
    let options = Options { jobs, ..Options::default() };
    let spec = frame_spec(&resolved.spec)?;
    Ok(ensure_store(&dataset, &spec, &places.data, &options, &|p| meter.show(p.done, p.total))?)
}

/// The store of an experiment's clips, if it is built and still fits them.
pub fn built_store(places: &Places, resolved: &Resolved, dataset: Option<&Dataset>) -> Result<Option<Store>> {
    let scanned;
    let dataset = match (resolved.render, dataset) {
        (Some(layout), _) if SampleInfo::find(&resolved.folder).is_some() => {
            scanned = datasets::scan(layout.kind(), &resolved.folder)?;
            &scanned
        }
        (None, Some(dataset)) => dataset,
        _ => return Ok(None),
    };
    Ok(import::built_store(dataset, &frame_spec(&resolved.spec)?, &places.data)?)
}

/// What a dry run says of clips that are not decoded yet: clips as listed, frames at the paper's mean length
/// for the official datasets, as planned for rendered ones, and none known for others.
pub fn estimate(resolved: &Resolved, dataset: Option<&Dataset>) -> Frames<'static> {
    match (dataset, resolved.render) {
        (None, Some(layout)) => {
            let clips = sample::plan(layout, SAMPLE_SEED);
            let (num, den) = layout.fps();
            let native: usize = clips.iter().map(|clip| clip.frames as usize).sum();
            let frames = native * resolved.spec.data.fps as usize * den as usize / num as usize;
            let classes = clips.iter().flat_map(|clip| &clip.labels).max().map_or(0, |last| last + 1);
            Frames::Estimated { classes: vec![String::new(); classes], clips: clips.len(), frames }
        }
        (None, None) => Frames::Estimated { classes: Vec::new(), clips: 0, frames: 0 },
        (Some(dataset), _) => {
            let clips = dataset.clips.len();
            let mean_tenths = match dataset.kind {
                Kind::Ucf11 => 4_837,
                Kind::Hollywood2 => 1_392,
                Kind::YoutubeCelebrities => 399,
                Kind::Folder => 0,
            };
            Frames::Estimated { classes: dataset.classes.clone(), clips, frames: clips * mean_tenths / 10 }
        }
    }
}

/// Batches that wait in memory.
const BATCHES_AHEAD: usize = 1;

/// Which frames of each clip a batch holds.
#[derive(Debug, Clone, Copy)]
pub enum FramePick<'a> {
    /// All frames.
    All,
    /// So many at even distances.
    EvenlySpaced(usize),
    /// So many, drawn in time order from a named stream per clip.
    Random {
        /// Frames per clip.
        n: usize,
        /// Seed of the streams.
        seed: u64,
        /// Purpose of the streams; the clip is added to it.
        purpose: &'a str,
    },
}

impl FramePick<'_> {
    /// What a model sees of a clip that it is not trained on.
    pub(crate) fn evaluation(choice: FrameChoice) -> Self {
        match choice {
            FrameChoice::All => Self::All,
            FrameChoice::Even(n) | FrameChoice::Drawn(n) => Self::EvenlySpaced(n),
        }
    }
}

/// The frames, labels and folds of a run.
#[derive(Debug)]
pub struct Clips {
    store: Arc<Store>,
    sampling: Sampling,
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

impl Clips {
    /// Wraps an open store for an experiment.
    pub fn new(store: Store, spec: &Spec, multi_label: bool) -> Self {
        let left_out = store.left_out().iter();
        let max_frames = (spec.data.max_frames > 0).then_some(spec.data.max_frames);
        Self {
            sampling: Sampling { every: spec.data.every, max_frames },
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

    /// Versions of libav that decoded the clips.
    pub fn libav(&self) -> &str {
        &self.store.info().libav
    }

    /// The store's folder name.
    pub fn store_name(&self) -> String {
        self.store.dir().file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Reads batches ahead of their use, in this order; `pick` says which frames of each clip.
    pub fn batches(&self, order: &[usize], pick: &FramePick<'_>) -> BatchLoader {
        BatchLoader::new(Arc::clone(&self.store), self.picks(order, pick), BATCHES_AHEAD)
    }

    /// What each batch holds.
    pub(crate) fn picks(&self, order: &[usize], pick: &FramePick<'_>) -> Vec<Vec<Pick>> {
        let pick_of = |clip: usize| {
            let length = self.length(clip);
            let thinned = |frames: Vec<u32>| {
                ClipFrames::Listed(frames.iter().map(|frame| frame * self.sampling.every as u32).collect())
            };
            let frames = match *pick {
                FramePick::All => ClipFrames::Sampled(self.sampling),
                FramePick::EvenlySpaced(n) => thinned(even_frames(length, n)),
                FramePick::Random { n, seed, purpose } => {
                    thinned(random_frames(length, n, &mut stream(seed, &format!("{purpose}/clip{clip}"))))
                }
            };
            Pick { clip, frames }
        };
        order.chunks(self.batch).map(|clips| clips.iter().copied().map(pick_of).collect()).collect()
    }

    /// Bytes of a frame, M.
    pub(crate) fn features(&self) -> usize {
        self.store.frame_bytes()
    }

    /// Sets of clips with the same frames.
    pub fn duplicates(&self) -> &[Vec<usize>] {
        self.store.duplicates()
    }

    /// Usable clips.
    pub fn len(&self) -> usize {
        self.store.clips().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Frames of all clips as they are batched.
    pub fn frames(&self) -> usize {
        (0..self.len()).map(|clip| self.length(clip)).sum()
    }

    /// Frames of a clip as it is batched.
    pub fn length(&self, clip: usize) -> usize {
        self.sampling.count(self.store.clips()[clip].frames)
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

    /// Clips left out, each with its reason.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// Clips kept although their decoder reported errors.
    pub fn with_errors(&self) -> usize {
        self.with_errors
    }

    /// Digest of what a model can see.
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
            let kind = if kind == "groups" { kind } else { "clips" };
            let parts = self.split(spec, kind, &train, &format!("inner/{kind}/fold{fold}"))?;
            test = parts.into_iter().next().unwrap_or_default();
            train.retain(|clip| !test.contains(clip));
        }
        // The released Hollywood2 script trains on all but the last share of its training rows.
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
