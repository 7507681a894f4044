//! Clips that are there twice: named, and warned of where one copy is trained on and another scored.

use crate::data::{Clips, Fold};
use crate::spec::Spec;
use anyhow::Result;
use std::collections::BTreeSet;
use video_data::store::Store;

/// Sets that are named.
const NAMED: usize = 5;

/// Names the clips of a store that have the same frames.
pub fn name(store: &Store) {
    let all = store.duplicates();
    if all.is_empty() {
        return;
    }
    let clips = store.clips();
    let copies: usize = all.iter().map(|same| same.len() - 1).sum();
    tracing::warn!("{copies} of {} clips are copies of others by their frames", clips.len());
    for same in all.iter().take(NAMED) {
        let names: Vec<&str> = same.iter().map(|clip| clips[*clip].name.as_str()).collect();
        let labels: BTreeSet<&[usize]> = same.iter().map(|clip| clips[*clip].labels.as_slice()).collect();
        let classes = if labels.len() > 1 { ", and not of one class" } else { "" };
        tracing::warn!("the same frames{classes}: {}", names.join(", "));
    }
    if all.len() > NAMED {
        tracing::warn!("and {} more such sets", all.len() - NAMED);
    }
}

/// Says which test clips of an experiment's folds have a copy among the training clips.
///
/// # Errors
/// As [`Clips::fold`].
pub fn warn_of_straddling(clips: &Clips, spec: &Spec) -> Result<()> {
    let folds: BTreeSet<usize> = spec.model.names.iter().flat_map(|model| spec.folds(model)).collect();
    for number in folds {
        let fold = clips.fold(spec, number)?;
        let copied = straddling(clips, &fold);
        if let Some((test, train)) = copied.first() {
            tracing::warn!(
                "fold {number} of protocol {}: {} of {} test clips are copies of training clips, as {} is of {}: its \
                 score is too high",
                spec.protocol.kind,
                copied.len(),
                fold.test.len(),
                clips.name(*test),
                clips.name(*train)
            );
        }
    }
    Ok(())
}

/// Test clips with the same frames as a training clip, each with one.
fn straddling(clips: &Clips, fold: &Fold) -> Vec<(usize, usize)> {
    let train: BTreeSet<usize> = fold.train.iter().copied().collect();
    let test: BTreeSet<usize> = fold.test.iter().copied().collect();
    let mut copied = Vec::new();
    for same in clips.duplicates() {
        let Some(twin) = same.iter().find(|clip| train.contains(clip)) else { continue };
        copied.extend(same.iter().filter(|clip| test.contains(clip)).map(|clip| (*clip, *twin)));
    }
    copied
}
