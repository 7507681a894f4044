//! A display list in logical pixels, rendered by plotters as SVG and as PNG.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::Color as _;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::draw::charts::palette::{Color, INK, WHITE};
use crate::results::write_atomic;

/// Family of every text: the embedded font draws the PNG, a viewer of the SVG takes the nearest it has.
const FAMILY: &str = "Ubuntu, Helvetica, Arial, sans-serif";

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Align {
    Left,
    Center,
    Right,
}

#[derive(Debug, Clone)]
enum Op {
    Rect { from: (f64, f64), to: (f64, f64), color: Color, alpha: f64 },
    Area { points: Vec<(f64, f64)>, color: Color, alpha: f64 },
    Line { points: Vec<(f64, f64)>, width: f64, color: Color },
    Dot { at: (f64, f64), radius: f64, color: Color, hollow: bool },
    Text { at: (f64, f64), size: f64, color: Color, align: Align, turned: bool, text: String },
}

/// A chart as a list of shapes; nothing is rasterised before it is written.
#[derive(Debug)]
pub(crate) struct Canvas {
    size: (f64, f64),
    ops: Vec<Op>,
}

impl Canvas {
    /// An empty chart of that width and height.
    pub(crate) fn new(width: f64, height: f64) -> Self {
        Self { size: (width, height), ops: Vec::new() }
    }

    pub(crate) fn rect(&mut self, from: (f64, f64), to: (f64, f64), color: Color, alpha: f64) {
        self.ops.push(Op::Rect { from, to, color, alpha });
    }

    /// A filled polygon.
    pub(crate) fn area(&mut self, points: Vec<(f64, f64)>, color: Color, alpha: f64) {
        self.ops.push(Op::Area { points, color, alpha });
    }

    pub(crate) fn line(&mut self, points: &[(f64, f64)], width: f64, color: Color) {
        self.ops.push(Op::Line { points: points.to_vec(), width, color });
    }

    /// A straight line of dashes.
    pub(crate) fn dashed(&mut self, from: (f64, f64), to: (f64, f64), color: Color) {
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |d: f64| (from.0 + (to.0 - from.0) * d / length, from.1 + (to.1 - from.1) * d / length);
        let mut d = 0.0;
        while d < length {
            self.line(&[at(d), at((d + 4.0).min(length))], 1.0, color);
            d += 8.0;
        }
    }

    /// A point; hollow for dense models, so that the two kinds differ without colour.
    pub(crate) fn dot(&mut self, at: (f64, f64), radius: f64, color: Color, hollow: bool) {
        self.ops.push(Op::Dot { at, radius, color, hollow });
    }

    /// A text whose vertical middle is at `at`.
    pub(crate) fn text(&mut self, at: (f64, f64), size: f64, color: Color, align: Align, text: &str) {
        let text = text.to_owned();
        self.ops.push(Op::Text { at, size, color, align, turned: false, text });
    }

    /// A text that reads from below to above, its middle at `at`.
    pub(crate) fn turned(&mut self, at: (f64, f64), size: f64, text: &str) {
        let text = text.to_owned();
        self.ops.push(Op::Text { at, size, color: INK, align: Align::Center, turned: true, text });
    }

    /// Writes `<dir>/<name>.svg` and `<dir>/<name>.png`.
    pub(crate) fn write(&self, dir: &Path, name: &str) -> Result<()> {
        write_atomic(&dir.join(format!("{name}.svg")), self.svg()?.as_bytes())?;
        write_atomic(&dir.join(format!("{name}.png")), &self.png()?)
    }

