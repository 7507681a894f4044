//! Rendered samples: read back like the real thing, the same every time, and told apart by motion alone.

use std::fs;
use std::path::Path;

use video_data::datasets::scan;
use video_data::import::{ensure_store, expected_frames};
use video_data::rate::Rate;
use video_data::sample::{self, Layout, SampleInfo};
use video_data::{Error, FrameSpec, Store, split};

use crate::{decode, options, rendered_clip, worker};

fn ensure(layout: Layout, root: &Path, seed: u64, jobs: usize) -> (SampleInfo, usize) {
    let mut calls = 0;
    let info = sample::ensure(layout, root, seed, jobs, Some(&worker()), &mut |_, _| calls += 1).unwrap();
    (info, calls)
}

#[test]
fn samples_are_read_back_like_real_data() {
    let dir = tempfile::tempdir().unwrap();
    for layout in [Layout::Hollywood2, Layout::YoutubeCelebrities, Layout::Folder] {
        let root = dir.path().join(layout.kind().name());
        let (info, _) = ensure(layout, &root, 1, 2);
        let dataset = scan(layout.kind(), &root).unwrap();
        assert_eq!(dataset.name, format!("{}-sample", layout.kind().name()));
        assert_eq!(dataset.sample.as_ref(), Some(&info));
        assert_eq!(dataset.clips.len(), info.clips);
        dataset.require_complete().unwrap();
        for (clip, planned) in dataset.clips.iter().zip(planned_in_order(layout)) {
            assert_eq!((&clip.labels, clip.split), (&planned.labels, planned.split), "{}", clip.name);
        }
        let spec = layout.kind().frame_spec();
        let store = ensure_store(&dataset, &spec, dir.path(), &options(2), &|_| {}).unwrap();
        assert_eq!((store.clips().len(), store.left_out().len()), (info.clips, 0));
        assert_eq!(store.info().sample, Some(info.note));
        let ratio = expected_frames(&dataset, &spec).unwrap() as f64 / store.info().frames as f64;
        assert!((0.7..1.4).contains(&ratio), "headers of a few clips promise {ratio:.2} of what there is");
        assert!(
            store.clips().iter().all(|clip| (12..=24).contains(&clip.frames)),
            "one or two seconds at 12 fps, or all of the short clips' frames"
        );
    }
}

fn planned_in_order(layout: Layout) -> Vec<sample::SampleClip> {
    let mut clips = sample::plan(layout, 1);
    clips.sort_by(|a, b| a.name.cmp(&b.name));
    clips
}

#[test]
fn a_sample_is_the_same_every_time_and_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let layout = Layout::Hollywood2;
    let (info, calls) = ensure(layout, &one, 7, 1);
    assert_eq!(calls, info.clips);
    assert_eq!(ensure(layout, &one, 7, 1), (info.clone(), 0), "a complete sample is left alone");
    // As a kill leaves it: some clips there, one half written, not yet marked complete.
    ensure(layout, &two, 7, 2);
    let names: Vec<_> = sample::plan(layout, 7).into_iter().map(|clip| clip.name).collect();
    fs::rename(two.join("sample.json"), two.join(".rendering.json")).unwrap();
    let marker = "{\"layout\":\"hollywood2\",\"seed\":7,\"version\":1}";
    fs::write(two.join(".rendering.json"), marker).unwrap();
    fs::rename(two.join(&names[3]), two.join(format!("{}.tmp", names[3]))).unwrap();
    let kept = fs::metadata(two.join(&names[4])).unwrap().modified().unwrap();
    assert_eq!(ensure(layout, &two, 7, 2).0, info);
    assert_eq!(fs::metadata(two.join(&names[4])).unwrap().modified().unwrap(), kept);
    assert!(!two.join(format!("{}.tmp", names[3])).exists());
    for name in names.iter().map(String::as_str).chain(["digests.csv", "sample.json"]) {
        assert!(fs::read(one.join(name)).unwrap() == fs::read(two.join(name)).unwrap(), "{name}");
    }
    // Another seed is another sample; a stranger's folder is left alone.
    assert_ne!(ensure(layout, &two, 8, 2).0.digest, info.digest);
    fs::create_dir(dir.path().join("mine")).unwrap();
    fs::write(dir.path().join("mine/thesis.txt"), "years of work").unwrap();
    let error = sample::ensure(layout, &dir.path().join("mine"), 7, 1, Some(&worker()), &mut |_, _| {});
    assert!(matches!(error, Err(Error::Layout { .. })));
    assert!(dir.path().join("mine/thesis.txt").exists());
}

