//! A network as a picture: circles for cores, lines for indices.

use super::{Format, Options};
use super::{Network, format::FormatShape, format::Modes};
use crate::Result;
use std::fmt::Write as _;

/// Distance of neighbouring cores.
const STEP: f64 = 70.0;
/// Radius of a core.
const RADIUS: f64 = 15.0;

/// The network that a format's picture shows: four pairs of modes, all ranks 2.
///
/// # Errors
/// None for the formats of this crate.
pub fn example(format: &'static dyn Format) -> Result<FormatShape> {
    let modes = Modes { inputs: vec![4; 4], outputs: vec![4; 4], gates: 1 };
    FormatShape::uniform(format, &modes, &Options::default(), 2)
}

/// The picture, an SVG document.
///
/// Cores with modes are in a row, the others below those that they are joined to. An input mode m leaves its core to the
/// upper left, an output mode n to the upper right; an index of more cores than two is a dot.
pub fn svg(network: &Network) -> String {
    let places = places(network);
    let outside = network.inputs.len() + network.outputs.len();
    let (mut lines, mut lowest) = (String::new(), places.iter().map(|place| place.1).fold(0.0, f64::max));
    for (label, index) in network.labels.iter().enumerate() {
        let cores: Vec<usize> =
            (0..network.cores.len()).filter(|core| network.cores[*core].labels.contains(&label)).collect();
        let at: Vec<(f64, f64)> = cores.iter().map(|core| places[*core]).collect();
        let name = &index.name;
        match at[..] {
            [(x, y), ..] if label < outside => {
                let side = if label < network.inputs.len() { -1.0 } else { 1.0 };
                let (x2, y2) = (x + 16.0 * side, y - 38.0);
                line(&mut lines, (x, y), (x2, y2));
                text(&mut lines, (x2, y2 - 5.0), name, 12);
            }
            [(x1, y1), (x2, y2)] if y1 != y2 || (x1 - x2).abs() <= STEP => {
                line(&mut lines, (x1, y1), (x2, y2));
                text(&mut lines, (f64::midpoint(x1, x2), f64::midpoint(y1, y2) - 4.0), name, 10);
            }
            [(x1, y), (x2, _)] => {
                // Around the cores between.
                let (middle, depth) = (f64::midpoint(x1, x2), y + 70.0);
                lowest = lowest.max(y + 40.0);
                let _ = writeln!(lines, r#"<path d="M {x1} {y} Q {middle} {depth} {x2} {y}"/>"#);
                text(&mut lines, (middle, y + 48.0), name, 10);
            }
            _ => {
                let (x, y) = (mean(&at).0, lowest.max(0.0) + 60.0);
                lowest = y;
                for core in &at {
                    line(&mut lines, *core, (x, y));
                }
                let _ = writeln!(lines, r##"<circle cx="{x}" cy="{y}" r="4" fill="#333"/>"##);
                text(&mut lines, (x + 10.0, y + 12.0), name, 10);
            }
        }
    }
    for (core, (x, y)) in network.cores.iter().zip(&places) {
        let _ = writeln!(lines, r##"<circle cx="{x}" cy="{y}" r="{RADIUS}" fill="#cfe3f5"/>"##);
        text(&mut lines, (*x, y + 3.5), &core.name, 9);
    }
    let width = places.iter().map(|place| place.0).fold(0.0, f64::max) + 50.0;
    let (top, height) = (-60.0, lowest + 90.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 {top} {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" text-anchor=\"middle\" stroke=\"#333\" fill=\"none\">\n\
         <rect x=\"0\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"#fff\" stroke=\"none\"/>\n{lines}</svg>\n"
    )
}

fn line(to: &mut String, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    // Writing to a String cannot fail.
    let _ = writeln!(to, r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>"#);
}

fn text(to: &mut String, (x, y): (f64, f64), text: &str, size: usize) {
    let _ =
        writeln!(to, r##"<text x="{x}" y="{y}" font-size="{size}" fill="#333" stroke="none">{text}</text>"##);
}

fn mean(places: &[(f64, f64)]) -> (f64, f64) {
    let count = places.len().max(1) as f64;
    (
        places.iter().map(|place| place.0).sum::<f64>() / count,
        places.iter().map(|place| place.1).fold(0.0, f64::max),
    )
}

/// Where each core is: those with modes in a row, every other one below the cores before it that it shares an index with.
fn places(network: &Network) -> Vec<(f64, f64)> {
    let outside = network.inputs.len() + network.outputs.len();
    let mut places: Vec<(f64, f64)> = Vec::new();
    let mut in_row = 0;
    for core in &network.cores {
        if core.labels.iter().any(|label| *label < outside) {
            places.push((50.0 + STEP * f64::from(in_row), 0.0));
            in_row += 1;
            continue;
        }
        let shares = |other: &&super::Core| core.labels.iter().any(|label| other.labels.contains(label));
        let near: Vec<(f64, f64)> =
            network.cores.iter().zip(&places).filter(|(other, _)| shares(other)).map(|(_, at)| *at).collect();
        let (x, y) = mean(&near);
        places.push((x, y + STEP));
    }
    places
}
