//! What lies on disk: clips with their labels, groups and official split.
//!
//! One file per layout, one row in [`Kind::ALL`]. Scanning opens no video; it lists folders, in an order that
//! depends on the bytes of the names alone.

use std::collections::HashSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub use crate::dataset::{ClipRef, Dataset, LeftOut, NotTaken, Official};
use crate::error::{Error, Result};
pub use crate::kind::{FrameSpec, Kind, Metric, Split};
use crate::name;
use crate::sample_info::SampleInfo;
use entries::{EntryKind, layout};

mod entries;
pub mod folder;
pub mod hollywood2;
mod lists;
mod parts;
pub mod ucf11;
mod walk;
pub mod youtube_celebrities;

pub(crate) use entries::is_video;

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
        Kind::Folder | Kind::Rows | Kind::Sound => folder::scan(kind, dir),
    }?;
    sort(&mut dataset.clips);
    dataset.sample = SampleInfo::find(&dataset.root)?;
    if dataset.sample.is_some() {
        dataset.name = format!("{}-sample", kind.name());
        dataset.official = None;
    } else {
        dataset.not_taken = not_taken(&dataset, dir, "not where this layout has clips")?;
    }
    Ok(dataset)
}

/// Lists the clips below `dir` that a list names, with the labels, groups and split it gives them. The list
/// is a CSV with columns `clip,label` and optionally `group` and `split`, or any file of an official split of
/// UCF101 or HMDB51.
///
/// # Errors
/// [`Error::Io`], [`Error::Layout`]; [`Error::Corrupt`] for what is no such list.
pub fn scan_listed(dir: &Path, list: &Path) -> Result<Dataset> {
    check_folder(Kind::Folder, dir)?;
    let mut dataset = lists::scan(dir, list)?;
    sort(&mut dataset.clips);
    dataset.sample = SampleInfo::find(&dataset.root)?;
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

/// Files below the folder that are neither clips nor left out. For an official dataset, which comes with
/// other files, only those named like clips.
fn not_taken(dataset: &Dataset, dir: &Path, elsewhere: &str) -> Result<Vec<NotTaken>> {
    let taken: HashSet<&Path> = dataset.clips.iter().map(|clip| clip.path.as_path()).collect();
    let left_out: HashSet<&str> = dataset.left_out.iter().map(|out| out.name.as_str()).collect();
    let below = if dataset.kind.is_own() { dir } else { dataset.root.as_path() };
    let mut all = Vec::new();
    for file in walk::walk(dataset.kind, below)? {
        let in_root = name::escape(file.path.strip_prefix(&dataset.root).unwrap_or(&file.path));
        if taken.contains(file.path.as_path()) || left_out.contains(in_root.as_str()) {
            continue;
        }
        let looks_like_one = file.is_named && file.unfit.is_none();
        if !(dataset.kind.is_own() || looks_like_one) {
            continue;
        }
        let reason = match (file.unfit, file.kind) {
            (Some(unfit), _) => unfit.to_owned(),
            (None, EntryKind::Other(what)) => what.to_owned(),
            _ if file.is_named => elsewhere.to_owned(),
            _ => match Path::new(file.name()).extension() {
                Some(ending) => format!("not a clip by its extension .{}", name::show(ending)),
                None => "not a clip, without an extension".to_owned(),
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
