//! A dataset as it was found: its clips, and what was not taken.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::kind::{Kind, Metric, Split};
use crate::sample_info::SampleInfo;

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
    /// Files named like clips that are not regular files or lie where the layout has no clips.
    pub left_out: Vec<LeftOut>,
    /// Everything else below the folder.
    pub not_taken: Vec<NotTaken>,
    /// How the folders were interpreted, where that is not obvious.
    pub notes: Vec<String>,
    /// Comparison with the official counts; `None` for `folder` and for rendered samples.
    pub official: Option<Official>,
    /// Set when the clips were rendered by this project.
    pub sample: Option<SampleInfo>,
}

impl Dataset {
    /// Fails with the counts if an official dataset is incomplete.
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

    /// What to report about the scan: how the folders were interpreted, and which files were not taken, by
    /// reason.
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
