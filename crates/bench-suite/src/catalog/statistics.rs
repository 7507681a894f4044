//! `stats`: lengths, rates and sizes of an imported dataset, with a sheet of pictures per class.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use video_data::store::Store;

use super::entry::{Entry, file_bytes};
use super::sheet;
use crate::paper;
use crate::places::write;
use crate::record_files::csv_of;

/// A clip of `clips.csv`.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct ClipRow {
    clip: String,
    classes: String,
    group: String,
    split: &'static str,
    frames: usize,
    fps: f64,
    seconds: f64,
    file_bytes: u64,
}

/// A class of `classes.csv`; a row `all` follows, and one of the paper's numbers where it has any.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct ClassRow {
    class: String,
    clips: usize,
    groups: Option<usize>,
    min_frames: usize,
    mean_frames: f64,
    max_frames: usize,
    mean_fps: Option<f64>,
    file_bytes: Option<u64>,
    frame_bytes: Option<u64>,
}

/// The folder of a dataset's statistics, outside git: pictures of clips must not be committed.
pub(super) fn folder(entry: &Entry) -> PathBuf {
    entry.places.data.join("stats").join(&entry.name)
}

/// Writes `clips.csv`, `classes.csv` and `classes/*.png`, and says where.
///
/// # Errors
/// The dataset is not imported.
pub fn statistics(entry: &Entry) -> Result<PathBuf> {
    let dataset = entry.scan()?;
    let store = entry.store(&dataset)?;
    let out = folder(entry);
    let sheets = out.join("classes");
    std::fs::create_dir_all(&sheets).with_context(|| format!("cannot create {}", sheets.display()))?;
    let bytes_of = |name: &str| {
        let clip = dataset.clips.iter().find(|clip| clip.name == name);
        clip.map_or(0, |clip| file_bytes(&clip.path))
    };
    let classes = &store.info().classes;
    let rows = store.clips().iter().map(|clip| ClipRow {
        clip: clip.name.clone(),
        classes: clip.labels.iter().map(|label| classes[*label].as_str()).collect::<Vec<_>>().join(" + "),
        group: clip.group.clone(),
        split: match clip.split {
            None => "",
            Some(video_data::datasets::Split::Train) => "train",
            Some(video_data::datasets::Split::Test) => "test",
        },
        frames: clip.frames,
        fps: clip.fps,
        seconds: if clip.fps > 0.0 { clip.frames as f64 / clip.fps } else { 0.0 },
        file_bytes: bytes_of(&clip.name),
    });
    let rows: Vec<ClipRow> = rows.collect();
    let mut table = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let members: Vec<usize> =
            (0..rows.len()).filter(|clip| store.clips()[*clip].labels.contains(&label)).collect();
        table.extend(class_row(class, &members, &rows, &store));
        let file = sheets.join(format!("{label:02}-{}.png", plain(class)));
        write(&file, &sheet::png(&store, &members)?)?;
    }
    let everything: Vec<usize> = (0..rows.len()).collect();
    table.extend(class_row("all", &everything, &rows, &store));
    if let Some(paper) = paper::dataset(entry.kind.name()) {
        table.push(ClassRow {
            class: "paper".into(),
            clips: paper.clips,
            groups: None,
            min_frames: paper.min_frames,
            mean_frames: paper.mean_frames,
            max_frames: paper.max_frames,
            mean_fps: Some(paper.fps as f64),
            file_bytes: None,
            frame_bytes: None,
        });
    }
    write(&out.join("clips.csv"), &csv_of(&rows)?)?;
    write(&out.join("classes.csv"), &csv_of(&table)?)?;
    Ok(out)
}

fn class_row(class: &str, members: &[usize], rows: &[ClipRow], store: &Store) -> Option<ClassRow> {
    let lengths = || members.iter().map(|clip| rows[*clip].frames);
    let (min_frames, max_frames) = (lengths().min()?, lengths().max()?);
    let frames: usize = lengths().sum();
    let groups: BTreeSet<&str> =
        members.iter().map(|clip| rows[*clip].group.as_str()).filter(|group| !group.is_empty()).collect();
    Some(ClassRow {
        class: class.to_owned(),
        clips: members.len(),
        groups: Some(groups.len()),
        min_frames,
        mean_frames: frames as f64 / members.len() as f64,
        max_frames,
        mean_fps: Some(members.iter().map(|clip| rows[*clip].fps).sum::<f64>() / members.len() as f64),
        file_bytes: Some(members.iter().map(|clip| rows[*clip].file_bytes).sum()),
        frame_bytes: Some((frames * store.frame_bytes()) as u64),
    })
}

/// A class name as a part of a file name.
fn plain(class: &str) -> String {
    let letter = |letter: char| if letter.is_alphanumeric() || "-_".contains(letter) { letter } else { '_' };
    class.chars().take(60).map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_name_cannot_leave_the_folder() {
        assert_eq!(plain("../etc/x\n"), "___etc_x_");
        assert_eq!(plain("horse_riding"), "horse_riding");
    }
}
