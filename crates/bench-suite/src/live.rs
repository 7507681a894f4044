//! A trained model on frames as they come: raw bytes on standard input, an answer after each.

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::predict::{Prediction, ranked};

/// Reads frame after frame and shows what the clip so far is; returns the time that the model took for each.
///
/// # Errors
/// A folder without a model that can be given frame by frame, and a stream that ends within a frame.
pub fn live(
    folder: &Path,
    top: usize,
    frames: &mut dyn Read,
    show: &mut dyn FnMut(&Prediction) -> Result<()>,
) -> Result<Vec<Duration>> {
    let trained = tt_rnn::load(folder)?;
    let mut stream = trained.stream()?;
    let mut frame = vec![0; trained.config.frames.bytes()];
    let mut times = Vec::new();
    while fill(&mut *frames, &mut frame, times.len() + 1)? {
        let start = Instant::now();
        let scores = stream.push(&frame)?;
        times.push(start.elapsed());
        let classes = ranked(scores.to_vec(), &trained.config.classes, top);
        show(&Prediction { clip: "-".into(), frames: times.len(), classes, error: None })?;
    }
    if times.is_empty() {
        bail!("no frame came: standard input takes bytes, {} a frame (rgb24)", frame.len());
    }
    Ok(times)
}

/// Fills a frame; whether there was one.
fn fill(from: &mut dyn Read, frame: &mut [u8], number: usize) -> Result<bool> {
    let mut filled = 0;
    while filled < frame.len() {
        match from.read(&mut frame[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => bail!(
                "frame {number} ends after {filled} of {} bytes: frames are to be of the model's size, three bytes a pixel",
                frame.len()
            ),
            Ok(count) => filled += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("standard input cannot be read"),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_may_come_in_parts_and_must_be_whole() {
        let mut frame = [0; 4];
        let mut parts = (&[1_u8, 2][..]).chain(&[3_u8, 4, 5][..]);
        assert!(fill(&mut parts, &mut frame, 1).unwrap());
        assert_eq!(frame, [1, 2, 3, 4]);
        let error = fill(&mut parts, &mut frame, 2).unwrap_err().to_string();
        assert!(error.contains("frame 2 ends after 1 of 4 bytes"), "{error}");
        assert!(!fill(&mut parts, &mut frame, 3).unwrap());
    }
}
