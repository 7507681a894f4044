//! Features of the frames of a run, for models that read them in place of frames: computed once into a store of rows beside
//! the store of the frames.

use crate::data::Clips;
use crate::places::Places;
use crate::pretrained::{self, LITE0, LITE0_SHA256};
use crate::progress::Meter;
use crate::spec::{ON_FEATURES, Spec};
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tt_rnn::lite0::{FEATURES, Lite0};
use video_data::derived::Origin;
use video_data::files;
use video_data::store::Store;

/// How long to wait for another process that computes the same features.
const WAIT: Duration = Duration::from_mins(10);

/// What makes features, as their store says it.
pub(crate) fn maker(spec: &Spec) -> String {
    format!("EfficientNet-Lite0 {}", pretrained::digits(&spec.model.pretrained))
}

fn origin<'a>(frames: &'a Store, by: &'a str) -> Origin<'a> {
    Origin { frames, by, width: FEATURES as u32 }
}

/// Whether the weights are there that a model of the experiment needs.
///
/// # Errors
/// Weights that are missing, or are not those that the experiment names.
pub fn check(places: &Places, spec: &Spec) -> Result<()> {
    if spec.reads_features() {
        weights(places, &spec.model.pretrained)?;
    }
    Ok(())
}

/// Computes the features of these frames where a model of the experiment reads them and they are not there yet.
///
/// # Errors
/// Weights that are missing, or are not those that the experiment names.
pub fn prepare(places: &Places, spec: &Spec, frames: &Store) -> Result<()> {
    if are_there(spec, frames)? {
        return Ok(());
    }
    let network = Lite0::load(&weights(places, &spec.model.pretrained)?)?;
    compute(&network, &maker(spec), frames)?;
    Ok(())
}

/// The features of these frames by a network, computed unless they are there.
fn compute(network: &Lite0, by: &str, frames: &Store) -> Result<Store> {
    let size = (frames.info().spec.width as usize, frames.info().spec.height as usize);
    let meter = Meter::new("features");
    let mut rows = |clip: &[u8]| -> Result<Vec<f32>> {
        let mut features = vec![0.0; clip.len() / frames.frame_bytes() * FEATURES];
        network.features(clip, size, &mut features)?;
        Ok(features)
    };
    origin(frames, by).ensure(WAIT, &mut rows, &|done, all| meter.show(done, all))
}

/// Whether everything that the models of the experiment read is there.
///
/// # Errors
/// A store of features by other weights in the place of the wanted one.
pub fn are_there(spec: &Spec, frames: &Store) -> Result<bool> {
    Ok(!spec.reads_features() || origin(frames, &maker(spec)).open()?.is_some())
}

/// The specification and the clips as a model sees them: frames, or features of them.
///
/// # Errors
/// Features that were not computed.
pub(crate) fn seen_by(model: &str, spec: Spec, clips: Clips) -> Result<(Spec, Clips)> {
    if model != ON_FEATURES {
        return Ok((spec, clips));
    }
    let by = maker(&spec);
    let Some(features) = origin(clips.store(), &by).open()? else {
        bail!("features of {} by {by} are not computed: run `bench-suite prepare` first", clips.store_name());
    };
    Ok(of_features(features, &spec, &clips))
}

/// The specification and the clips as a model of features sees them, made by this network, which is called `by`.
///
/// # Errors
/// As [`prepare`].
pub(crate) fn made_by(network: &Lite0, by: &str, spec: &Spec, frames: &Clips) -> Result<(Spec, Clips)> {
    Ok(of_features(compute(network, by, frames.store())?, spec, frames))
}

fn of_features(features: Store, spec: &Spec, frames: &Clips) -> (Spec, Clips) {
    let spec = spec.seen_by(ON_FEATURES);
    let clips = Clips::new(features, &spec, frames.multi_label());
    (spec, clips)
}

/// The file with the weights of this name.
///
/// # Errors
/// Weights that are missing, or are not those of the name.
pub(crate) fn weights(places: &Places, name: &str) -> Result<PathBuf> {
    let path = pretrained::file(&places.data, name);
    let argument = if name == LITE0 { LITE0 } else { "FILE" };
    if !path.is_file() {
        bail!(
            "{ON_FEATURES} reads features of EfficientNet-Lite0, whose weights are not at {}: cargo xtask setup \
             --pretrained {argument} puts them there",
            path.display()
        );
    }
    let found = files::digest(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let expected = pretrained::digits(name);
    ensure!(
        found.starts_with(expected),
        "{}: its SHA-256 begins with {}, not {expected}: remove it, and cargo xtask setup --pretrained {argument} puts \
         the right one there",
        path.display(),
        &found[..expected.len()]
    );
    Ok(path)
}

/// Takes a file of weights: checks that they are of the architecture, and copies it to its place. Returns the place and the
/// name that `model.pretrained` takes.
///
/// # Errors
/// A file that cannot be read; weights of another architecture, naming the first tensor that does not fit.
pub fn take(places: &Places, file: &Path) -> Result<(PathBuf, String)> {
    Lite0::load(file)?;
    let cannot = || format!("cannot read {}", file.display());
    let name = pretrained::name(&files::digest(file).with_context(cannot)?).to_owned();
    let place = pretrained::file(&places.data, &name);
    let folder = place.parent().unwrap_or(&places.data);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    crate::places::write(&place, &std::fs::read(file).with_context(cannot)?)?;
    Ok((place, name))
}

/// Features of the frames on standard input, to standard output.
///
/// # Errors
/// Weights of another architecture; frames that are too small, or not whole.
pub fn stream(weights: &Path, size: (usize, usize)) -> Result<()> {
    let network = Lite0::load(weights)?;
    let mut frames = Vec::new();
    std::io::stdin().read_to_end(&mut frames).context("cannot read standard input")?;
    let mut features = vec![0.0; frames.len() / (3 * size.0 * size.1).max(1) * FEATURES];
    network.features(&frames, size, &mut features)?;
    let bytes: Vec<u8> = features.iter().flat_map(|value| value.to_le_bytes()).collect();
    std::io::stdout().write_all(&bytes).context("cannot write standard output")
}

const _: () = assert!(FEATURES == pretrained::FEATURES && tt_rnn::lite0::SMALLEST == pretrained::SMALLEST);
const _: () = assert!(LITE0_SHA256.len() == 64);
