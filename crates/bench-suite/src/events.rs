//! Curves of a cell as a TensorBoard event file, written as epochs end.
//!
//! A file is a sequence of records: length (u64), its checksum, the bytes, their checksum (masked CRC-32C, all
//! little-endian). The bytes are an `Event` in protocol buffers' encoding: `wall_time` (field 1, always first
//! here), then `file_version` (3) in the first record, `step` (2) and `summary` (5) in the others. There is one
//! record per epoch, so a step is in the file whole or not at all.

use crate::record::CurvePoint;
use std::fs::File;
use std::io::{Result, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Name of the file in a cell's folder; TensorBoard looks for `tfevents`.
pub const FILE: &str = "events.out.tfevents.cell";

/// Bytes of a record around its event: length, two checksums.
const FRAME: usize = 16;

/// The open event file of a cell.
#[derive(Debug)]
pub struct Events {
    file: File,
    metric: String,
}

impl Events {
    /// Opens the file of a cell whose finished epochs are `curve`: keeps the records that match, with their
    /// times, cuts off the rest and adds what is missing.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(folder: &Path, metric: &str, curve: &[CurvePoint]) -> Result<Self> {
        let path = folder.join(FILE);
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
        let old = std::fs::read(&path)?;
        let wanted = std::iter::once(version(0.0)).chain(curve.iter().map(|point| event(point, metric, 0.0)));
        let (mut kept, mut missing) = (0, Vec::new());
        for event in wanted {
            match record_at(&old[kept..]) {
                Some(found) if missing.is_empty() && timeless(found) == record(&event) => kept += found.len(),
                _ => missing.push(event),
            }
        }
        file.set_len(kept as u64)?;
        file.seek(SeekFrom::End(0))?;
        let now = wall_time().to_le_bytes();
        for mut event in missing {
            event[1..9].copy_from_slice(&now);
            file.write_all(&record(&event))?;
        }
        Ok(Self { file, metric: metric.to_owned() })
    }

    /// Adds a finished epoch.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn epoch(&mut self, point: &CurvePoint) -> Result<()> {
        self.file.write_all(&record(&event(point, &self.metric, wall_time())))
    }

    /// Syncs the file to disk.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn finish(self) -> Result<()> {
        self.file.sync_all()
    }
}

/// An event file with all wall times set to zero: identical for two runs of one cell.
pub fn without_times(bytes: &[u8]) -> Vec<u8> {
    let (mut rest, mut text) = (bytes, Vec::with_capacity(bytes.len()));
    while let Some(found) = record_at(rest) {
        text.extend(timeless(found));
        rest = &rest[found.len()..];
    }
    text.extend(rest);
    text
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The first record of `bytes`, with its frame; none if it is incomplete.
fn record_at(bytes: &[u8]) -> Option<&[u8]> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let whole = usize::try_from(length).ok()?.checked_add(FRAME)?;
    // Tag of the wall time, the wall time: what every event begins with.
    (length >= 9).then(|| bytes.get(..whole))?
}

/// A record with its wall time zero.
fn timeless(found: &[u8]) -> Vec<u8> {
    let mut event = found[12..found.len() - 4].to_vec();
    event[1..9].fill(0);
    record(&event)
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut bytes = Vec::with_capacity(event.len() + FRAME);
    bytes.extend(length);
    bytes.extend(masked_crc(&length).to_le_bytes());
    bytes.extend(event);
    bytes.extend(masked_crc(event).to_le_bytes());
    bytes
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn version(wall_time: f64) -> Vec<u8> {
    let mut event = time(wall_time);
    delimited(&mut event, 3, b"brain.Event:2");
    event
}

fn event(point: &CurvePoint, metric: &str, wall_time: f64) -> Vec<u8> {
    let mut summary = Vec::new();
    let mut scalar = |tag: &str, number: f64| {
        let mut value = Vec::new();
        delimited(&mut value, 1, tag.as_bytes());
        value.push(2 << 3 | 5);
        value.extend((number as f32).to_le_bytes());
        delimited(&mut summary, 1, &value);
    };
    scalar("loss/train", point.train_loss);
    scalar(&format!("{metric}/train"), point.train_value);
    if let Some(value) = point.test_value {
        scalar(&format!("{metric}/test"), value);
    }
    let mut event = time(wall_time);
    event.push(2 << 3);
    varint(&mut event, point.epoch as u64);
    delimited(&mut event, 5, &summary);
    event
}

fn time(wall_time: f64) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(wall_time.to_le_bytes());
    event
}

/// A field of known length: text or message.
fn delimited(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn point(epoch: usize) -> CurvePoint {
        let test_value = epoch.is_multiple_of(2).then_some(0.25);
        CurvePoint { epoch, train_loss: 2.5 / epoch as f64, train_value: 0.5, test_value, wall_s: 1.0 }
    }

    fn curve(epochs: usize) -> Vec<CurvePoint> {
        (1..=epochs).map(point).collect()
    }

    /// Bytes of the file after `kept` epochs were resumed from and the rest added up to 300.
    fn resumed(folder: &Path, kept: usize) -> Vec<u8> {
        let mut events = Events::open(folder, "accuracy", &curve(kept)).unwrap();
        (kept + 1..=300).for_each(|epoch| events.epoch(&point(epoch)).unwrap());
        events.finish().unwrap();
        fs::read(folder.join(FILE)).unwrap()
    }

    /// What TensorBoard's own messages and record writer make of the same epochs, in `tests/golden/events.py`.
    #[test]
    fn bytes_equal_those_of_tensorboards_writer() {
        let golden = include_bytes!("../tests/golden/events.bin");
        let dir = tempfile::tempdir().unwrap();
        Events::open(dir.path(), "accuracy", &[point(1), point(2), point(300)]).unwrap();
        assert_eq!(without_times(&fs::read(dir.path().join(FILE)).unwrap()), golden);
    }

    #[test]
    fn a_resumed_file_has_every_step_once_and_keeps_its_times() {
        let dir = tempfile::tempdir().unwrap();
        let first = resumed(dir.path(), 0);
        let expected = without_times(&first);
        assert_ne!(first, expected);
        for kept in [300, 299, 7, 0] {
            let again = resumed(dir.path(), kept);
            assert_eq!(without_times(&again), expected);
            let same = first.iter().zip(&again).take_while(|(a, b)| a == b).count();
            assert!(same >= without_times(&first).len() * kept / 320, "{kept}: {same} bytes are as before");
        }
        // A record cut by a kill, one of another history, a file that is something else, none at all.
        let path = dir.path().join(FILE);
        fs::write(&path, &first[..first.len() / 2 - 3]).unwrap();
        assert_eq!(without_times(&resumed(dir.path(), 200)), expected);
        fs::write(&path, [&first[..200], &[7; 100]].concat()).unwrap();
        assert_eq!(without_times(&resumed(dir.path(), 200)), expected);
        fs::write(&path, "no events").unwrap();
        assert_eq!(without_times(&resumed(dir.path(), 200)), expected);
        fs::remove_file(&path).unwrap();
        assert_eq!(without_times(&resumed(dir.path(), 200)), expected);
    }
}
