//! Input-to-hidden weights (logarithmic) against score.

use crate::draw::charts::axes::{Area, Labels, Scale, header, panel_title, panels, x_axis, y_axis};
use crate::draw::charts::canvas::Canvas;
use crate::draw::charts::palette::{INK, color, is_dense, title};
use crate::draw::charts::{Scene, capital, spread};
use crate::paper;
use crate::text::{score, short_count};

/// Model, weights, score, ± over folds.
type Point = (String, usize, f64, Option<f64>);

pub(super) fn chart(scene: &Scene<'_>) -> Option<Canvas> {
    let mut groups: Vec<(String, Vec<Point>)> = scene
        .groups()
        .into_iter()
        .map(|(name, rows)| {
            (name, rows.iter().map(|r| (r.model.clone(), r.params_input, r.mean, r.std)).collect())
        })
        .collect();
    if groups.is_empty() {
        return None;
    }
    if let Some(panel) = scene.paper_panel() {
        let dataset = &scene.records.run_file.dataset;
        let rows = paper::PAPER_MODELS.iter().filter_map(|m| paper::result(dataset, m));
        groups.push((panel, rows.map(|r| (r.model.to_owned(), r.params_input, r.mean, r.std)).collect()));
    }
    let (height, areas) = panels(1000.0, groups.len(), 320.0, 78.0, 24.0);
    let mut canvas = Canvas::new(1000.0, height);
    let table: Vec<_> = scene.tables.table.iter().collect();
    let name = format!("{} against input-to-hidden weights", capital(scene.metric()));
    let mut without: Vec<String> =
        groups.iter().flat_map(|(_, points)| points).filter(|p| p.1 == 0).map(|p| title(&p.0)).collect();
    without.sort_unstable();
    without.dedup();
    let without = match without.join(", ") {
        none if none.is_empty() => none,
        names => format!(" · no input weights, so not shown: {names}"),
    };
    header(&mut canvas, &name, &scene.subtitle(&format!("logarithmic · {}{without}", spread(&table))));
    let all: Vec<f64> = groups.iter().flat_map(|(_, points)| points.iter().map(|p| p.1 as f64)).collect();
    for ((name, points), area) in groups.iter().zip(&areas) {
        let x = Scale::decades(all.iter().copied(), (area.left, area.right));
        let y = Scale::linear((0.0, 1.0), (area.bottom, area.top));
        panel_title(&mut canvas, *area, name);
        x_axis(&mut canvas, *area, &x, &x.ticks(0), "input-to-hidden weights");
        y_axis(&mut canvas, *area, &y, &y.ticks(5), scene.metric());
        panel(&mut canvas, *area, &x, &y, points);
    }
    Some(canvas)
}

fn panel(canvas: &mut Canvas, area: Area, x: &Scale, y: &Scale, points: &[Point]) {
    let mut labels = Labels::inside(area);
    for (model, weights, value, std) in points.iter().filter(|p| p.1 > 0) {
        let at = (x.at(*weights as f64), y.at(*value));
        if let Some(std) = std {
            let (low, high) = (y.at((value - std).max(0.0)), y.at((value + std).min(1.0)));
            canvas.line(&[(at.0, low), (at.0, high)], 1.5, INK);
        }
        canvas.dot(at, 6.0, color(model), is_dense(model));
        labels.avoid(at, 7.0);
        labels.add(at, INK, format!("{} {} ({})", title(model), score(*value), short_count(*weights)));
    }
    labels.draw(canvas);
}
