//! Scales, ticks, titles and labels that do not overlap.

use crate::draw::charts::canvas::{Align, Canvas, text_width};
use crate::draw::charts::palette::{Color, GRID, INK, MUTED, WHITE};
use crate::text::thousands;

/// Sizes of texts in logical pixels.
pub(crate) const TITLE: f64 = 20.0;
pub(crate) const SUBTITLE: f64 = 13.5;
pub(crate) const PANEL: f64 = 14.5;
pub(crate) const LABEL: f64 = 13.0;
pub(crate) const TICK: f64 = 12.0;

/// Height taken by title and subtitle.
pub(crate) const HEADER: f64 = 72.0;

/// Draws title and subtitle.
pub(crate) fn header(canvas: &mut Canvas, title: &str, subtitle: &str) {
    canvas.text((24.0, 26.0), TITLE, INK, Align::Left, title);
    canvas.text((24.0, 50.0), SUBTITLE, MUTED, Align::Left, subtitle);
}

/// A rectangle of the canvas.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Area {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

/// From values to pixels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    /// Values `low..high` at pixels `from..to`.
    pub(crate) fn linear((low, high): (f64, f64), (from, to): (f64, f64)) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { low, high, from, to, log: false }
    }

    /// The same on a logarithmic axis; both ends must be positive.
    pub(crate) fn log((low, high): (f64, f64), pixels: (f64, f64)) -> Self {
        Self { log: true, ..Self::linear((low.log10(), high.log10()), pixels) }
    }

    /// A logarithmic scale over whole decades around the values.
    pub(crate) fn decades(values: impl Iterator<Item = f64> + Clone, pixels: (f64, f64)) -> Self {
        let low = values.clone().filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
        let high = values.fold(0.0, f64::max);
        let (low, high) = if low.is_finite() { (low, high) } else { (1.0, 10.0) };
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        Self { log: true, ..Self::linear((low, if high > low { high } else { low + 1.0 }), pixels) }
    }

    /// Pixel of a value.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Values to mark: powers of ten, or about `count` round steps.
    pub(crate) fn ticks(&self, count: usize) -> Vec<f64> {
        if self.log {
            return (self.low.ceil() as i32..=self.high.floor() as i32).map(|e| 10f64.powi(e)).collect();
        }
        let raw = (self.high - self.low) / count.max(1) as f64;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].iter().map(|s| s * power).find(|s| *s >= raw * 0.999).unwrap_or(raw);
        let first = (self.low / step - 1e-9).ceil() as i64;
        let last = (self.high / step + 1e-9).floor() as i64;
        (first..=last).map(|i| i as f64 * step).collect()
    }
}

/// 1, 2, 5 in every decade, those between the ends and one beyond each.
pub(crate) fn round_steps(low: f64, high: f64) -> Vec<f64> {
    let all: Vec<f64> = (0..9).flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e))).collect();
    let first = all.iter().rposition(|t| *t <= low).unwrap_or(0);
    let last = all.iter().position(|t| *t >= high && *t > low).unwrap_or(all.len() - 1);
    all[first..=last.max(first + 1)].to_vec()
}

/// A tick's text: `0.2`, `10,000`, `100 M`.
pub(crate) fn tick_text(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{} G", v / 1e9),
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e3 => thousands(v as usize),
        v => format!("{}", (v * 1e6).round() / 1e6),
    }
}

/// Vertical grid lines with texts below, and what the axis is.
pub(crate) fn x_axis(canvas: &mut Canvas, area: Area, scale: &Scale, ticks: &[f64], name: &str) {
    for &tick in ticks {
        let x = scale.at(tick);
        canvas.line(&[(x, area.top), (x, area.bottom)], 1.0, GRID);
        canvas.text((x, area.bottom + 13.0), TICK, MUTED, Align::Center, &tick_text(tick));
    }
    let middle = f64::midpoint(area.left, area.right);
    canvas.text((middle, area.bottom + 33.0), LABEL, INK, Align::Center, name);
}

/// Horizontal grid lines with texts to the left.
pub(crate) fn y_axis(canvas: &mut Canvas, area: Area, scale: &Scale, ticks: &[f64], name: &str) {
    for &tick in ticks {
        let y = scale.at(tick);
        canvas.line(&[(area.left, y), (area.right, y)], 1.0, GRID);
        canvas.text((area.left - 8.0, y), TICK, MUTED, Align::Right, &tick_text(tick));
    }
    if !name.is_empty() {
        canvas.turned((area.left - 52.0, f64::midpoint(area.top, area.bottom)), LABEL, name);
    }
}

/// Splits the space below the header into panels of equal size, two in a row, with room for axis texts.
pub(crate) fn panels(width: f64, count: usize, panel_height: f64, left: f64, right: f64) -> (f64, Vec<Area>) {
    panels_of(width, &vec![panel_height; count], left, right)
}

/// Splits it into panels of these heights; a row is as high as its highest.
pub(crate) fn panels_of(width: f64, heights: &[f64], left: f64, right: f64) -> (f64, Vec<Area>) {
    let columns = heights.len().clamp(1, 2);
    let column = width / columns as f64;
    let (mut areas, mut below) = (Vec::with_capacity(heights.len()), HEADER);
    for row in heights.chunks(columns) {
        let top = below + 34.0;
        areas.extend(row.iter().enumerate().map(|(at, height)| Area {
            left: at as f64 * column + left,
            top,
            right: (at + 1) as f64 * column - right,
            bottom: top + height,
        }));
        below += row.iter().fold(0.0, |most: f64, height| most.max(*height)) + 96.0;
    }
    (below, areas)
}

