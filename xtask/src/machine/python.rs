//! Python environments under `data/peers/env/`, every version pinned.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use bench_suite::files;

use crate::repo::{self, Repo};

/// The Python of an environment with the packages of `xtask/peers/requirements/<name>.txt`, made when it is missing or its
/// pins changed; `what` says what is installed, and how much.
///
/// # Errors
/// No Python, or no index that pip reaches.
pub(crate) fn environment(repo: &Repo, name: &str, what: &str, base: &str) -> Result<PathBuf> {
    let pins = repo.path(format!("xtask/peers/requirements/{name}.txt"));
    let text = fs::read_to_string(&pins).with_context(|| format!("{} cannot be read", pins.display()))?;
    let home = repo.path("data/peers/env").join(name);
    let (python, stamp) = (home.join("bin/python"), home.join("installed.txt"));
    if fs::read_to_string(&stamp).is_ok_and(|there| there == text) {
        return Ok(python);
    }
    eprintln!("installing {what} into {}", repo.show(&home));
    repo::run(Command::new(base).args(["-m", "venv", "--clear"]).arg(&home))?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "-r"]);
    repo::run(pip.arg(&pins))?;
    files::write(&stamp, text.as_bytes())
        .with_context(|| format!("{} cannot be written", stamp.display()))?;
    Ok(python)
}
