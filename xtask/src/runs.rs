//! Runs under `data/runs/`: which there are of a name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use bench_suite::record::Plan;

use crate::text;

/// Fewest digits of a digest that name a run: as many as the folder of its records has.
const DIGITS: usize = 8;

/// The runs below `runs` that have this name: that of their results, of their experiment, or their digest.
///
/// # Errors
/// When there is none; the message names the others. A folder without a readable plan is no run.
pub(crate) fn called(runs: &Path, name: &str) -> Result<Vec<(PathBuf, Plan)>> {
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for dir in fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let text = fs::read(dir.join("plan.json")).ok();
        let Some(plan) = text.and_then(|text| serde_json::from_slice::<Plan>(&text).ok()) else { continue };
        if is_called(&plan, name) {
            found.push((dir, plan));
        } else {
            others.push(plan.experiment);
        }
    }
    if found.is_empty() {
        bail!(
            "data/runs/ holds no run of {name:?}; runs of: {}. cargo xtask reproduce {name} makes one",
            text::listed(others)
        );
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

fn is_called(plan: &Plan, name: &str) -> bool {
    let experiment = || {
        let config: toml::Table = toml::from_str(&plan.config).ok()?;
        Some(config.get("name")?.as_str()? == name)
    };
    plan.experiment == name
        || (name.len() >= DIGITS && plan.run_digest.starts_with(name))
        || plan.run_digest == name
        || experiment() == Some(true)
}
