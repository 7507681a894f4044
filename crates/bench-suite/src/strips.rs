//! Strips of frames for reports: small JPEGs of redistributable clips.

use crate::data::Clips;
use crate::places::{self, Places};
use crate::record::{Plan, strip_file};
use crate::spec::Spec;
use anyhow::{Context, Result, bail};
use jpeg_encoder::{ColorType, Encoder};
use std::path::Path;
use video_data::batch::even_frames;

/// Frames of a strip.
const FRAMES: usize = 6;
/// Widest frame of a strip, in pixels.
const WIDTH: usize = 96;
/// Quality of the JPEG, of 100: a strip takes about 5 kB.
const QUALITY: u8 = 70;

/// Writes a strip for each of these clips of a planned run into `out`.
///
/// # Errors
/// The experiment does not say `redistributable = true`; a clip that the run's store lacks.
pub fn write(run_dir: &Path, clips: &[String], out: &Path) -> Result<()> {
    let plan_path = run_dir.join("plan.json");
    let text = std::fs::read(&plan_path).with_context(|| format!("cannot read {}", plan_path.display()))?;
    let plan: Plan = serde_json::from_slice(&text).with_context(|| plan_path.display().to_string())?;
    let spec = Spec::from_toml(&plan.config, &plan_path.display().to_string())?;
    if !spec.data.redistributable {
        bail!("the clips of {} may not be shown: its file does not say redistributable = true", spec.name);
    }
    let stored = Clips::open(&Places::of_run(run_dir)?, &spec, &plan)?;
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    for name in clips {
        let clip = (0..stored.len()).find(|clip| stored.name(*clip) == name);
        let clip = clip.with_context(|| format!("{} has no clip {name:?}", stored.store_name()))?;
        let strip = strip(stored.frames_of(clip), (spec.data.width, spec.data.height))?;
        places::write(&out.join(strip_file(name)), &strip)?;
    }
    Ok(())
}

/// A JPEG of frames at even distances, side by side.
///
/// # Shapes
/// `frames` u8 `[T, H, W, 3]`.
fn strip(frames: &[u8], (width, height): (usize, usize)) -> Result<Vec<u8>> {
    let m = width * height * 3;
    let by = width.div_ceil(WIDTH);
    let (w, h) = (width / by, height / by);
    let mut picture = vec![0; w * FRAMES * h * 3];
    for (at, frame) in even_frames(frames.len() / m, FRAMES).into_iter().enumerate() {
        let frame = &frames[frame as usize * m..][..m];
        for (y, x, c) in (0..h).flat_map(|y| (0..w).flat_map(move |x| (0..3).map(move |c| (y, x, c)))) {
            let of_box =
                |dy: usize, dx: usize| u32::from(frame[((y * by + dy) * width + x * by + dx) * 3 + c]);
            let sum: u32 = (0..by * by).map(|i| of_box(i / by, i % by)).sum();
            picture[(y * w * FRAMES + at * w + x) * 3 + c] = (sum / (by * by) as u32) as u8;
        }
    }
    let mut bytes = Vec::new();
    Encoder::new(&mut bytes, QUALITY).encode(&picture, (w * FRAMES) as u16, h as u16, ColorType::Rgb)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_is_a_small_jpeg_also_of_a_short_clip() {
        for length in [1, 6, 100] {
            let frames: Vec<u8> = (0..length * 160 * 120 * 3).map(|i| (i / 480 % 256) as u8).collect();
            let bytes = strip(&frames, (160, 120)).unwrap();
            assert!(bytes.starts_with(&[0xff, 0xd8, 0xff]) && bytes.ends_with(&[0xff, 0xd9]));
            // Start of frame: marker, length, precision, height, width.
            let at = bytes.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
            assert_eq!(bytes[at + 5..at + 9], [0, 60, 480_u16.to_be_bytes()[0], 480_u16.to_be_bytes()[1]]);
            assert!(bytes.len() < 20_000, "{}", bytes.len());
        }
    }
}
