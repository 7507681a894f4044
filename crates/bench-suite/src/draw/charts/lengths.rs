//! Frames per clip of an imported dataset, beside what the paper says of it.

use std::path::Path;

use anyhow::Result;

use crate::draw::charts::axes::{Area, HEADER, LABEL, Scale, header, x_axis, y_axis};
use crate::draw::charts::canvas::{Align, Canvas};
use crate::draw::charts::palette::{INK, MUTED, NEUTRAL};
use crate::paper;

/// Bars of the histogram.
const BARS: usize = 40;

/// Writes `lengths.svg` and `lengths.png` into `dir`.
pub fn lengths(dir: &Path, name: &str, frames: &[usize], paper: Option<&paper::Dataset>) -> Result<()> {
    let (width, height) = (760.0, 380.0);
    let longest = frames.iter().copied().chain(paper.map(|paper| paper.max_frames)).max().unwrap_or(1).max(1);
    let mut bars = [0_usize; BARS];
    for length in frames {
        bars[(length * BARS / (longest + 1)).min(BARS - 1)] += 1;
    }
    let most = bars.iter().copied().max().unwrap_or(1).max(1);
    let mean = frames.iter().sum::<usize>() as f64 / frames.len().max(1) as f64;
    let mut canvas = Canvas::new(width, height);
    let shortest = frames.iter().min().copied().unwrap_or(0);
    let own = frames.iter().max().copied().unwrap_or(0);
    let subtitle = format!("{} clips, {shortest} to {own} frames, mean {mean:.1}", frames.len());
    header(&mut canvas, &format!("Frames per clip: {name}"), &subtitle);
    let area = Area { left: 70.0, top: HEADER + 24.0, right: width - 24.0, bottom: height - 56.0 };
    let x = Scale::linear((0.0, (longest + 1) as f64), (area.left, area.right));
    let y = Scale::linear((0.0, most as f64 * 1.08), (area.bottom, area.top));
    x_axis(&mut canvas, area, &x, &x.ticks(8), "frames");
    y_axis(&mut canvas, area, &y, &y.ticks(5), "clips");
    for (at, count) in bars.iter().enumerate().filter(|(_, count)| **count > 0) {
        let edge = |at: usize| x.at((longest + 1) as f64 * at as f64 / BARS as f64);
        canvas.rect((edge(at) + 1.0, y.at(*count as f64)), (edge(at + 1), area.bottom), NEUTRAL, 1.0);
    }
    if let Some(paper) = paper {
        let marks =
            [(paper.min_frames as f64, "min"), (paper.mean_frames, "mean"), (paper.max_frames as f64, "max")];
        for (value, what) in marks {
            canvas.dashed((x.at(value), area.top), (x.at(value), area.bottom), INK);
            // Of short clips in a set with long ones the first two are close together.
            let y = area.top + if what == "mean" { 8.0 } else { -10.0 };
            let align = if what == "max" { Align::Right } else { Align::Left };
            canvas.text((x.at(value), y), LABEL, MUTED, align, &format!("paper's {what} {value}"));
        }
    }
    canvas.write(dir, "lengths")
}