    /// SVG at half-pixel precision, shown at the logical size.
    fn svg(&self) -> Result<String> {
        let (w, h) = self.pixels(2);
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, (w, h)).into_drawing_area();
            self.render(&area, 2.0, 0.0)?;
            area.present().map_err(draw_error)?;
        }
        let (from, to) = (format!("width=\"{w}\" height=\"{h}\""), self.pixels(1));
        Ok(text.replacen(&from, &format!("width=\"{}\" height=\"{}\"", to.0, to.1), 1))
    }

    /// PNG of twice the logical size, each pixel the mean of 2×2.
    fn png(&self) -> Result<Vec<u8>> {
        let (w, h) = self.pixels(4);
        let (w, h) = (w as usize, h as usize);
        let mut large = vec![255; w * h * 3];
        {
            let area = BitMapBackend::with_buffer(&mut large, (w as u32, h as u32)).into_drawing_area();
            self.render(&area, 4.0, 0.13)?;
            area.present().map_err(draw_error)?;
        }
        let (sw, sh) = (w / 2, h / 2);
        let mut small = Vec::with_capacity(sw * sh * 3);
        for y in 0..sh {
            for x in 0..sw {
                for c in 0..3 {
                    let pixel =
                        |dx: usize, dy: usize| u16::from(large[((2 * y + dy) * w + 2 * x + dx) * 3 + c]);
                    small.push(((pixel(0, 0) + pixel(1, 0) + pixel(0, 1) + pixel(1, 1) + 2) / 4) as u8);
                }
            }
        }
        encode_png(&small, (sw as u32, sh as u32))
    }

    fn pixels(&self, scale: u32) -> (u32, u32) {
        (self.size.0 as u32 * scale, self.size.1 as u32 * scale)
    }

    /// Draws the list. `drop` lowers texts by a share of their size: plotters centres the line box of a
    /// bitmap's text, where an SVG's is centred on the small letters.
    fn render<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>, scale: f64, drop: f64) -> Result<()> {
        register_font()?;
        area.fill(&rgb(WHITE)).map_err(draw_error)?;
        let at = |p: (f64, f64)| ((p.0 * scale).round() as i32, (p.1 * scale).round() as i32);
        for op in &self.ops {
            match op {
                Op::Rect { from, to, color, alpha } => {
                    area.draw(&Rectangle::new([at(*from), at(*to)], rgb(*color).mix(*alpha).filled()))
                }
                Op::Area { points, color, alpha } => {
                    let points = points.iter().map(|p| at(*p)).collect::<Vec<_>>();
                    area.draw(&Polygon::new(points, rgb(*color).mix(*alpha)))
                }
                Op::Line { points, width, color } => {
                    let style = rgb(*color).stroke_width((width * scale).round().max(1.0) as u32);
                    area.draw(&PathElement::new(points.iter().map(|p| at(*p)).collect::<Vec<_>>(), style))
                }
                Op::Dot { at: p, radius, color, hollow } => {
                    let size = |r: f64| (r * scale).round() as i32;
                    area.draw(&Circle::new(at(*p), size(*radius), rgb(*color).filled())).and_then(|()| {
                        if *hollow {
                            area.draw(&Circle::new(at(*p), size(radius - 2.0), rgb(WHITE).filled()))
                        } else {
                            Ok(())
                        }
                    })
                }
                Op::Text { at: p, size, color, align, turned, text } => {
                    let horizontal = match align {
                        Align::Left => HPos::Left,
                        Align::Center => HPos::Center,
                        Align::Right => HPos::Right,
                    };
                    let font = (FAMILY, size * scale).into_font();
                    let font = if *turned { font.transform(FontTransform::Rotate270) } else { font };
                    let style = font.color(&rgb(*color)).pos(Pos::new(horizontal, VPos::Center));
                    let (dx, dy) = if *turned { (size * drop, 0.0) } else { (0.0, size * drop) };
                    area.draw(&Text::new(text.clone(), at((p.0 + dx, p.1 + dy)), style))
                }
            }
            .map_err(draw_error)?;
        }
        Ok(())
    }
}

/// Width of a text in logical pixels.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    // Without the font every draw fails with its own error; the estimate keeps the layout defined.
    let estimate = text.chars().count() as f64 * size * 0.55;
    if register_font().is_err() {
        return estimate;
    }
    (FAMILY, size * 8.0).into_font().box_size(text).map_or(estimate, |(w, _)| f64::from(w) / 8.0)
}

fn rgb(color: Color) -> RGBColor {
    RGBColor(color.0, color.1, color.2)
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err takes")]
fn draw_error<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> anyhow::Error {
    anyhow!("a chart cannot be drawn: {error}")
}

/// Registers the embedded font once.
fn register_font() -> Result<()> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let ok = REGISTERED.get_or_init(|| {
        plotters::style::register_font(FAMILY, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok()
    });
    if *ok { Ok(()) } else { Err(anyhow!("the embedded font cannot be read")) }
}

/// RGB pixels as a PNG file.
pub fn encode_png(rgb: &[u8], size: (u32, u32)) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.0, size.1);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_compression(png::Compression::Balanced);
    encoder.write_header()?.write_image_data(rgb)?;
    Ok(bytes)
}
