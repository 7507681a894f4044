//! Folders and files of a repository, and the frames of an experiment.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use video_data::Content;
use video_data::datasets::{FrameSpec, Kind};
use video_data::rate::Rate;

use crate::spec::Spec;

/// The folders of a repository.
#[derive(Debug, Clone)]
pub struct Places {
    /// `data/`.
    pub data: PathBuf,
}

impl Places {
    /// The data folder of the repository at `root`.
    pub fn of_root(root: &Path) -> Self {
        Self { data: root.join("data") }
    }

    /// The data folder that a run's folder lies in.
    pub fn of_run(run_dir: &Path) -> Result<Self> {
        let data = run_dir.ancestors().nth(2).context("a run's folder is data/runs/<digest>")?;
        Ok(Self { data: data.to_owned() })
    }

    /// Frame stores.
    pub fn stores(&self) -> PathBuf {
        self.data.join("stores")
    }
}

/// The layout called `name`.
fn kind_of(name: &str) -> Result<Kind> {
    Kind::from_name(name).with_context(|| format!("no loader is called {name:?}"))
}

/// The layout that an experiment's clips have.
pub(crate) fn kind(spec: &Spec) -> Result<Kind> {
    if spec.has_sound() { Ok(Kind::Sound) } else { kind_of(&spec.data.dataset) }
}

/// Size and rate of an experiment's frames.
pub(crate) fn frame_spec(spec: &Spec) -> Result<FrameSpec> {
    let strict = spec.decode.strict;
    if spec.has_sound() {
        return Ok(FrameSpec { strict, ..FrameSpec::sound(spec.data.width as u32, spec.data.fps) });
    }
    let rate = match kind_of(&spec.data.dataset)? {
        Kind::Folder => Rate::AtMost(spec.data.fps),
        Kind::Rows => {
            let content = match spec.data.element.as_str() {
                "u8" => Content::Bytes,
                "f32" => Content::Floats,
                _ => bail!("what the files of {} hold is known once they are read", spec.name),
            };
            return Ok(FrameSpec::rows(content, spec.data.width as u32));
        }
        _ => Rate::Exactly(spec.data.fps),
    };
    Ok(FrameSpec { strict, ..FrameSpec::rgb(spec.data.width as u32, spec.data.height as u32, rate) })
}

/// Writes a file atomically.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    crate::files::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// Removes the temporary files of a killed run: ours (`*.tmp`) and safetensors' (`.tmp*`).
pub fn sweep(folder: &Path) -> Result<()> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    for entry in entries.with_context(|| format!("cannot list {}", folder.display()))? {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.ends_with(".tmp") || name.starts_with(".tmp") {
            std::fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}
