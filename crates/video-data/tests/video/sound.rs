//! Sound as rows of log-mel energies, from files that are written here and from clips with pictures.

use std::fs;
use std::path::Path;
use std::process::Command;

use video_data::decode::Limits;
use video_data::import::ensure_store;
use video_data::{FrameSpec, Kind, scan};

use crate::{decode, decode_with, genuine, has_ffmpeg, options, rendered_clip, worker};

const BANDS: usize = 64;

fn spec() -> FrameSpec {
    Kind::Sound.frame_spec()
}

/// A sine of one second and a half in a WAV file of 16 bits.
fn wav(path: &Path, hertz: f64, (rate, channels): (u32, u16)) {
    let sample = |i: u32| {
        let angle = 2.0 * std::f64::consts::PI * hertz * f64::from(i) / f64::from(rate);
        (angle.sin() * 16_000.0) as i16
    };
    let data: Vec<u8> =
        (0..rate * 3 / 2).flat_map(|i| (0..channels).flat_map(move |_| sample(i).to_le_bytes())).collect();
    let mut bytes = b"RIFF".to_vec();
    bytes.extend((36 + data.len() as u32).to_le_bytes());
    bytes.extend(b"WAVEfmt \x10\0\0\0\x01\0");
    bytes.extend(channels.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend((rate * u32::from(channels) * 2).to_le_bytes());
    bytes.extend((channels * 2).to_le_bytes());
    bytes.extend(16_u16.to_le_bytes());
    bytes.extend(b"data");
    bytes.extend((data.len() as u32).to_le_bytes());
    bytes.extend(data);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Bands of rows of bytes, the loudest of each row.
fn loudest(rows: &[u8]) -> Vec<usize> {
    let values: Vec<f32> = rows.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
    values.chunks(BANDS).map(|row| (0..BANDS).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap()).collect()
}

/// The band whose peak is nearest on the mel scale, of 64 below 8 kHz.
fn band(hertz: f64) -> usize {
    (65.0 * (1.0 + hertz / 700.0).ln() / (1.0_f64 + 8000.0 / 700.0).ln()).round() as usize - 1
}

#[test]
fn the_band_of_a_sine_is_the_loudest_at_any_rate_and_in_both_channels() {
    let dir = tempfile::tempdir().unwrap();
    for (at, hertz, form) in
        [(0, 440.0, (16_000, 1)), (1, 1000.0, (44_100, 2)), (2, 3000.0, (8000, 1)), (3, 2000.0, (48_000, 2))]
    {
        let path = dir.path().join(format!("{at}.wav"));
        wav(&path, hertz, form);
        let (outcome, rows) = decode(&path, &spec());
        assert_eq!(outcome.reason, None, "{form:?}");
        assert_eq!((outcome.frames, outcome.fps.round() as u32), (38, 25), "{form:?}");
        let found = loudest(&rows);
        assert_eq!(found.len(), 38);
        // The first and last windows reach into silence, which spreads the sine.
        assert!(found[1..36].iter().all(|found| *found == band(hertz)), "{form:?}: {found:?}");
    }
}

#[test]
fn a_sound_that_was_cut_off_is_left_out_and_one_whose_length_was_not_known_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole.wav");
    wav(&whole, 500.0, (16_000, 1));
    let bytes = fs::read(&whole).unwrap();
    let reason = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        decode(&path, &spec()).0.reason
    };
    assert_eq!(
        reason("half.wav", &bytes[..bytes.len() / 2]).as_deref(),
        Some("truncated: 0.76 of 1.52 seconds in the header")
    );
    for size in [0x7fff_f000, u32::MAX] {
        let mut streamed = bytes.clone();
        for at in [4, 40] {
            streamed[at..at + 4].copy_from_slice(&u32::to_le_bytes(size));
        }
        assert_eq!(reason("streamed.wav", &streamed), None, "{size:x}");
    }
    if !has_ffmpeg() {
        return;
    }
    for name in ["sine.flac", "sine.mp3", "sine.m4a"] {
        let path = dir.path().join(name);
        let made = Command::new("ffmpeg")
            .args(["-loglevel", "error", "-f", "lavfi", "-i", "sine=frequency=1000:duration=20"])
            .args(["-movflags", "faststart"])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        let bytes = fs::read(&path).unwrap();
        assert_eq!(reason(name, &bytes), None, "{name}");
        let cut = reason(name, &bytes[..bytes.len() / 2]);
        assert!(cut.as_ref().is_some_and(|reason| reason.starts_with("truncated: ")), "{name}: {cut:?}");
    }
}

