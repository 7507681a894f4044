//! Anyone's clips: `DIR/<class>/<group>/<clip>.*` or `DIR/<class>/<clip>.*`; UCF101 and HMDB51 fit too. Or anyone's
//! sequences of rows, which are `.npy` files in the same places.
//!
//! The label is the first folder, the group the second (shared between classes: the same speaker or the same
//! sequence); without a second folder the group is empty. Folders that hold nothing but one other folder are passed
//! through, as archives have them. Folders `train`, `val`, `test` above the classes, or right below each, are the
//! split.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use super::entries::{Collector, Entry, layout};
use super::parts::{Part, Parts};
use super::walk::{Found, walk};
use crate::dataset::{ClipRef, Dataset, LeftOut};
use crate::error::Result;
use crate::kind::{Kind, Metric, Split};
use crate::name;

/// Lists the clips below `dir`, with [`Kind::Rows`] the files of rows, with [`Kind::Sound`] those of sound too.
pub fn scan(kind: Kind, dir: &Path) -> Result<Dataset> {
    let found = walk(kind, dir)?;
    let places = Places::of(&found);
    if places.has_no_class(&found) {
        let reason = "its folders are the parts of a split and hold clips, but no classes: expected \
                      train/<class>/<clip> or <class>/train/<clip>";
        return Err(layout(kind, dir, reason));
    }
    let above = places.wrapper.iter().map(OsString::as_os_str);
    let root: PathBuf = std::iter::once(dir.as_os_str()).chain(above).collect();
    let named = || found.iter().filter(|file| file.unfit.is_none() && file.is_named);
    let classes: BTreeSet<&OsString> =
        named().filter(|file| file.is_clip()).filter_map(|file| Some(places.of_clip(file)?.class)).collect();
    let classes: Vec<&OsString> = classes.into_iter().collect();
    let mut collector = Collector::new(kind, &root);
    for file in named() {
        let Some(place) = places.of_clip(file) else {
            let name = collector.relative(&file.path);
            collector.left_out.push(LeftOut { name, reason: places.misplaced(file).into() });
            continue;
        };
        let label = classes.partition_point(|class| *class < place.class);
        let group = place.group.map(|group| name::show(group)).unwrap_or_default();
        let entry = Entry { path: file.path.clone(), kind: file.kind };
        collector.add(&entry, &[label], &group, place.split);
    }
    if collector.clips.is_empty() {
        return Err(layout(kind, dir, nothing(kind, &collector.left_out)));
    }
    let notes = places.notes().into_iter().chain(twins(&collector.clips)).collect();
    Ok(Dataset {
        kind,
        name: folder_name(dir),
        classes: classes.iter().map(|class| name::show(class)).collect(),
        metric: Metric::Accuracy,
        multi_label: false,
        clips: collector.clips,
        left_out: collector.left_out,
        not_taken: Vec::new(),
        notes,
        official: None,
        sample: None,
        root,
    })
}

/// Which of the folders above a clip are its class, its group and its part of the split.
struct Places {
    wrapper: Vec<OsString>,
    /// Depth of the folder that names the part of the split, below the one that was walked.
    split: Option<usize>,
    parts: Parts,
}

/// What a clip's place says about it.
struct Place<'a> {
    class: &'a OsString,
    group: Option<&'a OsString>,
    split: Option<Split>,
}

impl Places {
    fn of(found: &[Found]) -> Self {
        let wrapper = wrapper(found);
        let first = wrapper.len();
        // Above the classes, where a class and a clip must follow, or below them.
        for (at, follow) in [(first, 2), (first + 1, 1)] {
            if let Some(parts) = split_parts(found, first, at, follow) {
                return Self { wrapper, split: Some(at), parts };
            }
        }
        // The only folder, with the parts of a split and no class below it: it is the class.
        if first > 0
            && let Some(parts) = split_parts(found, first - 1, first, 1)
        {
            let wrapper = wrapper[..first - 1].to_vec();
            return Self { wrapper, split: Some(first), parts };
        }
        Self { wrapper, split: None, parts: Parts::default() }
    }

    /// Whether what would be the classes are the parts of a split.
    fn has_no_class(&self, found: &[Found]) -> bool {
        let mut parts = Parts::default();
        let clips = found.iter().filter(|file| file.is_clip());
        for place in clips.filter_map(|file| self.of_clip(file)) {
            let Some(part) = Part::of(place.class) else { return false };
            parts.add(part);
        }
        self.split.is_none() && parts.is_split()
    }

