//! Fuzzes the reading of a file of ClipSets.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(rows) = video_data::datasets::hollywood2::parse_clip_set(data) {
        assert!(rows.iter().all(|(clip, _)| !clip.contains(['/', '\0'])));
    }
});
