//! Clips with copies on both sides of a fold.

use crate::data::{Clips, Fold};
use crate::spec::Spec;
use anyhow::Result;
use std::collections::BTreeSet;

/// Warns of test clips with a copy among the training clips of their fold.
///
/// # Errors
/// As [`Clips::fold`].
pub fn warn(clips: &Clips, spec: &Spec) -> Result<()> {
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

/// Test clips with the same frames as a training clip, each paired with one.
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
