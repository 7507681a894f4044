//! Anyone's clips: `DIR/<class>/<group>/<clip>.*` or `DIR/<class>/<clip>.*`; UCF101 and HMDB51 fit too.
//!
//! The label is the first folder, the group the second (shared between classes: the same speaker or the same
//! sequence); without a second folder the group is empty.

use std::path::Path;

use super::{Collector, Dataset, EntryKind, Kind, Metric, is_video, layout, list};
use crate::{Result, name};

/// Lists the clips below `dir`.
pub fn scan(dir: &Path) -> Result<Dataset> {
    let mut collector = Collector::new(dir);
    let mut classes = Vec::new();
    for class in list(dir)? {
        if class.kind != EntryKind::Folder {
            continue;
        }
        let label = classes.len();
        let before = collector.clips.len();
        for entry in list(&class.path)? {
            if entry.kind != EntryKind::Folder || is_video(entry.name()) {
                collector.add(&entry, &[label], "", None);
                continue;
            }
            let group = name::show(entry.name());
            for clip in list(&entry.path)? {
                collector.add(&clip, &[label], &group, None);
            }
        }
        if collector.clips.len() > before {
            classes.push(name::show(class.name()));
        }
    }
    if collector.clips.is_empty() {
        let reason = "found no clips; expected <class>/<group>/<clip>.mpg or <class>/<clip>.mpg below it \
                      (or .avi, .mp4, .mkv, .webm, .mov, …)";
        return Err(layout(Kind::Folder, dir, reason));
    }
    Ok(Dataset {
        kind: Kind::Folder,
        name: folder_name(dir),
        root: dir.to_path_buf(),
        classes,
        metric: Metric::Accuracy,
        multi_label: false,
        clips: collector.clips,
        left_out: collector.left_out,
        official: None,
        sample: None,
    })
}

/// The folder's own name in letters that are safe in file names; `folder` where none is left.
fn folder_name(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let text = dir.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name: String = text.chars().map(safe).take(40).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "folder".into() } else { name.to_owned() }
}
