//! The sound of clips, from files to a score.

use std::fs;
use std::path::Path;

use bench_suite::record::CellRecord;
use rand::RngExt;
use tt_core::rng::stream;

use crate::run::{Run, stderr};

/// A tone that rises or falls by half within half a second, from anywhere, in a WAV file of 16 bits.
fn write(dir: &Path) {
    for (class, sign) in [("falling", -1.0), ("rising", 1.0)] {
        for clip in 0..20 {
            let mut random = stream(1, &format!("{class}{clip}"));
            let start: f64 = random.random_range(500.0..900.0);
            let (mut angle, mut data) = (0.0_f64, Vec::new());
            for at in 0..8000 {
                angle +=
                    std::f64::consts::TAU * start * (1.0 + sign * 0.5 * f64::from(at) / 8000.0) / 16_000.0;
                data.extend(((angle.sin() * 8000.0) as i16).to_le_bytes());
            }
            let mut bytes = b"RIFF\xa4\x3e\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
            bytes.extend(b"\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data\x80\x3e\0\0");
            bytes.extend(data);
            let path = dir.join(format!("{class}/voice{}/{clip:02}.wav", clip % 4));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
    fs::write(dir.join("rising/text.wav"), "no sound").unwrap();
}

#[test]
fn tones_are_told_apart_by_where_they_go() {
    let settings = ["model.names=[\"gru\"]", "train.batch=4", "train.epochs.gru=40"];
    let run = Run::of_files("sound", &write, &settings);
    let plan = run.plan();
    assert_eq!((plan.clips, plan.frame_bytes), (40, 4 * 64));
    assert!(plan.config.contains("audio = \"logmel\""), "{}", plan.config);
    assert_eq!(plan.left_out.len(), 1, "{:?}", plan.left_out);
    let cell = &run.cells()[0];
    run.finish(cell, "--threads 2");
    let record: CellRecord =
        serde_json::from_slice(&fs::read(run.folder(cell).join("cell.json")).unwrap()).unwrap();
    assert_eq!(record.standard.unwrap().by, "feature");
    assert!(record.value > 0.8, "{}", record.value);
    let output = run.export_command(cell, &run.dir().join("model")).output().unwrap();
    assert!(stderr(&output).contains("was trained on rows of numbers"), "{}", stderr(&output));
}

/// Rows of sound are numbers and no bytes, however they are standardized.
#[test]
fn sound_as_it_is_trains_too() {
    let settings =
        ["model.names=[\"tt-gru\"]", "train.batch=4", "train.epochs.tt-gru=2", "train.standardize=all"];
    let run = Run::of_files("sound", &write, &settings);
    run.finish(&run.cells()[0], "--threads 2");
}