#[test]
fn encoding_keeps_what_was_drawn() {
    let clip = &sample::plan(Layout::Ucf11, 1)[0];
    let scene = clip.scene(Layout::Ucf11, 1);
    let spec = FrameSpec::rgb(320, 240, Rate::Native);
    let (outcome, frames) = decode(&rendered_clip(), &spec);
    assert_eq!(outcome.frames, u64::from(clip.frames));
    let mut drawn = Vec::new();
    for (index, decoded) in frames.chunks(spec.frame_bytes()).enumerate() {
        scene.draw(sample::SampleClip::time_s(Layout::Ucf11, index as u32), &mut drawn);
        let error: u64 = drawn.iter().zip(decoded).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = error as f64 / drawn.len() as f64;
        assert!(mean < 4.0, "frame {index} is off by {mean:.2} grey levels on average");
    }
}

/// Accuracy on held-out clips of a ridge classifier that sees one tiny grey frame at a time.
fn single_frame_accuracy(store: &Store, class: impl Fn(usize) -> usize, test: &[usize]) -> f64 {
    let m = store.frame_bytes();
    let d = m / 3 + 1;
    let classes = (0..store.clips().len()).map(&class).max().unwrap() + 1;
    let features = |frame: &[u8]| -> Vec<f64> {
        let grey = frame.chunks(3).map(|p| p.iter().map(|v| f64::from(*v)).sum::<f64>() / 384.0 - 1.0);
        grey.chain([1.0]).collect()
    };
    let (mut gram, mut target) = (vec![0.0; d * d], vec![0.0; d * classes]);
    for clip in split::train_clips(store.clips().len(), test) {
        for x in store.frames(clip).chunks(m).map(features) {
            for i in 0..d {
                for j in 0..d {
                    gram[i * d + j] += x[i] * x[j];
                }
                target[i * classes + class(clip)] += x[i];
            }
        }
    }
    for i in 0..d {
        gram[i * d + i] += 1.0;
    }
    solve(&mut gram, &mut target, d, classes);
    let (mut right, mut all) = (0, 0);
    for clip in test {
        for x in store.frames(*clip).chunks(m).map(features) {
            let score = |c: &usize| -> f64 { (0..d).map(|i| x[i] * target[i * classes + c]).sum() };
            let best = (0..classes).max_by(|a, b| score(a).total_cmp(&score(b))).unwrap();
            right += u32::from(best == class(*clip));
            all += 1;
        }
    }
    f64::from(right) / f64::from(all)
}

/// Solves `a x = b` in place by elimination; `a` is symmetric positive definite, `[d, d]`, `b` is `[d, n]`.
fn solve(a: &mut [f64], b: &mut [f64], d: usize, n: usize) {
    for k in 0..d {
        for i in 0..d {
            if i == k {
                continue;
            }
            let factor = a[i * d + k] / a[k * d + k];
            for j in k..d {
                a[i * d + j] -= factor * a[k * d + j];
            }
            for j in 0..n {
                b[i * n + j] -= factor * b[k * n + j];
            }
        }
    }
    for k in 0..d {
        for j in 0..n {
            b[k * n + j] /= a[k * d + k];
        }
    }
}

#[test]
fn the_class_lies_in_no_single_frame() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("ucf11");
    let (info, _) = ensure(Layout::Ucf11, &root, 20_170_806, 2);
    assert_eq!(info.clips, 440);
    let dataset = scan(Layout::Ucf11.kind(), &root).unwrap();
    let spec = FrameSpec::rgb(16, 12, Rate::Exactly(24));
    let store = ensure_store(&dataset, &spec, dir.path(), &options(2), &|_| {}).unwrap();
    let group = |clip: usize| store.clips()[clip].group.parse::<usize>().unwrap();
    // Held out: half of the groups, then the second clip of every group.
    let by_group: Vec<usize> = (0..440).filter(|clip| group(*clip) > 10).collect();
    let by_clip: Vec<usize> =
        (0..440).filter(|clip| store.clips()[*clip].name.ends_with("_02.mpg")).collect();
    for test in [by_group, by_clip.clone()] {
        let accuracy = single_frame_accuracy(&store, |clip| store.clips()[clip].labels[0], &test);
        eprintln!("one grey frame of 16x12, linear classifier: {accuracy:.3} (chance 0.091)");
        // 220 clips: two standard deviations above chance are 0.13 if all frames of a clip fail together.
        assert!(accuracy < 0.14, "a single frame gives the class away: {accuracy:.3}");
    }
    // The same classifier does see what a frame shows: the scene.
    let scene = single_frame_accuracy(&store, |clip| group(clip) - 1, &by_clip);
    eprintln!("the same for the scene: {scene:.3} (chance 0.050)");
    assert!(scene > 0.5, "{scene:.3}");
}
