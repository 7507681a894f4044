//! Lists of clips with class, group and part of the split: a CSV, or the official lists of UCF101 and HMDB51
//! as published.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Component, Path};

use super::entries::{EntryKind, layout};
use super::folder::folder_name;
use super::parts::{Part, Parts};
use super::walk::{Found, walk};
use crate::dataset::{ClipRef, Dataset, Official};
use crate::error::{Error, Result};
use crate::kind::{Kind, Metric};
use crate::name;
use line::Listed;

mod line;
mod official;

/// Columns of a CSV; the first two are required.
const COLUMNS: [&str; 4] = ["clip", "label", "group", "split"];
/// Of many missing clips, this many are named.
const NAMED: usize = 10;

/// Lists the clips below `dir` that `list` names.
pub(super) fn scan(dir: &Path, list: &Path) -> Result<Dataset> {
    let lines = read(list)?;
    let mut parts = Parts::default();
    lines.iter().filter_map(|line| line.part).for_each(|part| parts.add(part));
    let classes: BTreeSet<&str> = lines.iter().flat_map(|line| &line.labels).map(String::as_str).collect();
    let classes: Vec<&str> = classes.into_iter().collect();
    let files = Files::below(dir)?;
    let (mut clips, mut taken, mut missing) = (Vec::new(), HashSet::new(), Vec::new());
    for line in &lines {
        let Some(path) = files.find(&line.clip).map_err(|reason| Error::corrupt(list, reason))? else {
            missing.push(name::escape(&line.clip));
            continue;
        };
        if !taken.insert(path) {
            let reason = format!("{} is listed twice", name::escape(&line.clip));
            return Err(Error::corrupt(list, reason));
        }
        let mut labels: Vec<usize> = line
            .labels
            .iter()
            .map(|label| classes.partition_point(|class| *class < label.as_str()))
            .collect();
        labels.sort_unstable();
        labels.dedup();
        clips.push(ClipRef {
            path: path.to_path_buf(),
            name: name::escape(path.strip_prefix(dir).unwrap_or(path)),
            labels,
            group: line.group.clone(),
            split: line.part.map(|part| parts.side(part)),
        });
    }
    if clips.is_empty() {
        let first = missing.first().map(String::as_str).unwrap_or_default();
        let reason =
            format!("it has none of the {} clips that {} names ({first}, …)", lines.len(), list.display());
        return Err(layout(Kind::Folder, dir, reason));
    }
    let multi_label = clips.iter().any(|clip| clip.labels.len() != 1);
    let split = parts.is_split().then(|| format!("{} has a split: {parts}", list.display()));
    Ok(Dataset {
        kind: Kind::Folder,
        name: folder_name(dir),
        root: dir.to_path_buf(),
        classes: classes.into_iter().map(str::to_owned).collect(),
        metric: if multi_label { Metric::Map } else { Metric::Accuracy },
        multi_label,
        official: Some(Official {
            expected: lines.len(),
            found: clips.len(),
            differences: differences(list, &missing),
        }),
        clips,
        left_out: Vec::new(),
        not_taken: Vec::new(),
        notes: split.into_iter().collect(),
        sample: None,
    })
}

fn differences(list: &Path, missing: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = missing
        .iter()
        .take(NAMED)
        .map(|clip| format!("{clip}: listed in {}, but missing", list.display()))
        .collect();
    if missing.len() > NAMED {
        lines.push(format!("and {} more", missing.len() - NAMED));
    }
    lines
}

/// The files that a list can refer to.
struct Files {
    all: Vec<Found>,
    by_name: HashMap<OsString, Vec<usize>>,
}

impl Files {
    fn below(dir: &Path) -> Result<Self> {
        let mut all = walk(Kind::Folder, dir)?;
        // A listed file may have any extension.
        all.retain(|file| file.unfit.is_none() && file.kind == EntryKind::File);
        let mut by_name: HashMap<OsString, Vec<usize>> = HashMap::new();
        for (at, file) in all.iter().enumerate() {
            by_name.entry(file.name().clone()).or_default().push(at);
        }
        Ok(Self { all, by_name })
    }

