//! What computed the rows of several cells.

use crate::provenance::Provenance;

/// Adds what computed a cell, unless it is known; the place that it has.
pub fn note(all: &mut Vec<Provenance>, by: &Provenance) -> usize {
    all.iter().position(|known| known == by).unwrap_or_else(|| {
        all.push(by.clone());
        all.len() - 1
    })
}

/// The machines of several provenances in a line.
pub fn machines(all: &[Provenance]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for provenance in all {
        let line = provenance.machine.line();
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    if lines.is_empty() { "not known".to_owned() } else { lines.join("; ") }
}
