//! Fuzzes the reading of an experiment in TOML.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = bench_suite::spec::Spec::from_toml(text, "fuzz");
    }
});
