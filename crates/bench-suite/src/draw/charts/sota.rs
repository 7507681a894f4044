//! State of the art (Figures 3, 5, 7). A bar of ours stands here only on the official data.

use crate::draw::charts::Scene;
use crate::draw::charts::axes::{Area, HEADER, LABEL, PANEL, Scale, header, x_axis};
use crate::draw::charts::canvas::{Align, Canvas, text_width};
use crate::draw::charts::palette::{INK, NEUTRAL, WHITE, color};
use crate::results::tables::OURS;
use crate::text::score;

const ROW: f64 = 40.0;

pub(super) fn chart(scene: &Scene<'_>) -> Option<Canvas> {
    let rows = &scene.tables.sota;
    let first = rows.first()?;
    let label = |method: &str, year: u16| format!("{method}, {year}");
    let widest = rows.iter().map(|r| text_width(&label(&r.method, r.year), PANEL)).fold(0.0, f64::max);
    let area = Area {
        left: widest + 44.0,
        top: HEADER + 8.0,
        right: 960.0,
        bottom: HEADER + 8.0 + rows.len() as f64 * ROW,
    };
    let mut canvas = Canvas::new(1000.0, area.bottom + 56.0);
    let title = format!(
        "State of the art on {} (Figure {})",
        scene.paper_title().unwrap_or(&first.dataset),
        first.figure
    );
    let ours = rows.iter().any(|r| r.source == OURS);
    let more = if ours { "published values and ours" } else { "published values only" };
    let subtitle = if scene.records.run_file.is_sample() {
        format!("{}: a {} draws no bar here", more, scene.subtitle(""))
    } else {
        scene.subtitle(more)
    };
    header(&mut canvas, &title, &subtitle);
    let scale = Scale::linear((0.0, 1.0), (area.left, area.right - 40.0));
    x_axis(&mut canvas, area, &scale, &scale.ticks(5), scene.metric());
    for (i, row) in rows.iter().enumerate() {
        let y = area.top + (i as f64 + 0.5) * ROW;
        let is_paper = row.method.starts_with("Yang");
        let fill = match (is_paper, row.source == OURS) {
            (true, _) => color("tt-gru"),
            (_, true) => color("tt-lstm"),
            _ => NEUTRAL,
        };
        canvas.text((area.left - 10.0, y), PANEL, INK, Align::Right, &label(&row.method, row.year));
        let end = scale.at(row.value);
        canvas.rect((area.left, y - 12.0), (end, y + 12.0), fill, 1.0);
        let ink = if fill == NEUTRAL { INK } else { WHITE };
        canvas.text((end - 8.0, y), LABEL, ink, Align::Right, &score(row.value));
    }
    Some(canvas)
}
