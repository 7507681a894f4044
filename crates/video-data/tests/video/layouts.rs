//! Scans of whole datasets: trees built from the official lists of names, and the genuine clips.

use std::fs;
use std::path::Path;

use video_data::datasets::{Kind, Split, hollywood2, scan, ucf11};
use video_data::{Error, FrameSpec};

use crate::{decode, genuine};

fn touch(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "").unwrap();
}

#[test]
fn ucf11_counts_come_out_right() {
    let Some(shared) = genuine() else { return };
    let dir = tempfile::tempdir().unwrap();
    let list = fs::read_to_string(shared.join("ucf11/lists/all_clips.txt")).unwrap();
    for line in list.lines() {
        touch(&dir.path().join(line));
    }
    touch(&dir.path().join("UCF11_updated_mpg/biking/Annotation/v_biking_01/v_biking_01_01.mpg"));
    touch(&dir.path().join("UCF11_updated_mpg/readme.txt"));
    for folder in [dir.path().to_path_buf(), dir.path().join("UCF11_updated_mpg")] {
        let dataset = scan(Kind::Ucf11, &folder).unwrap();
        assert_eq!(dataset.class_counts(), ucf11::CLASSES.map(|class| class.2));
        dataset.require_complete().unwrap();
        let groups: std::collections::BTreeSet<_> = dataset.clips.iter().map(|clip| &clip.group).collect();
        assert_eq!(groups.len(), ucf11::GROUPS);
        assert!(dataset.clips.is_sorted_by(|a, b| a.name < b.name));
    }
    fs::remove_file(dir.path().join(list.lines().next().unwrap())).unwrap();
    let error = scan(Kind::Ucf11, dir.path()).unwrap().require_complete().unwrap_err();
    assert!(matches!(error, Error::Incomplete { expected: 1600, found: 1599, .. }));
    assert!(error.to_string().contains("basketball: expected 141 clips, found 140"), "{error}");
}

#[test]
fn the_older_ucf11_tree_is_read() {
    let dir = tempfile::tempdir().unwrap();
    touch(&dir.path().join("action_youtube_naudio/walking/v_walk_dog_03/v_walk_dog_03_02.avi"));
    let dataset = scan(Kind::Ucf11, dir.path()).unwrap();
    assert_eq!((dataset.clips[0].labels.as_slice(), dataset.clips[0].group.as_str()), (&[10][..], "03"));
}

#[test]
fn hollywood2_counts_come_out_right() {
    let Some(shared) = genuine() else { return };
    let dir = tempfile::tempdir().unwrap();
    let list = fs::read_to_string(shared.join("hollywood2/all_clips.txt")).unwrap();
    for line in list.lines() {
        touch(&dir.path().join("Hollywood2/AVIClips").join(line));
    }
    touch(&dir.path().join("Hollywood2/AVIClips/actionclipautoautotrain00001.avi"));
    let sets = dir.path().join("Hollywood2/ClipSets");
    fs::create_dir_all(&sets).unwrap();
    for (label, class) in hollywood2::CLASSES.into_iter().enumerate() {
        for word in ["train", "test"] {
            let names =
                list.lines().filter(|line| line.contains(word)).map(|line| line.trim_end_matches(".avi"));
            // Every third clip has a label, some have two.
            let row = |(i, name): (usize, &str)| {
                let positive = i % 36 == 3 * label || i % 72 == 3 * ((label + 1) % 12);
                format!("{name}  {}\n", if positive { " 1" } else { "-1" })
            };
            fs::write(
                sets.join(format!("{class}_{word}.txt")),
                names.enumerate().map(row).collect::<String>(),
            )
            .unwrap();
        }
    }
    let dataset = scan(Kind::Hollywood2, dir.path()).unwrap();
    dataset.require_complete().unwrap();
    let count = |split| dataset.clips.iter().filter(|clip| clip.split == Some(split)).count();
    assert_eq!((count(Split::Train), count(Split::Test)), (823, 884));
    assert!(dataset.multi_label);
    assert!(dataset.clips.iter().any(|clip| clip.labels.len() == 2));
    assert!(dataset.class_counts().iter().all(|n| *n > 40));
    fs::remove_file(sets.join("Kiss_test.txt")).unwrap();
    let error = scan(Kind::Hollywood2, dir.path()).unwrap().require_complete().unwrap_err().to_string();
    assert!(error.contains("ClipSets/Kiss_test.txt is missing"), "{error}");
}

