//! Clips that are there twice.

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
