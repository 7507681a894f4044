//! From an experiment to its clips: which folder, which sample, which store.

use crate::data::Frames;
use crate::paper;
use crate::places::{self, Places, frame_spec};
use crate::progress::Meter;
use crate::record::DataKind;
use crate::sound;
use crate::spec::{Overrides, Spec};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use tt_core::decomposition::balanced_modes;
use video_data::datasets::{self, Dataset, Kind};
use video_data::import::{self, Options, ensure_store};
use video_data::sample::{self, Layout, SampleInfo};
use video_data::store::Store;
use video_data::{Content, npy};

/// Seed of rendered samples: part of what a sample is, not of a run.
const SAMPLE_SEED: u64 = 0;

/// An experiment and its clips.
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
    /// Clips listed, and how many an official dataset should have; 0 before a sample is rendered.
    pub clips: ClipCount,
    /// Whether clips can have several labels.
    pub multi_label: bool,
    /// The sample to render first, if any.
    pub render: Option<Layout>,
}

impl Resolved {
    /// The run's data, in a sentence and in a word, given that `usable` clips of `classes` classes could be
    /// decoded.
    pub(crate) fn data_used(&self, usable: usize, classes: usize) -> (String, DataKind) {
        let (found, expected) = (self.clips.found, self.clips.expected);
        let title = &self.spec.title;
        match self.data_kind {
            kind if kind == DataKind::Sample || usable == found => (self.data.clone(), kind),
            DataKind::Official | DataKind::Partial => {
                (format!("{title}: INCOMPLETE, {usable} of the official {expected} clips"), DataKind::Partial)
            }
            kind => (format!("{title}: {usable} clips of {classes} classes"), kind),
        }
    }
}

/// Clips that were found, before any is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipCount {
    /// Clips there.
    pub found: usize,
    /// Clips that should be there.
    pub expected: usize,
}

/// What the command line says about the clips.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice<'a> {
    /// `--data`: their folder or its parent.
    pub data: Option<&'a Path>,
    /// `--split`: the list that names them.
    pub split: Option<&'a Path>,
    /// `--allow-partial`: accept an incomplete dataset.
    pub allow_partial: bool,
}

/// Finds the clips of an experiment: `--data`, else its folder under `data/`.
///
/// If the clips come with their own split (folders `train` and `test`, or a list), it is the protocol unless
/// the experiment or the command line says otherwise.
pub fn resolve(
    root: &Path,
    name: &str,
    choice: Choice<'_>,
    overrides: &Overrides,
) -> Result<(Resolved, Option<Dataset>)> {
    let mut spec = Spec::load(root, name, overrides)?;
    let places = Places::of_root(root);
    let own = places.data.join(&spec.data.folder);
    let kind = places::kind(&spec)?;
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
        plan_modes(&mut spec)?;
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
            .context("the dataset is incomplete (--allow-partial runs on what is there)")?;
    }
    complete(&mut spec, &dataset)?;
    let asked =
        overrides.protocol.is_some() || overrides.set.iter().any(|set| set.starts_with("protocol.kind"));
    if kind.is_own() && dataset.has_split() && !asked && spec.protocol.kind == "clips" {
        let official = Overrides { protocol: Some("official".into()), ..overrides.clone() };
        spec = Spec::load(root, name, &official)?;
        complete(&mut spec, &dataset)?;
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

/// Fills in what only the files tell, then what follows from it.
fn complete(spec: &mut Spec, dataset: &Dataset) -> Result<()> {
    if spec.has_sound() {
        spec.adopt_rows(spec.data.width, "f32")?;
    } else if spec.has_rows() {
        let (content, width) = npy::survey(dataset)?;
        spec.adopt_rows(width as usize, if content == Content::Floats { "f32" } else { "u8" })?;
    }
    plan_modes(spec)
}

/// Fills in input modes left open (`[]`), as equal as the frame's size allows.
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
            tracing::warn!("{key}: {size} has large prime factors; a neighbouring size splits better");
        }
    }
    Ok(())
}

