//! onnxruntime's WebAssembly, from npm: what runs a graph in a browser.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::repo::{self, Repo};

/// The package.
const PACKAGE: &str = "onnxruntime-web@1.30.0";
/// Those of its files that a page loads.
pub(crate) const FILES: [&str; 3] =
    ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

/// The folder of the files; fetched the first time.
///
/// # Errors
/// npm is not there, or reaches no registry.
pub(crate) fn folder(repo: &Repo) -> Result<PathBuf> {
    let home = repo.path("data/page");
    let files = home.join("node_modules/onnxruntime-web/dist");
    if FILES.iter().all(|name| files.join(name).is_file()) {
        return Ok(files);
    }
    eprintln!("fetching {PACKAGE} by npm, once");
    fs::create_dir_all(&home).with_context(|| format!("{} cannot be made", home.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]);
    npm.arg(&home).arg(PACKAGE);
    repo::run(&mut npm).with_context(|| format!("npm is needed once, to fetch {PACKAGE}"))?;
    if let Some(missing) = FILES.iter().find(|name| !files.join(name).is_file()) {
        bail!("{PACKAGE} has no file {missing}");
    }
    Ok(files)
}
