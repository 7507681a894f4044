//! How fast the singular values of a dense input matrix fall, before and after training.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts::axes::{Labels, Scale, header, panel_title, panels, x_axis, y_axis};
use crate::draw::charts::canvas::Canvas;
use crate::draw::charts::palette::{Color, INK, color, ink, title};
use crate::record::SingularValue;

/// A matrix, its name in the chart, its colour.
fn matrices() -> [(&'static str, &'static str, Color); 3] {
    [
        ("trained", "trained", INK),
        ("initial", "initial", color("tt-gru")),
        ("change", "trained - initial", color("tt-lstm")),
    ]
}

/// Writes `singular_values.svg` and `singular_values.png` into `dir`.
pub(crate) fn singular_values(dir: &Path, data: &str, rows: &[SingularValue]) -> Result<()> {
    let mut groups: Vec<(&str, usize)> = rows.iter().map(|r| (r.model.as_str(), r.unfolding)).collect();
    groups.sort_unstable();
    groups.dedup();
    let (height, areas) = panels(1000.0, groups.len(), 300.0, 78.0, 24.0);
    let mut canvas = Canvas::new(1000.0, height);
    header(
        &mut canvas,
        "Singular values of a dense input matrix, all gates",
        &format!("{data} · logarithmic"),
    );
    for ((model, unfolding), area) in groups.iter().zip(areas) {
        let of_panel = || rows.iter().filter(|row| row.model == *model && row.unfolding == *unfolding);
        let last = of_panel().map(|row| row.index).max().unwrap_or(1).max(2) as f64;
        // Room at the right for the names at the ends of the lines.
        let x = Scale::log((1.0, last), (area.left, area.right - 120.0));
        let y = Scale::decades(
            of_panel().map(|row| row.singular_value).filter(|v| *v > 1e-4),
            (area.bottom, area.top),
        );
        panel_title(&mut canvas, area, &format!("{} · unfolding {unfolding}", title(model)));
        x_axis(&mut canvas, area, &x, &x.ticks(0), "index");
        y_axis(&mut canvas, area, &y, &y.ticks(0), "singular value");
        let mut labels = Labels::inside(area);
        for (matrix, name, shade) in matrices() {
            let values = of_panel().filter(|row| row.matrix == matrix && row.singular_value > 1e-4);
            let path: Vec<(f64, f64)> =
                values.map(|row| (x.at(row.index as f64), y.at(row.singular_value))).collect();
            canvas.line(&path, 2.0, shade);
            labels.avoid_path(&path);
            if let Some(at) = path.last() {
                labels.add(*at, ink(shade), name.to_owned());
            }
        }
        labels.draw(&mut canvas);
    }
    canvas.write(dir, "singular_values")
}
