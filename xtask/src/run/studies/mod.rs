//! What the TOMLs of the studies say.

pub(crate) mod ablation;
pub(crate) mod rates;
pub(crate) mod tune;

use std::fs;

use anyhow::{Context, Result};
use bench_suite::spec::{nearest_or, stems};

use crate::repo::Repo;

/// The text of a study in a folder of `experiments/`, and its path as messages show it; `what` is what such a study is called.
fn text(repo: &Repo, folder: &str, what: &'static str, name: &str) -> Result<(String, String)> {
    let folder = repo.path("experiments").join(folder);
    nearest_or(what, name, &stems(&folder)?)?;
    let path = folder.join(format!("{name}.toml"));
    let shown = repo.show(&path);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))?;
    Ok((text, shown))
}
