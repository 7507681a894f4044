//! Stores of rows that are computed from the frames of another.

use std::fs;
use std::path::Path;
use std::time::Duration;

use video_data::derived::Origin;
use video_data::{Error, Store};

use crate::batches::store;

/// Rows of two numbers a frame: its first byte, and its last.
fn ends(frames: &Store) -> impl FnMut(&[u8]) -> Result<Vec<f32>, Error> {
    let m = frames.frame_bytes();
    move |clip| Ok(clip.chunks(m).flat_map(|frame| [f32::from(frame[0]), f32::from(frame[m - 1])]).collect())
}

fn origin(frames: &Store) -> Origin<'_> {
    Origin { frames, by: "ends 0123", width: 2 }
}

fn contents(dir: &Path) -> [Vec<u8>; 3] {
    ["frames.bin", "manifest.csv", "store.json"].map(|name| fs::read(dir.join(name)).unwrap())
}

#[test]
fn rows_have_the_clips_of_their_frames_and_are_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let frames = store(&dir.path().join("stores/clips-000000000000"));
    let origin = origin(&frames);
    assert!(origin.open().unwrap().is_none());
    let made = origin.ensure(Duration::ZERO, &mut ends(&frames), &|_, _| {}).unwrap();
    assert_eq!(made.dir().parent(), frames.dir().parent());
    assert_eq!(made.clips(), frames.clips());
    for clip in 0..frames.clips().len() {
        let expected = ends(&frames)(frames.frames(clip)).unwrap();
        let found: Vec<f32> =
            made.frames(clip).as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect();
        assert_eq!(found, expected, "clip {clip}");
    }
    assert!(made.damaged().unwrap().is_empty());
    let mut never = |_: &[u8]| -> Result<Vec<f32>, Error> { panic!("computed again") };
    origin.ensure(Duration::ZERO, &mut never, &|_, _| {}).unwrap();
    let other = Origin { by: "ends 4567", ..origin };
    assert!(other.dir() != origin.dir() && other.open().unwrap().is_none());
}

#[test]
fn an_interrupted_store_goes_on_after_its_last_clip_and_has_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let frames = store(&dir.path().join("stores/clips-000000000000"));
    let origin = origin(&frames);
    let whole = {
        let made = origin.ensure(Duration::ZERO, &mut ends(&frames), &|_, _| {}).unwrap();
        contents(made.dir())
    };
    fs::remove_dir_all(origin.dir()).unwrap();
    let mut of = ends(&frames);
    let mut left = 2;
    let mut stops = |clip: &[u8]| {
        left -= 1;
        if left < 0 { Err(Error::Invalid("stopped".into())) } else { of(clip) }
    };
    origin.ensure(Duration::ZERO, &mut stops, &|_, _| {}).unwrap_err();
    assert!(origin.open().unwrap().is_none());
    let mut computed = 0;
    let mut rest = |clip: &[u8]| {
        computed += 1;
        ends(&frames)(clip)
    };
    let made = origin.ensure(Duration::ZERO, &mut rest, &|_, _| {}).unwrap();
    assert!(contents(made.dir()) == whole);
    assert_eq!(computed, frames.clips().len() - 2);
}

#[test]
fn rows_by_something_else_in_the_place_of_the_wanted_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let frames = store(&dir.path().join("stores/clips-000000000000"));
    let origin = origin(&frames);
    let other = Origin { by: "ends 4567", ..origin };
    other.ensure(Duration::ZERO, &mut ends(&frames), &|_, _| {}).unwrap();
    fs::rename(other.dir(), origin.dir()).unwrap();
    let said = origin.open().unwrap_err().to_string();
    assert!(said.contains("holds rows by ends 4567, of frames "), "{said}");
    assert!(said.contains("not by ends 0123") && said.contains("remove the folder"), "{said}");
}

#[test]
fn rows_of_another_number_than_frames_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let frames = store(&dir.path().join("stores/clips-000000000000"));
    let mut short = |_: &[u8]| -> Result<Vec<f32>, Error> { Ok(vec![0.0]) };
    let said = origin(&frames).ensure(Duration::ZERO, &mut short, &|_, _| {}).unwrap_err().to_string();
    assert!(said.contains("1 numbers, expected "), "{said}");
}
