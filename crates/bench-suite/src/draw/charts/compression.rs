//! Accuracy and relative error of factorized input matrices and kernels against the rank.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;

use crate::draw::charts::axes::{Area, Labels, Scale, header, panel_title, panels, x_axis, y_axis};
use crate::draw::charts::canvas::Canvas;
use crate::draw::charts::palette::{Color, INK, MUTED, color, ink, title};
use crate::results::compression::CompressionRow;
use crate::text::score;

/// A line's name, its colour, and what it shows of a row.
type Line = (&'static str, Color, fn(&CompressionRow) -> f64);

/// Lines of all rows.
const FACTORIZED: [Line; 2] =
    [("relative error", MUTED, |row| row.rel_error), ("factorized", INK, |row| row.acc_factorized)];

/// Lines of the rows that were trained for so many epochs.
fn trained() -> [Line; 2] {
    [
        ("fine-tuned", color("tt-gru"), |row| row.acc_finetuned),
        ("from scratch", color("tt-lstm"), |row| row.acc_scratch),
    ]
}

/// Writes `compression.svg` and `compression.png` into `dir`.
pub(crate) fn compression(dir: &Path, data: &str, rows: &[CompressionRow]) -> Result<()> {
    let mut groups: Vec<(&str, &str)> = rows.iter().map(|r| (r.model.as_str(), r.form.as_str())).collect();
    groups.dedup();
    let (height, areas) = panels(1000.0, groups.len(), 300.0, 78.0, 24.0);
    let mut canvas = Canvas::new(1000.0, height);
    let other = rows.iter().any(CompressionRow::other_format);
    let what = match (other, rows.iter().any(CompressionRow::of_kernels)) {
        (false, _) => "A trained dense input matrix as a Tensor Train",
        (true, false) => "A trained dense input matrix in small cores",
        (true, true) => "Trained layers in small cores",
    };
    header(&mut canvas, what, data);
    let mut ranks: Vec<f64> = rows.iter().map(|row| row.rank as f64).collect();
    ranks.sort_by(f64::total_cmp);
    ranks.dedup();
    for ((model, form), area) in groups.iter().zip(areas) {
        let of_group: Vec<&CompressionRow> =
            rows.iter().filter(|row| row.model == *model && row.form == *form).collect();
        let name = match form.rsplit_once('-') {
            None if *form == "separate" => "one train per gate".to_owned(),
            None => "one train for all gates".to_owned(),
            Some((format, "kernels")) => format!("kernels as {format}"),
            Some((format, "separate")) => format!("{format}, one network per gate"),
            Some((format, _)) => format!("{format}, one network for all gates"),
        };
        panel_title(&mut canvas, area, &format!("{} · {name}", title(model)));
        panel(&mut canvas, area, &of_group, &ranks);
    }
    canvas.write(dir, "compression")
}

fn panel(canvas: &mut Canvas, area: Area, rows: &[&CompressionRow], ranks: &[f64]) {
    let ends = (ranks[0] * 0.8, ranks[ranks.len() - 1] * 1.25);
    // Room at the right for the names at the ends of the lines.
    let x = Scale::log(ends, (area.left, area.right - 130.0));
    let y = Scale::linear((0.0, 1.0), (area.bottom, area.top));
    let train = rows.iter().all(|row| !row.other_format());
    x_axis(canvas, area, &x, ranks, if train { "inner TT rank" } else { "inner rank" });
    y_axis(canvas, area, &y, &y.ticks(5), "accuracy, relative error");
    let mut labels = Labels::inside(area);
    if let Some(row) = rows.first() {
        let (from, to) = ((area.left, y.at(row.acc_before)), (area.right - 130.0, y.at(row.acc_before)));
        canvas.dashed(from, to, INK);
        labels.add(to, INK, format!("dense {}", score(row.acc_before)));
    }
    let mut draw = |name: &str, (_, shade, value): Line, rows: &[&CompressionRow]| {
        let path: Vec<(f64, f64)> =
            rows.iter().map(|row| (x.at(row.rank as f64), y.at(value(row)))).collect();
        canvas.line(&path, 2.0, shade);
        for at in &path {
            canvas.dot(*at, 3.5, shade, false);
            labels.avoid(*at, 4.0);
        }
        labels.avoid_path(&path);
        if let Some(at) = path.last() {
            labels.add(*at, ink(shade), name.to_owned());
        }
    };
    for line in FACTORIZED {
        draw(line.0, line, rows);
    }
    let epochs: BTreeSet<usize> = rows.iter().map(|row| row.epochs).filter(|epochs| *epochs > 0).collect();
    for epochs in epochs {
        let rows: Vec<&CompressionRow> = rows.iter().copied().filter(|row| row.epochs == epochs).collect();
        for line in trained() {
            draw(&format!("{}, {epochs} epochs", line.0), line, &rows);
        }
    }
    labels.draw(canvas);
}
