//! Models of all clips: kept under a name that people can read.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bench_suite::files;
use bench_suite::record::{FINAL, Plan, PlannedCell};

use crate::repo::Repo;
use crate::run::cells::is_done;

/// A cell's model, in the cell's folder.
pub(crate) const WEIGHTS: &str = "weights.safetensors";

/// Whether a cell holds no clip back.
pub(crate) fn is_final(cell: &PlannedCell) -> bool {
    cell.protocol == FINAL
}

/// The name of a model of all clips, below the repository's root. The run's digest is in it, so that no model takes the
/// place of another.
pub(crate) fn file(plan: &Plan, cell: &PlannedCell) -> String {
    let digest = plan.run_digest.get(..8).unwrap_or(&plan.run_digest);
    format!("data/models/{}-{}-s{}-{digest}.safetensors", plan.experiment, cell.model, cell.seed)
}

/// Copies the finished models of all clips to their names.
pub(crate) fn keep(repo: &Repo, run_dir: &Path, plan: &Plan) -> Result<()> {
    for cell in plan.cells.iter().filter(|cell| is_final(cell) && is_done(run_dir, cell)) {
        let weights = run_dir.join("cells").join(cell.id()).join(WEIGHTS);
        let model = repo.path(file(plan, cell));
        let copied = fs::create_dir_all(repo.path("data/models"))
            .and_then(|()| files::replace(&model, |temporary| fs::copy(&weights, temporary).map(drop)));
        copied.with_context(|| format!("{} cannot be written", model.display()))?;
    }
    Ok(())
}
