//! Clips as people have them: joined, cut, turned, with times that jump and counts that lie.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use video_data::FrameSpec;
use video_data::decode::Outcome;
use video_data::rate::Rate;

use crate::equality::command_line;
use crate::{decode, has_ffmpeg, rendered_clip};

const SPEC: FrameSpec = FrameSpec::rgb(160, 120, Rate::Exactly(24));
/// Two seconds of a moving picture, and of another.
const BARS: &str = "-f lavfi -i testsrc2=size=320x240:rate=30:duration=2";
const NOISE: &str = "-f lavfi -i testsrc=size=320x240:rate=30:duration=2";

/// Makes `name` in `dir` with the command line, whose arguments are separated by blanks.
fn make(dir: &Path, arguments: &str, name: &str) -> PathBuf {
    let arguments = arguments.split_whitespace();
    let status = Command::new("ffmpeg")
        .current_dir(dir)
        .args(["-nostdin", "-v", "error", "-y"])
        .args(arguments)
        .arg(name)
        .status()
        .unwrap();
    assert!(status.success(), "{name}");
    dir.join(name)
}

fn join(dir: &Path, parts: &[&Path], name: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, parts.iter().flat_map(|part| fs::read(part).unwrap()).collect::<Vec<u8>>()).unwrap();
    path
}

/// What the decoder says of a clip, and how many frames it has.
fn equals_command_line(path: &Path, spec: &FrameSpec) -> (Outcome, usize) {
    let (outcome, frames) = equal_frames(path, spec);
    (outcome, frames.len() / spec.frame_bytes())
}

fn equal_frames(path: &Path, spec: &FrameSpec) -> (Outcome, Vec<u8>) {
    let fps = if let Rate::Exactly(fps) = spec.rate { Some(fps) } else { None };
    let (outcome, frames) = decode(path, spec);
    let name = path.file_name().unwrap().to_str().unwrap();
    assert_eq!(outcome.reason, None, "{name}");
    let expected = command_line(path, spec, fps);
    assert_eq!(frames.len() / spec.frame_bytes(), expected.len() / spec.frame_bytes(), "frames of {name}");
    assert!(frames == expected, "{name} has other frames at {:?}", spec.rate);
    (outcome, frames)
}

fn has_flag(outcome: &Outcome, name: &str) -> bool {
    outcome.flags.iter().any(|flag| flag.split('=').next() == Some(name))
}

#[test]
fn joined_and_jumping_clips_keep_every_part() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (ending, codec) in [("mpg", "-c:v mpeg1video -q:v 3"), ("ts", "-c:v mpeg2video -bf 2 -q:v 3")] {
        let part = |source: &str, offset: u32| {
            make(dir, &format!("{source} {codec} -output_ts_offset {offset}"), &format!("{offset}.{ending}"))
        };
        let [a, minute, ten_minutes] = [part(BARS, 0), part(NOISE, 60), part(NOISE, 600)];
        for (name, parts, frames) in [
            ("again", &[&a, &a][..], 96),
            ("minute", &[&a, &minute], 96),
            ("ten-minutes", &[&a, &ten_minutes], 96),
            ("back", &[&minute, &a], 96),
            ("to-and-fro", &[&a, &ten_minutes, &minute, &a], 192),
        ] {
            let parts: Vec<&Path> = parts.iter().map(|part| part.as_path()).collect();
            let joined = join(dir, &parts, &format!("{name}.{ending}"));
            let (outcome, found) = equals_command_line(&joined, &SPEC);
            assert_eq!(found, frames, "{name}.{ending}");
            assert!(has_flag(&outcome, "time-jumps"), "{name}.{ending}: {outcome:?}");
        }
    }
}

