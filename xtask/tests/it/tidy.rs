//! Rules of style that neither rustfmt nor clippy knows. Each states its reason.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fake::repo;

/// Longest file of Rust: beyond it, a file has more than one subject.
const MAX_LINES: usize = 500;

/// Text files that git knows, with their text.
fn tracked() -> Vec<(String, String)> {
    let list = Command::new("git").args(["ls-files", "-z"]).current_dir(repo()).output();
    let Ok(list) = list else { return Vec::new() };
    String::from_utf8_lossy(&list.stdout)
        .split('\0')
        .filter(|name| !name.is_empty())
        .filter_map(|name| Some((name.to_owned(), fs::read_to_string(repo().join(name)).ok()?)))
        .collect()
}

fn is_rust(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|ending| ending == "rs")
}

#[test]
fn files_of_rust_are_short() {
    for (name, text) in tracked().iter().filter(|(name, _)| is_rust(name)) {
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{name} has {lines} lines: split it by subject");
    }
}

/// Work that is not done belongs into an issue, where someone sees it.
#[test]
fn no_work_is_left_in_comments() {
    for (name, text) in tracked().iter().filter(|(name, _)| is_rust(name)) {
        for word in [["TO", "DO"], ["FIX", "ME"], ["todo", "!("], ["unimplemented", "!("]].map(|w| w.concat())
        {
            assert!(!text.contains(&word), "{name} contains {word}");
        }
    }
}

/// A path of one machine means nothing on another, and tells what nobody asked.
#[test]
fn no_absolute_path_of_a_machine() {
    for (name, text) in tracked() {
        for word in [["/ro", "ot/"], ["/ho", "me/"], ["/Us", "ers/"], ["/wo", "rk/"]].map(|w| w.concat()) {
            let hit = text.lines().find(|line| line.contains(&word));
            assert!(hit.is_none(), "{name} names a folder of one machine: {}", hit.unwrap_or_default());
        }
    }
}

/// A row with more or fewer cells than the header has loses or shifts what it says.
#[test]
fn tables_have_as_many_cells_as_their_header() {
    let cells = |line: &str| line.replace("\\|", "").trim().trim_matches('|').matches('|').count() + 1;
    let is_page = |name: &str| Path::new(name).extension().is_some_and(|ending| ending == "md");
    for (name, text) in tracked().iter().filter(|(name, _)| is_page(name)) {
        let mut header = None;
        for (at, line) in text.lines().enumerate() {
            if !line.starts_with('|') {
                header = None;
                continue;
            }
            let width = *header.get_or_insert_with(|| cells(line));
            assert_eq!(cells(line), width, "{name}, line {}: {line}", at + 1);
        }
    }
}

/// Names that say nothing about what is inside.
#[test]
fn no_file_is_called_utils() {
    for (name, _) in tracked() {
        let stem = name.rsplit('/').next().unwrap_or_default().split('.').next().unwrap_or_default();
        assert!(!["utils", "util", "common", "helpers", "misc"].contains(&stem), "{name}");
    }
}
