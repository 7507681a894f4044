//! Entries of a folder, and which of them are named like clips.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::dataset::{ClipRef, LeftOut};
use crate::error::{Error, Result};
use crate::kind::{Kind, Split};
use crate::name;

pub(crate) fn layout(kind: Kind, dir: &Path, reason: impl Into<String>) -> Error {
    // Clips of one's own have a layout without a name.
    let dataset = match kind {
        Kind::Folder => "clip",
        Kind::Rows => "row",
        Kind::Sound => "sound",
        kind => kind.name(),
    };
    Error::Layout { dataset, dir: dir.to_path_buf(), reason: reason.into() }
}

/// `dir` itself, then the folders below it that `names` lists, where they exist.
pub(crate) fn candidates(dir: &Path, names: &[&str]) -> Vec<PathBuf> {
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
pub(crate) fn list_all(dir: &Path) -> Result<Vec<Entry>> {
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

pub(crate) fn entry_kind(kind: fs::FileType) -> EntryKind {
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

/// And a sound without pictures.
const SOUND: [&str; 10] = ["wav", "mp3", "flac", "m4a", "aac", "oga", "opus", "mka", "wma", "mp2"];

/// Whether the name ends like a video file.
pub(crate) fn is_video(name: &OsStr) -> bool {
    ends_like(name, &VIDEO)
}

fn ends_like(name: &OsStr, known: &[&str]) -> bool {
    let extension = Path::new(name).extension().unwrap_or_default().to_ascii_lowercase();
    known.iter().any(|known| extension == *known)
}

/// Whether the name ends like those of a layout's clips.
pub(crate) fn is_clip_name(kind: Kind, name: &OsStr) -> bool {
    match kind {
        Kind::Rows => Path::new(name).extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy")),
        Kind::Sound => is_video(name) || ends_like(name, &SOUND),
        _ => is_video(name),
    }
}

/// Sorts entries that are named like clips into clips and left-outs.
pub(crate) struct Collector<'a> {
    kind: Kind,
    root: &'a Path,
    pub(crate) clips: Vec<ClipRef>,
    pub(crate) left_out: Vec<LeftOut>,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(kind: Kind, root: &'a Path) -> Self {
        Self { kind, root, clips: Vec::new(), left_out: Vec::new() }
    }

    /// Adds `entry` when it is named like a clip, and says whether it became a clip.
    pub(crate) fn add(&mut self, entry: &Entry, labels: &[usize], group: &str, split: Option<Split>) -> bool {
        if !is_clip_name(self.kind, entry.name()) {
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
