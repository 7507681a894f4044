//! UCF11 (YouTube Action): `UCF11_updated_mpg/<class>/v_xxx_GG/v_xxx_GG_CC.mpg`, and the older
//! `action_youtube_naudio` tree of `.avi` files.
//!
//! The label is the folder. The group is the number `GG`: the 25 official groups of the dataset, each holding
//! clips of every class, so that leaving groups out leaves whole `v_xxx_GG` folders out.
//!
//! # Paper
//! Liu, Luo, Shah (2009), "Recognizing realistic actions from videos in the wild".

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::entries::{Collector, EntryKind, candidates, layout, list};
use crate::dataset::{Dataset, Official};
use crate::error::Result;
use crate::kind::{Kind, Metric};
use crate::name;

/// Class folder, prefix of its groups and files, number of official clips.
pub const CLASSES: [(&str, &str, usize); 11] = [
    ("basketball", "v_shooting", 141),
    ("biking", "v_biking", 145),
    ("diving", "v_diving", 156),
    ("golf_swing", "v_golf", 142),
    ("horse_riding", "v_riding", 198),
    ("soccer_juggling", "v_juggle", 156),
    ("swing", "v_swing", 137),
    ("tennis_swing", "v_tennis", 167),
    ("trampoline_jumping", "v_jumping", 119),
    ("volleyball_spiking", "v_spiking", 116),
    ("walking", "v_walk_dog", 123),
];
/// Groups of every class.
pub const GROUPS: usize = 25;

/// Folders that the dataset is usually found in, below the one given.
const FOLDERS: [&str; 6] = [
    "UCF11_updated_mpg",
    "action_youtube_naudio",
    "ucf11",
    "UCF11",
    "ucf11/UCF11_updated_mpg",
    "ucf11/action_youtube_naudio",
];

/// Lists the clips of UCF11 in or below `dir`.
pub fn scan(dir: &Path) -> Result<Dataset> {
    let root = find_root(dir).ok_or_else(|| {
        let reason = "found none of the 11 class folders (basketball, biking, …, walking), neither in it nor in \
                      UCF11_updated_mpg or action_youtube_naudio below it";
        layout(Kind::Ucf11, dir, reason)
    })?;
    let mut collector = Collector::new(Kind::Ucf11, &root);
    let mut official =
        Official { expected: CLASSES.iter().map(|class| class.2).sum(), ..Official::default() };
    for (label, (class, prefix, expected)) in CLASSES.into_iter().enumerate() {
        let before = collector.clips.len();
        let dir = root.join(class);
        if dir.is_dir() {
            scan_class(&dir, label, &mut collector)?;
        }
        let clips = &collector.clips[before..];
        let groups: BTreeSet<&str> = clips.iter().map(|clip| clip.group.as_str()).collect();
        if clips.len() != expected {
            official.differences.push(format!("{class}: expected {expected} clips, found {}", clips.len()));
        }
        if groups.len() != GROUPS {
            let line = format!("{class}: expected {GROUPS} groups {prefix}_GG, found {}", groups.len());
            official.differences.push(line);
        }
    }
    official.found = collector.clips.len();
    if collector.clips.is_empty() {
        return Err(layout(Kind::Ucf11, &root, "its class folders hold no clips"));
    }
    let (clips, left_out) = (collector.clips, collector.left_out);
    Ok(Dataset {
        kind: Kind::Ucf11,
        name: Kind::Ucf11.name().into(),
        classes: CLASSES.iter().map(|class| class.0.to_owned()).collect(),
        metric: Metric::Accuracy,
        multi_label: false,
        clips,
        left_out,
        not_taken: Vec::new(),
        notes: Vec::new(),
        official: Some(official),
        sample: None,
        root,
    })
}

fn find_root(dir: &Path) -> Option<PathBuf> {
    candidates(dir, &FOLDERS).into_iter().find(|root| CLASSES.iter().any(|class| root.join(class.0).is_dir()))
}

fn scan_class(dir: &Path, label: usize, collector: &mut Collector) -> Result<()> {
    for entry in list(dir)? {
        if entry.name().eq_ignore_ascii_case("Annotation") {
            continue;
        }
        if entry.kind != EntryKind::Folder {
            let group = group_of(entry.path.file_stem().unwrap_or_default(), true);
            collector.add(&entry, &[label], &group, None);
            continue;
        }
        let group = group_of(entry.name(), false);
        for clip in list(&entry.path)? {
            collector.add(&clip, &[label], &group, None);
        }
    }
    Ok(())
}

/// The group number in `v_xxx_GG`, or in `v_xxx_GG_CC` where `is_clip`; a name of another form is its own group.
fn group_of(text: &OsStr, is_clip: bool) -> String {
    let text = name::show(text);
    let stem =
        if is_clip { text.rsplit_once('_').map_or(text.as_str(), |(stem, _)| stem) } else { text.as_str() };
    match stem.rsplit_once('_') {
        Some((_, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
            number.to_owned()
        }
        _ => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_from_folder_or_file() {
        assert_eq!(group_of("v_walk_dog_07".as_ref(), false), "07");
        assert_eq!(group_of("v_walk_dog_07_02".as_ref(), true), "07");
        assert_eq!(group_of("extra clips".as_ref(), false), "extra clips");
    }
}
