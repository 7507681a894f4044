//! Strips of frames for reports: small JPEGs of redistributable clips, with a second row where a model of the run chose what it
//! looked at.

use crate::data::{Clips, FramePick};
use crate::model_file;
use crate::places::{self, Places};
use crate::record::{Plan, WEIGHTS, cell_folder, strip_file};
use crate::record_files::read_json;
use crate::spec::{ATTENTION, Spec};
use anyhow::{Context, Result, bail};
use candle_core::{Device, Tensor};
use jpeg_encoder::{ColorType, Encoder};
use std::path::{Path, PathBuf};
use tt_rnn::models::{AttentionMaps, FrameChoice, PackedFrames};
use video_data::batch::{Batch, Form, Values, even_frames};

/// Frames of a strip.
const FRAMES: usize = 6;
/// Widest frame of a strip, in pixels.
const WIDTH: usize = 96;
/// Quality of the JPEG, of 100: a row takes about 5 kB.
const QUALITY: u8 = 70;
/// What shines where a model looks: red, green and blue.
const LIGHT: [f32; 3] = [255.0, 190.0, 60.0];
/// What is left of a frame under it.
const SHADE: f32 = 0.4;

/// Writes a strip for each of these clips of a planned run into `out`.
///
/// # Errors
/// The experiment does not say `redistributable = true`; a clip that the run's store lacks; weights of a finished cell that
/// cannot be read.
pub fn write(run_dir: &Path, clips: &[String], out: &Path) -> Result<()> {
    let plan_path = run_dir.join("plan.json");
    let plan: Plan = read_json(&plan_path)?;
    let spec = Spec::from_toml(&plan.config, &plan_path.display().to_string())?;
    if !spec.data.redistributable {
        bail!("the clips of {} may not be shown: its file does not say redistributable = true", spec.name);
    }
    let stored = Clips::open(&Places::of_run(run_dir)?, &spec, &plan)?;
    let onlookers = onlookers(run_dir, &plan, &spec, &stored)?;
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    for name in clips {
        let clip = (0..stored.len()).find(|clip| stored.name(*clip) == name);
        let clip = clip.with_context(|| format!("{} has no clip {name:?}", stored.store_name()))?;
        let looks = onlookers.iter().find(|onlooker| onlooker.test.contains(&clip));
        let looks = looks.map(|onlooker| onlooker.looks(&stored, clip)).transpose()?;
        let strip = strip(stored.frames_of(clip), looks.as_ref(), (spec.data.width, spec.data.height))?;
        places::write(&out.join(strip_file(name)), &strip)?;
    }
    Ok(())
}

/// A finished cell whose model chooses what it looks at.
struct Onlooker {
    weights: PathBuf,
    /// The clips that it was tested on.
    test: Vec<usize>,
}

/// Where a model looks in a clip.
struct Looks {
    /// The frames that it sees.
    frames: Vec<u32>,
    maps: AttentionMaps,
}

/// The finished cells of a run whose model chooses what it looks at, in the order of the plan; none where frames are
/// standardized number by number, which pictures of them are not.
fn onlookers(run_dir: &Path, plan: &Plan, spec: &Spec, stored: &Clips) -> Result<Vec<Onlooker>> {
    let mut found = Vec::new();
    for cell in
        plan.cells.iter().filter(|cell| cell.model == ATTENTION && spec.train.standardize != "feature")
    {
        let folder = cell_folder(run_dir, &cell.id());
        if !folder.join("cell.json").exists() {
            continue;
        }
        let mut spec = spec.clone();
        spec.protocol.kind.clone_from(&cell.protocol);
        let test = stored.fold(&spec, cell.fold)?.test;
        found.push(Onlooker { weights: folder.join(WEIGHTS), test });
    }
    Ok(found)
}

impl Onlooker {
    fn looks(&self, stored: &Clips, clip: usize) -> Result<Looks> {
        let (_, _, model) = model_file::load(&self.weights, &Device::Cpu)?;
        let pick = FramePick::evaluation(FrameChoice::All);
        let picks = stored.picks(&[clip], &pick).concat();
        let mut batch = Batch::default();
        batch.fill(stored.store(), &picks, &Form::Numbers);
        let (Values::Bytes(bytes), Some(pick)) = (batch.frames, picks.into_iter().next()) else {
            bail!("{} holds no pictures", stored.store_name());
        };
        let rows = Tensor::from_vec(bytes, (pick.frames.len(), stored.features()), &Device::Cpu)?;
        let maps = model.attention(&PackedFrames::new(rows, batch.lengths))?;
        let maps =
            maps.with_context(|| format!("{} is not of a model that looks", self.weights.display()))?;
        Ok(Looks { frames: pick.frames, maps })
    }
}

