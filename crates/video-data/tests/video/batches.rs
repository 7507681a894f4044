//! Batches out of a store that was written by hand.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use video_data::augment::View;
use video_data::batch::{Batch, BatchLoader, Form, Pick, Spare, Standard, Values, even_frames};
use video_data::datasets::{Metric, Split};
use video_data::rate::Rate;
use video_data::store::{FORMAT, Row, StoreInfo, Writer};
use video_data::{FrameSpec, Store, digest, split};

const SPEC: FrameSpec = FrameSpec::rgb(2, 2, Rate::Native);
const LENGTHS: [usize; 5] = [1, 2, 7, 30, 4];

/// Clip `i` has `LENGTHS[i]` frames; every byte of its frame `t` is `10 i + t`.
pub(crate) fn store(dir: &Path) -> Store {
    store_of(dir, |clip, t, _| 10 * clip + t)
}

/// The same with other bytes, by clip, frame and place in the frame.
fn store_of(dir: &Path, byte: fn(usize, usize, usize) -> usize) -> Store {
    let mut writer = Writer::open(dir, "written by hand", SPEC.frame_bytes()).unwrap();
    for (clip, length) in LENGTHS.into_iter().enumerate() {
        let frames: Vec<u8> =
            (0..length).flat_map(|t| (0..12).map(move |at| byte(clip, t, at) as u8)).collect();
        writer.append(&frames).unwrap();
        let split = Some(if clip < 3 { Split::Train } else { Split::Test });
        let row = Row {
            clip: format!("clip {clip}"),
            labels: vec![clip % 2],
            classes: ["even", "odd"][clip % 2].into(),
            split,
            fps: 24.0,
            frame_digest: digest::of_bytes(&frames),
            ..Row::default()
        };
        writer.commit(row).unwrap();
    }
    let info = StoreInfo {
        format: FORMAT,
        name: "by-hand".into(),
        spec: SPEC,
        classes: vec!["even".into(), "odd".into()],
        metric: Metric::Accuracy,
        multi_label: false,
        differences: Vec::new(),
        sample: None,
        libav: String::new(),
        scale_flags: String::new(),
        derived: None,
        frames: 0,
        manifest_sha256: String::new(),
        data_digest: String::new(),
    };
    writer.finish(info, Vec::new()).unwrap()
}

fn values(batch: &Batch) -> Vec<u8> {
    let Values::Bytes(bytes) = &batch.frames else { panic!("{:?}", batch.frames) };
    bytes.chunks(12).map(|frame| frame[0]).collect()
}

#[test]
fn batches_are_packed_without_padding() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let pick = Pick::stored;
    let picks = [
        pick(2, (0..7).collect()),
        pick(2, vec![0, 3]),
        pick(1, even_frames(2, 6)),
        pick(3, (0..3).collect()),
    ];
    let mut batch = Batch::default();
    batch.fill(&store, &picks, &Form::Numbers);
    assert_eq!(batch.lengths, [7, 2, 6, 3]);
    assert_eq!(values(&batch), [20, 21, 22, 23, 24, 25, 26, 20, 23, 10, 11, 11, 11, 11, 11, 30, 31, 32]);
    assert_eq!(batch.labels, [[0], [0], [1], [1]]);
    assert_eq!(batch.clips, [2, 2, 1, 3]);
    assert_eq!(split::official(store.clips()).unwrap(), [[3, 4]]);
}

#[test]
fn stored_frames_lie_where_the_batch_says() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let pick = Pick::stored;
    let picks = [pick(3, vec![29, 2, 3, 4]), pick(0, vec![0]), pick(2, vec![0, 3, 6])];
    let (mut copied, mut stored) = (Batch::default(), Batch::default());
    copied.fill(&store, &picks, &Form::Numbers);
    stored.fill(&store, &picks[..1], &Form::Stored);
    stored.fill(&store, &picks, &Form::Stored);
    let memory: &[u8] = store.as_ref();
    let frames: Vec<u8> =
        stored.starts.iter().flat_map(|start| &memory[*start..start + 12]).copied().collect();
    assert_eq!(Values::Bytes(frames), copied.frames);
    assert_eq!(
        (&stored.lengths, &stored.labels, &stored.clips),
        (&copied.lengths, &copied.labels, &copied.clips)
    );
    assert!(copied.starts.is_empty() && stored.frames == Values::default());
}