/// Where the command line fills a gap with copies, or drops what comes before its clock.
#[test]
fn jumps_that_the_command_line_leaves_in_are_taken_out() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let a = make(dir, &format!("{BARS} -c:v mpeg4 -q:v 3"), "a.mkv");
    let again = join(dir, &[&a, &a], "again.mkv");
    // `setpts` moves the second half ten minutes on.
    let source = format!("{BARS} -vf setpts=PTS+gte(N\\,30)*600/TB -vsync passthrough -q:v 3");
    for (clip, frames) in [
        (again, 96),
        (make(dir, &format!("{source} -c:v mpeg4"), "jump.mkv"), 48),
        (make(dir, &format!("{source} -c:v mpeg4"), "jump.mp4"), 48),
    ] {
        let (outcome, found) = decode(&clip, &SPEC);
        assert_eq!((found.len() / SPEC.frame_bytes(), &outcome.reason), (frames, &None), "{clip:?}");
        assert!(has_flag(&outcome, "time-jumps"), "{clip:?}: {outcome:?}");
    }
    let pause = format!("{BARS} -vf setpts=PTS+gte(N\\,30)*5/TB -vsync passthrough -c:v mpeg4 -q:v 3");
    let (outcome, frames) = equals_command_line(&make(dir, &pause, "pause.mkv"), &SPEC);
    assert!((160..=176).contains(&frames) && has_flag(&outcome, "pauses"), "{frames} {outcome:?}");
}

/// Writes a display matrix of an mp4's only track.
fn set_matrix(path: &Path, turn: [i32; 4]) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.windows(4).position(|window| window == b"tkhd").unwrap() + 44;
    let one = 1 << 16;
    let [xx, xy, yx, yy] = turn.map(|number| number * one);
    let matrix = [xx, xy, 0, yx, yy, 0, 0, 0, 1 << 30];
    for (k, number) in matrix.into_iter().enumerate() {
        bytes[at + 4 * k..][..4].copy_from_slice(&number.to_be_bytes());
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn eight_orientations_equal_the_command_line() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let source = "-f lavfi -i testsrc2=size=322x182:rate=30:duration=0.3";
    for (name, codec) in [
        ("phone.mp4", "-c:v mpeg4 -q:v 3"),
        ("wide-pixels.mp4", "-vf setsar=4/3 -c:v mpeg4 -q:v 3"),
        // Planes of other shapes, of other depths, and none at all.
        ("422.mov", "-c:v mjpeg -pix_fmt yuvj422p -q:v 3"),
        ("deep.mov", "-c:v prores -pix_fmt yuv422p10le"),
        ("odd.mov", "-vf scale=161:91 -c:v mjpeg -pix_fmt yuvj420p -q:v 3"),
        ("packed.mov", "-c:v rawvideo -pix_fmt yuyv422"),
        ("rgb.mov", "-c:v png -pix_fmt rgb24"),
    ] {
        let clip = make(dir.path(), &format!("{source} {codec}"), name);
        let mut seen = Vec::new();
        for matrix in [
            [1, 0, 0, 1],
            [0, 1, -1, 0],
            [-1, 0, 0, -1],
            [0, -1, 1, 0],
            [-1, 0, 0, 1],
            [1, 0, 0, -1],
            [0, 1, 1, 0],
            [0, -1, -1, 0],
        ] {
            set_matrix(&clip, matrix);
            seen.push(equal_frames(&clip, &SPEC).1);
        }
        assert!((1..8).all(|k| !seen[..k].contains(&seen[k])), "{name}: two orientations are the same");
    }
}

#[test]
fn an_angle_between_quarters_is_left_and_flagged() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let clip = make(dir.path(), &format!("{BARS} -c:v mpeg4"), "slanted.mp4");
    let upright = decode(&clip, &SPEC).1;
    set_matrix(&clip, [1, 1, -1, 1]);
    let (outcome, frames) = decode(&clip, &SPEC);
    assert!(frames == upright && has_flag(&outcome, "not-turned"), "{outcome:?}");
}

#[test]
fn counts_in_headers_are_hints() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let source = "-f lavfi -i testsrc2=size=320x240:rate=30:duration=10";
    make(dir, &format!("{source} -c:v mpeg4 -g 300 -bf 2 -q:v 3"), "whole.mp4");
    let cut = make(dir, "-ss 2.7 -i whole.mp4 -t 1 -c copy", "cut.mp4");
    let nulls = "-f lavfi -i testsrc2=size=320x240:rate=12:duration=2 -c:v mpeg4 -r 25";
    for clip in [cut, make(dir, nulls, "nulls.avi")] {
        let (outcome, frames) = equals_command_line(&clip, &SPEC);
        assert!(frames > 20 && has_flag(&outcome, "frames"), "{frames} {outcome:?}");
    }
    let one = "-f lavfi -i testsrc2=size=320x240:rate=60 -frames:v 1 -c:v mpeg4";
    let (outcome, frames) = decode(&make(dir, one, "one.mp4"), &SPEC);
    assert_eq!((frames.len(), outcome.reason), (SPEC.frame_bytes(), None));
}

