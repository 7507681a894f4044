//! Every run has a folder of its own: names that are free, and the lock under which a folder is written.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder of an experiment's runs, below the page that follows from them.
pub const RUNS: &str = "runs";

/// `name`, `name-2`, `name-3` and so on.
fn names(name: &str) -> impl Iterator<Item = String> {
    std::iter::once(name.to_owned()).chain((2..).map(move |n: usize| format!("{name}-{n}")))
}

/// The folder for something called `name`: the first that is not there yet, or that it `fits` into.
pub(crate) fn home(dir: &Path, name: &str, fits: impl Fn(&Path) -> Result<bool>) -> Result<PathBuf> {
    for folder in names(name).map(|name| dir.join(name)) {
        if !folder.exists() || fits(&folder)? {
            return Ok(folder);
        }
    }
    unreachable!("the names are endless")
}

/// Makes a folder that nothing was in before, called `name` or, where that is taken, `name-2` and so on.
pub fn fresh(dir: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    for folder in names(name).map(|name| dir.join(name)) {
        match fs::create_dir(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("{} cannot be made", folder.display())),
        }
    }
    unreachable!("the names are endless")
}

/// Names of the folders in `dir` that hold this file or folder, sorted; none where `dir` is not there.
pub fn holding(dir: &Path, file: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("{} cannot be read", dir.display()))?,
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join(file).exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // What is being removed has such a name.
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    Ok(names)
}

/// The name of the run that a page shows where it shows one alone: the one with the most rows, of several the one that
/// was finished last. `size_of` says how many rows a folder has, and when the last was finished.
pub(crate) fn largest(
    dir: &Path,
    size_of: impl Fn(&Path) -> Result<(usize, String)>,
) -> Result<Option<String>> {
    let mut sizes = Vec::new();
    for name in holding(dir, "run.toml")? {
        sizes.push((size_of(&dir.join(&name))?, name));
    }
    Ok(sizes.into_iter().max().map(|(_, name)| name))
}

/// Which run a page shows, and which it does not.
pub fn shown_line(run: &str, others: &[String]) -> String {
    match others {
        [] => format!("run `{RUNS}/{run}`"),
        others => {
            format!("run `{RUNS}/{run}`, the one with the most cells; not shown: {}", others.join(", "))
        }
    }
}

/// Makes a folder of results and holds it for this process, so that no two write into it at once; removes what a
/// killed one left in it.
pub fn hold(dir: &Path) -> Result<File> {
    let cannot = || format!("{} cannot be written", dir.display());
    fs::create_dir_all(dir).with_context(cannot)?;
    let held = File::open(dir).and_then(|folder| folder.lock().map(|()| folder)).with_context(cannot)?;
    let runs = fs::read_dir(dir.join(RUNS)).into_iter().flatten().flatten().map(|entry| entry.path());
    for folder in [dir.to_owned(), dir.join("charts"), dir.join(RUNS)].into_iter().chain(runs) {
        for path in fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|ending| ending == "tmp") {
                let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
                removed.with_context(|| format!("{} cannot be removed", path.display()))?;
            }
        }
    }
    Ok(held)
}

/// Refuses a results folder that cannot be written, before anything is computed.
pub fn check_writable(dir: &Path) -> Result<()> {
    let probe = dir.join(format!(".probe-{}.tmp", std::process::id()));
    let removed = |()| match fs::remove_file(&probe) {
        // By another process that holds the folder and clears it.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    };
    let attempt = fs::create_dir_all(dir).and_then(|()| fs::write(&probe, b"")).and_then(removed);
    attempt.with_context(|| format!("results folder {} cannot be written", dir.display()))
}

/// The folders two levels below `root` that hold this file, sorted.
pub fn below(root: &Path, file: &str) -> Vec<PathBuf> {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut dirs: Vec<PathBuf> =
        entries(root).flat_map(|dir| entries(&dir)).filter(|dir| dir.join(file).is_file()).collect();
    dirs.sort();
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_gets_a_number() {
        let dir = tempfile::tempdir().unwrap();
        let name = |path: PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
        let made: Vec<String> = (0..3).map(|_| name(fresh(dir.path(), "a").unwrap())).collect();
        assert_eq!(made, ["a", "a-2", "a-3"]);
        let of = |fits: &dyn Fn(&Path) -> bool| name(home(dir.path(), "a", |path| Ok(fits(path))).unwrap());
        assert_eq!(of(&|_| false), "a-4");
        assert_eq!(of(&|path| path.ends_with("a-2")), "a-2");
    }

    #[test]
    fn folders_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_writable(&dir.path().join("a/b")).is_ok());
        fs::write(dir.path().join("file"), "").unwrap();
        let error = check_writable(&dir.path().join("file")).unwrap_err().to_string();
        assert!(error.ends_with("file cannot be written"), "{error}");
    }
}
