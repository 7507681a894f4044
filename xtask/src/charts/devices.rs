//! Devices compared: seconds per epoch and peak memory per model.

use std::path::Path;

use anyhow::Result;

use super::axes::{header, panels};
use super::canvas::Canvas;
use super::seconds::{Mark, ROW, lollipops, seconds as seconds_text};
use crate::compare::DeviceRow;
use crate::text;

/// Draws `devices.svg` and `devices.png` beside a comparison's `table.csv`.
pub(crate) fn devices(dir: &Path, rows: &[DeviceRow]) -> Result<()> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.device.as_str()) {
            names.push(&row.device);
        }
    }
    let most = names.iter().map(|n| rows.iter().filter(|r| r.device == *n).count()).max().unwrap_or(0);
    let (height, areas) = panels(1000.0, names.len() * 2, most as f64 * ROW, 96.0, 34.0);
    let mut canvas = Canvas::new(1000.0, height);
    let machine = dir.file_name().unwrap_or_default().to_string_lossy();
    header(&mut canvas, "Seconds per epoch and memory, one fold", &format!("{machine} · logarithmic"));
    for (pair, name) in areas.chunks(2).zip(&names) {
        let of_device: Vec<&DeviceRow> = rows.iter().filter(|r| r.device == *name).collect();
        let seconds: Vec<Mark> = of_device.iter().map(|r| (r.model.clone(), r.epoch_s)).collect();
        let memory: Vec<Mark> =
            of_device.iter().map(|r| (r.model.clone(), Some(r.peak_rss_bytes as f64 / 1e6))).collect();
        lollipops(
            &mut canvas,
            pair[0],
            &format!("{name}: seconds per epoch"),
            &seconds,
            "seconds",
            seconds_text,
        );
        lollipops(&mut canvas, pair[1], &format!("{name}: peak memory"), &memory, "MB", |mb| {
            text::bytes((mb * 1e6) as u64)
        });
    }
    canvas.write(dir, "devices")
}
