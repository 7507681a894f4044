//! Replays the corpus of the fuzz targets (`fuzz/`), where inputs that once did harm are kept.

use std::fs;
use std::path::Path;

use video_data::datasets::hollywood2::parse_clip_set;
use video_data::digest;
use video_data::store::{Store, parse_manifest};

fn inputs(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let inputs: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!inputs.is_empty());
    inputs
}

#[test]
fn the_fuzz_corpus_is_read_or_refused_and_part_of_it_read() {
    assert!(inputs("manifest").iter().filter(|bytes| parse_manifest(bytes).is_ok()).count() > 0);
    assert!(inputs("clip_sets").iter().filter(|bytes| parse_clip_set(bytes).is_ok()).count() > 0);
    let stores = inputs("store");
    let opened = stores.iter().filter(|bytes| {
        let dir = tempfile::tempdir().unwrap();
        let (info, rows) = bytes.split_at(bytes.iter().position(|byte| *byte == b'\n').unwrap());
        let info = String::from_utf8_lossy(info).replace("DIGEST", &digest::of_bytes(&rows[1..]));
        fs::write(dir.path().join("store.json"), info).unwrap();
        fs::write(dir.path().join("manifest.csv"), &rows[1..]).unwrap();
        fs::write(dir.path().join("frames.bin"), vec![0; 4 * 48]).unwrap();
        Store::open(dir.path()).is_ok()
    });
    assert!(opened.count() > 0);
}
