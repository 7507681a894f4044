//! Factors of an ablation whose levels are numbers: a panel per factor, a line per model, the default dashed.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts::axes::{Area, Labels, Scale, header, panel_title, panels, x_axis, y_axis};
use crate::draw::charts::canvas::Canvas;
use crate::draw::charts::palette::{color, ink, is_dense, title};
use crate::draw::charts::remove;
use crate::results::ablation::{AblationRow, About};

/// Draws `levels.svg` and `levels.png`; nothing where no factor has an axis.
pub(crate) fn levels(dir: &Path, about: &About, rows: &[AblationRow]) -> Result<()> {
    let factors: Vec<(&str, &str, Vec<&AblationRow>)> = about
        .axes
        .iter()
        .map(|(factor, axis)| (factor.as_str(), axis.as_str(), of_factor(factor, rows)))
        .filter(|(.., rows)| rows.iter().any(|row| at(row).is_some()))
        .collect();
    if factors.is_empty() {
        remove(dir, "levels");
        return Ok(());
    }
    let ends = ends(factors.iter().flat_map(|(.., rows)| rows.iter().filter_map(|row| at(row))));
    let (height, areas) = panels(1100.0, factors.len(), 340.0, 78.0, 24.0);
    let mut canvas = Canvas::new(1100.0, height);
    let subtitle = format!("{} · 95 % intervals · dashed: default", about.title);
    header(&mut canvas, "Accuracy against the level, one factor at a time", &subtitle);
    for ((factor, axis, rows), area) in factors.iter().zip(areas) {
        panel_title(&mut canvas, area, factor);
        panel(&mut canvas, area, axis, rows, ends);
    }
    canvas.write(dir, "levels")
}

/// Rows on the test folds.
fn of_factor<'a>(factor: &str, rows: &'a [AblationRow]) -> Vec<&'a AblationRow> {
    rows.iter().filter(|row| row.factor == factor && row.split == "test").collect()
}

/// The number that a level is; none for the default.
fn at(row: &AblationRow) -> Option<f64> {
    row.difference?;
    row.level.parse().ok()
}

fn ends(levels: impl Iterator<Item = f64>) -> (f64, f64) {
    levels.fold((f64::INFINITY, 0.0), |(low, high), at| (low.min(at), high.max(at)))
}

fn panel(canvas: &mut Canvas, area: Area, axis: &str, rows: &[&AblationRow], (low, high): (f64, f64)) {
    // Room at the right for the names at the ends of the lines.
    let x = Scale::log((low * 0.85, high * 1.15), (area.left, area.right - 150.0));
    let y = Scale::linear((0.0, 1.0), (area.bottom, area.top));
    let mut ticks: Vec<f64> = rows.iter().filter_map(|row| at(row)).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    x_axis(canvas, area, &x, &ticks, axis);
    y_axis(canvas, area, &y, &y.ticks(5), "accuracy");
    let mut models: Vec<&str> = rows.iter().map(|row| row.model.as_str()).collect();
    models.dedup();
    let mut labels = Labels::inside(area);
    for model in models {
        let shade = color(model);
        let of_model = || rows.iter().filter(|row| row.model == model);
        if let Some(default) = of_model().find(|row| row.difference.is_none()) {
            let y = y.at(default.mean);
            canvas.dashed((area.left, y), (area.right - 150.0, y), shade);
        }
        let mut line: Vec<(f64, &AblationRow)> =
            of_model().filter_map(|row| Some((at(row)?, *row))).collect();
        line.sort_by(|a, b| a.0.total_cmp(&b.0));
        let path: Vec<(f64, f64)> = line.iter().map(|(at, row)| (x.at(*at), y.at(row.mean))).collect();
        canvas.line(&path, 2.0, shade);
        labels.avoid_path(&path);
        for (place, (_, row)) in path.iter().zip(&line) {
            if let (Some(low), Some(high)) = (row.ci_low, row.ci_high) {
                canvas.line(&[(place.0, y.at(low)), (place.0, y.at(high))], 1.5, shade);
            }
            canvas.dot(*place, 4.0, shade, is_dense(model));
        }
        if let Some(place) = path.last() {
            labels.add(*place, ink(shade), title(model));
        }
    }
    labels.draw(canvas);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::ablation::table;
    use crate::results::ablation::tests::cell;

    #[test]
    fn only_levels_that_are_numbers_are_points() {
        let rows = [
            cell("", "", 0, "1111"),
            cell("even", "2", 0, "1000"),
            cell("even", "8", 0, "1110"),
            cell("rank", "8", 0, "1110"),
        ];
        let table = table(&rows, &vec![("even".into(), "all".into()), ("rank".into(), "4".into())]);
        let even = of_factor("even", &table);
        assert_eq!(even.iter().map(|row| at(row)).collect::<Vec<_>>(), [None, Some(2.0), Some(8.0)]);
        assert_eq!(ends(even.iter().filter_map(|row| at(row))), (2.0, 8.0));
    }
}
