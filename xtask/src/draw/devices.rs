//! The charts of comparisons of devices.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::draw::charts;
use crate::repo::Repo;
use crate::results::devices::DeviceRow;
use crate::results::{holding, read_csv};

/// Draws the chart of every comparison below `root` again from its table; how many there are.
pub(crate) fn redraw(repo: &Repo, root: &Path) -> Result<usize> {
    let dirs: Vec<PathBuf> = holding(root, "table.csv")?.into_iter().map(|name| root.join(name)).collect();
    for dir in &dirs {
        charts::devices(dir, &read_csv::<DeviceRow>(&dir.join("table.csv"))?)?;
        eprintln!("{} redrawn from its table", repo.show(dir));
    }
    Ok(dirs.len())
}