#[test]
fn genuine_clips_are_read() {
    let Some(shared) = genuine() else { return };
    let celebrities = scan(Kind::YoutubeCelebrities, &shared.join("ytcelebrity")).unwrap();
    assert_eq!((celebrities.clips.len(), celebrities.classes.len()), (14, 14));
    assert_eq!(celebrities.clips[0].group, "al_pacino/03");
    assert!(celebrities.require_complete().is_err());
    let ucf11 = scan(Kind::Ucf11, &shared.join("ucf11")).unwrap();
    assert_eq!(ucf11.clips.len(), 3);
    let m = Kind::Ucf11.frame_spec().frame_bytes();
    for (clip, native) in ucf11.clips.iter().zip([108, 141, 151]) {
        let (outcome, frames) = decode(&clip.path, &Kind::Ucf11.frame_spec());
        let expected = f64::from(native) * 24.0 * 1001.0 / 30_000.0;
        assert!((frames.len() as f64 / m as f64 - expected).abs() <= 1.0, "{}: {outcome:?}", clip.name);
    }
    for (folder, clips, classes, groups) in [("ut_interaction", 120, 6, 20), ("miracl_words", 1500, 10, 15)] {
        let dataset = scan(Kind::Folder, &shared.join(folder)).unwrap();
        let found: std::collections::BTreeSet<_> = dataset.clips.iter().map(|clip| &clip.group).collect();
        assert_eq!((dataset.clips.len(), dataset.classes.len(), found.len()), (clips, classes, groups));
        let clip = &dataset.clips[0].path;
        let spec = FrameSpec { ..dataset.kind.frame_spec() };
        // Brought down to 24, never up from 15.
        assert!((decode(clip, &spec).0.fps - if clips == 120 { 24.0 } else { 15.0 }).abs() < 1e-9);
    }
}

#[test]
fn folders_without_clips_are_errors_that_help() {
    let dir = tempfile::tempdir().unwrap();
    for kind in Kind::ALL {
        let gone = scan(kind, &dir.path().join("gone")).unwrap_err();
        assert!(matches!(gone, Error::Io { .. }) && gone.to_string().contains("gone"), "{gone}");
        let empty = scan(kind, dir.path()).unwrap_err();
        assert!(matches!(empty, Error::Layout { .. }), "{empty}");
        let file = dir.path().join("file");
        touch(&file);
        assert!(matches!(scan(kind, &file), Err(Error::Layout { .. })));
    }
}

#[test]
fn a_class_with_one_clip_and_no_group_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    touch(&dir.path().join("a/one.mp4"));
    touch(&dir.path().join("b/g1/two.MKV"));
    touch(&dir.path().join("b/notes.txt"));
    touch(&dir.path().join("empty/notes.txt"));
    let dataset = scan(Kind::Folder, dir.path()).unwrap();
    assert_eq!(dataset.classes, ["a", "b"]);
    let clips: Vec<_> = dataset.clips.iter().map(|clip| (clip.name.as_str(), clip.group.as_str())).collect();
    assert_eq!(clips, [("a/one.mp4", ""), ("b/g1/two.MKV", "g1")]);
}

#[test]
fn rows_lie_where_clips_do() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["train/a/ann/1.npy", "test/a/bob/2.NPY", "train/b/3.npy", "test/b/4.npy", "train/b/clip.avi"]
    {
        touch(&dir.path().join(file));
    }
    let dataset = scan(Kind::Rows, dir.path()).unwrap();
    let files: Vec<_> =
        dataset.clips.iter().map(|file| (file.name.as_str(), file.group.as_str(), file.split)).collect();
    let (train, test) = (Some(Split::Train), Some(Split::Test));
    let expected = [
        ("test/a/bob/2.NPY", "bob", test),
        ("test/b/4.npy", "", test),
        ("train/a/ann/1.npy", "ann", train),
        ("train/b/3.npy", "", train),
    ];
    assert_eq!(files, expected);
    assert_eq!(dataset.not_taken.len(), 1, "{:?}", dataset.not_taken);
    let error = scan(Kind::Rows, &dir.path().join("train/b")).unwrap_err().to_string();
    let expected =
        "found no rows; expected <class>/<group>/<name>.npy or <class>/<name>.npy below it; not taken: 3.npy";
    assert!(error.contains(expected), "{error}");
}
