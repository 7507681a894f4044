//! Training loss against the learning rate, a panel per model, a line per size.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts::axes::{Area, Labels, Scale, header, panel_title, panels, x_axis, y_axis};
use crate::draw::charts::canvas::Canvas;
use crate::draw::charts::palette::{Color, color, ink, title};
use crate::results::rates::{RateRow, best};

/// Draws `rates.svg` and `rates.png`.
pub(crate) fn rates(dir: &Path, data: &str, rows: &[RateRow]) -> Result<()> {
    let mut models: Vec<&str> = Vec::new();
    for row in rows {
        if !models.contains(&row.model.as_str()) {
            models.push(&row.model);
        }
    }
    if models.is_empty() {
        return Ok(());
    }
    let (height, areas) = panels(1100.0, models.len(), 340.0, 78.0, 24.0);
    let mut canvas = Canvas::new(1100.0, height);
    let steps = rows.iter().map(|row| row.steps).max().unwrap_or(0);
    header(&mut canvas, &format!("Training loss after {steps} steps against the rate"), data);
    for (model, area) in models.iter().zip(areas) {
        panel_title(&mut canvas, area, &title(model));
        let of_model: Vec<&RateRow> = rows.iter().filter(|row| row.model == *model).collect();
        panel(&mut canvas, area, &of_model, rows);
    }
    canvas.write(dir, "rates")
}

fn panel(canvas: &mut Canvas, area: Area, rows: &[&RateRow], all: &[RateRow]) {
    let mut tried: Vec<f64> = all.iter().map(|row| row.lr).collect();
    tried.sort_by(f64::total_cmp);
    tried.dedup();
    let worst = all.iter().map(|row| row.loss).fold(0.0, f64::max);
    // Room at the right for the names at the ends of the lines.
    let x = Scale::log((tried[0] * 0.8, tried[tried.len() - 1] * 1.25), (area.left, area.right - 150.0));
    let y = Scale::linear((0.0, worst), (area.bottom, area.top));
    x_axis(canvas, area, &x, &tried, "rate at a fan-in of 256");
    y_axis(canvas, area, &y, &y.ticks(5), "training loss");
    let mut sizes: Vec<&str> = Vec::new();
    for row in rows {
        if !sizes.contains(&row.size.as_str()) {
            sizes.push(&row.size);
        }
    }
    let mut labels = Labels::inside(area);
    for (i, size) in sizes.iter().enumerate() {
        let line: Vec<&RateRow> = rows.iter().copied().filter(|row| row.size == *size).collect();
        let shade = shade(i);
        let path: Vec<(f64, f64)> = line.iter().map(|row| (x.at(row.lr), y.at(row.loss))).collect();
        canvas.line(&path, 2.0, shade);
        labels.avoid_path(&path);
        if let Some(best) = best(&line) {
            canvas.dot((x.at(best.lr), y.at(best.loss)), 5.0, shade, false);
        }
        if let Some(at) = path.last() {
            labels.add(*at, ink(shade), (*size).to_owned());
        }
    }
    labels.draw(canvas);
}

/// Colours that differ, borrowed from the models.
fn shade(i: usize) -> Color {
    let names = ["gru", "lstm", "tt-mlp", "rnn", "tt-gru", "tt-lstm", "tt-rnn"];
    color(names[i % names.len()])
}
