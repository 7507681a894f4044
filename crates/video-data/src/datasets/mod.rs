//! What lies on disk: clips with their labels, groups and official split.
//!
//! One file per layout, one row in [`Kind::ALL`]. Scanning opens no video; it lists folders, in an order that
//! depends on the bytes of the names alone.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::rate::Rate;
use crate::sample::SampleInfo;
use crate::{Error, Result, name};

pub mod folder;
pub mod hollywood2;
mod lists;
mod parts;
pub mod ucf11;
mod walk;
pub mod youtube_celebrities;

/// A layout that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// UCF11 (YouTube Action).
    Ucf11,
    /// Hollywood2 actions.
    Hollywood2,
    /// YouTube Celebrities.
    YoutubeCelebrities,
    /// Anyone's clips: `DIR/<class>/<group>/<clip>.*`.
    Folder,
}

impl Kind {
    /// Every layout.
    pub const ALL: [Self; 4] = [Self::Ucf11, Self::Hollywood2, Self::YoutubeCelebrities, Self::Folder];

    /// The name used on the command line and in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ucf11 => "ucf11",
            Self::Hollywood2 => "hollywood2",
            Self::YoutubeCelebrities => "youtube-celebrities",
            Self::Folder => "folder",
        }
    }

    /// The layout of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The frames that the paper takes from this dataset (`folder`: 160×120 at the native rate, at most 24).
    pub fn frame_spec(self) -> FrameSpec {
        match self {
            Self::Ucf11 => FrameSpec { width: 160, height: 120, rate: Rate::Exactly(24), strict: false },
            Self::Hollywood2 => FrameSpec { width: 234, height: 100, rate: Rate::Exactly(12), strict: false },
            Self::YoutubeCelebrities => {
                FrameSpec { width: 160, height: 120, rate: Rate::Exactly(12), strict: false }
            }
            Self::Folder => FrameSpec { width: 160, height: 120, rate: Rate::AtMost(24), strict: false },
        }
    }
}

/// Size and rate of the stored frames; RGB, so that `M = height · width · 3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FrameSpec {
    /// Pixels per row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Which frames are kept.
    #[serde(flatten)]
    pub rate: Rate,
    /// Whether a clip with any decoder error is left out; else one is kept where its frames are usable, and flagged.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

impl FrameSpec {
    /// Bytes of one frame, M = H·W·C.
    pub fn frame_bytes(&self) -> usize {
        self.width as usize * self.height as usize * 3
    }
}

/// How a dataset is scored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Share of clips whose class is right.
    Accuracy,
    /// Mean over classes of the average precision.
    Map,
}

/// The part of an official split that a clip belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// To be trained on.
    Train,
    /// To be scored on.
    Test,
}

/// One clip on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipRef {
    /// The file.
    pub path: PathBuf,
    /// Path below the dataset's folder, as [`crate::name::escape`] writes it.
    pub name: String,
    /// Indices into [`Dataset::classes`], ascending; exactly one unless the dataset is multi-label.
    pub labels: Vec<usize>,
    /// Clips of one group share person and scene; empty where nothing is known.
    pub group: String,
    /// The official split, where there is one.
    pub split: Option<Split>,
}

/// Something that looks like a clip but is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Path below the dataset's folder, escaped.
    pub name: String,
    /// Why it was left out.
    pub reason: String,
}

/// A file in the dataset's folder that is no clip of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotTaken {
    /// Path below the folder, escaped.
    pub name: String,
    /// Why it was not taken.
    pub reason: String,
}

/// How the clips found compare with the official distribution.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Official {
    /// Clips in the official distribution.
    pub expected: usize,
    /// Clips found.
    pub found: usize,
    /// One line per class or group that differs; empty when complete.
    pub differences: Vec<String>,
}

impl Official {
    /// Whether everything is there.
    pub fn is_complete(&self) -> bool {
        self.differences.is_empty() && self.found == self.expected
    }
}

/// A scanned dataset.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// The layout it was read by.
    pub kind: Kind,
    /// `ucf11`, `ucf11-sample`, …: what every record calls it.
    pub name: String,
    /// The folder that clip names are relative to.
    pub root: PathBuf,
    /// Class names; labels are indices into it.
    pub classes: Vec<String>,
    /// How it is scored.
    pub metric: Metric,
    /// Whether a clip can have several labels, or none.
    pub multi_label: bool,
    /// The clips, in byte order of their names.
    pub clips: Vec<ClipRef>,
    /// What is named like a clip but is no regular file, or lies where the layout has none.
    pub left_out: Vec<LeftOut>,
    /// Everything else below the folder.
    pub not_taken: Vec<NotTaken>,
    /// What was made of the folders, where it is not plain.
    pub notes: Vec<String>,
    /// Comparison with the official counts; `None` for `folder` and for rendered samples.
    pub official: Option<Official>,
    /// Set when the clips were rendered by this project.
    pub sample: Option<SampleInfo>,
}