#[test]
fn files_without_their_end_are_truncated_and_the_reason_says_so() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let whole = format!("{BARS} -c:v mpeg4 -q:v 3 -movflags +faststart");
    for (name, text) in [("a.mp4", "frames lie beyond the end of the file"), ("a.avi", "bytes are there of")]
    {
        let clip = make(dir.path(), &whole, name);
        let bytes = fs::read(&clip).unwrap();
        fs::write(&clip, &bytes[..bytes.len() / 2]).unwrap();
        let reason = decode(&clip, &SPEC).0.reason.unwrap_or_default();
        assert!(reason.starts_with("truncated: ") && reason.contains(text), "{name}: {reason}");
    }
}

#[test]
fn errors_flag_a_clip_and_strict_leaves_it_out() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(rendered_clip()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 40].fill(0xff);
    let clip = dir.path().join("scratched.mpg");
    fs::write(&clip, bytes).unwrap();
    let (outcome, frames) = decode(&clip, &SPEC);
    assert_eq!(outcome.reason, None, "{outcome:?}");
    assert!(["decode-errors", "corrupt-frames"].iter().any(|name| has_flag(&outcome, name)), "{outcome:?}");
    assert_eq!(frames.len(), decode(&rendered_clip(), &SPEC).1.len());
    let strict = decode(&clip, &FrameSpec { strict: true, ..SPEC }).0;
    assert!(strict.reason.as_deref().unwrap_or_default().starts_with("damaged: "), "{strict:?}");
}

#[test]
fn several_films_and_interlaced_ones_are_flagged() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let cover = "-f lavfi -i testsrc=size=320x240:rate=1:duration=1";
    let maps = "-map 0 -map 1 -c:v:0 mpeg4 -c:v:1 mjpeg -disposition:v:0 0 -disposition:v:1 default";
    let two = make(dir, &format!("{BARS} {cover} {maps}"), "two.mkv");
    let (outcome, _) = equals_command_line(&two, &SPEC);
    assert!(has_flag(&outcome, "video-streams"), "{outcome:?}");
    let fields = make(dir, &format!("{BARS} -vf interlace -c:v mpeg2video -flags +ilme+ildct"), "fields.mpg");
    let (outcome, _) = equals_command_line(&fields, &SPEC);
    assert!(has_flag(&outcome, "interlaced"), "{outcome:?}");
}

#[test]
fn odd_times_equal_the_command_line() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let sound = "-f lavfi -i sine=duration=4";
    let source = format!("{BARS} -c:v mpeg4 -bf 2 -q:v 3");
    fs::write(dir.join("list.txt"), "file plain.mp4\nfile plain.mp4\n").unwrap();
    for (arguments, name) in [
        (source.clone(), "plain.mp4"),
        (source.clone(), "b-frames.avi"),
        (format!("-itsoffset 1.5 {sound} {source}"), "early-film.mp4"),
        (format!("-itsoffset 1.5 {BARS} {sound} -c:v mpeg4"), "late-film.mkv"),
        (format!("{sound} -itsoffset 0.37 {BARS} -c:v mpeg2video -c:a mp2"), "late-film.mpg"),
        (format!("{source} -output_ts_offset -0.7 -avoid_negative_ts disabled"), "negative.mkv"),
        (format!("{source} -movflags +negative_cts_offsets"), "negative-offsets.mp4"),
        (format!("{source} -movflags frag_keyframe+empty_moov"), "fragments.mp4"),
        (format!("{source} -vf select=lt(n\\,20)+not(mod(n\\,3)) -vsync vfr"), "variable.mp4"),
        ("-f concat -i list.txt -c copy".into(), "two-edits.mp4"),
        ("-ss 0.77 -i plain.mp4 -c copy".into(), "cut.avi"),
        ("-ss 0.77 -i plain.mp4 -c copy".into(), "cut.mkv"),
        (format!("{source} -output_ts_offset 95443"), "wrapped.ts"),
    ] {
        let clip = make(dir, &arguments, name);
        for rate in [Rate::Exactly(24), Rate::Exactly(12), Rate::Native] {
            equals_command_line(&clip, &FrameSpec { rate, ..SPEC });
        }
    }
}
