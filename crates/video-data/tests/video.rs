//! The whole way from files to frames, through real worker processes.

use std::path::PathBuf;

use video_data::datasets::scan;
use video_data::import::{Options, ensure_store};
use video_data::sample::{self, Layout};

fn worker() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_video-worker"))
}

fn options(jobs: usize) -> Options {
    Options { jobs, worker: Some(worker()), ..Options::default() }
}

#[test]
fn samples_are_read_back_like_real_data() {
    let dir = tempfile::tempdir().unwrap();
    for layout in [Layout::Hollywood2, Layout::YoutubeCelebrities] {
        let root = dir.path().join(layout.kind().name());
        let info = sample::ensure(layout, &root, 1, 2, Some(&worker()), &mut |_, _| {}).unwrap();
        let dataset = scan(layout.kind(), &root).unwrap();
        assert_eq!(dataset.sample.as_ref(), Some(&info));
        assert_eq!(dataset.clips.len(), info.clips);
        let spec = layout.kind().frame_spec();
        let store = ensure_store(&dataset, &spec, dir.path(), &options(2), &|_| {}).unwrap();
        assert_eq!((store.clips().len(), store.left_out().len()), (info.clips, 0));
        assert_eq!(store.info().sample, Some(info.note));
        assert!(
            store.clips().iter().all(|clip| (12..=24).contains(&clip.frames)),
            "one or two seconds at 12 fps"
        );
    }
}
