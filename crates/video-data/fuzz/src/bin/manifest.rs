//! Fuzzes the reading of `manifest.csv`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = video_data::store::parse_manifest(data);
});