    /// The file with that path relative to the folder or, if unique, to a folder below it.
    fn find(&self, clip: &Path) -> std::result::Result<Option<&Path>, String> {
        // Lists that `find .` wrote begin with a dot.
        let named = clip.components().filter(|part| *part != Component::CurDir);
        let parts: Vec<&OsStr> = named.map(Component::as_os_str).collect();
        let of_name = clip.file_name().and_then(|name| self.by_name.get(name)).map_or(&[][..], Vec::as_slice);
        let ends = |at: &&usize| {
            let of_file = self.all[**at].parts.iter().rev().map(OsString::as_os_str);
            self.all[**at].parts.len() >= parts.len()
                && parts.iter().rev().copied().eq(of_file.take(parts.len()))
        };
        let found: Vec<&Found> = of_name.iter().filter(ends).map(|at| &self.all[*at]).collect();
        match found[..] {
            [] => Ok(None),
            [one] => Ok(Some(&one.path)),
            _ => match found.iter().find(|file| file.parts.len() == parts.len()) {
                Some(exact) => Ok(Some(&exact.path)),
                None => Err(format!(
                    "{} may be {} or {}: give the folders too",
                    name::escape(clip),
                    found[0].path.display(),
                    found[1].path.display()
                )),
            },
        }
    }
}

/// Reads a list of any of the known forms.
fn read(list: &Path) -> Result<Vec<Listed>> {
    if list.is_dir() {
        let reason = "it is a folder: give one of the files in it, such as testlist01.txt";
        return Err(Error::corrupt(list, reason));
    }
    let file = list.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if let Some(number) = official::ucf101(&file) {
        return official::read_ucf101(list, number);
    }
    if let Some(number) = official::hmdb51(&file) {
        return official::read_hmdb51(list, number);
    }
    let bytes = fs::read(list).map_err(Error::io("read", list))?;
    let lines = parse_csv(&bytes).map_err(|reason| Error::corrupt(list, reason))?;
    if lines.is_empty() {
        return Err(Error::corrupt(list, "it names no clip"));
    }
    // Beside clips of one label each, one of none is rather a cell that was forgotten.
    let unlabelled = lines.iter().find(|line| line.labels.is_empty());
    match unlabelled {
        Some(line) if lines.iter().all(|line| line.labels.len() < 2) => {
            let clip = name::escape(&line.clip);
            Err(Error::corrupt(list, format!("{clip} has no label, and no other clip has several")))
        }
        _ => Ok(lines),
    }
}

/// Parses `clip,label[,group][,split]`.
fn parse_csv(bytes: &[u8]) -> std::result::Result<Vec<Listed>, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::Reader::from_reader(bytes);
    let head = reader.headers().map_err(|error| error.to_string())?.clone();
    let unknown = head.iter().find(|column| !COLUMNS.contains(column));
    let column = |name: &str| head.iter().position(|column| column == name);
    let (Some(clip), Some(label), None) = (column("clip"), column("label"), unknown) else {
        return Err(format!(
            "expected the columns clip,label and, if known, group and split; found {:?}. UCF101's lists are called \
             trainlist01.txt and testlist01.txt, HMDB51's <class>_test_split1.txt",
            head.iter().collect::<Vec<_>>().join(",")
        ));
    };
    let (group, split) = (column("group"), column("split"));
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| error.to_string())?;
        let number = record.position().map_or(0, csv::Position::line);
        let field = |column: Option<usize>| column.and_then(|column| record.get(column)).unwrap_or_default();
        let clip = name::unescape(field(Some(clip))).filter(|clip| !clip.is_empty()).ok_or_else(|| {
            format!("line {number}: {:?} is not a path: write a backslash as \\\\", field(Some(clip)))
        })?;
        let part = match field(split) {
            "" => None,
            word => Some(Part::of(word.as_ref()).ok_or_else(|| {
                format!("line {number}: unknown split {word:?}: expected train, val or test")
            })?),
        };
        let labels = labels(field(Some(label))).map_err(|reason| format!("line {number}: {reason}"))?;
        lines.push(Listed { clip: clip.into(), labels, group: name::show(field(group).as_ref()), part });
    }
    Ok(lines)
}