fn clips_listed(spec: &Spec, dataset: &Dataset) -> (String, DataKind) {
    if let Some(sample) = &dataset.sample {
        return (sample.note.clone(), DataKind::Sample);
    }
    let clips = dataset.clips.len();
    let kind = match &dataset.official {
        None => DataKind::Folder,
        // A user's list, even if complete, is not an official dataset.
        Some(official) if official.is_complete() && dataset.kind.is_own() => DataKind::Folder,
        Some(official) if official.is_complete() => DataKind::Official,
        Some(_) => DataKind::Partial,
    };
    let which = match &dataset.official {
        Some(official) if kind == DataKind::Partial => {
            let whose = if dataset.kind.is_own() { "listed" } else { "official" };
            format!("INCOMPLETE, {clips} of the {whose} {} clips", official.expected)
        }
        _ => format!("{clips} clips of {} classes", dataset.classes.len()),
    };
    (format!("{}: {which}", spec.title), kind)
}

/// Opens the store of an experiment's frames, building it if necessary.
pub fn prepare(places: &Places, resolved: &Resolved, dataset: Option<Dataset>, jobs: usize) -> Result<Store> {
    let dataset = match (resolved.render, dataset) {
        (None, Some(dataset)) => dataset,
        (render, _) => {
            let layout = render.context("the clips were neither found nor rendered")?;
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

/// The store of an experiment's clips, if it exists and is up to date.
pub fn built_store(places: &Places, resolved: &Resolved, dataset: Option<&Dataset>) -> Result<Option<Store>> {
    let scanned;
    let dataset = match (resolved.render, dataset) {
        (Some(layout), _) if SampleInfo::find(&resolved.folder)?.is_some() => {
            scanned = datasets::scan(layout.kind(), &resolved.folder)?;
            &scanned
        }
        (None, Some(dataset)) => dataset,
        _ => return Ok(None),
    };
    Ok(import::built_store(dataset, &frame_spec(&resolved.spec)?, &places.data)?)
}

/// An estimate for clips that are not decoded yet: clips as listed; frames by the paper's mean length for
/// official datasets, as planned for samples, by what headers promise for others.
pub fn estimate(resolved: &Resolved, dataset: Option<&Dataset>) -> Result<Frames<'static>> {
    Ok(match (dataset, resolved.render) {
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
            let frames = match dataset.kind {
                kind if kind.is_own() => {
                    import::expected_frames(dataset, &frame_spec(&resolved.spec)?)? as usize
                }
                kind => {
                    (clips as f64 * paper::dataset(kind.name()).map_or(0.0, |of| of.mean_frames)) as usize
                }
            };
            Frames::Estimated { classes: dataset.classes.clone(), clips, frames }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_is_what_could_be_decoded() {
        let root = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let of = |data_kind, usable| {
            let resolved = Resolved {
                spec: Spec::load(root, "folder", &Overrides::default()).unwrap(),
                folder: "clips".into(),
                data: "Your clips: 19 clips of 3 classes".into(),
                data_kind,
                clips: ClipCount { found: 19, expected: 19 },
                multi_label: false,
                render: None,
            };
            resolved.data_used(usable, 2)
        };
        let all = "Your clips: 19 clips of 3 classes".to_owned();
        assert_eq!(of(DataKind::Official, 19), (all.clone(), DataKind::Official));
        let partial = "Your clips: INCOMPLETE, 16 of the official 19 clips".to_owned();
        assert_eq!(of(DataKind::Official, 16), (partial, DataKind::Partial));
        assert_eq!(of(DataKind::Folder, 16), ("Your clips: 16 clips of 2 classes".into(), DataKind::Folder));
        assert_eq!(of(DataKind::Folder, 19), (all, DataKind::Folder));
    }
}
