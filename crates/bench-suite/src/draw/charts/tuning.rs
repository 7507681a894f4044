//! Expected best score on the inner split against the number of draws, a line per model.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts::axes::{Area, HEADER, Labels, Scale, header, x_axis, y_axis};
use crate::draw::charts::canvas::Canvas;
use crate::draw::charts::palette::{color, ink, title};
use crate::text::score;

/// Draws `tuning.svg` and `tuning.png`; `curves` holds a value after each number of draws.
pub(crate) fn tuning(dir: &Path, data: &str, curves: &[(String, Vec<f64>)]) -> Result<()> {
    let most = curves.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
    if most == 0 {
        return Ok(());
    }
    let mut canvas = Canvas::new(900.0, 520.0);
    header(
        &mut canvas,
        "What a budget buys: expected best score of so many draws",
        &format!("{data} · inner split"),
    );
    let area = Area { left: 78.0, top: HEADER + 10.0, right: 876.0, bottom: 460.0 };
    // Room at the right for the names at the ends of the lines.
    let x = Scale::linear((0.0, most as f64), (area.left, area.right - 190.0));
    let y = Scale::linear((0.0, 1.0), (area.bottom, area.top));
    let ticks: Vec<f64> = x.ticks(8).into_iter().filter(|tick| tick.fract() == 0.0).collect();
    x_axis(&mut canvas, area, &x, &ticks, "draws");
    y_axis(&mut canvas, area, &y, &y.ticks(5), "accuracy");
    let mut labels = Labels::inside(area);
    for (model, values) in curves {
        let path: Vec<(f64, f64)> =
            values.iter().enumerate().map(|(n, value)| (x.at((n + 1) as f64), y.at(*value))).collect();
        let (Some(at), Some(value)) = (path.last(), values.last()) else { continue };
        canvas.line(&path, 2.0, color(model));
        labels.avoid_path(&path);
        canvas.dot(*at, 4.0, color(model), false);
        labels.avoid(*at, 5.0);
        labels.add(*at, ink(color(model)), format!("{} {}", title(model), score(*value)));
    }
    labels.draw(&mut canvas);
    canvas.write(dir, "tuning")
}
