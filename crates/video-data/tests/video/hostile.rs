//! Damaged files and hostile names: each costs itself alone and is named with its reason.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use video_data::datasets::{Kind, scan};
use video_data::decode::{Limits, wire};
use video_data::import::{Options, ensure_store};
use video_data::rate::Rate;
use video_data::{Error, FrameSpec, Store, name};

use crate::{decode, decode_with, genuine, has_ffmpeg, options, rendered_clip, worker};

const SPEC: FrameSpec = FrameSpec { strict: true, ..FrameSpec::rgb(32, 24, Rate::Native) };

fn reason(path: &Path) -> String {
    let outcome = decode(path, &SPEC).0;
    outcome.reason.unwrap_or_else(|| panic!("{} was accepted: {:?}", path.display(), outcome.flags))
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn damaged_clips_are_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut clips = vec![rendered_clip()];
    if let Some(root) = genuine() {
        clips.push(root.join("ucf11/UCF11_updated_mpg/basketball/v_shooting_01/v_shooting_01_01.mpg"));
        clips.push(root.join("ytcelebrity/0188_03_021_al_pacino.avi"));
        clips.push(root.join("hollywood2/actioncliptrain00001.avi"));
        clips.push(root.join("hollywood2/actioncliptrain00001_h264.mp4"));
    }
    for clip in clips {
        let whole = fs::read(&clip).unwrap();
        let file = clip.file_name().unwrap().to_str().unwrap();
        assert_eq!(decode(&clip, &SPEC).0.reason, None, "{file}");
        let half = reason(&write(dir.path(), file, &whole[..whole.len() / 2]));
        assert!(
            ["damaged: ", "truncated: ", "not a readable video"].iter().any(|s| half.starts_with(s)),
            "{half}"
        );
        let mut flipped = whole.clone();
        for k in 0..10 {
            let at = whole.len() / 2 + k * 7919 % (whole.len() / 3);
            flipped[at] ^= 1 << (k % 8);
        }
        let flipped = reason(&write(dir.path(), file, &flipped));
        assert!(flipped.starts_with("damaged: "), "{file}: {flipped}");
    }
}

#[test]
fn what_is_no_video_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let expect = |path: PathBuf, text: &str| {
        let reason = reason(&path);
        assert!(reason.contains(text), "{}: {reason}", path.display());
    };
    expect(write(dir, "zero.mpg", b""), "empty file (0 bytes)");
    expect(write(dir, "text.mpg", b"this is no video\n".repeat(500).as_slice()), "not a readable video");
    fs::create_dir(dir.join("folder.mpg")).unwrap();
    expect(dir.join("folder.mpg"), "not a regular file");
    fifo(&dir.join("fifo.mpg"));
    expect(dir.join("fifo.mpg"), "not a regular file");
    expect(dir.join("gone.mpg"), "cannot be read");
    expect(
        write(dir, "bomb.avi", b"YUV4MPEG2 W1000000 H1000000 F25:1 C420\nFRAME\n"),
        "Picture size _x_ is invalid",
    );
    let mut sound =
        b"RIFF\x24\x10\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\x10\0\0"
            .to_vec();
    sound.resize(44 + 4096, 7);
    expect(write(dir, "sound.avi", &sound), "no video stream");
    // A playlist must not make libav open what it names.
    let playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n", rendered_clip().display());
    expect(write(dir, "playlist.mpg", playlist.as_bytes()), "not a readable video");
    let script = format!("ffconcat version 1.0\nfile '{}'\n", rendered_clip().display());
    expect(write(dir, "script.mpg", script.as_bytes()), "not a readable video");
}

#[test]
fn limits_cost_the_clip_and_are_named() {
    let clip = rendered_clip();
    let with = |limits| decode_with(&worker(), limits, &clip, &SPEC).0.reason.unwrap_or_default();
    let default = Limits::default();
    assert_eq!(with(Limits { max_frames: 10, ..default }), "more than the limit of 10 frames");
    assert_eq!(
        with(Limits { max_pixels: 1000, ..default }),
        "picture of 320x240 is over the limit of 1000 pixels"
    );
}

#[test]
fn a_size_that_changes_in_mid_stream_is_flagged() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut joined = Vec::new();
    for size in ["320x240", "176x144"] {
        let source = format!("testsrc2=size={size}:rate=25:duration=0.4");
        let path = dir.path().join(format!("{size}.m2v"));
        let status = Command::new("ffmpeg")
            .args([
                "-v",
                "error",
                "-nostdin",
                "-f",
                "lavfi",
                "-i",
                &source,
                "-c:v",
                "mpeg2video",
                "-q:v",
                "3",
            ])
            .arg(&path)
            .status();
        assert!(status.unwrap().success());
        joined.extend(fs::read(&path).unwrap());
    }
    let (outcome, frames) = decode(&write(dir.path(), "joined.m2v", &joined), &SPEC);
    assert!(outcome.flags.contains(&"size-changes=1".to_owned()), "{outcome:?}");
    // libav's MPEG-2 decoder drops the one picture that it holds back when the size changes.
    assert!((19..=20).contains(&(frames.len() / SPEC.frame_bytes())), "{outcome:?}");
}

