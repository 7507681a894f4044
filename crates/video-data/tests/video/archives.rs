//! Archives are unpacked without trusting them, and imports are checked against what they recorded.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use video_data::archive::{Extracted, Limits, extract};
use video_data::datasets::{Kind, scan};
use video_data::import::ensure_store;
use video_data::rate::Rate;
use video_data::store::find_store;
use video_data::verify::{Verdict, verify};
use video_data::{Error, FrameSpec};

use crate::{options, rendered_clip, skipped};

const SPEC: FrameSpec = FrameSpec::rgb(32, 24, Rate::Native);

fn unpack(archive: &Path, out: &Path, limits: &Limits) -> Result<Extracted, Error> {
    extract(archive, out, limits, &mut |_| {})
}

/// Names below `dir`, with what is a link or a folder marked.
fn tree(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            names.extend(tree(&entry.path()).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            assert!(entry.file_type().unwrap().is_file(), "{name}");
            names.push(name);
        }
    }
    names.sort();
    names
}

/// A tar entry with any name and any declared size.
fn entry(kind: tar::EntryType, name: &[u8], content: &[u8], declared: u64, link: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(declared);
    header.set_mode(0o4777);
    if !link.is_empty() {
        header.set_link_name(link).unwrap();
    }
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn nothing_leaves_the_folder_and_only_clips_come_out() {
    use tar::EntryType as Kind;
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = Vec::new();
    for (kind, name, link) in [
        (Kind::Regular, b"walk/v_01/a.avi".as_slice(), ""),
        (Kind::Regular, b"../outside.avi", ""),
        (Kind::Regular, b"/tmp/absolute.avi", ""),
        (Kind::Regular, b"walk/../../up.avi", ""),
        (Kind::Symlink, b"link.avi", "/etc/passwd"),
        (Kind::Link, b"hard.avi", "/etc/passwd"),
        (Kind::Fifo, b"fifo.avi", ""),
        (Kind::Char, b"device.avi", ""),
        (Kind::Regular, b"walk/v_01/a.avi", ""),
        (Kind::Regular, b"run.sh", ""),
        (Kind::Regular, b".hidden.avi", ""),
        (Kind::Regular, b"=cmd,\"x\"\n.avi", ""),
        (Kind::Regular, b"bytes\xff.avi", ""),
        (Kind::Regular, b"ClipSets/Run_test.txt", ""),
    ] {
        let content: &[u8] = if kind == Kind::Regular { b"1234" } else { b"" };
        bytes.extend(entry(kind, name, content, content.len() as u64, link));
    }
    bytes.resize(bytes.len() + 1024, 0);
    let archive = dir.path().join("clips.tar");
    fs::write(&archive, &bytes).unwrap();
    let out = dir.path().join("deep/out");
    let done = unpack(&archive, &out, &Limits::default()).unwrap();
    let names = tree(&out);
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!((done.files, done.bytes, done.ignored), (4, 16, 2));
    let reasons: Vec<&str> = done.refused.iter().map(|(_, reason)| reason.as_str()).collect();
    assert_eq!(reasons.len(), 8, "{reasons:?}");
    assert_eq!(tree(dir.path()).len(), 5, "something was written outside");
    // The same again is the same: files that are there are not written twice.
    assert_eq!(unpack(&archive, &out, &Limits::default()).unwrap(), done);
}

#[test]
fn bombs_and_lies_break_on_the_caps() {
    let dir = tempfile::tempdir().unwrap();
    let small = Limits { entries: 10, file_bytes: 10_000, total_bytes: 25_000 };
    let zip = |name: &str, files: usize, bytes: usize| {
        let path = dir.path().join(name);
        let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
        for file in 0..files {
            writer.start_file(format!("{file}.avi"), zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(&vec![0; bytes]).unwrap();
        }
        writer.finish().unwrap();
        path
    };
    let out = dir.path().join("out");
    let done = unpack(&zip("one.zip", 1, 9000), &out, &small).unwrap();
    assert_eq!((done.files, done.bytes), (1, 9000));
    let done = unpack(&zip("large.zip", 1, 1_000_000), &out, &small).unwrap();
    assert!(done.refused[0].1.contains("over the cap"), "{done:?}");
    let total = unpack(&zip("total.zip", 5, 9999), &dir.path().join("total"), &small).unwrap_err();
    assert!(total.to_string().contains("more than 25000 bytes"), "{total}");
    let many = unpack(&zip("many.zip", 11, 1), &dir.path().join("many"), &small).unwrap_err();
    assert!(many.to_string().contains("more than 10 entries"), "{many}");
    // 16 EiB are declared and four bytes are there.
    let liar = dir.path().join("liar.tar");
    fs::write(&liar, entry(tar::EntryType::Regular, b"a.avi", b"1234", u64::MAX / 2, "")).unwrap();
    let told = unpack(&liar, &dir.path().join("liar"), &Limits::default());
    assert!(told.is_err() || told.is_ok_and(|done| done.files == 0 && done.refused.len() == 1));
    // A zip that declares less than it unpacks to.
    let mut lying = fs::read(zip("lying.zip", 1, 50_000)).unwrap();
    let real = 50_000_u32.to_le_bytes();
    for at in 0..lying.len() - 4 {
        if lying[at..at + 4] == real {
            lying[at..at + 4].copy_from_slice(&100_u32.to_le_bytes());
        }
    }
    let path = dir.path().join("lying2.zip");
    fs::write(&path, lying).unwrap();
    let folder = dir.path().join("lying");
    let told = unpack(&path, &folder, &small);
    assert!(told.is_err() || told.is_ok_and(|done| done.bytes <= small.file_bytes), "a bomb went off");
    for (name, bytes) in
        [("no.zip", b"PK\x03\x04 nothing".as_slice()), ("no.tar", b"x"), ("no.tar.gz", b"\x1f\x8b\x08")]
    {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        let told = unpack(&path, &dir.path().join("no"), &small);
        assert!(matches!(told, Err(Error::Corrupt { .. })), "{name}: {told:?}");
    }
    assert!(matches!(unpack(Path::new("x.exe"), &out, &small), Err(Error::Corrupt { .. })));
}

#[test]
fn headers_are_under_the_caps() {
    use tar::EntryType as Kind;
    let dir = tempfile::tempdir().unwrap();
    let clip = entry(Kind::Regular, b"run/a.avi", b"1234", 4, "");
    let huge = vec![b'x'; 40 << 20];
    let length = huge.len() as u64;
    for (name, kind, content) in [
        ("long-name", Kind::GNULongName, huge.clone()),
        ("long-link", Kind::GNULongLink, huge.clone()),
        ("pax", Kind::XHeader, huge.clone()),
    ] {
        let path = dir.path().join(format!("{name}.tar"));
        let header = entry(kind, b"././@LongLink", &content, length, "");
        fs::write(&path, [header, clip.clone(), vec![0; 1024]].concat()).unwrap();
        let told = unpack(&path, &dir.path().join(name), &Limits::default()).unwrap_err().to_string();
        assert!(told.contains("headers take more than 1048576 bytes"), "{name}: {told}");
    }
    // A name as long as file systems allow, a refused file that is passed over, and no mark of the end.
    let mut long = tar::Builder::new(Vec::new());
    let name = format!("{}/{}.avi", "d".repeat(200), "f".repeat(200));
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    long.append_data(&mut header, &name, &b"1234"[..]).unwrap();
    let refused = entry(Kind::Regular, b"../large.avi", &huge, length, "");
    let all = [refused, long.into_inner().unwrap()[..2048].to_vec(), clip].concat();
    fs::write(dir.path().join("good.tar"), all).unwrap();
    let out = dir.path().join("good");
    let done = unpack(&dir.path().join("good.tar"), &out, &Limits::default()).unwrap();
    assert_eq!((done.files, done.refused.len(), tree(&out)), (2, 1, vec![name, "run/a.avi".to_owned()]));
}

#[test]
fn a_zip_with_backslashes_between_folders_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let zip = |name: &str, entries: &[&str]| {
        let path = dir.path().join(name);
        let mut writer = zip::ZipWriter::new(File::create(&path).unwrap());
        for entry in entries {
            writer.start_file(*entry, zip::write::SimpleFileOptions::default()).unwrap();
            writer.write_all(b"1234").unwrap();
        }
        writer.finish().unwrap();
        // The writer mends what a program of Windows leaves as it is.
        let bytes: Vec<u8> = fs::read(&path).unwrap();
        let bytes = bytes.into_iter().map(|byte| if byte == b'|' { b'\\' } else { byte }).collect::<Vec<_>>();
        fs::write(&path, bytes).unwrap();
        path
    };
    let path = zip("windows.zip", &["clips|run|1.avi", "clips|jump|2.avi", "..|up.avi", "clips|notes.doc"]);
    let out = dir.path().join("windows");
    let done = unpack(&path, &out, &Limits::default()).unwrap();
    assert_eq!((done.files, done.ignored, done.refused.len()), (2, 1, 1), "{done:?}");
    assert_eq!(tree(&out), ["clips/jump/2.avi", "clips/run/1.avi"]);
    assert_eq!(scan(Kind::Folder, &out).unwrap().classes, ["jump", "run"]);
    // Beside names with slashes a backslash is a letter.
    let out = dir.path().join("mixed");
    unpack(&zip("mixed.zip", &["run/1|2.avi"]), &out, &Limits::default()).unwrap();
    assert_eq!(tree(&out), ["run/1\\2.avi"]);
}

/// Set in the process that unpacks with another `bsdtar` or in another locale.
const CHILD: &str = "VIDEO_DATA_TEST_UNPACK";

#[test]
fn warnings_of_bsdtar_end_nothing() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let dir = Path::new(&dir);
        let told = unpack(&dir.join("clips.7z"), &dir.join("out"), &Limits::default());
        let text = told.map_or_else(|error| error.to_string(), |done| format!("{} files", done.files));
        fs::write(dir.join("told"), text).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("clips.7z"), "").unwrap();
    let clip = entry(tar::EntryType::Regular, b"run/a.avi", b"1234", 4, "");
    fs::write(dir.path().join("whole"), [clip.clone(), vec![0; 10240]].concat()).unwrap();
    fs::write(dir.path().join("cut"), clip).unwrap();
    let told = |script: &str| {
        let program = dir.path().join("bsdtar");
        fs::write(&program, format!("#!/bin/sh\ncd {}\n{script}\n", dir.path().display())).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let path = std::env::join_paths(
            [dir.path().to_path_buf()]
                .into_iter()
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "archives::warnings_of_bsdtar_end_nothing"])
            .env(CHILD, dir.path())
            .env("PATH", path.unwrap())
            .env("LC_ALL", "C")
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success());
        fs::read_to_string(dir.path().join("told")).unwrap()
    };
    // More than a pipe holds, before the first byte of the archive.
    assert_eq!(told("head -c 300000 /dev/zero | tr '\\0' 'w' >&2 && cat whole"), "1 files");
    assert_eq!(told("echo 'bsdtar: run/a.avi: no such time' >&2; cat whole; exit 1"), "1 files");
    let gone = told("cat whole; echo 'bsdtar: Error reading archive clips.7z: Truncated' >&2; exit 1");
    assert!(gone.contains("Error reading archive"), "{gone}");
    assert!(told("cat cut; echo 'bsdtar: (null)' >&2; exit 1").contains("bsdtar: (null)"));
    assert_eq!(told("test \"$LC_ALL\" != C && cat whole"), "1 files");
}

