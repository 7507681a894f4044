//! Folders and lists as people have them: what is taken, as what, and what is said of the rest.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use video_data::archive::{Limits, extract};
use video_data::datasets::{Dataset, Kind, Metric, Split, scan, scan_listed};
use video_data::import::ensure_store;
use video_data::rate::Rate;
use video_data::{Error, FrameSpec};

use crate::{has_ffmpeg, options, rendered_clip};

const SPEC: FrameSpec = FrameSpec::rgb(32, 24, Rate::Native);

/// A folder with empty files of these names.
fn folder(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    dir
}

fn scanned(names: &[&str]) -> Dataset {
    scan(Kind::Folder, folder(names).path()).unwrap()
}

/// Class, group and side of every clip.
fn places(dataset: &Dataset) -> Vec<(&str, &str, Option<Split>)> {
    let place = |clip: &video_data::datasets::ClipRef| {
        (
            dataset.classes[clip.labels[0]].as_str(),
            dataset.clips.iter().find(|c| c.name == clip.name).unwrap(),
            clip.split,
        )
    };
    dataset.clips.iter().map(place).map(|(class, clip, split)| (class, clip.group.as_str(), split)).collect()
}

#[test]
fn what_is_not_taken_is_named() {
    let dataset = scanned(&[
        "run/1.avi",
        "run/anna/2.gif",
        "jump/3.y4m",
        "jump/4.mxf",
        "jump/5.f4v",
        "jump/6.ogg",
        "jump/7.apng",
        "jump/frames/0001.png",
        "jump/frames/0002.png",
        "jump/notes.txt",
        "run/.8.avi",
        ".git/9.avi",
        "loose.avi",
        "run/a/b/deep.avi",
        "README",
    ]);
    assert_eq!(dataset.class_counts(), [5, 2]);
    let left_out: Vec<_> = dataset.left_out.iter().map(|out| (out.name.as_str(), &out.reason[..8])).collect();
    assert_eq!(left_out, [("loose.avi", "lies in "), ("run/a/b/deep.avi", "lies too")]);
    let remarks = dataset.remarks();
    let expected = [
        "not taken: 2 files, hidden: its name begins with a dot: .git/, run/.8.avi",
        "not taken: 2 files, not a clip by its extension .png: jump/frames/0001.png, jump/frames/0002.png",
        "not taken: 1 file, not a clip by its extension .txt: jump/notes.txt",
        "not taken: 1 file, not a clip, without an extension: README",
    ];
    assert_eq!(remarks, expected);
    let error = scan(Kind::Folder, folder(&["a.avi", "x/y/z/b.avi"]).path()).unwrap_err().to_string();
    assert!(
        error.contains("not taken: a.avi (lies in no class's folder") && error.ends_with("in all 2"),
        "{error}"
    );
}

#[test]
fn wrapper_folders_are_passed_through() {
    for above in ["", "myclips/", "myclips/v2/"] {
        let names = ["run/1.avi", "run/2.avi", "jump/1.avi"].map(|name| format!("{above}{name}"));
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.extend(["README.md", "__MACOSX/._1.avi"]);
        let dataset = scanned(&names);
        assert_eq!(dataset.classes, ["jump", "run"], "{above}");
        assert_eq!(dataset.clips[0].name, "jump/1.avi");
        assert_eq!(dataset.notes.len(), usize::from(!above.is_empty()), "{:?}", dataset.notes);
    }
    // One class is one class, with a group or without.
    assert_eq!(scanned(&["only/1.avi", "only/2.avi"]).classes, ["only"]);
    assert_eq!(places(&scanned(&["only/anna/1.avi"])), [("only", "anna", None)]);
    // The parts of a split are no classes.
    let dataset = scanned(&["run/train/1.avi", "run/train/2.avi", "run/test/3.avi"]);
    let (train, test) = (("run", "", Some(Split::Train)), ("run", "", Some(Split::Test)));
    assert_eq!(places(&dataset), [test, train, train]);
    assert_eq!(dataset.notes, ["its folders are a split: 2 clips to train on, 1 to score on"]);
    let error = scan(Kind::Folder, folder(&["train/1.avi", "test/2.avi"]).path()).unwrap_err().to_string();
    assert!(error.contains("but no classes: expected train/<class>/<clip>"), "{error}");
    // A class whose clips have endings that are not taken keeps the other from being passed through.
    assert_eq!(scanned(&["run/anna/1.avi", "run/ben/1.avi", "jump/1.xyz"]).classes, ["run"]);
}

