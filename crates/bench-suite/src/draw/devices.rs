//! The charts of comparisons of devices.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts;
use crate::results::devices::DeviceRow;
use crate::results::read_csv;

/// Draws the charts of a comparison from its table.
pub fn derive(dir: &Path) -> Result<()> {
    charts::devices(dir, &read_csv::<DeviceRow>(&dir.join("table.csv"))?)
}
