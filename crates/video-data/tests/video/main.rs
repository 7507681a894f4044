//! The whole way from files to frames, through real worker processes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use video_data::FrameSpec;
use video_data::decode::{Decoder, Limits, Outcome};
use video_data::import::Options;

mod archives;
mod as_they_come;
mod batches;
mod corpus;
mod derived;
mod equality;
mod full_size;
mod hostile;
mod layouts;
mod people;
mod resume;
mod samples;
mod sound;

/// The worker that cargo built for these tests.
fn worker() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_video-worker"))
}

fn options(jobs: usize) -> Options {
    Options { jobs, worker: Some(worker()), ..Options::default() }
}

/// The folder of genuine clips, `shared/data` above the repository; says aloud when there is none.
fn genuine() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = above.map(|dir| dir.join("shared/data")).find(|dir| dir.is_dir());
    if found.is_none() {
        skipped("no folder shared/data with genuine clips above the repository");
    }
    found
}

/// Whether the `ffmpeg` command line is installed; says aloud when it is not.
fn has_ffmpeg() -> bool {
    let found = Command::new("ffmpeg").arg("-version").output().is_ok();
    if !found {
        skipped("no ffmpeg command line");
    }
    found
}

/// Written past the test harness, which swallows the output of tests that pass.
fn skipped(reason: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let mut stderr = std::io::stderr();
    writeln!(stderr, "SKIPPED {name}: {reason}").unwrap();
}

/// All frames of one clip.
fn decode(path: &Path, spec: &FrameSpec) -> (Outcome, Vec<u8>) {
    decode_with(&worker(), Limits::default(), path, spec)
}

fn decode_with(program: &Path, limits: Limits, path: &Path, spec: &FrameSpec) -> (Outcome, Vec<u8>) {
    let mut frames = Vec::new();
    let mut sink = |part: &[u8]| {
        frames.extend_from_slice(part);
        Ok(())
    };
    let outcome = Decoder::new(program, limits).decode(path, spec, &mut sink).unwrap();
    (outcome, frames)
}

/// A short clip rendered by the worker, for tests that damage it; made once per test run.
fn rendered_clip() -> PathBuf {
    static CLIP: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    let dir = CLIP.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let name = &video_data::sample::plan(video_data::sample::Layout::Ucf11, 1)[0].name;
        std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
        // Part 0 of 440 is the first clip alone.
        let status = Command::new(worker())
            .args(["render", "--layout", "ucf11", "--seed", "1", "--part", "0/440", "--out"])
            .arg(dir.path())
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success());
        dir
    });
    dir.path().join(&video_data::sample::plan(video_data::sample::Layout::Ucf11, 1)[0].name)
}