#[test]
fn hostile_names_survive_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("clips");
    let mut names: Vec<OsString> =
        ["-rf.mpg", "a b.mpg", "a,b\".mpg", "'q'.mpg", "new\nline.mpg", "=cmd().mpg", "bell\x07.mpg"]
            .iter()
            .map(OsString::from)
            .collect();
    names.push(OsString::from_vec(b"latin-\xe9\xff.mpg".to_vec()));
    names.push(OsString::from("back\\slash\\x41.mpg"));
    names.push(OsString::from("x".repeat(251) + ".mpg"));
    names.push(OsString::from("file:http%3a..mpg"));
    let class = root.join("-class, \"one\"").join("group\n1");
    fs::create_dir_all(&class).unwrap();
    for name in &names {
        fs::copy(rendered_clip(), class.join(name)).unwrap();
    }
    let dataset = scan(Kind::Folder, &root).unwrap();
    let store = ensure_store(&dataset, &SPEC, dir.path(), &options(2), &|_| {}).unwrap();
    assert_eq!(store.left_out(), []);
    assert_eq!(store.clips().len(), names.len());
    for clip in store.clips() {
        let path = root.join(name::unescape(&clip.name).unwrap());
        assert!(path.is_file() && names.contains(&path.file_name().unwrap().to_owned()), "{}", clip.name);
    }
    // All are copies of one clip, so all frames are the same.
    assert!((1..names.len()).all(|i| store.frames(i) == store.frames(0)));
}

#[test]
fn bad_clips_are_rows_with_a_reason_and_stop_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("clips");
    let class = root.join("only");
    fs::create_dir_all(class.join("named-like-a-clip.avi")).unwrap();
    fs::copy(rendered_clip(), class.join("good.mpg")).unwrap();
    write(&class, "text.mpg", b"no video");
    write(&class, "zero.mpg", b"");
    fifo(&class.join("pipe.mpg"));
    let dataset = scan(Kind::Folder, &root).unwrap();
    let store = ensure_store(&dataset, &SPEC, dir.path(), &options(1), &|_| {}).unwrap();
    assert_eq!(store.clips().iter().map(|clip| clip.name.as_str()).collect::<Vec<_>>(), ["only/good.mpg"]);
    let rows: Vec<_> = store.left_out().iter().map(|row| (row.clip.as_str(), row.reason.as_str())).collect();
    assert_eq!(rows.len(), 4, "{rows:?}");
    for (clip, text) in [
        ("only/text.mpg", "not a readable video"),
        ("only/zero.mpg", "empty file"),
        ("only/pipe.mpg", "a FIFO"),
        ("only/named-like-a-clip.avi", "a folder"),
    ] {
        assert!(rows.iter().any(|row| row.0 == clip && row.1.contains(text)), "{clip}: {rows:?}");
    }
}

#[test]
fn a_dataset_without_one_good_clip_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("clips");
    fs::create_dir_all(root.join("only")).unwrap();
    write(&root.join("only"), "text.mpg", b"no video");
    let dataset = scan(Kind::Folder, &root).unwrap();
    let error = ensure_store(&dataset, &SPEC, dir.path(), &options(1), &|_| {}).unwrap_err().to_string();
    assert!(error.contains("none of the 1 clips") && error.contains("only/text.mpg"), "{error}");
}

/// Three good clips, decoded by a worker whose second process does `harm` at its first request. (The first
/// process looks at the headers, the second decodes.)
fn store_with_harmed_worker(harm: &str, limits: Limits) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let class = dir.path().join("clips/only");
    fs::create_dir_all(&class).unwrap();
    for name in ["a.mpg", "b.mpg", "c.mpg"] {
        fs::copy(rendered_clip(), class.join(name)).unwrap();
    }
    let mut hello = Vec::new();
    let words = wire::Hello { protocol: wire::VERSION, libav: "harmed".into() };
    wire::write_message(&mut hello, wire::HELLO, &[&serde_json::to_vec(&words).unwrap()]).unwrap();
    write(dir.path(), "hello", &hello);
    let here = dir.path().display();
    let script = format!(
        "#!/bin/sh\nmkdir {here}/first 2>/dev/null && exec {worker} \"$@\"\n\
         mkdir {here}/second 2>/dev/null && {{ cat {here}/hello; head -c 5 >/dev/null; {harm}; }}\n\
         exec {worker} \"$@\"\n",
        worker = worker().display()
    );
    let program = write(dir.path(), "harmed-worker", script.as_bytes());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let options = Options { jobs: 1, worker: Some(program), limits, ..Options::default() };
    let dataset = scan(Kind::Folder, &dir.path().join("clips")).unwrap();
    let store = ensure_store(&dataset, &SPEC, dir.path(), &options, &|_| {}).unwrap();
    (dir, store)
}

#[test]
fn a_crash_costs_one_clip() {
    let (_dir, store) = store_with_harmed_worker("kill -SEGV $$", Limits::default());
    assert_eq!(
        store.clips().iter().map(|clip| clip.name.as_str()).collect::<Vec<_>>(),
        ["only/b.mpg", "only/c.mpg"]
    );
    let row = &store.left_out()[0];
    assert_eq!((row.clip.as_str(), row.reason.as_str()), ("only/a.mpg", "the decoder crashed (signal 11)"));
}

#[test]
fn a_hang_costs_one_clip_and_ends_in_time() {
    let limits = Limits { stall: Duration::from_secs(3), ..Limits::default() };
    let (_dir, store) = store_with_harmed_worker("exec sleep 600", limits);
    assert_eq!(store.clips().len(), 2);
    let row = &store.left_out()[0];
    assert_eq!((row.clip.as_str(), row.reason.as_str()), ("only/a.mpg", "the decoder hung: silent for 3 s"));
}

#[test]
fn a_worker_that_cannot_run_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("clips/only")).unwrap();
    fs::copy(rendered_clip(), dir.path().join("clips/only/a.mpg")).unwrap();
    let dataset = scan(Kind::Folder, &dir.path().join("clips")).unwrap();
    for program in ["/nowhere/video-worker", "/bin/true"] {
        let options = Options { worker: Some(program.into()), ..options(1) };
        let error = ensure_store(&dataset, &SPEC, dir.path(), &options, &|_| {}).unwrap_err();
        assert!(matches!(error, Error::Worker { .. }), "{error}");
    }
}