    fn of_clip<'a>(&self, file: &'a Found) -> Option<Place<'a>> {
        let part = match self.split {
            Some(at) => Some(Part::of(file.parts.get(at)?)?),
            None => None,
        };
        let names = file.parts.iter().enumerate().skip(self.wrapper.len());
        let names: Vec<&OsString> =
            names.filter(|(at, _)| Some(*at) != self.split).map(|(_, name)| name).collect();
        let split = part.map(|part| self.parts.side(part));
        match names[..] {
            [class, _] => Some(Place { class, group: None, split }),
            [class, group, _] => Some(Place { class, group: Some(group), split }),
            _ => None,
        }
    }

    /// Why a file named like a clip is not taken from its place.
    fn misplaced(&self, file: &Found) -> &'static str {
        if file.parts.len() < self.wrapper.len() + usize::from(self.split.is_some()) + 2 {
            "lies in no class's folder: expected <class>/<clip> or <class>/<group>/<clip>"
        } else {
            "lies too deep: expected <class>/<clip> or <class>/<group>/<clip>"
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.wrapper.is_empty() {
            let inner = name::escape(&self.wrapper.iter().collect::<PathBuf>());
            notes.push(format!("{inner}/ is the only folder: the folders in it are taken for the classes"));
        }
        if self.split.is_some() {
            notes.push(format!("its folders are a split: {}", self.parts));
        }
        notes
    }
}

fn nothing(kind: Kind, left_out: &[LeftOut]) -> String {
    let mut reason = match kind {
        Kind::Sound => "found no sound; expected <class>/<group>/<clip>.wav or <class>/<clip>.wav below it (or .mp3, .flac, or clips)",
        Kind::Rows => "found no rows; expected <class>/<group>/<name>.npy or <class>/<name>.npy below it",
        _ => {
            "found no clips; expected <class>/<group>/<clip>.mpg or <class>/<clip>.mpg below it (or .avi, .mp4, .mkv, \
             .webm, .mov, …)"
        }
    }
    .to_owned();
    if let Some(first) = left_out.first() {
        let _ = write!(reason, "; not taken: {} ({}), in all {}", first.name, first.reason, left_out.len());
    }
    reason
}

/// The folders between the given one and the classes: each is the only folder at its level, with no clip
/// beside it.
fn wrapper(found: &[Found]) -> Vec<OsString> {
    let mut files: Vec<&Found> = found.iter().filter(|file| file.unfit.is_none()).collect();
    let mut chain: Vec<OsString> = Vec::new();
    loop {
        let depth = chain.len();
        if files.iter().any(|file| file.parts.len() == depth + 1 && file.is_clip()) {
            // The class, with or without a group below it.
            chain.truncate(depth.saturating_sub(2));
            return chain;
        }
        files.retain(|file| file.parts.len() > depth + 1);
        let mut names = files.iter().map(|file| &file.parts[depth]);
        match names.next() {
            Some(first) if names.all(|name| name == first) => chain.push(first.clone()),
            _ => return chain,
        }
    }
}

/// The parts of a split named by the folders at depth `at`; none unless every folder there names one and
/// there are clips both to train on and to score on. Clips above the folders at `first` do not count.
fn split_parts(found: &[Found], first: usize, at: usize, follow: usize) -> Option<Parts> {
    let mut parts = Parts::default();
    for file in found.iter().filter(|file| file.is_clip() && file.parts.len() > first + 1) {
        let part = Part::of(file.parts.get(at)?)?;
        if file.parts.len() > at + follow {
            parts.add(part);
        }
    }
    parts.is_split().then_some(parts)
}

/// Names that look the same but differ, because their accents are encoded in two ways. Below folders that
/// differ so, nothing more is reported.
fn twins(clips: &[ClipRef]) -> Vec<String> {
    let mut by_look: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for clip in clips {
        let name = clip.name.as_str();
        for end in name.match_indices('/').map(|(end, _)| end).chain([name.len()]) {
            let above = name[..end].rfind('/').map_or("", |at| &name[..=at]);
            let look = format!("{above}{}", name[above.len()..end].nfc());
            by_look.entry(look).or_default().insert(&name[..end]);
        }
    }
    let twins = by_look.into_iter().filter(|(_, names)| names.len() > 1);
    let note = |(look, names): (String, BTreeSet<&str>)| {
        format!(
            "{look}: {} names look the same and differ in how accents are written (NFC, NFD); they are taken for \
             different ones",
            names.len()
        )
    };
    twins.map(note).collect()
}

/// The folder's own name in letters that are safe in file names; `folder` where none is left.
pub fn folder_name(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let text = dir.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name: String = text.chars().map(safe).take(40).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "folder".into() } else { name.to_owned() }
}
