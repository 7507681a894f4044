//! A model as a page that classifies videos and a camera in the browser: static files, no network once they are there.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::machine::onnxruntime_web;

/// The page itself.
const PAGE: [(&str, &str); 3] = [
    ("index.html", include_str!("../../../web/index.html")),
    ("page.css", include_str!("../../../web/page.css")),
    ("page.mjs", include_str!("../../../web/page.mjs")),
];

/// Refuses a folder that holds something else than a page, and a page unless it is to be replaced.
pub(super) fn check(dir: &Path, force: bool) -> Result<()> {
    let is_empty = fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_none());
    if !is_empty && !dir.join("page.mjs").is_file() {
        bail!("{} holds other files and no page: name a new folder", dir.display());
    }
    if !is_empty && !force {
        bail!("{} holds a page already: --force replaces it", dir.display());
    }
    Ok(())
}

/// Writes the page around the model in `dir/model` and the graph `dir/model.onnx`.
pub(super) fn write(runtime: &Path, dir: &Path) -> Result<()> {
    for name in onnxruntime_web::FILES {
        let (from, to) = (runtime.join(name), dir.join(name));
        fs::copy(&from, &to).with_context(|| format!("{} cannot be copied", from.display()))?;
    }
    for (name, text) in PAGE {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}
