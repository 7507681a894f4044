//! Score per model, with error bars; the paper's values in a panel of their own.

use crate::draw::charts::axes::{
    Area, LABEL, PANEL, Scale, TICK, header, left_of_names, panel_title, panels, x_axis,
};
use crate::draw::charts::canvas::{Align, Canvas, text_width};
use crate::draw::charts::palette::{Color, INK, MUTED, WHITE, color, title};
use crate::draw::charts::{Scene, capital, spread};
use crate::paper;
use crate::text::score;

/// A bar with its error.
struct Bar {
    model: String,
    value: f64,
    std: Option<f64>,
}

const ROW: f64 = 38.0;

pub(super) fn chart(scene: &Scene<'_>) -> Option<Canvas> {
    let mut groups: Vec<(String, Vec<Bar>, Option<f64>)> = scene
        .groups()
        .into_iter()
        .map(|(title, rows)| {
            let bars = rows.iter().map(|r| Bar { model: r.model.clone(), value: r.mean, std: r.std });
            (title, bars.collect(), scene.chance())
        })
        .collect();
    if groups.is_empty() {
        return None;
    }
    if let Some(panel) = scene.paper_panel() {
        let classes = paper::dataset(&scene.records.run_file.dataset).map(|d| d.classes as f64);
        groups.push((panel, paper(scene), scene.chance().and(classes).map(|k| 1.0 / k)));
    }
    let rows = groups.iter().map(|(_, bars, _)| bars.len()).max().unwrap_or_default();
    let left = left_of_names(groups.iter().flat_map(|(_, bars, _)| bars).map(|bar| title(&bar.model)));
    let (height, areas) = panels(1000.0, groups.len(), rows as f64 * ROW, left, 30.0);
    let mut canvas = Canvas::new(1000.0, height);
    let table: Vec<_> = scene.tables.table.iter().collect();
    let name = format!("{} of the final epoch on the test folds", capital(scene.metric()));
    header(&mut canvas, &name, &scene.subtitle(&spread(&table)));
    for ((title, bars, chance), area) in groups.iter().zip(&areas) {
        panel(&mut canvas, *area, title, bars, scene.metric(), *chance);
    }
    Some(canvas)
}

fn paper(scene: &Scene<'_>) -> Vec<Bar> {
    let dataset = &scene.records.run_file.dataset;
    let rows = paper::PAPER_MODELS.iter().filter_map(|m| paper::result(dataset, m));
    rows.map(|r| Bar { model: r.model.to_owned(), value: r.mean, std: r.std }).collect()
}

fn panel(canvas: &mut Canvas, area: Area, name: &str, bars: &[Bar], metric: &str, chance: Option<f64>) {
    let scale = Scale::linear((0.0, 1.0), (area.left, area.right - 84.0));
    panel_title(canvas, area, name);
    x_axis(canvas, area, &scale, &scale.ticks(5), metric);
    if let Some(chance) = chance {
        let x = scale.at(chance);
        canvas.dashed((x, area.top), (x, area.bottom), MUTED);
        canvas.text(
            (x + 4.0, area.top - 3.0),
            TICK - 1.0,
            MUTED,
            Align::Left,
            &format!("chance {chance:.2}"),
        );
    }
    for (i, bar) in bars.iter().enumerate() {
        let y = area.top + (i as f64 + 0.5) * ROW;
        row(canvas, (area.left, y), &scale, bar);
    }
}

fn row(canvas: &mut Canvas, (left, y): (f64, f64), scale: &Scale, bar: &Bar) {
    let fill: Color = color(&bar.model);
    canvas.text((left - 10.0, y), PANEL, INK, Align::Right, &title(&bar.model));
    let end = scale.at(bar.value);
    canvas.rect((left, y - 11.0), (end, y + 11.0), fill, 1.0);
    let mut text = score(bar.value);
    let mut right = end;
    if let Some(std) = bar.std {
        let (low, high) = (scale.at((bar.value - std).max(0.0)), scale.at((bar.value + std).min(1.0)));
        canvas.line(&[(low, y), (high, y)], 1.5, INK);
        for x in [low, high] {
            canvas.line(&[(x, y - 5.0), (x, y + 5.0)], 1.5, INK);
        }
        text = format!("{text} ± {}", score(std));
        right = right.max(high);
    }
    let (from, to) = (right + 6.0, right + 10.0 + text_width(&text, LABEL));
    canvas.rect((from, y - 9.0), (to, y + 9.0), WHITE, 0.85);
    canvas.text((right + 8.0, y), LABEL, INK, Align::Left, &text);
}
