//! Clips with copies.

use std::collections::BTreeSet;
use video_data::store::Store;

/// Sets that are listed.
const NAMED: usize = 5;

/// Warns of clips in a store that have the same frames.
pub fn name(store: &Store) {
    let all = store.duplicates();
    if all.is_empty() {
        return;
    }
    let clips = store.clips();
    let copies: usize = all.iter().map(|same| same.len() - 1).sum();
    tracing::warn!("{copies} of {} clips have the same frames as others", clips.len());
    for same in all.iter().take(NAMED) {
        let names: Vec<&str> = same.iter().map(|clip| clips[*clip].name.as_str()).collect();
        let labels: BTreeSet<&[usize]> = same.iter().map(|clip| clips[*clip].labels.as_slice()).collect();
        let classes = if labels.len() > 1 { ", in different classes" } else { "" };
        tracing::warn!("the same frames{classes}: {}", names.join(", "));
    }
    if all.len() > NAMED {
        tracing::warn!("and {} more such sets", all.len() - NAMED);
    }
}