impl Dataset {
    /// Fails with the counts when an official dataset is not all there.
    ///
    /// # Errors
    /// [`Error::Incomplete`], listing what differs.
    pub fn require_complete(&self) -> Result<()> {
        match &self.official {
            Some(official) if !official.is_complete() => Err(Error::Incomplete {
                dataset: self.name.clone(),
                expected: official.expected,
                found: official.found,
                differences: official.differences.join("\n"),
            }),
            _ => Ok(()),
        }
    }

    /// What to tell of the scan: what was made of the folders, and what was not taken, by reason.
    pub fn remarks(&self) -> Vec<String> {
        const NAMED: usize = 3;
        let mut by_reason: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for file in &self.not_taken {
            by_reason.entry(&file.reason).or_default().push(&file.name);
        }
        let remark = |(reason, names): (&str, Vec<&str>)| {
            let more = if names.len() > NAMED { ", …" } else { "" };
            let files = if names.len() == 1 { "file" } else { "files" };
            let first = names[..names.len().min(NAMED)].join(", ");
            format!("not taken: {} {files}, {reason}: {first}{more}", names.len())
        };
        self.notes.iter().cloned().chain(by_reason.into_iter().map(remark)).collect()
    }

    /// Whether every clip has its place in a split of the dataset's own.
    pub fn has_split(&self) -> bool {
        self.clips.iter().all(|clip| clip.split.is_some())
    }

    /// Clips per class, in the order of [`Dataset::classes`]; a multi-label clip counts in each of its classes.
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for label in self.clips.iter().flat_map(|clip| &clip.labels) {
            counts[*label] += 1;
        }
        counts
    }
}

/// Lists the clips below `dir`, which is the dataset's folder or its parent.
///
/// # Errors
/// [`Error::Io`] where a folder cannot be read, [`Error::Layout`] where nothing of the layout is found.
pub fn scan(kind: Kind, dir: &Path) -> Result<Dataset> {
    check_folder(kind, dir)?;
    let mut dataset = match kind {
        Kind::Ucf11 => ucf11::scan(dir),
        Kind::Hollywood2 => hollywood2::scan(dir),
        Kind::YoutubeCelebrities => youtube_celebrities::scan(dir),
        Kind::Folder => folder::scan(dir),
    }?;
    sort(&mut dataset.clips);
    dataset.sample = SampleInfo::find(&dataset.root);
    if dataset.sample.is_some() {
        dataset.name = format!("{}-sample", kind.name());
        dataset.official = None;
    } else {
        dataset.not_taken = not_taken(&dataset, dir, "not at the place of a clip in this layout")?;
    }
    Ok(dataset)
}

/// Lists the clips of anyone's folder that a list names, with the labels, groups and split that it gives them: a CSV
/// of columns `clip,label` and, if known, `group` and `split`; or the official lists of UCF101 or HMDB51, any file of
/// the split.
///
/// # Errors
/// [`Error::Io`], [`Error::Layout`]; [`Error::Corrupt`] for what is no such list.
pub fn scan_listed(dir: &Path, list: &Path) -> Result<Dataset> {
    check_folder(Kind::Folder, dir)?;
    let mut dataset = lists::scan(dir, list)?;
    sort(&mut dataset.clips);
    let reason = format!("not in {}", name::show(list.file_name().unwrap_or_default()));
    dataset.not_taken = not_taken(&dataset, dir, &reason)?;
    Ok(dataset)
}

fn check_folder(kind: Kind, dir: &Path) -> Result<()> {
    let meta = fs::metadata(dir).map_err(Error::io("open the dataset folder", dir))?;
    if meta.is_dir() { Ok(()) } else { Err(layout(kind, dir, "it is a file, not a folder")) }
}

fn sort(clips: &mut [ClipRef]) {
    clips.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
}

/// What lies below the folder and is neither clip nor left out. Of an official dataset, only what is named like a
/// clip: it comes with files of its own.
fn not_taken(dataset: &Dataset, dir: &Path, elsewhere: &str) -> Result<Vec<NotTaken>> {
    let taken: HashSet<&Path> = dataset.clips.iter().map(|clip| clip.path.as_path()).collect();
    let left_out: HashSet<&str> = dataset.left_out.iter().map(|out| out.name.as_str()).collect();
    let below = if dataset.kind == Kind::Folder { dir } else { dataset.root.as_path() };
    let mut all = Vec::new();
    for file in walk::walk(dataset.kind, below)? {
        let in_root = name::escape(file.path.strip_prefix(&dataset.root).unwrap_or(&file.path));
        if taken.contains(file.path.as_path()) || left_out.contains(in_root.as_str()) {
            continue;
        }
        let is_video = is_video(file.name());
        if dataset.kind != Kind::Folder && !(is_video && file.unfit.is_none()) {
            continue;
        }
        let reason = match (file.unfit, file.kind) {
            (Some(unfit), _) => unfit.to_owned(),
            (None, EntryKind::Other(what)) => what.to_owned(),
            _ if is_video => elsewhere.to_owned(),
            _ => match Path::new(file.name()).extension() {
                Some(ending) => format!("no clip by its ending .{}", name::show(ending)),
                None => "no clip: its name has no ending".to_owned(),
            },
        };
        let mut name = name::escape(file.path.strip_prefix(below).unwrap_or(&file.path));
        if file.kind == EntryKind::Folder {
            name.push('/');
        }
        all.push(NotTaken { name, reason });
    }
    Ok(all)
}

