//! Official lists: three splits each of UCF101 and of HMDB51, in files of their own forms.
//!
//! # Paper
//! Soomro, Zamir, Shah (2012), "UCF101: a dataset of 101 human action classes from videos in the wild"; Kuehne, Jhuang,
//! Garrote, Poggio, Serre (2011), "HMDB: a large video database for human motion recognition".

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::line::Listed;
use crate::datasets::parts::Part;
use crate::error::{Error, Result};

/// The number of the split in `trainlist01.txt` or `testlist01.txt`.
pub(super) fn ucf101(file: &str) -> Option<&str> {
    let rest = file.strip_prefix("trainlist").or_else(|| file.strip_prefix("testlist"))?;
    rest.strip_suffix(".txt").filter(|number| is_number(number))
}

/// The number of the split in `<class>_test_split1.txt`.
pub(super) fn hmdb51(file: &str) -> Option<&str> {
    let (class, number) = file.strip_suffix(".txt")?.rsplit_once("_test_split")?;
    (!class.is_empty() && is_number(number)).then_some(number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// Reads both sides of a split of UCF101: lines `<Class>/v_<Class>_gGG_cCC.avi`, with the class's number of
/// `classInd.txt` behind it in the training list.
pub(super) fn read_ucf101(list: &Path, number: &str) -> Result<Vec<Listed>> {
    let folder = list.parent().unwrap_or(list);
    let path = folder.join("classInd.txt");
    let classes = match fs::read_to_string(&path) {
        Ok(text) => class_numbers(&text).map_err(|reason| Error::corrupt(&path, reason))?,
        Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let mut lines = Vec::new();
    for (side, part) in [("train", Part::Train), ("test", Part::Test)] {
        let path = folder.join(format!("{side}list{number}.txt"));
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        lines.extend(ucf101_lines(&text, part, &classes).map_err(|reason| Error::corrupt(&path, reason))?);
    }
    Ok(lines)
}

/// `classInd.txt`: lines `<number> <Class>`.
fn class_numbers(text: &str) -> std::result::Result<BTreeMap<String, String>, String> {
    let mut classes = BTreeMap::new();
    for (at, line) in lines_of(text) {
        let (number, class) =
            line.split_once(char::is_whitespace).ok_or_else(|| format!("line {at}: expected \"1 Class\""))?;
        classes.insert(number.to_owned(), class.trim().to_owned());
    }
    Ok(classes)
}

fn ucf101_lines(
    text: &str,
    part: Part,
    classes: &BTreeMap<String, String>,
) -> std::result::Result<Vec<Listed>, String> {
    let mut lines = Vec::new();
    for (at, line) in lines_of(text) {
        let (clip, number) = match line.split_once(char::is_whitespace) {
            Some((clip, number)) => (clip, Some(number.trim())),
            None => (line, None),
        };
        let (class, file) = clip
            .rsplit_once('/')
            .ok_or_else(|| format!("line {at}: expected \"Class/clip.avi\", found {line:?}"))?;
        if let Some(named) = number.and_then(|number| classes.get(number))
            && named != class
        {
            return Err(format!("line {at}: {clip:?} has the number of class {named:?}"));
        }
        let (clip, labels) = (PathBuf::from(clip), vec![class.to_owned()]);
        lines.push(Listed {
            clip,
            labels,
            group: group_of(file).unwrap_or_default().to_owned(),
            part: Some(part),
        });
    }
    Ok(lines)
}

/// `g08` of `v_ApplyEyeMakeup_g08_c01.avi`: clips of one source video.
fn group_of(file: &str) -> Option<&str> {
    let (stem, _) = file.rsplit_once('.')?;
    let (stem, _) = stem.rsplit_once("_c")?;
    let (_, group) = stem.rsplit_once('_')?;
    group.strip_prefix('g').filter(|number| is_number(number)).map(|_| group)
}

/// Reads a split of HMDB51: a file per class, lines `<clip>.avi <0|1|2>`; 1 is for training, 2 for testing, and 0 for
/// neither.
pub(super) fn read_hmdb51(list: &Path, number: &str) -> Result<Vec<Listed>> {
    let folder = list.parent().unwrap_or(list);
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let end = format!("_test_split{number}.txt");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let class = path.file_name().and_then(|name| name.to_str()?.strip_suffix(&end)).map(str::to_owned);
        files.extend(class.map(|class| (class, path)));
    }
    files.sort();
    let mut lines = Vec::new();
    for (class, path) in files {
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        lines.extend(hmdb51_lines(&text, &class).map_err(|reason| Error::corrupt(&path, reason))?);
    }
    Ok(lines)
}

fn hmdb51_lines(text: &str, class: &str) -> std::result::Result<Vec<Listed>, String> {
    let mut lines = Vec::new();
    for (at, line) in lines_of(text) {
        let expected = || format!("line {at}: expected \"clip.avi\" and 0, 1 or 2, found {line:?}");
        let (clip, side) = line.rsplit_once(char::is_whitespace).ok_or_else(expected)?;
        let part = match side {
            "0" => continue,
            "1" => Part::Train,
            "2" => Part::Test,
            _ => return Err(expected()),
        };
        let (clip, labels) = (Path::new(class).join(clip.trim()), vec![class.to_owned()]);
        lines.push(Listed { clip, labels, group: String::new(), part: Some(part) });
    }
    Ok(lines)
}

/// Lines that hold something, trimmed, with their numbers.
fn lines_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names() {
        assert_eq!(ucf101("trainlist01.txt"), Some("01"));
        assert_eq!(ucf101("testlist03.txt"), Some("03"));
        assert_eq!(ucf101("trainlist.txt"), None);
        assert_eq!(hmdb51("brush_hair_test_split1.txt"), Some("1"));
        assert_eq!(hmdb51("_test_split1.txt"), None);
    }

    #[test]
    fn groups_are_source_videos() {
        assert_eq!(group_of("v_ApplyEyeMakeup_g08_c01.avi"), Some("g08"));
        assert_eq!(group_of("v_HandStandPushups_g01_c02.avi"), Some("g01"));
        assert_eq!(group_of("clip.avi"), None);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let classes = class_numbers("1 ApplyEyeMakeup\r\n2 Archery\r\n").unwrap();
        let read = |text: &str| ucf101_lines(text, Part::Train, &classes);
        assert_eq!(read("Archery/v_Archery_g08_c01.avi 2\r\n\r\n").unwrap()[0].labels, ["Archery"]);
        assert!(read("Archery/v_Archery_g08_c01.avi 1\n").unwrap_err().contains("\"ApplyEyeMakeup\""));
        assert!(read("v_Archery_g08_c01.avi 2\n").unwrap_err().starts_with("line 1"));
        assert!(hmdb51_lines("a b.avi 1\nclip.avi 3\n", "run").unwrap_err().starts_with("line 2"));
    }
}
