//! Horizontal bars on a logarithmic axis: how many times slower each peer is than our model.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, register_font};

use crate::draw::charts::encode_png;
use crate::results::peers::{PHASES, PeerRow, REDUCED};
use crate::results::write_atomic;

const FONT: &str = "sans-serif";
const WIDTH: u32 = 960;
const ROW: i32 = 22;
const HEAD: i32 = 34;
/// Left edge and width of the bars' area, px.
const LEFT: i32 = 250;
const AREA: i32 = 620;
const COLOURS: [RGBColor; 2] = [RGBColor(0x9e, 0xc4, 0xe0), RGBColor(0x1f, 0x5f, 0x99)];
const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const FAINT: RGBColor = RGBColor(0xd0, 0xd0, 0xd0);

/// Rows that share an axis: one session against one of our models.
struct Panel {
    title: String,
    /// One peer a line: its forward and its step.
    lines: Vec<(String, [Option<f64>; 2])>,
}

/// Draws `peers.svg` and `peers.png` into the folder; nothing if there are no rows.
///
/// # Errors
/// A file that cannot be written.
pub fn peers(out: &Path, title: &str, rows: &[PeerRow]) -> Result<()> {
    let panels = panels(rows);
    if panels.is_empty() {
        return Ok(());
    }
    // Fails only if the font is known already.
    let _ = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    let lines: usize = panels.iter().map(|panel| panel.lines.len()).sum();
    let height = 70 + panels.len() as i32 * (HEAD + 30) + lines as i32 * ROW;
    let size = (WIDTH, height as u32);
    let context = || format!("failed to draw the chart in {}", out.display());
    paint(&SVGBackend::new(&out.join("peers.svg"), size).into_drawing_area(), title, &panels)
        .with_context(context)?;
    let mut pixels = vec![255; (size.0 * size.1 * 3) as usize];
    paint(&BitMapBackend::with_buffer(&mut pixels, size).into_drawing_area(), title, &panels)
        .with_context(context)?;
    write_atomic(&out.join("peers.png"), &encode_png(&pixels, size)?)
}

fn panels(rows: &[PeerRow]) -> Vec<Panel> {
    let mut panels: Vec<Panel> = Vec::new();
    for row in rows {
        let time = if row.threads == 1 { "CPU time" } else { "wall time" };
        let threads =
            if row.threads == 1 { "1 thread".to_owned() } else { format!("{} threads", row.threads) };
        let title =
            format!("against {}, T = {}, batch {}, {threads}, {time}", row.ours, row.frames, row.batch);
        let at = panels.iter().position(|panel| panel.title == title).unwrap_or_else(|| {
            panels.push(Panel { title, lines: Vec::new() });
            panels.len() - 1
        });
        let lines = &mut panels[at].lines;
        let name = if row.precision == REDUCED {
            format!("{} (error {:.0e})", row.peer, row.largest_error)
        } else {
            row.peer.to_owned()
        };
        let line = lines.iter().position(|(peer, _)| *peer == name).unwrap_or_else(|| {
            lines.push((name, [None; 2]));
            lines.len() - 1
        });
        let phase = PHASES.iter().position(|phase| *phase == row.phase);
        if let Some(phase) = phase {
            lines[line].1[phase] = Some(row.ratio);
        }
    }
    for panel in &mut panels {
        panel.lines.sort_by(|a, b| a.1[1].unwrap_or(0.0).total_cmp(&b.1[1].unwrap_or(0.0)));
    }
    panels
}

type Area<B> = DrawingArea<B, plotters::coord::Shift>;

fn paint<B: DrawingBackend>(area: &Area<B>, title: &str, panels: &[Panel]) -> Result<()> {
    let ratios = || panels.iter().flat_map(|panel| &panel.lines).flat_map(|(_, pair)| pair.iter().flatten());
    let low = ratios().fold(0.5_f64, |low, &ratio| low.min(ratio)).log10();
    let high = (1.3 * ratios().fold(10.0_f64, |high, &ratio| high.max(ratio))).log10();
    let x = |ratio: f64| LEFT + ((ratio.log10() - low) / (high - low) * f64::from(AREA)) as i32;
    fill(area, [(0, 0), (WIDTH as i32, area.dim_in_pixel().1 as i32)], WHITE)?;
    text(area, "Time of each peer over ours (above 1: ours is faster)", (16, 20), 17, HPos::Left)?;
    text(area, title, (16, 42), 12, HPos::Left)?;
    for (at, (phase, colour)) in PHASES.iter().zip(COLOURS).enumerate() {
        let left = LEFT + AREA - 120 + at as i32 * 100;
        fill(area, [(left, 36), (left + 12, 48)], colour)?;
        text(area, phase, (left + 18, 42), 12, HPos::Left)?;
    }
    let mut y = 60;
    for panel in panels {
        text(area, &panel.title, (16, y + HEAD / 2), 14, HPos::Left)?;
        y += HEAD;
        let bottom = y + panel.lines.len() as i32 * ROW;
        for tick in [0.1_f64, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0] {
            if tick.log10() < low || tick.log10() > high {
                continue;
            }
            let colour = if tick == 1.0 { INK } else { FAINT };
            line(area, [(x(tick), y), (x(tick), bottom + 3)], colour)?;
            text(area, &format!("{tick}"), (x(tick), bottom + 11), 11, HPos::Center)?;
        }
        for (peer, pair) in &panel.lines {
            text(area, peer, (LEFT - 10, y + ROW / 2), 13, HPos::Right)?;
            for (at, (ratio, colour)) in pair.iter().zip(COLOURS).enumerate() {
                let Some(ratio) = *ratio else { continue };
                let top = y + 2 + at as i32 * 9;
                let (from, to) = (x(1.0).min(x(ratio)), x(1.0).max(x(ratio)));
                fill(area, [(from, top), (to, top + 8)], colour)?;
                let decimals = usize::from(ratio < 9.95);
                text(area, &format!("{ratio:.decimals$}"), (to + 4, top + 4), 10, HPos::Left)?;
            }
            y += ROW;
        }
        y = bottom + 30;
    }
    area.present().map_err(|error| anyhow!("{error}"))
}

fn fill<B: DrawingBackend>(area: &Area<B>, corners: [(i32, i32); 2], colour: RGBColor) -> Result<()> {
    area.draw(&Rectangle::new(corners, colour.filled())).map_err(|error| anyhow!("{error}"))
}

fn line<B: DrawingBackend>(area: &Area<B>, ends: [(i32, i32); 2], colour: RGBColor) -> Result<()> {
    area.draw(&PathElement::new(ends, colour)).map_err(|error| anyhow!("{error}"))
}

fn text<B: DrawingBackend>(area: &Area<B>, words: &str, at: (i32, i32), size: i32, side: HPos) -> Result<()> {
    let style = (FONT, size).into_font().color(&INK).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(words, at, style)).map_err(|error| anyhow!("{error}"))
}