fn layout(kind: Kind, dir: &Path, reason: impl Into<String>) -> Error {
    Error::Layout { dataset: kind.name(), dir: dir.to_path_buf(), reason: reason.into() }
}

/// `dir` itself, then the folders below it that `names` lists, where they exist.
fn candidates(dir: &Path, names: &[&str]) -> Vec<PathBuf> {
    let below = names.iter().map(|name| dir.join(name)).filter(|path| path.is_dir());
    std::iter::once(dir.to_path_buf()).chain(below).collect()
}

/// One entry of a folder.
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) kind: EntryKind,
}

/// What an entry is, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Folder,
    Other(&'static str),
}

impl Entry {
    pub(crate) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }
}

/// The entries of a folder in byte order, hidden ones left out.
pub(crate) fn list(dir: &Path) -> Result<Vec<Entry>> {
    let mut entries = list_all(dir)?;
    entries.retain(|entry| !entry.name().as_bytes().starts_with(b"."));
    Ok(entries)
}

/// The entries of a folder in byte order.
fn list_all(dir: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("list", dir))? {
        let path = entry.map_err(Error::io("list", dir))?.path();
        let kind = match fs::metadata(&path) {
            Ok(meta) => entry_kind(meta.file_type()),
            Err(_) => EntryKind::Other("a broken link"),
        };
        entries.push(Entry { path, kind });
    }
    entries.sort_by(|a, b| a.name().as_bytes().cmp(b.name().as_bytes()));
    Ok(entries)
}

fn entry_kind(kind: fs::FileType) -> EntryKind {
    if kind.is_file() {
        EntryKind::File
    } else if kind.is_dir() {
        EntryKind::Folder
    } else if kind.is_fifo() {
        EntryKind::Other("a FIFO")
    } else if kind.is_socket() {
        EntryKind::Other("a socket")
    } else {
        EntryKind::Other("a device")
    }
}

/// File extensions that name a video, lower case.
const VIDEO: [&str; 49] = [
    "mpg", "mpeg", "mpe", "m1v", "m2v", "mpv", "m2p", "mod", "avi", "divx", "mp4", "m4v", "mov", "qt", "f4v",
    "3gp", "3gpp", "3g2", "mkv", "mk3d", "webm", "wmv", "asf", "flv", "ogv", "ogg", "ogm", "ts", "m2ts",
    "m2t", "mts", "tod", "vob", "mjpeg", "mjpg", "gif", "apng", "y4m", "mxf", "dv", "nut", "ivf", "rm",
    "rmvb", "h264", "264", "h265", "265", "hevc",
];

/// Whether the name ends like a video file.
pub(crate) fn is_video(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().unwrap_or_default().to_ascii_lowercase();
    VIDEO.iter().any(|known| extension == *known)
}

/// Sorts entries that are named like clips into clips and left-outs.
pub(crate) struct Collector<'a> {
    root: &'a Path,
    pub(crate) clips: Vec<ClipRef>,
    pub(crate) left_out: Vec<LeftOut>,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(root: &'a Path) -> Self {
        Self { root, clips: Vec::new(), left_out: Vec::new() }
    }

    /// Adds `entry` when it is named like a video, and says whether it became a clip.
    pub(crate) fn add(&mut self, entry: &Entry, labels: &[usize], group: &str, split: Option<Split>) -> bool {
        if !is_video(entry.name()) {
            return false;
        }
        let name = self.relative(&entry.path);
        let reason = match entry.kind {
            EntryKind::File => None,
            EntryKind::Folder => Some("a folder, not a regular file"),
            EntryKind::Other(what) => Some(what),
        };
        if let Some(reason) = reason {
            self.left_out.push(LeftOut { name, reason: reason.into() });
            return false;
        }
        let (path, labels, group) = (entry.path.clone(), labels.to_vec(), group.to_owned());
        self.clips.push(ClipRef { path, name, labels, group, split });
        true
    }

    pub(crate) fn relative(&self, path: &Path) -> String {
        name::escape(path.strip_prefix(self.root).unwrap_or(path))
    }
}