#[test]
fn a_wrapped_zip_is_imported_as_its_classes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clips.zip");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    for name in ["myclips/run/1.avi", "myclips/jump/1.avi"] {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    }
    zip.finish().unwrap();
    let out = dir.path().join("out");
    extract(&path, &out, &Limits::default(), &mut |_| {}).unwrap();
    assert_eq!(scan(Kind::Folder, &out).unwrap().classes, ["jump", "run"]);
}

#[test]
fn folders_of_a_split_are_the_split() {
    let (train, test) = (Some(Split::Train), Some(Split::Test));
    for names in [
        ["train/run/1.avi", "Test/run/a/2.avi", "val/jump/3.avi", "train/jump/4.avi", "loose.avi"],
        ["d/train/run/1.avi", "d/Test/run/a/2.avi", "d/val/jump/3.avi", "d/train/jump/4.avi", "d/x.txt"],
        ["run/train/1.avi", "run/Test/a/2.avi", "jump/val/3.avi", "jump/train/4.avi", "loose.avi"],
    ] {
        let dataset = scanned(&names);
        assert_eq!(dataset.classes, ["jump", "run"]);
        let mut found = places(&dataset);
        found.sort_unstable_by_key(|place| (place.0, place.1, place.2 == test));
        assert_eq!(
            found,
            [("jump", "", train), ("jump", "", train), ("run", "", train), ("run", "a", test)],
            "{names:?}"
        );
        assert!(dataset.has_split());
        let note = "its folders are a split: 2 clips to train on with 1 of validation, 1 to score on";
        assert!(dataset.notes.iter().any(|line| line == note), "{:?}", dataset.notes);
    }
    let dataset = scanned(&["train/run/1.avi", "val/run/2.avi"]);
    assert_eq!(places(&dataset), [("run", "", train), ("run", "", test)]);
    // Vehicles.
    let dataset = scanned(&["train/1.avi", "car/1.avi", "test/a/1.avi"]);
    assert_eq!((dataset.classes.len(), dataset.has_split()), (3, false));
}

#[test]
fn links_that_lead_back_and_twins_are_said() {
    let (one, two) = ("caf\u{e9}", "cafe\u{301}");
    let dir = folder(&[&format!("{one}/1.avi"), &format!("{two}/1.avi"), "run/1.avi"]);
    symlink(dir.path(), dir.path().join("run/back")).unwrap();
    symlink("..", dir.path().join("run/up")).unwrap();
    let dataset = scan(Kind::Folder, dir.path()).unwrap();
    assert_eq!(dataset.clips.len(), 3);
    let remarks = dataset.remarks();
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    assert!(remarks[0].starts_with(&format!("{one}: 2 names look the same")), "{remarks:?}");
    assert_eq!(remarks[1], "not taken: 2 files, a link back to a folder above it: run/back/, run/up/");
}

#[test]
fn copies_are_found_by_their_frames() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("clips");
    let original = fs::read(rendered_clip()).unwrap();
    for (name, end) in [("a/1.mpg", 1), ("a/2.mpg", 1), ("b/3.mpg", 2)] {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        let mut bytes = original.clone();
        bytes.extend([0, 0, 0, end]);
        fs::write(root.join(name), bytes).unwrap();
    }
    let mut half = original;
    half.truncate(half.len() / 2);
    fs::write(root.join("b/other.mpg"), half).unwrap();
    let dataset = scan(Kind::Folder, &root).unwrap();
    let store = ensure_store(&dataset, &SPEC, dir.path(), &options(1), &|_| {}).unwrap();
    assert_eq!(store.duplicates(), [vec![0, 1, 2]]);
}

