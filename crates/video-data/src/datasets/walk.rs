//! Everything below a dataset's folder, so that what no layout takes can be counted and named.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::entries::{EntryKind, is_clip_name, layout, list_all};
use crate::error::Result;
use crate::kind::Kind;

/// Nested folders that are searched.
const DEPTH: usize = 16;
/// No dataset has more files than this.
const FILES: usize = 2_000_000;

/// A file, or a folder that is not searched.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// Names of the folders above it, below the folder that was walked, and its own.
    pub(crate) parts: Vec<OsString>,
    pub(crate) kind: EntryKind,
    /// Whether it is named like a clip of the layout.
    pub(crate) is_named: bool,
    /// Why it cannot be a clip in any layout.
    pub(crate) unfit: Option<&'static str>,
}

impl Found {
    pub(crate) fn name(&self) -> &OsString {
        &self.parts[self.parts.len() - 1]
    }

    /// Whether it is a regular file that is named like a clip.
    pub(crate) fn is_clip(&self) -> bool {
        self.unfit.is_none() && self.kind == EntryKind::File && self.is_named
    }
}

/// Everything below `dir`, links followed, in byte order of the names folder by folder.
pub(crate) fn walk(kind: Kind, dir: &Path) -> Result<Vec<Found>> {
    let mut walk = Walk { kind, root: dir, parts: Vec::new(), above: Vec::new(), found: Vec::new() };
    walk.folder(dir)?;
    Ok(walk.found)
}

struct Walk<'a> {
    kind: Kind,
    root: &'a Path,
    parts: Vec<OsString>,
    /// Device and inode of the folders above.
    above: Vec<(u64, u64)>,
    found: Vec<Found>,
}

impl Walk<'_> {
    fn folder(&mut self, dir: &Path) -> Result<()> {
        if let Ok(meta) = fs::metadata(dir) {
            self.above.push((meta.dev(), meta.ino()));
        }
        for entry in list_all(dir)? {
            self.parts.push(entry.name().to_owned());
            match self.unfit(&entry.path, entry.kind) {
                None if entry.kind == EntryKind::Folder && !self.is_named_like_a_clip() => {
                    self.folder(&entry.path)?;
                }
                unfit => {
                    if self.found.len() == FILES {
                        let reason = format!("it holds more than {FILES} files");
                        return Err(layout(self.kind, self.root, reason));
                    }
                    let (path, parts, kind) = (entry.path, self.parts.clone(), entry.kind);
                    let is_named = is_clip_name(self.kind, &self.parts[self.parts.len() - 1]);
                    self.found.push(Found { path, parts, kind, is_named, unfit });
                }
            }
            self.parts.pop();
        }
        self.above.pop();
        Ok(())
    }

    /// A class may have any name; below it, a folder named like a clip is not a group.
    fn is_named_like_a_clip(&self) -> bool {
        self.parts.len() > 1 && self.parts.last().is_some_and(|name| is_clip_name(self.kind, name))
    }

    fn unfit(&self, path: &Path, kind: EntryKind) -> Option<&'static str> {
        let name = self.parts.last()?;
        let loops = || {
            let meta = fs::metadata(path).ok()?;
            self.above.contains(&(meta.dev(), meta.ino())).then_some(())
        };
        match kind {
            _ if name.as_bytes().starts_with(b".") => Some("hidden: its name begins with a dot"),
            EntryKind::Folder if loops().is_some() => Some("a link back to a folder above it"),
            EntryKind::Folder if self.parts.len() > DEPTH => Some("too many folders below one another"),
            _ => None,
        }
    }
}
