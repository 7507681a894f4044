//! Checks that need packages from outside: one folder each in `xtask/checks/`, whose script `run` installs what it needs
//! below `data/` and ends with an error where something is wrong. Its first comment says what it shows and needs.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use bench_suite::results::holding;

use crate::repo::Repo;

/// A check.
#[derive(Debug)]
pub(crate) struct Check {
    /// The name of its folder.
    pub(crate) name: String,
    /// What it shows, and what it needs.
    pub(crate) about: String,
    script: PathBuf,
}

impl Check {
    /// Its script.
    pub(crate) fn command(&self) -> Command {
        Command::new(&self.script)
    }
}

/// All of them, by name.
pub(crate) fn checks(repo: &Repo) -> Result<Vec<Check>> {
    let dir = repo.path("xtask/checks");
    let check = |name: String| {
        let script = dir.join(&name).join("run");
        let text =
            fs::read_to_string(&script).with_context(|| format!("{} cannot be read", script.display()))?;
        let about = text.lines().skip(1).map_while(|line| line.strip_prefix("# "));
        Ok(Check { name, about: about.collect::<Vec<_>>().join("\n"), script })
    };
    holding(&dir, "run")?.into_iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn every_check_can_be_started_and_says_what_it_needs() {
        let checks = checks(&Repo::find().unwrap()).unwrap();
        for name in ["browser", "cluster", "onnx", "peers", "publish", "python"] {
            assert!(checks.iter().any(|check| check.name == name), "{name}");
        }
        for check in checks {
            let mode = fs::metadata(&check.script).unwrap().permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{} is not executable", check.script.display());
            assert!(check.about.contains("Needs "), "{} does not say what it needs", check.script.display());
        }
    }
}
