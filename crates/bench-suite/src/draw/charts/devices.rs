//! Devices compared: seconds per epoch, peak memory, and how much faster a Tensor Train is than its dense twin.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts::axes::{header, left_of_names, panels};
use crate::draw::charts::canvas::Canvas;
use crate::draw::charts::palette::title;
use crate::draw::charts::seconds::{Mark, ROW, lollipops, seconds as seconds_text};
use crate::paper;
use crate::results::devices::DeviceRow;
use crate::text;

/// Draws `devices` and `speedup`, each as SVG and PNG, beside a comparison's `table.csv`.
pub fn devices(dir: &Path, rows: &[DeviceRow]) -> Result<()> {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.device.as_str()) {
            names.push(&row.device);
        }
    }
    seconds_and_memory(dir, rows, &names)?;
    speedup(dir, rows, &names)
}

/// Date and machine, which data, and `more`.
fn subtitle(dir: &Path, rows: &[DeviceRow], more: &str) -> String {
    let machine = dir.file_name().unwrap_or_default().to_string_lossy();
    let data = rows.first().map(|row| row.data.as_str()).unwrap_or_default();
    format!("{machine} · {data} · {more}")
}

fn seconds_and_memory(dir: &Path, rows: &[DeviceRow], names: &[&str]) -> Result<()> {
    /// One panel: its title, marks, axis, and how a value is written.
    type Panel = (String, Vec<Mark>, &'static str, fn(f64) -> String);
    let megabytes = |mb: f64| text::bytes((mb * 1e6) as u64);
    let mut shown: Vec<Panel> = Vec::new();
    for name in names {
        let of_device: Vec<&DeviceRow> = rows.iter().filter(|r| r.device == *name).collect();
        let marks = |value: &dyn Fn(&DeviceRow) -> Option<f64>| -> Vec<Mark> {
            of_device.iter().map(|row| (row.model.clone(), value(row))).collect()
        };
        let mb = |bytes: u64| bytes as f64 / 1e6;
        shown.push((
            format!("{name}: seconds per epoch"),
            marks(&|row| row.epoch_s),
            "seconds",
            seconds_text,
        ));
        shown.push((
            format!("{name}: peak host memory"),
            marks(&|row| Some(mb(row.peak_rss_bytes))),
            "MB",
            megabytes,
        ));
        if of_device.iter().any(|row| row.peak_card_bytes.is_some()) {
            let marks = marks(&|row| row.peak_card_bytes.map(mb));
            shown.push((format!("{name}: peak memory of the card"), marks, "MB", megabytes));
        }
    }
    let most = shown.iter().map(|panel| panel.1.len()).max().unwrap_or(0);
    let left = left_of_names(rows.iter().map(|row| title(&row.model)));
    let (height, areas) = panels(1000.0, shown.len(), most as f64 * ROW, left, 34.0);
    let mut canvas = Canvas::new(1000.0, height);
    header(&mut canvas, "Seconds per epoch and memory, one fold", &subtitle(dir, rows, "logarithmic"));
    for ((name, marks, axis, text), area) in shown.iter().zip(areas) {
        lollipops(&mut canvas, area, name, marks, axis, text, &[]);
    }
    canvas.write(dir, "devices")
}

/// Seconds per epoch of the dense twin over those of the train, where both are known.
fn speedups(seconds: impl Fn(&str) -> Option<f64>) -> Vec<Mark> {
    let ratio = |twin: &str| -> Option<Mark> {
        Some((format!("tt-{twin}"), Some(seconds(twin)? / seconds(&format!("tt-{twin}"))?)))
    };
    ["gru", "lstm"].into_iter().filter_map(ratio).collect()
}

fn speedup(dir: &Path, rows: &[DeviceRow], names: &[&str]) -> Result<()> {
    let mut shown: Vec<(String, Vec<Mark>)> = Vec::new();
    for name in names {
        let row = |model: &str| rows.iter().find(|row| row.device == *name && row.model == model);
        let marks = speedups(|model| row(model)?.epoch_s);
        if !marks.is_empty() {
            shown.push(((*name).to_owned(), marks));
        }
    }
    if shown.is_empty() {
        return Ok(());
    }
    let paper = |model: &str| paper::result("ucf11", model).map(|row| row.epoch_s);
    shown.push(("the paper, UCF11".into(), speedups(paper)));
    let all: Vec<f64> =
        shown.iter().flat_map(|(_, marks)| marks.iter().filter_map(|m| m.1)).chain([1.0]).collect();
    let (height, areas) = panels(1000.0, shown.len(), 2.0 * ROW, 96.0, 34.0);
    let mut canvas = Canvas::new(1000.0, height);
    let headline = "How many times faster than its dense twin a Tensor Train is";
    header(&mut canvas, headline, &subtitle(dir, rows, "seconds per epoch, dense over train, logarithmic"));
    for ((name, marks), area) in shown.iter().zip(areas) {
        lollipops(&mut canvas, area, name, marks, "times", |times| format!("{times:.1}×"), &all);
    }
    canvas.write(dir, "speedup")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speedup_is_dense_over_train() {
        let row =
            |model: &str, epoch_s| DeviceRow { epoch_s, ..crate::results::devices::tests::row_of(model) };
        let rows =
            [row("gru", Some(9.0)), row("tt-gru", Some(3.0)), row("lstm", None), row("tt-lstm", Some(1.0))];
        let seconds = |model: &str| rows.iter().find(|row| row.model == model)?.epoch_s;
        assert_eq!(speedups(seconds), [("tt-gru".to_owned(), Some(3.0))]);
    }
}
