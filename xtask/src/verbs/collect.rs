//! `cargo xtask collect`: tables and charts from cells that were computed elsewhere.

use std::path::Path;

use anyhow::{Result, bail};
use bench_suite::record::PlannedCell;
use bench_suite::results::cells::is_done;

use crate::repo::Repo;
use crate::run::cluster::plan::Run;
use crate::run::tables::Tables;

/// Tables and charts from the finished cells; an error names those that are missing.
pub(crate) fn collect(repo: &Repo, name: &str, out: Option<&Path>) -> Result<()> {
    let Run { dir, plan } = Run::find(repo, name)?;
    let missing: Vec<String> =
        plan.cells.iter().filter(|cell| !is_done(&dir, cell)).map(PlannedCell::id).collect();
    if missing.len() < plan.cells.len() {
        let command = format!("cargo xtask collect {}", plan.experiment);
        let tables = Tables::new(repo, &dir, &plan, out, &command)?;
        tables.write()?;
        tables.report()?;
    }
    if missing.is_empty() {
        return Ok(());
    }
    bail!("{} of {} cells are missing:\n{}", missing.len(), plan.cells.len(), missing.join("\n"))
}
