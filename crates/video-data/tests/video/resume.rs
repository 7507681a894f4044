//! The store's bytes depend on the clips alone: not on the number of workers, not on how often it was killed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use video_data::datasets::{Kind, scan};
use video_data::decode::wire;
use video_data::import::{Options, Progress, ensure_store, store_dir};
use video_data::sample::{Layout, plan};
use video_data::{Dataset, FrameSpec, Store};

use crate::{options, rendered_clip, worker};

/// Set in the process that is to be killed.
const CHILD: &str = "VIDEO_DATA_TEST_IMPORT";

fn spec() -> FrameSpec {
    Kind::Ucf11.frame_spec()
}

/// Eleven rendered clips, one a class, and a text file among them.
fn clips(dir: &Path) -> Dataset {
    let root = dir.join("clips");
    if !root.exists() {
        let plan = plan(Layout::Ucf11, 5);
        for clip in plan.iter().step_by(40) {
            fs::create_dir_all(root.join(&clip.name).parent().unwrap()).unwrap();
        }
        let status = Command::new(worker())
            .args(["render", "--layout", "ucf11", "--seed", "5", "--part", "0/40", "--out"])
            .arg(&root)
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        fs::write(root.join("UCF11_updated_mpg/diving/text.mpg"), "no video").unwrap();
    }
    scan(Kind::Ucf11, &root).unwrap()
}

fn contents(store: &Path) -> [Vec<u8>; 3] {
    ["frames.bin", "manifest.csv", "store.json"].map(|name| fs::read(store.join(name)).unwrap())
}

fn import(dir: &Path, data: &Path, jobs: usize) -> PathBuf {
    let dataset = clips(dir);
    let store = ensure_store(&dataset, &spec(), data, &options(jobs), &|_| {}).unwrap();
    assert_eq!((store.clips().len(), store.left_out().len()), (11, 1));
    assert!(store.damaged().unwrap().is_empty());
    store.dir().to_path_buf()
}

#[test]
fn any_number_of_workers_writes_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let one = contents(&import(dir.path(), &dir.path().join("one"), 1));
    assert!(one == contents(&import(dir.path(), &dir.path().join("two"), 2)));
    // With next to no memory for clips that wait, workers must take turns.
    let options = Options { buffer_bytes: 1, ..options(3) };
    let store =
        ensure_store(&clips(dir.path()), &spec(), &dir.path().join("three"), &options, &|_| {}).unwrap();
    assert!(one == contents(store.dir()));
}

#[test]
fn a_store_is_found_again_until_something_changes() {
    let dir = tempfile::tempdir().unwrap();
    let first = import(dir.path(), dir.path(), 2);
    let dataset = clips(dir.path());
    let none = |_: &Progress<'_>| panic!("decoded again");
    assert_eq!(ensure_store(&dataset, &spec(), dir.path(), &options(1), &none).unwrap().dir(), first);
    fs::write(dir.path().join("clips/UCF11_updated_mpg/diving/text.mpg"), "longer text").unwrap();
    assert_ne!(store_dir(&clips(dir.path()), &spec(), dir.path()).unwrap(), first);
    let smaller = FrameSpec { width: 80, ..spec() };
    assert_ne!(store_dir(&dataset, &smaller, dir.path()).unwrap(), first);
}

/// Two clips of one size and one time of modification, under each other's names.
#[test]
fn exchanged_clips_are_not_the_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("clips");
    let original = fs::read(rendered_clip()).unwrap();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let write = |name: &str, last: u8| {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes = original.clone();
        // After the end of the stream: other bytes, the same frames.
        bytes.extend([0, 0, 0, last]);
        fs::write(&path, bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    };
    write("red/a.mpg", 1);
    write("blue/a.mpg", 2);
    let store = |touched: &dyn Fn()| {
        touched();
        let dataset = scan(Kind::Folder, &root).unwrap();
        let store = ensure_store(&dataset, &spec(), dir.path(), &options(1), &|_| {}).unwrap();
        (
            store.dir().to_path_buf(),
            store.rows().unwrap().into_iter().map(|row| row.sha256).collect::<Vec<_>>(),
        )
    };
    let (first, mut digests) = store(&|| {});
    let (exchanged, others) = store(&|| {
        fs::rename(root.join("red/a.mpg"), root.join("tmp")).unwrap();
        fs::rename(root.join("blue/a.mpg"), root.join("red/a.mpg")).unwrap();
        fs::rename(root.join("tmp"), root.join("blue/a.mpg")).unwrap();
    });
    assert_ne!(first, exchanged);
    digests.reverse();
    assert_eq!(digests, others);
    // Touched, copied, or back in place: the same contents have the same store.
    let touch =
        || fs::File::options().write(true).open(root.join("red/a.mpg")).unwrap().set_modified(time).unwrap();
    assert_eq!(store(&touch).0, exchanged);
    let back = || {
        write("red/a.mpg", 1);
        write("blue/a.mpg", 2);
    };
    assert_eq!(store(&back).0, first);
}

