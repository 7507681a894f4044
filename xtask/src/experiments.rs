//! What can be refused before anything is built: experiment, flags, device, folders.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bench_suite::spec::{Overrides, Spec};

use crate::repo::Repo;

/// Loads and checks an experiment with the command line's changes, and says in one line which data it will
/// use. A folder that cannot be read or holds nothing is refused.
pub(crate) fn check(repo: &Repo, name: &str, overrides: &Overrides, data: Option<&Path>) -> Result<String> {
    let spec = Spec::load(repo.root(), name, overrides)?;
    let own = format!("data/{}/", spec.data.folder);
    if let Some(dir) = data {
        if !spec.data.render.is_empty() {
            bail!("experiment {name:?} renders its own clips: --data does not apply");
        }
        let mut entries =
            fs::read_dir(dir).with_context(|| format!("--data {} cannot be read", dir.display()))?;
        if entries.next().is_none() {
            bail!("--data {} is empty: expected the clips of {name}, or their parent folder", dir.display());
        }
        return Ok(format!("data: clips in {}", dir.display()));
    }
    if !spec.data.render.is_empty() {
        return Ok(format!("data: {}, in {own}", spec.title));
    }
    if repo.path(&own).is_dir() {
        return Ok(format!("data: clips in {own}"));
    }
    if spec.data.fallback.is_empty() {
        bail!("{name} needs clips: give --data DIR, or put them into {own}");
    }
    Ok(format!("data: rendered sample, not {} (no --data DIR, and no {own})", spec.title))
}

/// Refuses a results folder that cannot be written, before anything is computed.
pub(crate) fn check_writable(dir: &Path) -> Result<()> {
    let probe = dir.join(format!(".probe-{}.tmp", std::process::id()));
    let attempt =
        fs::create_dir_all(dir).and_then(|()| fs::write(&probe, b"")).and_then(|()| fs::remove_file(&probe));
    attempt.with_context(|| format!("results folder {} cannot be written", dir.display()))
}

/// The folder that holds every experiment's results.
pub(crate) fn results_root(repo: &Repo, out: Option<&Path>) -> Result<PathBuf> {
    Ok(match out {
        Some(dir) => std::path::absolute(dir)?,
        None => repo.path("results"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_writable(&dir.path().join("a/b")).is_ok());
        fs::write(dir.path().join("file"), "").unwrap();
        let error = check_writable(&dir.path().join("file")).unwrap_err().to_string();
        assert!(error.ends_with("file cannot be written"), "{error}");
    }
}
