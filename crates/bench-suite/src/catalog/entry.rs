//! A dataset as an experiment reads it, and what of it is on this machine.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use video_data::datasets::{self, Dataset, FrameSpec, Kind};
use video_data::import::built_store;
use video_data::store::{Store, find_store};

use crate::paper;
use crate::places::{self, Places, frame_spec};
use crate::spec::{Overrides, Spec, stems};

/// A dataset as an experiment reads it.
#[derive(Debug)]
pub struct Entry {
    /// The experiment that names it.
    pub name: String,
    /// Its title.
    pub title: String,
    /// The layout.
    pub kind: Kind,
    /// Size and rate of the stored frames.
    pub frames: FrameSpec,
    /// Where its clips lie.
    pub folder: PathBuf,
    pub(super) places: Places,
}

impl Entry {
    /// The dataset that experiment `name` reads.
    ///
    /// # Errors
    /// An experiment that does not exist, or that renders its own clips.
    pub fn load(root: &Path, name: &str) -> Result<Self> {
        let spec = Spec::load(root, name, &Overrides::default())?;
        if !spec.data.render.is_empty() {
            bail!("experiment {name:?} renders its own clips: there is nothing to prepare");
        }
        if spec.has_rows() {
            bail!(
                "experiment {name:?} reads rows, which cargo xtask reproduce stores itself: these verbs are of clips"
            );
        }
        Self::of(root, name, spec)
    }

    fn of(root: &Path, name: &str, spec: Spec) -> Result<Self> {
        let kind = places::kind(&spec)?;
        let (places, frames) = (Places::of_root(root), frame_spec(&spec)?);
        let folder = places.data.join(&spec.data.folder);
        Ok(Self { name: name.to_owned(), title: spec.title, kind, frames, folder, places })
    }

    /// The datasets of all experiments, in order of their names.
    pub fn all(root: &Path) -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for name in stems(&root.join("experiments"))? {
            let spec = Spec::load(root, &name, &Overrides::default())?;
            if spec.data.render.is_empty() && !spec.has_rows() {
                all.push(Self::of(root, &name, spec)?);
            }
        }
        Ok(all)
    }

    pub(super) fn scan(&self) -> Result<Dataset> {
        if !self.folder.is_dir() {
            bail!(
                "{} is not there: `cargo xtask data import {} PATH` puts a folder or an archive in its place{}",
                self.folder.display(),
                self.name,
                if self.kind == Kind::Folder { "" } else { ", `cargo xtask data fetch` downloads it" }
            );
        }
        Ok(datasets::scan(self.kind, &self.folder)?)
    }

    /// Frames that the official dataset has in all, at the mean length that the paper gives.
    fn official_frames(&self) -> Option<u64> {
        let dataset = paper::dataset(self.kind.name())?;
        Some((dataset.clips as f64 * dataset.mean_frames) as u64)
    }

    pub(super) fn store(&self, dataset: &Dataset) -> Result<Store> {
        let store = find_store(dataset, &self.frames, &self.places.data)?;
        store.with_context(|| {
            format!("{} is not imported: run `cargo xtask data import {}`", self.name, self.name)
        })
    }
}

/// One row of `list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The experiment.
    pub name: String,
    /// What is there, in words.
    pub clips: String,
    /// The store, in words.
    pub store: String,
    /// Where the clips lie, or are looked for.
    pub folder: String,
}

/// What is on disk, what is missing, and sizes now and after the import.
pub fn list(root: &Path) -> Result<Vec<Listed>> {
    Entry::all(root)?.iter().map(listed).collect()
}

fn listed(entry: &Entry) -> Result<Listed> {
    let frame_bytes = entry.frames.frame_bytes() as u64;
    let after = |frames: Option<u64>| match frames {
        Some(frames) => format!("about {} after import", size(frames * frame_bytes)),
        None => "not imported".to_owned(),
    };
    let folder = entry.folder.strip_prefix(&entry.places.data).unwrap_or(&entry.folder);
    let mut row = Listed {
        name: entry.name.clone(),
        clips: "missing".into(),
        store: after(entry.official_frames()),
        folder: format!("data/{}", folder.display()),
    };
    if !entry.folder.is_dir() {
        return Ok(row);
    }
    if let Ok(target) = fs::read_link(&entry.folder) {
        row.folder = format!("{} -> {}", row.folder, target.display());
    }
    match datasets::scan(entry.kind, &entry.folder) {
        Err(error) => row.clips = error.to_string(),
        Ok(dataset) => {
            let bytes: u64 = dataset.clips.iter().map(|clip| file_bytes(&clip.path)).sum();
            let not_taken = match dataset.not_taken.len() {
                0 => String::new(),
                files => format!(", {files} files not taken"),
            };
            row.clips = format!("{} clips, {}{not_taken}", dataset.clips.len(), size(bytes));
            if let Some(official) = dataset.official.as_ref().filter(|official| !official.is_complete()) {
                row.clips = format!("INCOMPLETE, {} of {} clips", official.found, official.expected);
            }
            if let Some(store) = built_store(&dataset, &entry.frames, &entry.places.data)? {
                row.store = size(store.info().frames * frame_bytes);
            } else if let Some(store) = find_store(&dataset, &entry.frames, &entry.places.data)? {
                row.store = format!("{}, of other clips", size(store.info().frames * frame_bytes));
            }
        }
    }
    Ok(row)
}

pub(super) fn file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