impl Looks {
    /// How bright a point of the frame at `step` is, 0 to 1: its share of what was read, beside the largest of the clip.
    /// Between the middles of places it is interpolated.
    fn light(&self, step: usize, (down, across): (f32, f32)) -> f32 {
        let AttentionMaps { height, width, shares } = &self.maps;
        let largest = shares.iter().flatten().copied().fold(f32::MIN_POSITIVE, f32::max);
        let place = |share: f32, count: usize| {
            let at = (share * count as f32 - 0.5).clamp(0.0, (count - 1) as f32);
            (at as usize, (at as usize + 1).min(count - 1), at.fract())
        };
        let ((above, below, down), (left, right, across)) = (place(down, *height), place(across, *width));
        let row = |row: usize| {
            let of = |column: usize| shares[step][row * width + column];
            of(left) + across * (of(right) - of(left))
        };
        (row(above) + down * (row(below) - row(above))) / largest
    }
}

/// A JPEG of frames at even distances, side by side; below them, where a model looks, the same in the shade but there.
///
/// # Shapes
/// `frames` u8 `[T, H, W, 3]`.
fn strip(frames: &[u8], looks: Option<&Looks>, (width, height): (usize, usize)) -> Result<Vec<u8>> {
    let m = width * height * 3;
    let all: Vec<u32> = (0..(frames.len() / m) as u32).collect();
    let seen = looks.map_or(&all, |looks| &looks.frames);
    let by = width.div_ceil(WIDTH);
    let (w, h) = (width / by, height / by);
    let rows = 1 + usize::from(looks.is_some());
    let mut picture = vec![0; w * FRAMES * h * rows * 3];
    for (at, step) in even_frames(seen.len(), FRAMES).into_iter().enumerate() {
        let step = step as usize;
        let frame = &frames[seen[step] as usize * m..][..m];
        for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
            let color = [0, 1, 2].map(|c| {
                let of_box =
                    |dy: usize, dx: usize| u32::from(frame[((y * by + dy) * width + x * by + dx) * 3 + c]);
                let sum: u32 = (0..by * by).map(|i| of_box(i / by, i % by)).sum();
                (sum / (by * by) as u32) as u8
            });
            let mut put = |y: usize, color: [u8; 3]| {
                picture[(y * w * FRAMES + at * w + x) * 3..][..3].copy_from_slice(&color);
            };
            put(y, color);
            if let Some(looks) = looks {
                let middle = ((y as f32 + 0.5) / h as f32, (x as f32 + 0.5) / w as f32);
                let light = looks.light(step, middle);
                let lit = |c: usize| {
                    let shade = SHADE * f32::from(color[c]);
                    (shade + light * (0.5 * (f32::from(color[c]) + LIGHT[c]) - shade)) as u8
                };
                put(h + y, [0, 1, 2].map(lit));
            }
        }
    }
    let mut bytes = Vec::new();
    let size = ((w * FRAMES) as u16, (h * rows) as u16);
    Encoder::new(&mut bytes, QUALITY).encode(&picture, size.0, size.1, ColorType::Rgb)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start of frame: marker, length, precision, height, width.
    fn size(jpeg: &[u8]) -> (u16, u16) {
        assert!(jpeg.starts_with(&[0xff, 0xd8, 0xff]) && jpeg.ends_with(&[0xff, 0xd9]));
        let at = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        let number = |at: usize| u16::from_be_bytes([jpeg[at], jpeg[at + 1]]);
        (number(at + 5), number(at + 7))
    }

    #[test]
    fn a_strip_is_a_small_jpeg_also_of_a_short_clip() {
        for length in [1, 6, 100] {
            let frames: Vec<u8> = (0..length * 160 * 120 * 3).map(|i| (i / 480 % 256) as u8).collect();
            let bytes = strip(&frames, None, (160, 120)).unwrap();
            assert_eq!(size(&bytes), (60, 480));
            assert!(bytes.len() < 20_000, "{}", bytes.len());
        }
    }

    #[test]
    fn light_falls_where_a_model_looks() {
        let maps = AttentionMaps { height: 1, width: 2, shares: vec![vec![0.75, 0.25], vec![0.5, 0.5]] };
        let looks = Looks { frames: vec![0, 3], maps };
        let found = [(0, 0.1), (0, 0.25), (0, 0.5), (0, 0.9), (1, 0.3)]
            .map(|(step, across)| looks.light(step, (0.5, across)));
        assert_eq!(found, [1.0, 1.0, 2.0 / 3.0, 1.0 / 3.0, 2.0 / 3.0]);
        let bytes = strip(&vec![90; 4 * 160 * 120 * 3], Some(&looks), (160, 120)).unwrap();
        assert_eq!(size(&bytes), (120, 480));
    }
}
