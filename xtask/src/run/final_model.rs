//! Models of all clips: kept under a name that people can read.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bench_suite::files;
use bench_suite::record::{Plan, WEIGHTS, cell_folder};
use bench_suite::results::cells::{final_file, is_done, is_final};

use crate::repo::Repo;

/// Copies the finished models of all clips to their names.
pub(crate) fn keep(repo: &Repo, run_dir: &Path, plan: &Plan) -> Result<()> {
    for cell in plan.cells.iter().filter(|cell| is_final(cell) && is_done(run_dir, cell)) {
        let weights = cell_folder(run_dir, &cell.id()).join(WEIGHTS);
        let model = repo.path(final_file(plan, cell));
        let copied = fs::create_dir_all(repo.path("data/models"))
            .and_then(|()| files::replace(&model, |temporary| fs::copy(&weights, temporary).map(drop)));
        copied.with_context(|| format!("{} cannot be written", model.display()))?;
    }
    Ok(())
}