/// Pixels that names left of a panel's rows need.
pub(crate) fn left_of_names(names: impl Iterator<Item = String>) -> f64 {
    names.map(|name| text_width(&name, PANEL) + 22.0).fold(96.0, f64::max)
}

/// Title above a panel.
pub(crate) fn panel_title(canvas: &mut Canvas, area: Area, title: &str) {
    canvas.text((area.left, area.top - 22.0), PANEL, INK, Align::Left, title);
}

/// Labels at points, moved until none covers another or a mark.
#[derive(Debug)]
pub(crate) struct Labels {
    bounds: Area,
    taken: Vec<Area>,
    pending: Vec<((f64, f64), Color, String)>,
}

impl Labels {
    /// Labels that stay inside `bounds`.
    pub(crate) fn inside(bounds: Area) -> Self {
        Self { bounds, taken: Vec::new(), pending: Vec::new() }
    }

    /// Keeps labels off a mark.
    pub(crate) fn avoid(&mut self, (x, y): (f64, f64), radius: f64) {
        self.taken.push(Area { left: x - radius, top: y - radius, right: x + radius, bottom: y + radius });
    }

    /// Keeps labels off a line.
    pub(crate) fn avoid_path(&mut self, path: &[(f64, f64)]) {
        for pair in path.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let steps = ((b.0 - a.0).hypot(b.1 - a.1) / 6.0).ceil().max(1.0);
            for i in 0..=steps as usize {
                let share = i as f64 / steps;
                self.avoid((a.0 + (b.0 - a.0) * share, a.1 + (b.1 - a.1) * share), 1.0);
            }
        }
    }

    /// A label for the mark at `at`.
    pub(crate) fn add(&mut self, at: (f64, f64), color: Color, text: String) {
        self.pending.push((at, color, text));
    }

    /// Draws the labels, with a leader where one stands far from its mark.
    pub(crate) fn draw(mut self, canvas: &mut Canvas) {
        for ((x, y), color, text, spot) in self.place() {
            let middle = f64::midpoint(spot.top, spot.bottom);
            if (middle - y).abs() > 11.0 {
                let edge = if spot.left > x { spot.left - 2.0 } else { spot.right + 2.0 };
                canvas.line(&[(x, y), (edge, middle)], 1.0, color);
            }
            canvas.rect(
                (spot.left - 1.0, spot.top + 1.0),
                (spot.right + 1.0, spot.bottom - 1.0),
                WHITE,
                0.75,
            );
            canvas.text((spot.left, middle), LABEL, color, Align::Left, &text);
        }
    }

    /// Places the labels from the top: right of its mark, else left, else further up or down.
    fn place(&mut self) -> Vec<((f64, f64), Color, String, Area)> {
        self.pending.sort_by(|a, b| a.0.1.total_cmp(&b.0.1).then(a.0.0.total_cmp(&b.0.0)));
        let mut placed = Vec::new();
        for ((x, y), color, text) in std::mem::take(&mut self.pending) {
            let width = text_width(&text, LABEL);
            let place = |dx: f64, dy: f64| {
                let left = if dx >= 0.0 { x + dx } else { x + dx - width };
                Area { left, top: y + dy - 8.0, right: left + width, bottom: y + dy + 8.0 }
            };
            let most = ((self.bounds.bottom - self.bounds.top) / 4.0) as i32;
            let steps = (0..most).flat_map(|i| [f64::from(i) * 4.0, f64::from(i) * -4.0]);
            let spot = steps
                .flat_map(|dy| [place(10.0, dy), place(-10.0, dy)])
                .find(|spot| self.is_free(*spot))
                .unwrap_or_else(|| place(10.0, 0.0));
            self.taken.push(spot);
            placed.push(((x, y), color, text, spot));
        }
        placed
    }

    fn is_free(&self, spot: Area) -> bool {
        let b = self.bounds;
        let inside =
            spot.left >= b.left && spot.right <= b.right && spot.top >= b.top && spot.bottom <= b.bottom;
        inside
            && self.taken.iter().all(|t| {
                spot.right < t.left || t.right < spot.left || spot.bottom < t.top || t.bottom < spot.top
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let unit = Scale::linear((0.0, 1.0), (0.0, 100.0));
        let texts: Vec<String> = unit.ticks(5).into_iter().map(tick_text).collect();
        assert_eq!(texts, ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        let log = Scale::decades([3_232.0, 58_982_400.0].into_iter(), (0.0, 500.0));
        assert_eq!(log.ticks(5).len(), 6);
        assert!((log.at(1e3)).abs() < 1e-9 && (log.at(1e8) - 500.0).abs() < 1e-9);
    }

    #[test]
    fn labels_of_equal_points_do_not_cover_each_other() {
        let bounds = Area { left: 0.0, top: 0.0, right: 400.0, bottom: 400.0 };
        let mut labels = Labels::inside(bounds);
        for name in ["TT-GRU 0.813", "TT-LSTM 0.796", "GRU", "LSTM"] {
            labels.add((100.0, 100.0), INK, name.into());
        }
        let spots: Vec<Area> = labels.place().into_iter().map(|(.., spot)| spot).collect();
        assert_eq!(spots.len(), 4);
        for (i, a) in spots.iter().enumerate() {
            for b in &spots[..i] {
                let apart = a.right < b.left || b.right < a.left || a.bottom < b.top || b.bottom < a.top;
                assert!(apart, "{a:?} covers {b:?}");
            }
        }
    }
}
