//! What a run will do, before anything is trained.

use crate::build::{Size, model_config, size};
use crate::data::{Clips, Fold, Frames};
use crate::device::{DeviceName, Precision};
use crate::pace::{Pace, SplitCounts, taken};
use crate::places::{sweep, write};
use crate::provenance::Code;
use crate::record::{FINAL, LeftOut, Plan, PlannedCell};
use crate::record_files::read_json;
use crate::resolve::Resolved;
use crate::sound;
use crate::spec::{DataSpec, ModelSpec, ProtocolSpec, Spec, SpecError, TrainSpec};
use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use tt_rnn::models::find;

/// Resident memory of a process that has trained nothing yet.
const BASE_BYTES: u64 = 60 << 20;

/// Puts the plan together.
pub fn plan(
    spec: &Spec,
    resolved: &Resolved,
    store: &str,
    frames: &Frames<'_>,
    (device, precision): (DeviceName, Precision),
) -> Result<Plan> {
    let (classes, clip_count, frame_count, left_out, data_digest) = match frames {
        Frames::Known(clips) => (
            clips.classes().to_vec(),
            clips.len(),
            clips.frames(),
            clips.left_out().to_vec(),
            clips.data_digest().to_owned(),
        ),
        Frames::Estimated { classes, clips, frames } => {
            (classes.clone(), *clips, *frames, Vec::<LeftOut>::new(), String::new())
        }
    };
    let (data, data_kind) = match frames {
        Frames::Known(clips) => {
            check_length(spec, clips)?;
            warn(spec, clips)?;
            resolved.data_used(clips.len(), sound::used(&all_labels(clips)).len())
        }
        Frames::Estimated { clips, .. } => {
            let folds = spec.fold_count();
            if folds > *clips {
                let reason = format!("there are {clips} clips, and no fold may be empty");
                let value = folds.to_string();
                return Err(SpecError::Value { key: "protocol.folds", value, reason }.into());
            }
            (resolved.data.clone(), resolved.data_kind)
        }
    };
    let mut cells = Vec::new();
    for model in &spec.model.names {
        let size = size_of(spec, model, classes.len())?;
        let spec = &spec.seen_by(model);
        for seed in &spec.train.seeds {
            for fold in spec.folds(model) {
                let split = match frames {
                    Frames::Known(clips) => clips.fold(spec, fold)?.count(clips),
                    Frames::Estimated { .. } => estimate_split(spec, clip_count, frame_count),
                };
                cells.push(planned(spec, model, fold, *seed, &split, size));
            }
        }
    }
    Ok(Plan {
        experiment: spec.name.clone(),
        data,
        data_kind,
        dataset: paper_rows(resolved),
        store: store.to_owned(),
        metric: if resolved.multi_label { "map" } else { "accuracy" }.to_owned(),
        classes,
        run_digest: run_digest(spec, &data_digest, device, precision),
        data_digest,
        clips: clip_count,
        frames: frame_count,
        frame_bytes: spec.frame_bytes(),
        left_out,
        with_errors: if let Frames::Known(clips) = frames { clips.with_errors() } else { 0 },
        copies: if let Frames::Known(clips) = frames { clips.copies() } else { Vec::new() },
        cells,
        config: spec.to_toml(),
        // A run does not depend on which card of a kind computes it.
        device: if let DeviceName::Cuda(_) = device { DeviceName::Cuda(0) } else { device },
        precision,
        code: Code::default(),
        other_names: Vec::new(),
    })
}

/// Whether all models can be built, which needs no clip.
///
/// # Errors
/// The first that cannot, and the keys that decide it.
pub fn check_models(spec: &Spec) -> Result<()> {
    spec.model.names.iter().try_for_each(|model| size_of(spec, model, 2).map(drop))
}

fn size_of(spec: &Spec, model: &str, classes: usize) -> Result<Size> {
    let of_model = |error: anyhow::Error| SpecError::Model {
        model: model.to_owned(),
        keys: "modes, rank, ranks, mlp_rank, input_weights, blocks, tree, gates, layers, recurrent, recurrent_rank, cnn, cnn_kernels, \
               cnn_rank, backend, data.width, data.height",
        reason: format!("{error:#}"),
    };
    let config = model_config(&spec.seen_by(model), classes)?;
    Ok(size(&config, model).map_err(of_model)?)
}

/// A bound that no clip reaches would give the run of all frames a second name.
fn check_length(spec: &Spec, clips: &Clips) -> Result<()> {
    let (bound, longest) = (spec.data.max_frames, clips.longest());
    if bound >= longest && bound > 0 {
        let reason =
            format!("no clip has more than {longest} frames: leave it at 0, which uses all, or set fewer");
        return Err(SpecError::Value { key: "data.max_frames", value: bound.to_string(), reason }.into());
    }
    Ok(())
}

