//! Frames equal those of the `ffmpeg` command line, byte for byte.

use std::path::{Path, PathBuf};
use std::process::Command;

use video_data::FrameSpec;
use video_data::decode::SCALE_FLAGS;
use video_data::rate::Rate;

use crate::{decode, genuine, has_ffmpeg, rendered_clip};

/// RGB24 frames as the command line makes them on one thread.
pub(crate) fn command_line(path: &Path, spec: &FrameSpec, fps: Option<u32>) -> Vec<u8> {
    let (width, height) = (spec.width, spec.height);
    let scale = format!("scale={width}:{height}:flags={SCALE_FLAGS},format=rgb24");
    let filter = fps.map_or_else(|| scale.clone(), |fps| format!("fps={fps},{scale}"));
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-threads", "1", "-i"])
        .arg(path)
        .args(["-an", "-filter_threads", "1", "-vsync", "passthrough", "-vf", &filter])
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn check(path: &Path, spec: FrameSpec, fps: Option<u32>) {
    let (outcome, frames) = decode(path, &spec);
    assert_eq!(outcome.reason, None, "{}", path.display());
    let expected = command_line(path, &spec, fps);
    let m = spec.frame_bytes();
    let (found, wanted) = (frames.len() / m, expected.len() / m);
    assert_eq!(found, wanted, "frames of {} at {:?}", path.display(), spec.rate);
    let wrong = (0..found).find(|i| frames[i * m..(i + 1) * m] != expected[i * m..(i + 1) * m]);
    assert_eq!(wrong, None, "first frame of {} that differs, at {:?}", path.display(), spec.rate);
    assert_eq!(outcome.frames as usize, found);
}

fn check_rates(path: &Path) {
    let size = |width, height, rate| FrameSpec::rgb(width, height, rate);
    check(path, size(160, 120, Rate::Native), None);
    check(path, size(160, 120, Rate::Exactly(24)), Some(24));
    check(path, size(234, 100, Rate::Exactly(12)), Some(12));
}

#[test]
fn rendered_clips_equal_the_command_line() {
    if has_ffmpeg() {
        check_rates(&rendered_clip());
    }
}

#[test]
fn genuine_clips_equal_the_command_line() {
    let Some(root) = genuine().filter(|_| has_ffmpeg()) else { return };
    let mut clips: Vec<PathBuf> = Vec::new();
    let mut add = |pattern: &str, most: usize| {
        let mut found = files(&root.join(pattern));
        found.retain(|path| {
            path.extension().is_some_and(|e| ["mpg", "avi", "mp4"].iter().any(|known| e == *known))
        });
        let step = found.len().div_ceil(most).max(1);
        clips.extend(found.into_iter().step_by(step));
    };
    add("ucf11/UCF11_updated_mpg", 3);
    add("hollywood2", 2);
    add("ytcelebrity", 2);
    add("ut_interaction", 4);
    add("miracl_words", 5);
    assert!(clips.len() >= 10, "{clips:?}");
    for clip in clips {
        check_rates(&clip);
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Makes a clip with the command line's encoder, where it is installed.
fn encode(dir: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = dir.join(name);
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i"])
        .args(arguments)
        .arg(&path)
        .status()
        .unwrap();
    assert!(status.success(), "{name}");
    path
}

#[test]
fn other_codecs_rates_and_colours_equal_the_command_line() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let source = "testsrc2=size=320x240:rate=30000/1001:duration=1.5";
    for (name, arguments) in [
        ("b-frames.mpg", &[source, "-c:v", "mpeg2video", "-bf", "2", "-q:v", "4"][..]),
        ("xvid.avi", &[source, "-c:v", "mpeg4", "-bf", "2", "-q:v", "4"]),
        ("slow.mkv", &["testsrc2=size=200x150:rate=10:duration=1.3", "-c:v", "mpeg4"]),
        ("full-range.avi", &[source, "-c:v", "mjpeg", "-q:v", "4"]),
        ("wmv.wmv", &[source, "-c:v", "wmv2", "-q:v", "4"]),
        ("hd.mkv", &[source, "-c:v", "mpeg4", "-colorspace", "bt709", "-color_range", "tv"]),
    ] {
        check_rates(&encode(dir.path(), name, arguments));
    }
}
