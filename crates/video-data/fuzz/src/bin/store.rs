//! Fuzzes the opening of a frame store: the first line's worth of bytes is `store.json`, the rest its manifest.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let dir = std::env::temp_dir().join(format!("fuzz-store-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let cut = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (info, rows) = (&data[..cut], data.get(cut + 1..).unwrap_or_default());
    std::fs::write(dir.join("store.json"), sealed(info, rows)).unwrap();
    std::fs::write(dir.join("manifest.csv"), rows).unwrap();
    std::fs::write(dir.join("frames.bin"), vec![0; 4 * 48]).unwrap();
    if let Ok(store) = video_data::Store::open(&dir) {
        for clip in 0..store.clips().len() {
            let _ = store.frames(clip).len();
        }
        let _ = store.damaged();
    }
});

/// With the manifest's right digest, so that what lies behind that check is reached, too.
fn sealed(info: &[u8], rows: &[u8]) -> Vec<u8> {
    let digest = video_data::digest::of_bytes(rows);
    String::from_utf8_lossy(info).replace("DIGEST", &digest).into_bytes()
}