/// Warns of classes without clips, and of folds without training clips of a class.
fn warn(spec: &Spec, clips: &Clips) -> Result<()> {
    for warning in sound::decoded(&all_labels(clips), clips.classes(), clips.multi_label())? {
        tracing::warn!("{warning}");
    }
    let folds: BTreeSet<usize> = spec.model.names.iter().flat_map(|model| spec.folds(model)).collect();
    for number in folds {
        let fold = clips.fold(spec, number)?;
        let labels = |side: &[usize]| side.iter().map(|clip| clips.labels(*clip)).collect::<Vec<&[usize]>>();
        if let Some(said) = sound::untrained(&labels(&fold.train), &labels(&fold.test), clips.classes()) {
            tracing::warn!("fold {number} has {said}");
        }
    }
    Ok(())
}

fn all_labels(clips: &Clips) -> Vec<&[usize]> {
    (0..clips.len()).map(|clip| clips.labels(clip)).collect()
}

/// Whose rows of the paper stand beside the results: those of the layout, for its sample too.
fn paper_rows(resolved: &Resolved) -> String {
    let data = &resolved.spec.data;
    if ["folder", "rows"].contains(&data.dataset.as_str()) {
        resolved.spec.name.clone()
    } else {
        data.dataset.clone()
    }
}

impl Fold {
    /// Counts both sides.
    pub fn count(&self, clips: &Clips) -> SplitCounts {
        let frames = |side: &[usize]| side.iter().map(|clip| clips.length(*clip)).sum();
        let mut lengths: Vec<usize> = self.train.iter().map(|clip| clips.length(*clip)).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        SplitCounts {
            train_clips: self.train.len(),
            test_clips: self.test.len(),
            train_frames: frames(&self.train),
            test_frames: frames(&self.test),
            batch_frames: lengths.iter().take(clips.batch()).sum(),
        }
    }
}

/// Both sides of a fold of so many clips, of the same length.
pub(crate) fn estimate_split(spec: &Spec, clips: usize, frames: usize) -> SplitCounts {
    let (test_clips, test_frames) = match spec.protocol.kind.as_str() {
        FINAL => (0, 0),
        "official" => (clips / 2, frames / 2),
        _ => (clips / spec.protocol.folds, frames / spec.protocol.folds),
    };
    SplitCounts {
        train_clips: clips - test_clips,
        test_clips,
        train_frames: frames - test_frames,
        test_frames,
        batch_frames: frames / clips.max(1) * spec.train.batch,
    }
}

fn planned(spec: &Spec, model: &str, fold: usize, seed: u64, split: &SplitCounts, size: Size) -> PlannedCell {
    let taken = taken(spec, model);
    let split = split.of_taken(taken, spec.train.batch);
    let pace = Pace::assumed(&size);
    let factorized = find(model).is_ok_and(|entry| entry.form.is_factorized());
    let gradient = if spec.train.clip_norm > 0.0 {
        size.params_total
    } else {
        size.params_total - size.params_by_factors
    };
    // Weights, two moments and the gradient, or weights alone; batches being read and trained on; saved activations.
    let saved_per_frame =
        if !factorized || taken.is_some() { 8 * size.width } else { 48_000 + 8 * size.width };
    // One more batch back to front.
    let copies = if spec.model.bidirectional { 4 } else { 3 };
    let bytes = 12 * size.params_total
        + 4 * gradient
        + 4 * size.params_frozen
        + size.cnn_bytes
        // Maps, their gradient and what becomes of it on the way.
        + split.batch_frames * (copies * spec.batched_bytes() + saved_per_frame + 3 * size.map_bytes);
    PlannedCell {
        model: model.to_owned(),
        protocol: spec.protocol.kind.clone(),
        recipe: spec.recipe.clone(),
        fold,
        seed,
        epochs: spec.epochs(model),
        train_clips: split.train_clips,
        test_clips: split.test_clips,
        train_frames: split.train_frames,
        params_input: size.params_input,
        params_total: size.params_total,
        macs_per_frame: size.macs_per_frame,
        expected_rss_bytes: BASE_BYTES + bytes as u64,
        expected_s: pace.cell_s(&split, spec, model),
    }
}

