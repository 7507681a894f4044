//! What a run's folder says of its cells.

use std::path::Path;

use crate::record::{FINAL, Plan, PlannedCell, cell_folder};

/// Whether nothing is left to do in a cell: a checkpoint beside the record was left by a kill between the two, and
/// the engine removes it.
pub fn is_done(run_dir: &Path, cell: &PlannedCell) -> bool {
    let folder = cell_folder(run_dir, &cell.id());
    folder.join("cell.json").is_file() && !folder.join("checkpoint.safetensors").exists()
}

/// Whether a cell holds no clip back.
pub fn is_final(cell: &PlannedCell) -> bool {
    cell.protocol == FINAL
}

/// The name of a model of all clips, below the repository's root. The run's digest is in it, so that no model takes the
/// place of another.
pub fn final_file(plan: &Plan, cell: &PlannedCell) -> String {
    let digest = plan.run_digest.get(..8).unwrap_or(&plan.run_digest);
    format!("data/models/{}-{}-s{}-{digest}.safetensors", plan.experiment, cell.model, cell.seed)
}
