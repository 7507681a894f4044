//! Training curves: score per epoch, mean over folds and seeds, on the test folds and on the training clips.

use std::collections::{BTreeMap, BTreeSet};

use crate::draw::charts::axes::{Area, LABEL, Labels, Scale, header, panel_title, panels, x_axis, y_axis};
use crate::draw::charts::canvas::{Canvas, text_width};
use crate::draw::charts::palette::{color, ink, title};
use crate::draw::charts::{Scene, group_title};
use crate::results::CurveRow;
use crate::spec::MODEL_NAMES;
use crate::stats;
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

/// A line per model, from the first epoch that all of its cells have. A cell whose training has ended stands with its last
/// score, so that the line ends where the tables are.
fn lines(rows: &[&CurveRow], value: impl Fn(&CurveRow) -> Option<f64>) -> Lines {
    let line = |model: &str| {
        let mut cells: BTreeMap<(usize, u64), BTreeMap<usize, f64>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.model == model) {
            if let Some(value) = value(row) {
                cells.entry((row.fold, row.seed)).or_default().insert(row.epoch, value);
            }
        }
        let epochs: BTreeSet<usize> = cells.values().flat_map(|cell| cell.keys().copied()).collect();
        let mean = |epoch: usize| {
            let so_far = cells.values().map(|cell| Some(*cell.range(..=epoch).next_back()?.1));
            stats::mean(&so_far.collect::<Option<Vec<f64>>>()?)
        };
        epochs.into_iter().filter_map(|epoch| Some((epoch, mean(epoch)?))).collect::<Vec<_>>()
    };
    let named = MODEL_NAMES.iter().map(|model| ((*model).to_owned(), line(model)));
    named.filter(|(_, points)| !points.is_empty()).collect()
}

/// What stands at the end of a line.
fn label(model: &str, value: f64) -> String {
    format!("{} {}", title(model), score(value))
}

fn panel(canvas: &mut Canvas, area: Area, lines: &Lines, last: usize, metric: &str) {
    // Room at the right for the names at the ends of the lines.
    let ends = lines.iter().filter_map(|(model, points)| Some(label(model, points.last()?.1)));
    let room = ends.map(|text| text_width(&text, LABEL) + 18.0).fold(108.0, f64::max);
    let x = Scale::linear((0.0, last as f64), (area.left, area.right - room));
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
            labels.add(*at, ink(color(model)), label(model, *value));
        }
    }
    labels.draw(canvas);
}
