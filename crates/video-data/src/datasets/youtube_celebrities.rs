//! YouTube Celebrities: one flat folder of `NNNN_NN_NNN_first_last.avi`.
//!
//! The label is the person, the last two fields. The group is the person with the second field, which numbers
//! the source video: clips of one group are cut from the same upload.
//!
//! # Paper
//! Kim, Kumar, Pavlovic, Rowley (2008), "Face tracking and recognition with visual constraints in real-world
//! videos".

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::entries::{Collector, Entry, candidates, is_video, layout, list};
use crate::dataset::{Dataset, Official};
use crate::error::Result;
use crate::kind::{Kind, Metric};
use crate::name;

/// Persons of the official dataset.
pub const PERSONS: usize = 47;
/// Clips of the official dataset.
pub const CLIPS: usize = 1910;

const FOLDERS: [&str; 6] =
    ["ytcelebrity", "youtube-celebrities", "youtube_celebrities", "YouTubeCelebrities", "ytc", "YTC"];

/// Lists the clips of YouTube Celebrities in or below `dir`.
pub fn scan(dir: &Path) -> Result<Dataset> {
    let mut found: Option<(PathBuf, Vec<(Entry, Fields)>)> = None;
    for root in candidates(dir, &FOLDERS) {
        let entries: Vec<_> =
            list(&root)?.into_iter().filter_map(|e| Fields::of(&e).map(|f| (e, f))).collect();
        if !entries.is_empty() {
            found = Some((root, entries));
            break;
        }
    }
    let (root, entries) = found.ok_or_else(|| {
        layout(
            Kind::YoutubeCelebrities,
            dir,
            "found no clips named like 0188_03_021_al_pacino.avi in or below it",
        )
    })?;
    let persons: BTreeSet<&str> = entries.iter().map(|(_, fields)| fields.person.as_str()).collect();
    let classes: Vec<String> = persons.into_iter().map(String::from).collect();
    let mut collector = Collector::new(Kind::YoutubeCelebrities, &root);
    for (entry, fields) in &entries {
        let label = classes.partition_point(|class| class < &fields.person);
        collector.add(entry, &[label], &format!("{}/{}", fields.person, fields.video), None);
    }
    let mut official = Official { expected: CLIPS, found: collector.clips.len(), differences: Vec::new() };
    if official.found != CLIPS {
        official.differences.push(format!("expected {CLIPS} clips, found {}", official.found));
    }
    if classes.len() != PERSONS {
        official.differences.push(format!("expected {PERSONS} persons, found {}", classes.len()));
    }
    Ok(Dataset {
        kind: Kind::YoutubeCelebrities,
        name: Kind::YoutubeCelebrities.name().into(),
        classes,
        metric: Metric::Accuracy,
        multi_label: false,
        clips: collector.clips,
        left_out: collector.left_out,
        not_taken: Vec::new(),
        notes: Vec::new(),
        official: Some(official),
        sample: None,
        root,
    })
}

/// What a file name says.
#[derive(Debug, PartialEq, Eq)]
struct Fields {
    video: String,
    person: String,
}

impl Fields {
    fn of(entry: &Entry) -> Option<Self> {
        if !is_video(entry.name()) {
            return None;
        }
        Self::parse(&name::show(Path::new(entry.name()).file_stem()?))
    }

    /// Reads `NNNN_NN_NNN_first_last`; a person's name can have one field or more.
    fn parse(stem: &str) -> Option<Self> {
        let mut fields = stem.splitn(4, '_');
        let mut number = || fields.next().filter(|f| !f.is_empty() && f.bytes().all(|b| b.is_ascii_digit()));
        let (_, video, _) = (number()?, number()?, number()?);
        let person = fields.next().filter(|person| !person.is_empty())?;
        Some(Self { video: video.to_owned(), person: person.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let fields = Fields::parse("0188_03_021_al_pacino").unwrap();
        assert_eq!((fields.video.as_str(), fields.person.as_str()), ("03", "al_pacino"));
        assert_eq!(Fields::parse("holiday_03_021_me"), None);
    }
}
