//! Score against input weights, a line and a band of its intervals for each format, a panel for each cell.

use crate::draw::charts::axes::{
    Area, Labels, Scale, header, panel_title, panels, round_steps, x_axis, y_axis,
};
use crate::draw::charts::canvas::Canvas;
use crate::draw::charts::palette::{Color, color, ink};
use crate::draw::charts::{Scene, capital, group_title};
use crate::results::formats::FormatRow;
use crate::text::score;

/// Half the width of the caps of an interval.
const CAP: f64 = 4.0;

pub(super) fn chart(scene: &Scene<'_>) -> Option<Canvas> {
    let mut groups: Vec<(String, Vec<&FormatRow>)> = Vec::new();
    for row in scene.formats {
        let name =
            format!("{}, {}", row.cell.to_uppercase(), group_title(&row.row.protocol, &row.row.recipe));
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((name, vec![row])),
        }
    }
    if groups.is_empty() {
        return None;
    }
    let (height, areas) = panels(1100.0, groups.len(), 380.0, 78.0, 24.0);
    let mut canvas = Canvas::new(1100.0, height);
    let name = format!("{} against input weights, by format", capital(scene.metric()));
    header(&mut canvas, &name, &scene.subtitle("logarithmic · mean over folds, 95 % interval"));
    let weights = || scene.formats.iter().map(|row| row.row.params_input.max(1) as f64);
    let least = weights().fold(f64::INFINITY, f64::min);
    let ticks = round_steps(least, weights().fold(0.0, f64::max));
    for ((name, rows), area) in groups.iter().zip(areas) {
        // Cells of one protocol are to be compared, protocols are not.
        let beside = |row: &&FormatRow| {
            (&row.row.protocol, &row.row.recipe) == (&rows[0].row.protocol, &rows[0].row.recipe)
        };
        let ends = scene.formats.iter().filter(beside).map(interval);
        let (low, high) = ends.fold((1.0_f64, 0.0_f64), |(low, high), (l, h)| (low.min(l), high.max(h)));
        // Room at the right for names at the ends of the lines.
        let x = Scale::log((ticks[0], ticks[ticks.len() - 1]), (area.left, area.right - 96.0));
        let y = Scale::linear(((low - 0.01).max(0.0), (high + 0.01).min(1.0)), (area.bottom, area.top));
        panel_title(&mut canvas, area, name);
        x_axis(&mut canvas, area, &x, &ticks, "input-to-hidden weights");
        y_axis(&mut canvas, area, &y, &y.ticks(5), scene.metric());
        panel(&mut canvas, area, (&x, &y), rows);
    }
    Some(canvas)
}

/// The interval of a row's score, the score alone where there is none.
fn interval(row: &FormatRow) -> (f64, f64) {
    let row = &row.row;
    (row.ci_low.unwrap_or(row.mean), row.ci_high.unwrap_or(row.mean))
}

fn panel(canvas: &mut Canvas, area: Area, (x, y): (&Scale, &Scale), rows: &[&FormatRow]) {
    let mut labels = Labels::inside(area);
    let mut lines = Vec::new();
    for row in rows {
        if lines.last().is_none_or(|line: &Vec<&FormatRow>| line[0].format != row.format) {
            lines.push(Vec::new());
        }
        lines.last_mut().into_iter().for_each(|line| line.push(row));
    }
    for line in lines {
        let shade = shade(line[0].format);
        let at = |row: &FormatRow, value: f64| (x.at(row.row.params_input.max(1) as f64), y.at(value));
        let path: Vec<(f64, f64)> = line.iter().map(|row| at(row, row.row.mean)).collect();
        if path.len() > 1 {
            let below = line.iter().map(|row| at(row, interval(row).0));
            let above = line.iter().rev().map(|row| at(row, interval(row).1));
            canvas.area(below.chain(above).collect(), shade, 0.12);
        }
        canvas.line(&path, 2.0, shade);
        labels.avoid_path(&path);
        for (row, dot) in line.iter().zip(&path) {
            let (low, high) = interval(row);
            for end in [at(row, low), at(row, high)] {
                canvas.line(&[*dot, end], 1.0, shade);
                canvas.line(&[(end.0 - CAP, end.1), (end.0 + CAP, end.1)], 1.0, shade);
            }
            canvas.dot(*dot, 4.5, shade, false);
            labels.avoid(*dot, 5.5);
        }
        if let (Some(dot), Some(row)) = (path.last(), line.last()) {
            labels.add(*dot, ink(shade), format!("{} {}", row.format.to_uppercase(), score(row.row.mean)));
        }
    }
    labels.draw(canvas);
}

/// A colour per format, whatever the cell: that of its LSTM, which is the darker one.
fn shade(format: &str) -> Color {
    color(&if format == "tt" { "tt-gru".to_owned() } else { format!("{format}-lstm") })
}
