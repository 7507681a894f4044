//! The size of UCF11: 1,600 clips of the official lengths' range, 44.6 GB of frames (sparse on the disk).

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::Arc;

use rand::SeedableRng as _;
use video_data::batch::{BatchLoader, Form, Pick, Sampling, Spare, Values, Window};
use video_data::datasets::{Kind, Metric};
use video_data::rate::Rate;
use video_data::store::{FORMAT, Row, StoreInfo, Writer};
use video_data::{FrameSpec, Store, split};

/// Frames of clip `i`: 204 to 1,492, mean about the paper's 483.7.
fn length(i: u64) -> u64 {
    let u = (i * 7919 % 1600) as f64 / 1600.0;
    204 + (1288.0 * u.powf(3.6)) as u64
}

/// Resident memory of this process, in bytes.
fn resident() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Goes through the import's own bookkeeping with frames of three bytes, then makes the frames file as large as
/// 160×120 frames need without writing them.
fn generate(dir: &Path) -> u64 {
    let tiny = FrameSpec::rgb(1, 1, Rate::Exactly(24));
    let mut writer = Writer::open(dir, "generated", tiny.frame_bytes()).unwrap();
    for i in 0..1600 {
        let frames = length(i);
        writer.append(&vec![0; (frames * 3) as usize]).unwrap();
        let row = Row {
            clip: format!("c{:02}/g{:02}/clip{i:04}.mpg", i % 11, i / 11 % 25),
            labels: vec![(i % 11) as usize],
            classes: format!("c{:02}", i % 11),
            group: format!("{:02}", i / 11 % 25),
            fps: 24.0,
            frame_digest: "generated".into(),
            ..Row::default()
        };
        writer.commit(row).unwrap();
    }
    let info = StoreInfo {
        format: FORMAT,
        name: "generated".into(),
        spec: Kind::Ucf11.frame_spec(),
        classes: (0..11).map(|class| format!("c{class:02}")).collect(),
        metric: Metric::Accuracy,
        multi_label: false,
        differences: Vec::new(),
        sample: Some("generated, not UCF11".into()),
        libav: String::new(),
        scale_flags: String::new(),
        derived: None,
        frames: 0,
        manifest_sha256: String::new(),
        data_digest: String::new(),
    };
    assert!(writer.finish(info, Vec::new()).is_err(), "frames of another size");
    let info: StoreInfo = serde_json::from_slice(&fs::read(dir.join("store.json")).unwrap()).unwrap();
    let file = OpenOptions::new().write(true).open(dir.join("frames.bin")).unwrap();
    file.set_len(info.frames * info.spec.frame_bytes() as u64).unwrap();
    info.frames
}

#[test]
fn a_store_of_44_gigabytes_opens_at_once_and_is_never_loaded_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let frames = generate(&store);
    assert!((700_000..850_000).contains(&frames), "{frames}");
    let before = resident();
    let store = Store::open(&store).unwrap();
    assert!(store.info().frames * store.frame_bytes() as u64 > 40 << 30);
    assert!(resident() - before < 16 << 20, "opening took {} bytes", resident() - before);

    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let by_clips = split::folds_by_clips(1600, 5, &mut rng).unwrap();
    assert!(by_clips.iter().all(|fold| fold.len() == 320));
    let groups: Vec<String> = store.clips().iter().map(|clip| clip.group.clone()).collect();
    let labels: Vec<Vec<usize>> = store.clips().iter().map(|clip| clip.labels.clone()).collect();
    let by_groups = split::folds_by_groups(&groups, &labels, 5, &mut rng).unwrap();
    assert!(by_groups.iter().all(|fold| (250..400).contains(&fold.len())));

    // Thinned in time without decoding anything again.
    let sampling = Sampling { every: 24, max_frames: Some(10), window: Window::Even };
    let pick = |clip: &usize| {
        let frames = sampling.frames(store.clips()[*clip].frames, None::<&mut rand_chacha::ChaCha8Rng>);
        Pick::stored(*clip, frames)
    };
    let batches: Vec<Vec<Pick>> =
        by_clips[0].chunks(16).map(|clips| clips.iter().map(pick).collect()).collect();
    let m = store.frame_bytes();
    let mut seen = 0;
    for batch in BatchLoader::new(Arc::new(store), batches, 1, Spare::default(), Form::Numbers) {
        let Values::Bytes(bytes) = &batch.frames else { panic!("pictures are bytes") };
        assert_eq!(bytes.len(), batch.lengths.iter().sum::<usize>() * m);
        seen += batch.lengths.len();
    }
    assert_eq!(seen, 320);
    let grown = resident() - before;
    // Touched pages of the map count as resident, too, but belong to the page cache: 320 clips of ten frames.
    assert!(grown < 600 << 20, "batching took {grown} bytes");
}