/// A clip of pictures and a sine, as people have them.
#[test]
fn the_sound_of_a_clip_with_pictures_is_that_of_its_track() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for (name, codec) in [("clip.avi", "mp2"), ("clip.mp4", "aac"), ("clip.mkv", "flac")] {
        let path = dir.path().join(name);
        let made = Command::new("ffmpeg")
            .args(["-loglevel", "error", "-f", "lavfi", "-i", "testsrc=size=64x48:rate=10:duration=2"])
            .args(["-f", "lavfi", "-i", "sine=frequency=1000:sample_rate=32000:duration=2"])
            .args(["-c:v", "mpeg4", "-c:a", codec])
            .arg(&path)
            .status();
        assert!(made.unwrap().success());
        let (outcome, rows) = decode(&path, &spec());
        assert_eq!(outcome.reason, None, "{name}");
        assert!((49..=53).contains(&outcome.frames), "{name}: {}", outcome.frames);
        let found = loudest(&rows);
        assert!(found[5..45].iter().all(|found| *found == band(1000.0)), "{name}: {found:?}");
    }
}

#[test]
fn what_has_no_sound_is_left_out_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("clips");
    wav(&root.join("high/2000.wav"), 2000.0, (16_000, 1));
    wav(&root.join("low/200.WAV"), 200.0, (16_000, 1));
    let silent = rendered_clip();
    fs::copy(&silent, root.join("low").join("silent.mpg")).unwrap();
    fs::write(root.join("low/text.mp3"), "no sound").unwrap();
    fs::write(root.join("low/notes.txt"), "no clip").unwrap();
    let dataset = scan(Kind::Sound, &root).unwrap();
    assert_eq!(dataset.clips.len(), 4);
    let store = ensure_store(&dataset, &spec(), dir.path(), &options(2), &|_| {}).unwrap();
    let names: Vec<&str> = store.clips().iter().map(|clip| clip.name.as_str()).collect();
    assert_eq!(names, ["high/2000.wav", "low/200.WAV"]);
    assert_eq!(store.frame_bytes(), 4 * BANDS);
    assert!(loudest(store.frames(0))[1..36].iter().all(|found| *found == band(2000.0)));
    let reasons: Vec<(&str, &str)> =
        store.left_out().iter().map(|row| (row.clip.as_str(), row.reason.as_str())).collect();
    assert_eq!(reasons[0], ("low/silent.mpg", "no audio stream"));
    assert!(reasons[1].0 == "low/text.mp3" && !reasons[1].1.is_empty(), "{reasons:?}");
    assert!(!store.info().libav.is_empty());
}

#[test]
fn a_sound_over_the_limit_is_refused_and_a_header_says_how_long_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sine.wav");
    wav(&path, 500.0, (16_000, 1));
    let limits = Limits { max_frames: 20, ..Limits::default() };
    let (outcome, _) = decode_with(&worker(), limits, &path, &spec());
    assert_eq!(outcome.reason.as_deref(), Some("more than the limit of 20 rows"));
    let mut decoder = video_data::decode::Decoder::new(&worker(), Limits::default());
    assert_eq!(decoder.probe(&path, &spec()).unwrap().frames, 38);
}

#[test]
fn a_genuine_clip_has_rows_of_its_sound() {
    let Some(genuine) = genuine() else { return };
    let path = fs::read_dir(genuine.join("hollywood2")).unwrap().map(|entry| entry.unwrap().path());
    let mut clips: Vec<_> = path.filter(|path| path.extension().is_some_and(|end| end == "avi")).collect();
    clips.sort();
    let rows: u64 = clips.iter().map(|clip| decode(clip, &spec()).0.frames).sum();
    assert!(rows > 100, "{clips:?}: {rows}");
}
