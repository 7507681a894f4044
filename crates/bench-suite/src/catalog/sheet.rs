//! A contact sheet: the middle frame of some clips in a grid.

use anyhow::Result;
use video_data::store::Store;

/// Pictures per row.
const COLUMNS: usize = 6;
/// Rows at most.
const ROWS: usize = 4;
/// Pixels between pictures.
const GAP: usize = 4;

/// A PNG of the middle frames of `clips`, evenly selected if there are too many.
pub(super) fn png(store: &Store, clips: &[usize]) -> Result<Vec<u8>> {
    let spec = store.info().spec;
    let (w, h) = (spec.width as usize, spec.height as usize);
    let shown = clips.len().min(COLUMNS * ROWS);
    let (columns, rows) = (shown.clamp(1, COLUMNS), shown.div_ceil(COLUMNS).max(1));
    let (width, height) = (columns * (w + GAP) - GAP, rows * (h + GAP) - GAP);
    let mut picture = vec![255_u8; width * height * 3];
    for at in 0..shown {
        let clip = clips[at * clips.len() / shown];
        let frames = store.frames(clip);
        let m = store.frame_bytes();
        let frame = &frames[frames.len() / m / 2 * m..][..m];
        let (x, y) = (at % COLUMNS * (w + GAP), at / COLUMNS * (h + GAP));
        for (line, pixels) in frame.chunks_exact(w * 3).enumerate() {
            picture[((y + line) * width + x) * 3..][..w * 3].copy_from_slice(pixels);
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&picture)?;
    writer.finish()?;
    Ok(bytes)
}
