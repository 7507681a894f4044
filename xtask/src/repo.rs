//! The repository and the programs of it that xtask starts.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The repository's root folder and where its release binaries are built.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    root: PathBuf,
}

impl Repo {
    /// Finds the root: the parent of this package (set by `cargo run`), else upwards from here.
    pub(crate) fn find() -> Result<Self> {
        if let Some(dir) = env::var_os("CARGO_MANIFEST_DIR")
            && let Some(root) = Path::new(&dir).parent()
        {
            return Ok(Self { root: root.to_owned() });
        }
        let here = env::current_dir().context("the current folder cannot be read")?;
        match here.ancestors().find(|dir| dir.join("xtask/Cargo.toml").is_file()) {
            Some(root) => Ok(Self { root: root.to_owned() }),
            None => bail!("{} is not inside the repository: use `cargo xtask`", here.display()),
        }
    }

    /// A repository of a test.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The root folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path under the root.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// The folder that holds every experiment's results, unless another is asked for.
    pub(crate) fn results(&self, out: Option<&Path>) -> Result<PathBuf> {
        Ok(match out {
            Some(dir) => std::path::absolute(dir)?,
            None => self.path("results"),
        })
    }

    /// A path as people see it: relative to the root where it lies below it.
    pub(crate) fn show(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    /// `cargo` in the root, without the variables that `cargo run` set for xtask itself: they would make
    /// build scripts run again.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.root);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(&name);
            }
        }
        cargo
    }

    /// The folder of cargo's builds.
    pub(crate) fn target(&self) -> PathBuf {
        let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.path("target"), PathBuf::from);
        self.root.join(target)
    }

    /// A release binary of the workspace, run in the root.
    pub(crate) fn binary(&self, name: &str) -> Command {
        let mut command = Command::new(self.target().join("release").join(name));
        command.current_dir(&self.root);
        command
    }

    /// Builds the release binaries of the packages.
    pub(crate) fn build(&self, packages: &[&str], why: &str, quiet: bool) -> Result<()> {
        for package in packages {
            if !quiet {
                eprintln!("building {package} ({why}{})", self.patience(package));
            }
            self.cargo_build(&["--package", package, "--bins"], quiet)?;
        }
        Ok(())
    }

    /// Builds what decodes and what trains.
    pub(crate) fn build_all(&self, quiet: bool) -> Result<()> {
        self.build(&["video-data"], "decoding, links FFmpeg", quiet)?;
        self.build(&["bench-suite"], "the training engine", quiet)
    }

    /// What to expect of a package's first build.
    fn patience(&self, package: &str) -> &'static str {
        let program = if package == "video-data" { "video-worker" } else { package };
        if self.target().join("release").join(program).exists() {
            ""
        } else {
            "; some minutes the first time"
        }
    }

    /// Builds the program that knows the datasets on this machine, and neither trains nor decodes.
    pub(crate) fn build_catalog(&self) -> Result<()> {
        let catalog = ["--no-default-features", "--features", "catalog", "--bin", "clip-catalog"];
        self.cargo_build(&[&["--package", "bench-suite"], &catalog[..]].concat(), true)
    }

    fn cargo_build(&self, what: &[&str], quiet: bool) -> Result<()> {
        let mut cargo = self.cargo();
        cargo.args(["build", "--release"]).args(what).args(quiet.then_some("--quiet"));
        run(&mut cargo)
    }
}

/// Runs a command with this terminal; an error names the command line.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("failed to start {}", line(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// Standard output of a command that succeeds; none where it is missing or fails.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let out = command.stderr(std::process::Stdio::null()).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// A command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|w| w.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_is_asked_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo { root: dir.path().to_owned() };
        // Another target folder, given by the environment, is no part of this test.
        let release = repo.target().join("release");
        if !release.starts_with(dir.path()) {
            return;
        }
        assert_eq!(repo.patience("video-data"), "; some minutes the first time");
        std::fs::create_dir_all(&release).unwrap();
        std::fs::write(release.join("video-worker"), "").unwrap();
        assert_eq!(repo.patience("video-data"), "");
        assert_ne!(repo.patience("bench-suite"), "");
    }
}
