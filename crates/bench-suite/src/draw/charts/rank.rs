//! Figure 1: weights of the input-to-hidden product against the TT rank.
//!
//! The fully connected layer has thousands of times more; a broken axis keeps the others apart.

use std::collections::BTreeSet;

use crate::draw::charts::Scene;
use crate::draw::charts::axes::{
    Area, HEADER, LABEL, Labels, Scale, TICK, header, tick_text, x_axis, y_axis,
};
use crate::draw::charts::canvas::{Align, Canvas};
use crate::draw::charts::palette::{INK, MUTED, color, ink, is_dense, title};
use crate::paper::RANK_LAYERS;
use crate::record::ParamsRow;
use crate::text::thousands;

pub(super) fn chart(scene: &Scene<'_>) -> Option<Canvas> {
    if !scene.records.run_file.is_of_table_1() {
        return None;
    }
    let rows = &scene.records.params;
    let ranks: BTreeSet<usize> = rows.iter().map(|r| r.rank).collect();
    let (&first, &last) = (ranks.first()?, ranks.last()?);
    let (trains, dense): (Vec<&ParamsRow>, Vec<&ParamsRow>) = rows.iter().partition(|r| r.layer != "fc");
    let mut canvas = Canvas::new(1000.0, 660.0);
    header(
        &mut canvas,
        "Weights of the input-to-hidden product against the TT rank",
        &scene.subtitle("counted in the models as built, biases and recurrence apart · logarithmic"),
    );
    let top = Area { left: 96.0, top: HEADER + 10.0, right: 970.0, bottom: HEADER + 60.0 };
    let area = Area { top: top.bottom + 24.0, bottom: 606.0, ..top };
    let pad = 0.25 * (last - first).max(1) as f64;
    let ends = (first as f64 - pad / 2.0, last as f64 + pad * 2.2);
    let x = Scale::linear(ends, (area.left, area.right));
    let low = trains.iter().map(|r| r.params).min().unwrap_or(1) as f64;
    let high = trains.iter().map(|r| r.params).max().unwrap_or(10) as f64;
    let y = Scale::log(((low * 0.8).max(1.0), high * 1.25), (area.bottom, area.top));
    fully_connected(&mut canvas, top, &x, &dense);
    let ticks: Vec<f64> = ranks.iter().map(|r| *r as f64).collect();
    x_axis(&mut canvas, area, &x, &ticks, "TT rank");
    y_axis(&mut canvas, area, &y, &round_ticks(low * 0.8, high * 1.25), "weights");
    let mut labels = Labels::inside(Area { right: 996.0, ..area });
    for layer in RANK_LAYERS.iter().filter(|l| **l != "fc") {
        let points: Vec<&&ParamsRow> = trains.iter().filter(|r| r.layer == *layer).collect();
        let path: Vec<(f64, f64)> =
            points.iter().map(|r| (x.at(r.rank as f64), y.at(r.params as f64))).collect();
        canvas.line(&path, 2.0, color(layer));
        labels.avoid_path(&path);
        for (at, row) in path.iter().zip(&points) {
            canvas.dot(*at, 5.0, color(layer), layer.starts_with("vanilla"));
            labels.avoid(*at, 6.0);
            let count = thousands(row.params);
            let text = if row.rank == last { format!("{}  {count}", title(layer)) } else { count };
            labels.add(*at, ink(color(layer)), text);
        }
    }
    labels.draw(&mut canvas);
    Some(canvas)
}

/// The strip above the break.
fn fully_connected(canvas: &mut Canvas, area: Area, x: &Scale, rows: &[&ParamsRow]) {
    let y = f64::midpoint(area.top, area.bottom);
    let path: Vec<(f64, f64)> = rows.iter().map(|r| (x.at(r.rank as f64), y)).collect();
    if let (Some(at), Some(row)) = (path.last(), rows.last()) {
        canvas.line(&path, 2.0, color("fc"));
        let text = format!("{}  {}", title("fc"), thousands(row.params));
        canvas.text((at.0 + 10.0, y), LABEL, INK, Align::Left, &text);
        canvas.text((area.left - 8.0, y), TICK, MUTED, Align::Right, &thousands(row.params));
        for at in &path {
            canvas.dot(*at, 5.0, color("fc"), is_dense("fc"));
        }
    }
    // The break of the axis.
    for dy in [0.0, 6.0] {
        let y = area.bottom + 4.0 + dy;
        canvas.line(&[(area.left - 8.0, y + 4.0), (area.left + 8.0, y - 4.0)], 1.5, MUTED);
        canvas.line(&[(area.right - 8.0, y + 4.0), (area.right + 8.0, y - 4.0)], 1.5, MUTED);
    }
}

/// 1, 2, 5 in every decade between the ends.
fn round_ticks(low: f64, high: f64) -> Vec<f64> {
    (0..9)
        .flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e)))
        .filter(|t| *t >= low && *t <= high && !tick_text(*t).is_empty())
        .collect()
}
