//! `manifest.csv`: one row per clip.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::format::StoredClip;
use crate::digest;
use crate::kind::{Content, FrameSpec, Split};

/// Columns of `manifest.csv`. Labels are indices separated by spaces, `classes` their names for human
/// readers; `offset` and `frames` count frames; `verdict` is `ok` or `left-out`.
pub const COLUMNS: [&str; 13] = [
    "clip",
    "labels",
    "classes",
    "group",
    "split",
    "sha256",
    "fps",
    "frames",
    "offset",
    "frame_digest",
    "flags",
    "verdict",
    "reason",
];

/// Flags that say that frames are missing or wrong.
const ERROR_FLAGS: [&str; 5] =
    ["decode-errors", "corrupt-frames", "corrupt-packets", "read-errors", "beyond-end"];

/// A row of the manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Row {
    /// Path below the dataset's folder, escaped.
    pub clip: String,
    /// Indices into the classes.
    pub labels: Vec<usize>,
    /// Names of these classes, for human readers.
    pub classes: String,
    /// The group, empty where nothing is known.
    pub group: String,
    /// The official split.
    pub split: Option<Split>,
    /// SHA-256 of the file; empty when it could not be read.
    pub sha256: String,
    /// Frames per second of the stored frames.
    #[serde(with = "exact")]
    pub fps: f64,
    /// Stored frames.
    pub frames: u64,
    /// Frames before this clip in `frames.bin`.
    pub offset: u64,
    /// SHA-256 of the stored frames; empty for a clip left out.
    pub frame_digest: String,
    /// What was noticed while decoding, as space-separated `name=value`.
    pub flags: String,
    /// Why the clip was left out; empty for a good one.
    pub reason: String,
}

impl Row {
    /// Whether the clip is in the store.
    pub fn is_ok(&self) -> bool {
        self.reason.is_empty()
    }

    /// Whether the decoder reported errors.
    pub fn has_errors(&self) -> bool {
        let is_error = |flag: &str| flag.split('=').next().is_some_and(|name| ERROR_FLAGS.contains(&name));
        self.flags.split_whitespace().any(is_error)
    }

    pub(super) fn to_clip(&self) -> StoredClip {
        StoredClip {
            name: self.clip.clone(),
            labels: self.labels.clone(),
            group: self.group.clone(),
            split: self.split,
            frames: self.frames as usize,
            offset: self.offset as usize,
            fps: self.fps,
        }
    }

    fn verdict(&self) -> &'static str {
        if self.is_ok() { "ok" } else { "left-out" }
    }

    /// The row from the fields of its line; none if they contradict each other.
    fn of(fields: Fields) -> Option<Self> {
        let (
            clip,
            labels,
            classes,
            group,
            split,
            sha256,
            fps,
            frames,
            offset,
            frame_digest,
            flags,
            verdict,
            reason,
        ) = fields;
        let labels = labels.split_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let row = Self {
            clip,
            labels,
            classes,
            group,
            split,
            sha256,
            fps,
            frames,
            offset,
            frame_digest,
            flags,
            reason,
        };
        (verdict == row.verdict()).then_some(row)
    }
}

/// The fields of a line, in the order of [`COLUMNS`].
type Fields =
    (String, String, String, String, Option<Split>, String, f64, u64, u64, String, String, String, String);

/// Numbers as text: serde_json's float parser may be off by one bit, Rust's is exact.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(value: &f64, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(value)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(input: D) -> Result<f64, D::Error> {
        String::deserialize(input)?.parse().map_err(D::Error::custom)
    }
}

/// The names of some labels as a row has them; none where a label has no class.
pub(crate) fn class_names(labels: &[usize], classes: &[String]) -> Option<String> {
    let names: Option<Vec<&str>> =
        labels.iter().map(|label| classes.get(*label).map(String::as_str)).collect();
    Some(names?.join(" + "))
}

fn join(labels: &[usize]) -> String {
    labels.iter().map(usize::to_string).collect::<Vec<_>>().join(" ")
}

/// The text of `manifest.csv`.
pub(super) fn write(rows: &[Row]) -> Vec<u8> {
    let mut out = csv::Writer::from_writer(Vec::new());
    // Writing to memory cannot fail, and every line has as many fields as the header.
    let _ = out.write_record(COLUMNS);
    for row in rows {
        let Row {
            clip,
            labels,
            classes,
            group,
            split,
            sha256,
            fps,
            frames,
            offset,
            frame_digest,
            flags,
            reason,
        } = row;
        let (labels, fps, verdict) = (join(labels), fps.to_string(), row.verdict());
        let _ = out.serialize((
            clip,
            labels,
            classes,
            group,
            split,
            sha256,
            fps,
            frames,
            offset,
            frame_digest,
            flags,
            verdict,
            reason,
        ));
    }
    out.into_inner().unwrap_or_default()
}

/// Reads `manifest.csv`, or says which line is wrong.
pub fn read(text: &[u8]) -> Result<Vec<Row>, String> {
    let mut reader = csv::Reader::from_reader(text);
    let header = reader.headers().map_err(|error| error.to_string())?;
    if *header != COLUMNS[..] {
        return Err(format!("expected the columns {}", COLUMNS.join(",")));
    }
    let parse = |record: Result<csv::StringRecord, csv::Error>| {
        let record = record.map_err(|error| error.to_string())?;
        let line = record.position().map_or(0, csv::Position::line);
        let row = record.deserialize(None).ok().and_then(Row::of);
        row.ok_or_else(|| format!("line {line} is not a row of a manifest"))
    };
    reader.records().map(parse).collect()
}

/// Digest of everything that a model can see.
pub(super) fn data_digest(rows: &[Row], spec: &FrameSpec) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{}x{}\n", spec.width, spec.height));
    if spec.content != Content::Rgb {
        hash.update(format!("{:?}\n", spec.content));
    }
    for row in rows.iter().filter(|row| row.is_ok()) {
        let line = format!(
            "{:?} {} {:?} {:?} {} {}\n",
            row.clip,
            join(&row.labels),
            row.group,
            row.split,
            row.frames,
            row.frame_digest
        );
        hash.update(line);
    }
    digest::hex(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn errors_are_told_from_oddities() {
        let row = |flags: &str| Row { flags: flags.into(), ..Row::default() };
        assert!(row("interlaced=9 corrupt-frames=1").has_errors());
        assert!(!row("interlaced=9 frames=24-of-49 time-jumps=1").has_errors());
    }

    proptest! {
        #[test]
        fn any_text_survives(clip in ".*", group in ".*", reason in ".*", labels in proptest::collection::vec(0usize..99, 0..4)) {
            let row = Row { clip, group, reason, labels, fps: 30_000.0 / 1001.0, ..Row::default() };
            prop_assert_eq!(read(&write(std::slice::from_ref(&row))), Ok(vec![row]));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut text = write(&[]);
            text.extend_from_slice(&bytes);
            let _ = read(&text);
            prop_assert!(read(&bytes).is_err() || bytes.starts_with(b"clip"));
        }
    }
}
