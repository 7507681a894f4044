//! What the paper leaves open: a panel per factor, a row per level, a mark per model.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts::axes::{Area, LABEL, Scale, TICK, header, panel_title, panels_of, x_axis};
use crate::draw::charts::canvas::{Align, Canvas, text_width};
use crate::draw::charts::palette::{INK, MUTED, color, ink, is_dense, title};
use crate::results::ablation::AblationRow;
use crate::text::score;

/// Height of a mark's row.
const MARK: f64 = 17.0;

/// Draws `ablation.svg` and `ablation.png` beside `ablation.csv`.
pub(crate) fn ablation(dir: &Path, data: &str, rows: &[AblationRow]) -> Result<()> {
    let mut factors: Vec<(String, Vec<&AblationRow>)> = Vec::new();
    for row in rows {
        let split = if row.split == "inner" { ", inner split" } else { "" };
        let name = format!("{}{split}", row.factor);
        match factors.iter_mut().find(|(factor, _)| *factor == name) {
            Some((_, of_factor)) => of_factor.push(row),
            None => factors.push((name, vec![row])),
        }
    }
    if factors.is_empty() {
        return Ok(());
    }
    let heights: Vec<f64> = factors.iter().map(|(_, rows)| rows.len() as f64 * MARK + 10.0).collect();
    let widest = |texts: &mut dyn Iterator<Item = f64>| texts.fold(0.0, f64::max);
    let names = widest(&mut rows.iter().map(|row| text_width(&title(&row.model), TICK)));
    let levels = widest(&mut rows.iter().map(|row| text_width(&row.level, TICK)));
    let left = names + levels + 34.0;
    let (height, areas) = panels_of(1100.0, &heights, left, 30.0);
    let mut canvas = Canvas::new(1100.0, height);
    header(&mut canvas, "What the paper leaves open, one factor at a time", &format!("{data} · accuracy"));
    for ((name, rows), area) in factors.iter().zip(&areas) {
        panel(&mut canvas, *area, (name, left), rows);
    }
    canvas.write(dir, "ablation")
}

fn panel(canvas: &mut Canvas, area: Area, (name, left): (&str, f64), rows: &[&AblationRow]) {
    let scale = Scale::linear((0.0, 1.0), (area.left, area.right - 40.0));
    panel_title(canvas, area, name);
    x_axis(canvas, area, &scale, &scale.ticks(5), "");
    let mut models: Vec<&str> = Vec::new();
    for row in rows {
        if !models.contains(&row.model.as_str()) {
            models.push(&row.model);
        }
    }
    let mut y = area.top + MARK * 0.5 + 3.0;
    for model in models {
        let shade = color(model);
        for row in rows.iter().filter(|row| row.model == model) {
            if row.difference.is_none() {
                canvas.text((area.left - left + 6.0, y), TICK, ink(shade), Align::Left, &title(model));
            }
            canvas.text((area.left - 8.0, y), TICK, INK, Align::Right, &row.level);
            if let (Some(low), Some(high)) = (row.ci_low, row.ci_high) {
                canvas.line(&[(scale.at(low), y), (scale.at(high), y)], 1.5, shade);
            }
            canvas.dot((scale.at(row.mean), y), 4.0, shade, is_dense(model));
            let right = row.ci_high.unwrap_or(row.mean).max(row.mean);
            let ink = if row.difference.is_none() { INK } else { MUTED };
            canvas.text((scale.at(right) + 8.0, y), LABEL - 1.0, ink, Align::Left, &score(row.mean));
            y += MARK;
        }
    }
}