#[test]
fn an_untouched_clip_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let first = import(dir.path(), dir.path(), 2);
    let stores = dir.path().join("stores");
    let seen = fs::read_dir(&stores).unwrap().map(|entry| entry.unwrap().path());
    let seen =
        seen.filter(|path| path.extension().is_some_and(|ending| ending == "seen")).collect::<Vec<_>>();
    assert_eq!(seen.len(), 1, "{seen:?}");
    // A digest that is remembered is believed: the store of another one is looked for. Clips as young as these
    // are read again, so theirs are made old.
    let text = fs::read_to_string(&seen[0]).unwrap();
    let mut lines: Vec<Vec<String>> =
        text.lines().map(|line| line.split(',').map(str::to_owned).collect()).collect();
    lines[1][6] = "0".repeat(64);
    let forge = |lines: &[Vec<String>]| {
        fs::write(&seen[0], lines.iter().map(|line| line.join(",") + "\n").collect::<String>()).unwrap();
        store_dir(&clips(dir.path()), &spec(), dir.path()).unwrap()
    };
    assert_eq!(forge(&lines), first, "a clip changed just before it was read is not believed");
    lines[1][5] = i64::MAX.to_string();
    assert_ne!(forge(&lines), first);
}

#[test]
fn a_store_half_written_by_another_libav_starts_over() {
    let dir = tempfile::tempdir().unwrap();
    let version = Command::new(worker()).arg("version").output().unwrap().stdout;
    let hello = |libav: &str| {
        let words = wire::Hello { protocol: wire::VERSION, libav: libav.to_owned() };
        let mut bytes = Vec::new();
        wire::write_message(&mut bytes, wire::HELLO, &[&serde_json::to_vec(&words).unwrap()]).unwrap();
        bytes
    };
    let ours = hello(std::str::from_utf8(&version).unwrap().trim());
    // The same worker, which calls its libav by another name.
    let (words, program) = (dir.path().join("hello"), dir.path().join("other-worker"));
    fs::write(&words, hello("another libav")).unwrap();
    let (worker, words, skip) = (worker(), words.display(), ours.len());
    let script = format!(
        "#!/bin/sh\ncat {words}\n{} \"$@\" | {{ head -c {skip} > /dev/null; exec cat; }}\n",
        worker.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (data, _) = unfinished(dir.path(), &Options { worker: Some(program), ..options(1) });
    let done = std::sync::Mutex::new(Vec::new());
    let tell = |progress: &Progress<'_>| done.lock().unwrap().push(progress.done);
    ensure_store(&clips(dir.path()), &spec(), &data, &options(1), &tell).unwrap();
    assert_eq!(done.into_inner().unwrap(), (1..=12).collect::<Vec<_>>());
}

#[test]
fn a_killed_import_goes_on_to_the_same_bytes() {
    if let Some(dir) = std::env::var_os(CHILD) {
        import(Path::new(&dir), &Path::new(&dir).join("killed"), 2);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let whole = contents(&import(dir.path(), &dir.path().join("whole"), 2));
    let data = dir.path().join("killed");
    let store = store_dir(&clips(dir.path()), &spec(), &data).unwrap();
    let mut kills = 0;
    for part in 0..8 {
        // Killed once so many bytes are in, which is in the midst of a clip more often than not.
        let enough = whole[0].len() as u64 * part / 8 + 1000;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "resume::a_killed_import_goes_on_to_the_same_bytes"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let frames = store.join("frames.bin");
        while fs::metadata(&frames).map_or(0, |meta| meta.len()) < enough {
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success());
                break;
            }
            std::thread::yield_now();
        }
        kills += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(kills >= 4, "only {kills} imports were killed");
    assert!(contents(&import(dir.path(), &data, 2)) == whole);
}

/// An import that stopped after some clips, as a kill leaves it: journal and frames, no manifest.
fn unfinished(dir: &Path, options: &Options) -> (PathBuf, PathBuf) {
    let data = dir.join("unfinished");
    let dataset = clips(dir);
    let stop = |progress: &Progress<'_>| assert!(progress.done < 6, "stop here");
    let result = std::panic::catch_unwind(|| ensure_store(&dataset, &spec(), &data, options, &stop).is_ok());
    assert!(result.is_err());
    let store = store_dir(&dataset, &spec(), &data).unwrap();
    assert!(!Store::exists(&store) && store.join("journal").exists());
    (data, store)
}

type Harm = fn(&mut Vec<u8>);

#[test]
fn torn_tails_and_unwritten_pages_are_mended() {
    let dir = tempfile::tempdir().unwrap();
    let whole = contents(&import(dir.path(), &dir.path().join("whole"), 2));
    let harms: [(&str, Harm); 4] = [
        ("frames.bin", |bytes| bytes.extend([1; 12_345])),
        ("frames.bin", |bytes| bytes.truncate(bytes.len() / 2)),
        // What a power cut can do to pages that were never forced to the disk.
        ("frames.bin", |bytes| bytes[60_000..70_000].fill(0)),
        ("journal", |bytes| bytes.extend(b"0123456789abcdef {\"torn")),
    ];
    for (file, harm) in harms {
        let (data, store) = unfinished(dir.path(), &options(1));
        let mut bytes = fs::read(store.join(file)).unwrap();
        harm(&mut bytes);
        fs::write(store.join(file), bytes).unwrap();
        assert!(contents(&import(dir.path(), &data, 1)) == whole, "{file}");
        fs::remove_dir_all(&data).unwrap();
    }
}

#[test]
fn a_damaged_store_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = import(dir.path(), dir.path(), 2);
    let path = store.join("frames.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(Store::open(&store).unwrap().damaged().unwrap(), [0]);
    bytes.pop();
    fs::write(&path, &bytes).unwrap();
    assert!(Store::open(&store).is_err());
}
