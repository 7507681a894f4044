//! Training curves: score per epoch, mean over folds and seeds, on the test folds and on the training clips.

use std::collections::BTreeMap;

use crate::draw::charts::axes::{Area, Labels, Scale, header, panel_title, panels, x_axis, y_axis};
use crate::draw::charts::canvas::Canvas;
use crate::draw::charts::palette::{color, ink, title};
use crate::draw::charts::{Scene, group_title};
use crate::results::CurveRow;
use crate::spec::MODEL_NAMES;
use crate::text::score;

/// Epoch and mean score per model.
type Lines = Vec<(String, Vec<(usize, f64)>)>;

pub(super) fn chart(scene: &Scene<'_>) -> Option<Canvas> {
    let mut panes: Vec<(String, Lines)> = Vec::new();
    for (name, rows) in scene.groups() {
        let of_group = |row: &&CurveRow| group_title(&row.protocol, &row.recipe) == name;
        let curves: Vec<&CurveRow> = scene.records.curves.iter().filter(of_group).collect();
        if rows.is_empty() || curves.is_empty() {
            continue;
        }
        panes.push((format!("test folds · {name}"), lines(&curves, |c| c.test_value)));
        panes.push((format!("training clips · {name}"), lines(&curves, |c| Some(c.train_value))));
    }
    if panes.is_empty() {
        return None;
    }
    let (height, areas) = panels(1000.0, panes.len(), 300.0, 78.0, 24.0);
    let mut canvas = Canvas::new(1000.0, height);
    let more = "mean over folds; the test folds choose nothing, the last epoch counts";
    header(&mut canvas, "Training curves", &scene.subtitle(more));
    let last = scene.records.curves.iter().map(|c| c.epoch).max().unwrap_or(1);
    for ((name, lines), area) in panes.iter().zip(&areas) {
        panel_title(&mut canvas, *area, name);
        panel(&mut canvas, *area, lines, last, scene.metric());
    }
    Some(canvas)
}

fn lines(rows: &[&CurveRow], value: impl Fn(&CurveRow) -> Option<f64>) -> Lines {
    MODEL_NAMES
        .iter()
        .filter_map(|model| {
            let mut by_epoch: BTreeMap<usize, (f64, usize)> = BTreeMap::new();
            for row in rows.iter().filter(|r| r.model == *model) {
                if let Some(value) = value(row) {
                    let (sum, count) = by_epoch.entry(row.epoch).or_default();
                    *sum += value;
                    *count += 1;
                }
            }
            let points: Vec<(usize, f64)> =
                by_epoch.into_iter().map(|(epoch, (sum, n))| (epoch, sum / n as f64)).collect();
            (!points.is_empty()).then(|| ((*model).to_owned(), points))
        })
        .collect()
}

fn panel(canvas: &mut Canvas, area: Area, lines: &Lines, last: usize, metric: &str) {
    // Room at the right for the names at the ends of the lines.
    let x = Scale::linear((0.0, last as f64), (area.left, area.right - 108.0));
    let y = Scale::linear((0.0, 1.0), (area.bottom, area.top));
    let ticks: Vec<f64> = x.ticks(5).into_iter().filter(|t| t.fract() == 0.0).collect();
    x_axis(canvas, area, &x, &ticks, "epoch");
    y_axis(canvas, area, &y, &y.ticks(5), metric);
    let mut labels = Labels::inside(area);
    for (model, points) in lines {
        let path: Vec<(f64, f64)> = points.iter().map(|(e, v)| (x.at(*e as f64), y.at(*v))).collect();
        canvas.line(&path, 2.0, color(model));
        labels.avoid_path(&path);
        if let (Some(at), Some((_, value))) = (path.last(), points.last()) {
            canvas.dot(*at, 4.0, color(model), false);
            labels.avoid(*at, 5.0);
            labels.add(*at, ink(color(model)), format!("{} {}", title(model), score(*value)));
        }
    }
    labels.draw(canvas);
}
