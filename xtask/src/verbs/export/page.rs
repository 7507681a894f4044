//! A model as a page that classifies videos and a camera in the browser: static files, no network once they are there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::repo::{self, Repo};

/// What runs the graph in a browser, from npm.
const RUNTIME: &str = "onnxruntime-web@1.30.0";
/// Those of its files that the page loads.
const RUNTIME_FILES: [&str; 3] =
    ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];
/// The page itself.
const PAGE: [(&str, &str); 3] = [
    ("index.html", include_str!("../../../web/index.html")),
    ("page.css", include_str!("../../../web/page.css")),
    ("page.mjs", include_str!("../../../web/page.mjs")),
];

/// Refuses a folder that holds something else than a page.
pub(super) fn check(dir: &Path) -> Result<()> {
    let is_empty = fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty && !dir.join("page.mjs").is_file() {
        bail!("{} holds other files and no page: name a new folder", dir.display());
    }
    Ok(())
}

/// Writes the page around the model in `dir/model` and the graph `dir/model.onnx`.
pub(super) fn write(repo: &Repo, dir: &Path) -> Result<()> {
    let runtime = runtime(repo)?;
    for name in RUNTIME_FILES {
        let (from, to) = (runtime.join(name), dir.join(name));
        fs::copy(&from, &to).with_context(|| format!("{} cannot be copied", from.display()))?;
    }
    for (name, text) in PAGE {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

/// The folder of the runtime's files; fetched the first time.
fn runtime(repo: &Repo) -> Result<PathBuf> {
    let home = repo.path("data/page");
    let files = home.join("node_modules/onnxruntime-web/dist");
    if RUNTIME_FILES.iter().all(|name| files.join(name).is_file()) {
        return Ok(files);
    }
    eprintln!("fetching {RUNTIME} by npm, once");
    fs::create_dir_all(&home).with_context(|| format!("{} cannot be made", home.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]);
    npm.arg(&home).arg(RUNTIME);
    repo::run(&mut npm).with_context(|| format!("a page needs npm once, to fetch {RUNTIME}"))?;
    if let Some(missing) = RUNTIME_FILES.iter().find(|name| !files.join(name).is_file()) {
        bail!("{RUNTIME} has no file {missing}");
    }
    Ok(files)
}