/// Class names between `|`; a `|` or a backslash within a name has a backslash before it.
fn labels(text: &str) -> std::result::Result<Vec<String>, String> {
    let mut names = vec![String::new()];
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        let last = names.len() - 1;
        match letter {
            '|' => names.push(String::new()),
            '\\' => match letters.next() {
                Some(escaped @ ('|' | '\\')) => names[last].push(escaped),
                _ => {
                    return Err(format!(
                        "the label {text:?}: a backslash is written \\\\, a | within a name \\|"
                    ));
                }
            },
            letter => names[last].push(letter),
        }
    }
    if names.len() == 1 && names[0].is_empty() {
        return Ok(Vec::new());
    }
    if names.iter().any(String::is_empty) {
        return Err(format!("the label {text:?} has an empty name between its |"));
    }
    Ok(names.iter().map(|name| name::show(name.as_ref())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_forgotten_label_does_not_make_clips_those_of_several() {
        let dir = tempfile::tempdir().unwrap();
        let list = dir.path().join("list.csv");
        fs::write(&list, "clip,label\na.avi,run\nb.avi,\n").unwrap();
        let error = read(&list).unwrap_err().to_string();
        assert!(error.ends_with("b.avi has no label, and no other clip has several"), "{error}");
        fs::write(&list, "clip,label\na.avi,run|fast\nb.avi,\n").unwrap();
        assert_eq!(read(&list).unwrap().len(), 2);
    }

    #[test]
    fn a_list_may_name_files_as_find_does() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::write(dir.path().join("run/1.avi"), b"").unwrap();
        let files = Files::below(dir.path()).unwrap();
        assert_eq!(files.find(Path::new("./run/1.avi")), files.find(Path::new("run/1.avi")));
        assert!(files.find(Path::new("./run/1.avi")).unwrap().is_some());
    }

    #[test]
    fn csv_lists_are_parsed() {
        let text = "\u{feff}clip,label,group,split\r\nrun/1.avi,run|fast,anna,train\n\"a,\"\"b\"\".avi\",x\\|y;<b>,,val\nq.avi,,,\n";
        let lines = parse_csv(text.as_bytes()).unwrap();
        let line = |clip: &str, labels: &[&str], group: &str, part| Listed {
            clip: clip.into(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            group: group.into(),
            part,
        };
        let expected = [
            line("run/1.avi", &["run", "fast"], "anna", Some(Part::Train)),
            line("a,\"b\".avi", &["x|y;<b>"], "", Some(Part::Validation)),
            line("q.avi", &[], "", None),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, reason) in [
            ("file,class\na,b\n", "expected the columns clip,label"),
            ("clip,label,fold\na,b,1\n", "expected the columns clip,label"),
            ("clip,label,split\na,b,later\n", "line 2: unknown split \"later\""),
            ("clip,label\nrun\\1.avi,b\n", "line 2: \"run\\\\1.avi\" is not a path"),
            ("clip,label\na,b||c\n", "line 2: the label \"b||c\" has an empty name"),
            ("clip,label\na,b\\c\n", "a backslash is written"),
            ("clip,label\na\n", "2 fields"),
        ] {
            let error = parse_csv(text.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_class_name_survives(names in proptest::collection::vec("[^\u{0}]{1,12}", 1..4)) {
            let escaped: Vec<String> = names.iter().map(|name| name.replace('\\', r"\\").replace('|', r"\|")).collect();
            let shown: Vec<String> = names.iter().map(|name| name::show(name.as_ref())).collect();
            prop_assert_eq!(labels(&escaped.join("|")), Ok(shown));
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_csv(&bytes);
        }
    }
}
