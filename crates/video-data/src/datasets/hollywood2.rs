//! Hollywood2 actions: `AVIClips/*.avi` and `ClipSets/<Class>_{train,test}.txt`, several labels a clip.
//!
//! # Paper
//! Marszałek, Laptev, Schmid (2009), "Actions in context". Scored by mean average precision on the official
//! split (823 clean training clips, 884 test clips). The automatically labelled set (`_autotrain`) is not used.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::entries::{Collector, Entry, candidates, entry_kind, layout};
use crate::dataset::{Dataset, Official};
use crate::error::{Error, Result};
use crate::kind::{Kind, Metric, Split};

/// The classes, in alphabetical order.
pub const CLASSES: [&str; 12] = [
    "AnswerPhone",
    "DriveCar",
    "Eat",
    "FightPerson",
    "GetOutCar",
    "HandShake",
    "HugPerson",
    "Kiss",
    "Run",
    "SitDown",
    "SitUp",
    "StandUp",
];
/// Clips of the official training and test sets.
pub const COUNTS: [(Split, &str, usize); 2] = [(Split::Train, "train", 823), (Split::Test, "test", 884)];

const FOLDERS: [&str; 4] = ["Hollywood2", "hollywood2", "hollywood2/Hollywood2", "Hollywood2-actions"];

/// Lists the clips of Hollywood2 in or below `dir`.
pub fn scan(dir: &Path) -> Result<Dataset> {
    let root = candidates(dir, &FOLDERS)
        .into_iter()
        .find(|root| root.join("AVIClips").is_dir() && root.join("ClipSets").is_dir())
        .ok_or_else(|| {
            layout(Kind::Hollywood2, dir, "found no AVIClips and ClipSets folders in or below it")
        })?;
    let mut collector = Collector::new(Kind::Hollywood2, &root);
    let mut official = Official { expected: 823 + 884, ..Official::default() };
    for (split, word, expected) in COUNTS {
        let named = read_split(&root, word, &mut official)?;
        let before = collector.clips.len();
        for (clip, labels) in &named {
            add_clip(&root, clip, labels, split, &mut collector);
        }
        let found = collector.clips.len() - before;
        if found != expected {
            official.differences.push(format!("{word}: expected {expected} clips, found {found}"));
        }
    }
    official.found = collector.clips.len();
    if collector.clips.is_empty() {
        return Err(layout(Kind::Hollywood2, &root, "AVIClips holds none of the clips that ClipSets names"));
    }
    Ok(Dataset {
        kind: Kind::Hollywood2,
        name: Kind::Hollywood2.name().into(),
        classes: CLASSES.map(String::from).to_vec(),
        metric: Metric::Map,
        multi_label: true,
        clips: collector.clips,
        left_out: collector.left_out,
        not_taken: Vec::new(),
        notes: Vec::new(),
        official: Some(official),
        sample: None,
        root,
    })
}

/// Clip name to labels for one part of the split.
fn read_split(root: &Path, word: &str, official: &mut Official) -> Result<BTreeMap<String, Vec<usize>>> {
    let mut named: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (label, class) in CLASSES.into_iter().enumerate() {
        let path = root.join("ClipSets").join(format!("{class}_{word}.txt"));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                official.differences.push(format!("ClipSets/{class}_{word}.txt is missing"));
                continue;
            }
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        for (clip, positive) in parse_clip_set(&bytes).map_err(|reason| Error::corrupt(&path, reason))? {
            let labels = named.entry(clip).or_default();
            if positive && labels.last() != Some(&label) {
                labels.push(label);
            }
        }
    }
    Ok(named)
}

fn add_clip(root: &Path, clip: &str, labels: &[usize], split: Split, collector: &mut Collector) {
    let path: PathBuf = root.join("AVIClips").join(format!("{clip}.avi"));
    if let Ok(meta) = fs::metadata(&path) {
        let entry = Entry { path, kind: entry_kind(meta.file_type()) };
        collector.add(&entry, labels, "", Some(split));
    }
}

/// Parses one file of `ClipSets`: lines `<clip name> <1|-1>`, blanks may repeat.
///
/// # Errors
/// The number and the content of the first line of another form; a clip name must stay inside the folder.
pub fn parse_clip_set(bytes: &[u8]) -> std::result::Result<Vec<(String, bool)>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "not UTF-8 text".to_owned())?;
    let mut rows = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let row = match words.as_slice() {
            [] => continue,
            [clip, "1"] => (*clip, true),
            [clip, "-1"] => (*clip, false),
            _ => {
                return Err(format!(
                    "line {}: expected \"<clip> 1\" or \"<clip> -1\", found {line:?}",
                    number + 1
                ));
            }
        };
        if row.0.contains(['/', '\0']) {
            return Err(format!("line {}: a clip name cannot hold {:?}", number + 1, row.0));
        }
        rows.push((row.0.to_owned(), row.1));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn clip_sets_are_parsed_with_repeated_blanks() {
        let rows = parse_clip_set(b"actioncliptest00001  -1\nactioncliptest00002   1 \r\n\n").unwrap();
        assert_eq!(rows, [("actioncliptest00001".into(), false), ("actioncliptest00002".into(), true)]);
    }

    #[test]
    fn a_bad_line_is_named() {
        let error = parse_clip_set(b"a 1\nb 2\n").unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
        assert!(parse_clip_set(b"../../etc/passwd 1").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(rows) = parse_clip_set(&bytes) {
                prop_assert!(rows.iter().all(|(clip, _)| !clip.contains('/')));
            }
        }
    }
}