#[test]
fn other_archives_come_through_bsdtar() {
    if Command::new("bsdtar").arg("--version").output().is_err() {
        skipped("no bsdtar (libarchive-tools)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("in/walk")).unwrap();
    fs::copy(rendered_clip(), dir.path().join("in/walk/a.mpg")).unwrap();
    fs::write(dir.path().join("in/walk/readme.md"), "no clip").unwrap();
    let archive = dir.path().join("clips.7z");
    let made = Command::new("bsdtar")
        .args(["-c", "--format=7zip", "-f"])
        .arg(&archive)
        .arg("-C")
        .arg(dir.path().join("in"))
        .arg("walk")
        .status();
    assert!(made.unwrap().success());
    let out = dir.path().join("out");
    let done = unpack(&archive, &out, &Limits::default()).unwrap();
    assert_eq!((done.files, done.ignored, tree(&out)), (1, 1, vec!["walk/a.mpg".to_owned()]));
    assert_eq!(fs::read(out.join("walk/a.mpg")).unwrap(), fs::read(rendered_clip()).unwrap());
    fs::write(dir.path().join("broken.rar"), b"Rar!\x1a\x07\x01\x00 and no more").unwrap();
    let told = unpack(&dir.path().join("broken.rar"), &out, &Limits::default());
    assert!(matches!(told, Err(Error::Corrupt { .. })), "{told:?}");
}

#[test]
fn every_change_since_the_import_has_a_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let clips = dir.path().join("clips");
    let data = dir.path().join("data");
    for name in ["a/same.mpg", "a/changed.mpg", "b/gone.mpg", "b/text.mpg"] {
        fs::create_dir_all(clips.join(name).parent().unwrap()).unwrap();
        fs::copy(rendered_clip(), clips.join(name)).unwrap();
    }
    fs::write(clips.join("b/text.mpg"), "no video").unwrap();
    fs::write(clips.join("readme.txt"), "no clip").unwrap();
    let before = scan(Kind::Folder, &clips).unwrap();
    let check = |fast: bool| {
        let dataset = scan(Kind::Folder, &clips).unwrap();
        let store = find_store(&dataset, &SPEC, &data).unwrap();
        let checked = verify(&dataset, &SPEC, store.as_ref(), fast, &options(2), &|_, _| {}).unwrap();
        let mut checked: Vec<_> =
            checked.into_iter().map(|checked| (checked.clip, checked.verdict)).collect();
        assert_eq!(checked.pop(), Some(("readme.txt".to_owned(), Verdict::NotTaken)));
        checked
    };
    let expected =
        |verdicts: [(&str, Verdict); 4]| verdicts.map(|(clip, verdict)| (clip.to_owned(), verdict));
    let first = [
        ("a/changed.mpg", Verdict::Ok),
        ("a/same.mpg", Verdict::Ok),
        ("b/gone.mpg", Verdict::Ok),
        ("b/text.mpg", Verdict::Bad),
    ];
    assert_eq!(check(false), expected(first), "without a record");
    let store = ensure_store(&before, &SPEC, &data, &options(2), &|_| {}).unwrap();
    let path = store.dir().join("frames.bin");
    let offset = store.clips().iter().find(|clip| clip.name == "a/same.mpg").unwrap().offset;
    drop(store);
    let recorded =
        first.map(|(clip, verdict)| (clip, if verdict == Verdict::Bad { Verdict::LeftOut } else { verdict }));
    assert_eq!(check(false), expected(recorded));
    assert_eq!(check(true), expected(recorded));
    // One bit of one clip: whatever the decoder thinks of it, the digest knows.
    let mut bytes = fs::read(clips.join("a/changed.mpg")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(clips.join("a/changed.mpg"), bytes).unwrap();
    fs::remove_file(clips.join("b/gone.mpg")).unwrap();
    fs::copy(rendered_clip(), clips.join("b/new.mpg")).unwrap();
    let mut frames = fs::read(&path).unwrap();
    frames[offset * SPEC.frame_bytes() + 5] ^= 1;
    fs::write(&path, frames).unwrap();
    let now: Vec<_> = [
        ("a/changed.mpg", Verdict::Changed),
        ("a/same.mpg", Verdict::DamagedStore),
        ("b/gone.mpg", Verdict::Missing),
        ("b/new.mpg", Verdict::New),
        ("b/text.mpg", Verdict::LeftOut),
    ]
    .map(|(clip, verdict)| (clip.to_owned(), verdict))
    .to_vec();
    assert_eq!(check(false), now);
}

#[test]
fn damaged_clips_cost_themselves_alone() {
    let dir = tempfile::tempdir().unwrap();
    let torture = |jobs| {
        video_data::damage::torture(
            &dir.path().join("clips"),
            24,
            3,
            jobs,
            Some(&crate::worker()),
            &mut |codec, reason| skipped(&format!("{codec}: {reason}")),
        )
        .unwrap()
    };
    let tallies = torture(2);
    let mut all = video_data::damage::Tally::default();
    for tally in tallies.values() {
        all.add(tally);
    }
    assert!(all.clips >= 2 * 28, "{}", all.verdict());
    assert_eq!((all.crashes, all.hangs), (0, 0), "{}", all.verdict());
    assert!((all.refused + all.flagged) * 2 > all.clips, "{}", all.verdict());
    assert_eq!(tallies, torture(1), "the verdicts depend on the number of workers");
}