/// Saves the plan in the run's folder, together with the cells planned there before and the names it had. The folder is locked
/// meanwhile, so that two runs planning at once keep each other's cells.
pub fn keep(folder: &Path, plan: &Plan) -> Result<()> {
    let held = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
    let _held = held.with_context(|| format!("cannot lock {}", folder.display()))?;
    sweep(folder)?;
    let path = folder.join("plan.json");
    let mut whole = plan.clone();
    if path.is_file() {
        let before: Plan = read_json(&path)?;
        let new: BTreeSet<String> = plan.cells.iter().map(PlannedCell::id).collect();
        whole.cells.extend(before.cells.into_iter().filter(|cell| !new.contains(&cell.id())));
        let names = before.other_names.into_iter().chain([before.experiment]);
        let names: BTreeSet<String> = names.filter(|name| *name != plan.experiment).collect();
        whole.other_names = names.into_iter().collect();
    }
    write(&path, &serde_json::to_vec_pretty(&whole)?)
}

/// The part of a specification that names a run.
#[derive(Serialize)]
struct Identity<'a> {
    name: &'a str,
    title: &'a str,
    recipe: &'a str,
    data: &'a DataSpec,
    model: &'a ModelSpec,
    protocol: &'a ProtocolSpec,
    train: &'a TrainSpec,
}

/// Names a run by the configuration without the selection of cells, by the data and, except on the CPU, by
/// the kind of device and its precision.
pub fn run_digest(spec: &Spec, data_digest: &str, device: DeviceName, precision: Precision) -> String {
    let mut identity = spec.clone();
    identity.model.names.clear();
    identity.protocol.run_folds.clear();
    identity.protocol.kind.clear();
    identity.train.seeds.clear();
    // How clips are decoded shows in the data's digest.
    let Spec { name, title, recipe, data, decode: _, model, protocol, train } = &identity;
    let identity = Identity { name, title, recipe, data, model, protocol, train };
    // The key was called so when runs were first named.
    let identity = toml::to_string(&identity).unwrap_or_default().replace("\nbackend = ", "\nrung = ");
    let mut hash = Sha256::new();
    hash.update(identity);
    hash.update(data_digest);
    if device != DeviceName::Cpu {
        hash.update(format!("{} {precision}", device.kind()));
    }
    let first: [u8; 8] = std::array::from_fn({
        let digest = hash.finalize();
        move |i| digest[i]
    });
    format!("{:016x}", u64::from_be_bytes(first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Overrides;

    /// A plan under a name, with a cell of each of these folds.
    fn named(name: &str, folds: &[usize]) -> Plan {
        let cell = |fold: &usize| {
            format!(
                r#"{{"model":"tt-gru","protocol":"clips","recipe":"scaled","fold":{fold},"seed":0,"epochs":1,
                "train_clips":1,"test_clips":1,"train_frames":1,"params_input":1,"params_total":1,
                "expected_rss_bytes":1,"expected_s":1.0}}"#
            )
        };
        let cells: Vec<String> = folds.iter().map(cell).collect();
        let text = format!(
            r#"{{"experiment":"{name}","data":"","data_kind":"folder","dataset":"","store":"","metric":"","classes":[],
            "run_digest":"d","data_digest":"","clips":0,"frames":0,"frame_bytes":0,"left_out":[],"config":"",
            "cells":[{}]}}"#,
            cells.join(",")
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn a_second_name_of_a_run_keeps_the_first() {
        let dir = tempfile::tempdir().unwrap();
        for plan in [named("first", &[0]), named("second", &[1]), named("second", &[1])] {
            keep(dir.path(), &plan).unwrap();
        }
        let kept: Plan =
            serde_json::from_slice(&std::fs::read(dir.path().join("plan.json")).unwrap()).unwrap();
        assert_eq!(
            (kept.experiment.as_str(), kept.other_names.as_slice()),
            ("second", &["first".to_owned()][..])
        );
        assert_eq!(kept.cells.len(), 2);
    }

    /// In the records of miracl-words (1,500 clips) an epoch of stacked-frames took 0.7 s, other work beside it.
    #[test]
    fn controls_that_average_pixels_take_time() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let spec = Spec::load(&root, "miracl-words", &Overrides::default()).unwrap();
        let (train_clips, test_clips, train_frames, test_frames) = (1200, 300, 12_400, 3_100);
        let split = SplitCounts { train_clips, test_clips, train_frames, test_frames, batch_frames: 200 };
        let model = "stacked-frames";
        let size = size(&model_config(&spec, 10).unwrap(), model).unwrap();
        let cell = planned(&spec, model, 0, 0, &split, size);
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        let epoch_s = threads * cell.expected_s / cell.epochs as f64;
        assert!((0.35..1.4).contains(&epoch_s), "{epoch_s}");
    }
}