#[test]
fn frames_are_standardized_number_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let mut standard = Standard { mean: vec![0.0; 12], scale: vec![1.0; 12] };
    (standard.mean[0], standard.scale[0]) = (20.0, 0.5);
    let pick = Pick::stored(2, vec![1, 4]);
    let mut batch = Batch::default();
    // Buffers of the other kind are not used again.
    batch.fill(&store, std::slice::from_ref(&pick), &Form::Numbers);
    batch.fill(&store, &[pick], &Form::Standardized(Arc::new(standard)));
    let Values::Floats(values) = &batch.frames else { panic!("{:?}", batch.frames) };
    assert_eq!((values.len(), values[0], values[12]), (24, 0.5, 2.0));
    assert_eq!((values[1], values[13]), (f32::from(store.frames(2)[13]), f32::from(store.frames(2)[49])));
}

/// Frames of 2 × 2 pixels: a window of 7/8 is one pixel.
#[test]
fn a_view_is_computed_of_every_frame_of_its_clip_and_of_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = store_of(dir.path(), |clip, t, at| 90 * clip + 12 * t + at);
    let mirrored = View { across: (0, 2), down: (0, 2), mirrored: true };
    let corner = View { across: (1, 1), down: (0, 1), mirrored: false };
    let seen = |view| Pick { view: Some(view), ..Pick::stored(2, vec![1, 4]) };
    let picks = [Pick::stored(2, vec![1]), seen(mirrored), seen(corner)];
    let frame = |at: usize| &store.frames(2)[12 * at..][..12];
    let pixel = |at: usize, place: usize| frame(at)[3 * place..][..3].to_vec();
    let mut expected = vec![frame(1).to_vec()];
    expected.extend([1, 4].map(|at| [1, 0, 3, 2].map(|place| pixel(at, place)).concat()));
    expected.extend([1, 4].map(|at| pixel(at, 1).repeat(4)));
    let mut batch = Batch::default();
    batch.fill(&store, &picks, &Form::Numbers);
    assert_eq!(batch.frames, Values::Bytes(expected.concat()));
    // Numbers are brought to their mean and deviation at the place where they are seen.
    let mut standard = Standard { mean: vec![0.0; 12], scale: vec![1.0; 12] };
    standard.scale[0] = 0.5;
    batch.fill(&store, &picks, &Form::Standardized(Arc::new(standard)));
    let number = |(at, byte): (usize, u8)| f32::from(byte) * if at % 12 == 0 { 0.5 } else { 1.0 };
    let expected = expected.concat().into_iter().enumerate().map(number).collect();
    assert_eq!(batch.frames, Values::Floats(expected));
}

#[test]
fn the_loader_keeps_the_order_and_uses_buffers_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(store(dir.path()));
    let all = |clip| Pick::stored(clip, (0..(store.frames(clip).len() / 12) as u32).collect());
    let plan: Vec<Vec<Pick>> = (0..200).map(|i| vec![all(i % 5), all((i + 3) % 5)]).collect();
    let spare = Spare::default();
    let pass = || {
        let mut loader = BatchLoader::new(Arc::clone(&store), plan.clone(), 2, spare.clone(), Form::Numbers);
        let (mut buffers, mut count) = (BTreeSet::new(), 0);
        for batch in loader.by_ref() {
            let mut expected = Batch::default();
            expected.fill(&store, &plan[count], &Form::Numbers);
            assert_eq!(batch, expected);
            count += 1;
            let Values::Bytes(bytes) = &batch.frames else { panic!("{:?}", batch.frames) };
            buffers.insert(bytes.as_ptr() as usize);
            spare.give(batch);
        }
        assert_eq!(count, 200);
        assert!(loader.waited().as_nanos() > 0);
        buffers
    };
    // Two that wait, one being read, one in use; each is replaced where a longer batch comes.
    let first = pass();
    assert!(first.len() < 40, "{} buffers", first.len());
    let new: Vec<usize> = pass().difference(&first).copied().collect();
    assert!(new.len() < 40, "{} new buffers in the second pass", new.len());
    drop(BatchLoader::new(store, plan, 1, Spare::default(), Form::Numbers));
}

#[test]
fn a_pick_that_is_not_there_is_a_panic_of_the_caller_not_a_hang() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(store(dir.path()));
    let plan = vec![vec![Pick::stored(99, vec![0])]];
    let mut loader = BatchLoader::new(store, plan, 1, Spare::default(), Form::Numbers);
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| loader.next())).is_err());
}
