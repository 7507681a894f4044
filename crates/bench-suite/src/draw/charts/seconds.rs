//! Seconds per training epoch, logarithmic; the paper's seconds, from its own machine, in their own panel.

use std::collections::BTreeSet;

use crate::draw::charts::Scene;
use crate::draw::charts::axes::{
    Area, LABEL, PANEL, Scale, header, left_of_names, panel_title, panels, x_axis,
};
use crate::draw::charts::canvas::{Align, Canvas, text_width};
use crate::draw::charts::palette::{INK, MUTED, WHITE, color, is_dense, title};
use crate::paper;
use crate::text::thousands;

pub(super) const ROW: f64 = 38.0;

/// Model and its value; none where it was not measured.
pub(super) type Mark = (String, Option<f64>);

/// The chart; none where no model was alone on the cores, so that none has seconds.
pub(super) fn chart(scene: &Scene<'_>) -> Option<Canvas> {
    let mut groups: Vec<(String, Vec<Mark>)> = scene
        .groups()
        .into_iter()
        .map(|(name, rows)| (name, rows.iter().map(|r| (r.model.clone(), r.epoch_s)).collect()))
        .collect();
    if !groups.iter().flat_map(|(_, marks)| marks).any(|(_, seconds)| seconds.is_some()) {
        return None;
    }
    if let Some(panel) = scene.paper_panel() {
        let dataset = &scene.records.run_file.dataset;
        let rows = paper::PAPER_MODELS.iter().filter_map(|m| paper::result(dataset, m));
        groups.push((panel, rows.map(|r| (r.model.to_owned(), Some(r.epoch_s))).collect()));
    }
    let rows = groups.iter().map(|(_, marks)| marks.len()).max().unwrap_or_default();
    let left = left_of_names(groups.iter().flat_map(|(_, marks)| marks).map(|(model, _)| title(model)));
    let (height, areas) = panels(1000.0, groups.len(), rows as f64 * ROW, left, 34.0);
    let mut canvas = Canvas::new(1000.0, height);
    let by = scene.records.run_file.runs.iter().flat_map(|run| &run.provenance);
    let processors: BTreeSet<&str> = by.map(|provenance| provenance.machine.cpu.as_str()).collect();
    let processors = processors.into_iter().collect::<Vec<_>>().join(", ");
    let more = format!("logarithmic, first epoch left out · {processors}");
    header(&mut canvas, "Seconds per training epoch", &scene.subtitle(&more));
    for ((name, marks), area) in groups.iter().zip(&areas) {
        lollipops(&mut canvas, *area, name, marks, "seconds per epoch", seconds, &[]);
    }
    Some(canvas)
}

/// Seconds with the digits that matter, in one unit, so that rows compare.
pub(super) fn seconds(s: f64) -> String {
    match s {
        s if s < 10.0 => format!("{s:.2} s"),
        s if s < 100.0 => format!("{s:.1} s"),
        s => format!("{} s", thousands(s.round() as usize)),
    }
}

/// A row per model: a line from the axis to a dot, on a logarithmic scale over whole decades that holds `others` too, so
/// that panels compare.
pub(super) fn lollipops(
    canvas: &mut Canvas,
    area: Area,
    name: &str,
    marks: &[Mark],
    axis: &str,
    text: impl Fn(f64) -> String,
    others: &[f64],
) {
    let values = marks.iter().filter_map(|m| m.1).chain(others.iter().copied());
    let scale = Scale::decades(values, (area.left, area.right - 76.0));
    panel_title(canvas, area, name);
    x_axis(canvas, area, &scale, &scale.ticks(0), axis);
    for (i, (model, value)) in marks.iter().enumerate() {
        let y = area.top + (i as f64 + 0.5) * ROW;
        canvas.text((area.left - 10.0, y), PANEL, INK, Align::Right, &title(model));
        let Some(value) = value.filter(|v| *v > 0.0) else {
            canvas.text((area.left + 8.0, y), LABEL, MUTED, Align::Left, "not measured");
            continue;
        };
        let x = scale.at(value);
        canvas.line(&[(area.left, y), (x, y)], 3.0, color(model));
        canvas.dot((x, y), 6.0, color(model), is_dense(model));
        let text = text(value);
        canvas.rect((x + 11.0, y - 9.0), (x + 15.0 + text_width(&text, LABEL), y + 9.0), WHITE, 0.85);
        canvas.text((x + 13.0, y), LABEL, INK, Align::Left, &text);
    }
}