#[test]
fn other_endings_that_libav_reads_are_clips() {
    if !has_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let class = dir.path().join("clips/run");
    fs::create_dir_all(&class).unwrap();
    for ending in ["gif", "apng", "y4m", "mxf", "f4v", "ogm", "nut", "3g2", "qt"] {
        let path = class.join(format!("clip.{ending}"));
        let mut command = std::process::Command::new("ffmpeg");
        command.args([
            "-v",
            "error",
            "-nostdin",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=96x96:rate=25:duration=0.4",
        ]);
        match ending {
            "mxf" => command.args(["-c:v", "mpeg2video"]),
            "f4v" | "3g2" | "qt" => command.args(["-c:v", "mpeg4", "-f", "mov"]),
            "ogm" => command.args(["-f", "nut"]),
            _ => &mut command,
        };
        assert!(command.arg(&path).status().unwrap().success(), "{ending}");
    }
    let dataset = scan(Kind::Folder, &dir.path().join("clips")).unwrap();
    let store = ensure_store(&dataset, &SPEC, dir.path(), &options(2), &|_| {}).unwrap();
    assert_eq!(store.left_out(), []);
    assert!(
        store.clips().len() == 9 && store.clips().iter().all(|clip| clip.frames == 10),
        "{:?}",
        store.clips()
    );
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_list_of_ones_own_gives_labels_groups_and_split() {
    let dir = folder(&["all/run/1.avi", "all/run/2.avi", "all/flat.bin", "all/extra.avi"]);
    let list = dir.path().join("list.csv");
    write(
        &list,
        "clip,label,group,split\nrun/1.avi,\"sit;stand\",anna,train\nflat.bin,<b>,ben,test\nrun/2.avi,<b>,,test\n",
    );
    let dataset = scan_listed(dir.path(), &list).unwrap();
    assert_eq!(dataset.classes, ["<b>", "sit;stand"]);
    let (train, test) = (Some(Split::Train), Some(Split::Test));
    assert_eq!(places(&dataset), [("<b>", "ben", test), ("sit;stand", "anna", train), ("<b>", "", test)]);
    assert!((dataset.metric, dataset.multi_label) == (Metric::Accuracy, false) && dataset.has_split());
    dataset.require_complete().unwrap();
    assert!(dataset.remarks().contains(&"not taken: 1 file, not in list.csv: all/extra.avi".to_owned()));
    write(&list, "clip,label\nrun/1.avi,run|fast\nrun/2.avi,\ngone.avi,run\n");
    let dataset = scan_listed(dir.path(), &list).unwrap();
    assert_eq!((dataset.metric, dataset.multi_label, dataset.has_split()), (Metric::Map, true, false));
    assert_eq!(
        dataset.clips.iter().map(|clip| clip.labels.clone()).collect::<Vec<_>>(),
        [vec![0, 1], vec![]]
    );
    let error = dataset.require_complete().unwrap_err();
    assert!(matches!(error, Error::Incomplete { expected: 3, found: 2, .. }), "{error}");
    assert!(error.to_string().contains("gone.avi: listed in "), "{error}");
    write(&list, "clip,label\nrun/1.avi,run\nall/run/1.avi,run\n");
    assert!(scan_listed(dir.path(), &list).unwrap_err().to_string().contains("is listed twice"));
    write(&dir.path().join("more/run/1.avi"), "");
    let error = scan_listed(dir.path(), &list).unwrap_err().to_string();
    assert!(error.contains("give the folders too"), "{error}");
}

#[test]
fn the_lists_of_ucf101_are_read_as_they_come() {
    let dir = folder(&[
        "UCF-101/Archery/v_Archery_g01_c01.avi",
        "UCF-101/Archery/v_Archery_g08_c01.avi",
        "UCF-101/Biking/v_Biking_g08_c02.avi",
    ]);
    let lists = dir.path().join("ucfTrainTestlist");
    write(&lists.join("classInd.txt"), "1 Archery\r\n2 Biking\r\n");
    write(
        &lists.join("trainlist01.txt"),
        "Archery/v_Archery_g08_c01.avi 1\r\nBiking/v_Biking_g08_c02.avi 2\r\n",
    );
    write(&lists.join("testlist01.txt"), "Archery/v_Archery_g01_c01.avi\r\n");
    for list in ["trainlist01.txt", "testlist01.txt"] {
        let dataset = scan_listed(dir.path(), &lists.join(list)).unwrap();
        let (train, test) = (Some(Split::Train), Some(Split::Test));
        assert_eq!(
            places(&dataset),
            [("Archery", "g01", test), ("Archery", "g08", train), ("Biking", "g08", train)]
        );
        dataset.require_complete().unwrap();
    }
    let error = scan_listed(dir.path(), &lists).unwrap_err().to_string();
    assert!(error.contains("give one of the files in it"), "{error}");
    assert!(matches!(scan_listed(dir.path(), &lists.join("testlist02.txt")), Err(Error::Io { .. })));
}

#[test]
fn the_lists_of_hmdb51_are_read_as_they_come() {
    let dir = folder(&["run/a_#1.avi", "run/b.avi", "run/c.avi", "jump/d.avi"]);
    let lists = tempfile::tempdir().unwrap();
    write(&lists.path().join("run_test_split1.txt"), "a_#1.avi 1 \nb.avi 2 \nc.avi 0 \n");
    write(&lists.path().join("jump_test_split1.txt"), "d.avi 1 \n");
    write(&lists.path().join("run_test_split2.txt"), "a_#1.avi 2 \n");
    let dataset = scan_listed(dir.path(), &lists.path().join("run_test_split1.txt")).unwrap();
    let (train, test) = (Some(Split::Train), Some(Split::Test));
    assert_eq!(places(&dataset), [("jump", "", train), ("run", "", train), ("run", "", test)]);
    assert_eq!(dataset.remarks()[1], "not taken: 1 file, not in run_test_split1.txt: run/c.avi");
}
