//! Sequences of rows: numpy's `.npy`, as far as rows of numbers need it.
//!
//! The header is a Python literal, of which only what `numpy.save` writes is read: nothing nests, and no length in it is
//! believed before the file has shown so many bytes. Crates that read any header ask for its promised length first.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use half::f16;

use crate::dataset::Dataset;
use crate::error::{self, Error};
use crate::kind::{Content, FrameSpec};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Longest header text: `numpy.save` needs 118 bytes for eight dimensions.
const LONGEST: usize = 4096;
/// Bytes read at once, about.
const CHUNK: usize = 1 << 20;

/// Numbers as they lie in a file, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    U8,
    F16,
    F32,
}

impl Number {
    fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }

    fn content(self) -> Content {
        if self == Self::U8 { Content::Bytes } else { Content::Floats }
    }
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    number: Number,
    /// T.
    rows: u64,
    /// Numbers of a row.
    width: u64,
    /// Bytes of the header.
    length: usize,
}

/// What rows most files of a dataset have: the numbers, and how many to a row. Of as many, the larger rows.
///
/// # Errors
/// [`Error::Invalid`] where no file has rows that can be read; it names the first and its reason.
pub fn survey(dataset: &Dataset) -> error::Result<(Content, u32)> {
    let mut kinds: BTreeMap<(u32, bool), usize> = BTreeMap::new();
    let mut first = None;
    for clip in &dataset.clips {
        match open(&clip.path).and_then(|(header, _)| Ok((width(&header)?, header.number.content()))) {
            Ok((width, content)) => *kinds.entry((width, content == Content::Floats)).or_default() += 1,
            Err(reason) => {
                first.get_or_insert_with(|| format!("{}: {reason}", clip.name));
            }
        }
    }
    let most = kinds.into_iter().max_by_key(|(kind, count)| (*count, *kind));
    if let Some(((width, floats), _)) = most {
        return Ok((if floats { Content::Floats } else { Content::Bytes }, width));
    }
    let (count, first) = (dataset.clips.len(), first.unwrap_or_default());
    Err(Error::Invalid(format!("none of the {count} files holds rows; the first, {first}")))
}

/// Reads a file's rows as the store keeps them, bytes or f32, whole rows at a time; with `probe` its header alone. How many
/// there are, or what is wrong with the file.
///
/// # Errors
/// Of `sink`.
pub(crate) fn read(
    path: &Path,
    spec: &FrameSpec,
    most: u64,
    probe: bool,
    sink: &mut dyn FnMut(&[u8]) -> error::Result<()>,
) -> error::Result<Result<u64, String>> {
    let (header, mut file) =
        match open(path).and_then(|(header, file)| Ok((fits(&header, spec, most)?, file))) {
            Ok(opened) => opened,
            Err(reason) => return Ok(Err(reason)),
        };
    if probe {
        return Ok(Ok(header.rows));
    }
    let row = spec.width as usize * header.number.bytes();
    let at_once = (CHUNK / row).max(1) as u64;
    let (mut bytes, mut done) = (Vec::new(), 0);
    while done < header.rows {
        let count = at_once.min(header.rows - done);
        bytes.resize(count as usize * row, 0);
        if let Err(error) = file.read_exact(&mut bytes) {
            return Ok(Err(format!("cannot be read: {error}")));
        }
        if header.number == Number::U8 {
            sink(&bytes)?;
        } else {
            let values = floats(header.number, &bytes);
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let (row, what) = (done as usize + at / spec.width as usize, values[at]);
                return Ok(Err(format!("row {row} holds {what}")));
            }
            sink(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        done += count;
    }
    Ok(Ok(header.rows))
}

fn floats(number: Number, bytes: &[u8]) -> Vec<f32> {
    match number {
        Number::F16 => bytes.as_chunks().0.iter().map(|two| f16::from_le_bytes(*two).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect(),
    }
}

fn width(header: &Header) -> Result<u32, String> {
    u32::try_from(header.width).map_err(|_| format!("a row of {} numbers is too long", header.width))
}

/// Whether a file's rows are those of the dataset.
fn fits(header: &Header, spec: &FrameSpec, most: u64) -> Result<Header, String> {
    let name = |content| if content == Content::Bytes { "u8" } else { "floats" };
    let (found, content) = (width(header)?, header.number.content());
    if found != spec.width {
        return Err(format!("rows of {found} numbers, where those of this dataset have {}", spec.width));
    }
    if content != spec.content {
        return Err(format!(
            "rows of {}, where those of this dataset are {}",
            name(content),
            name(spec.content)
        ));
    }
    if header.rows > most {
        return Err(format!("more than the limit of {most} rows"));
    }
    Ok(*header)
}

/// The header of a file whose length is as it says, and the file behind it.
fn open(path: &Path) -> Result<(Header, BufReader<File>), String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let found = file.metadata().map_err(unreadable)?.len();
    let mut file = BufReader::with_capacity(1 << 16, file);
    let mut start = Vec::new();
    file.by_ref().take(10).read_to_end(&mut start).map_err(unreadable)?;
    let (size, text) = match start[..] {
        [.., 1, _, low, high] if start.starts_with(MAGIC) => {
            (2, usize::from(u16::from_le_bytes([low, high])))
        }
        [.., 2 | 3, _, low, high] if start.starts_with(MAGIC) => {
            let mut rest = [0; 2];
            file.read_exact(&mut rest).map_err(unreadable)?;
            (4, u32::from_le_bytes([low, high, rest[0], rest[1]]) as usize)
        }
        _ if start.starts_with(MAGIC) && start.len() < 10 => {
            return Err("truncated within its header".into());
        }
        _ if start.starts_with(MAGIC) => return Err("a version of .npy that is not known".into()),
        _ => return Err("not a .npy file".into()),
    };
    if text > LONGEST {
        return Err(format!("a header of {text} bytes: that of an array of numbers is shorter"));
    }
    let mut literal = vec![0; text];
    file.read_exact(&mut literal).map_err(|_| "truncated within its header".to_owned())?;
    let header = parse(&String::from_utf8_lossy(&literal), MAGIC.len() + 2 + size + text)?;
    let row = header.width.checked_mul(header.number.bytes() as u64);
    let promised = row.and_then(|row| row.checked_mul(header.rows)?.checked_add(header.length as u64));
    match promised {
        Some(promised) if promised == found => Ok((header, file)),
        Some(promised) if promised > found => Err(format!("truncated: {found} bytes of {promised}")),
        Some(promised) => Err(format!("{found} bytes, where its header promises {promised}")),
        None => Err("a shape of more numbers than there can be".into()),
    }
}

/// `{'descr': '<f4', 'fortran_order': False, 'shape': (12, 8), }`, keys in any order.
fn parse(text: &str, length: usize) -> Result<Header, String> {
    let bad = || "a header that is not that of an array of numbers".to_owned();
    let inside = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}')).ok_or_else(bad)?;
    let value = |key: &str| -> Result<&str, String> {
        let (_, rest) = inside.split_once(&format!("'{key}'")).ok_or_else(bad)?;
        Ok(rest.trim_start().strip_prefix(':').ok_or_else(bad)?.trim_start())
    };
    let descr = value("descr")?.strip_prefix('\'').and_then(|rest| rest.split_once('\''));
    let number = match descr.map(|(descr, _)| descr) {
        Some("|u1") => Number::U8,
        Some("<f2") => Number::F16,
        Some("<f4") => Number::F32,
        Some("|O") => return Err("objects, not numbers: numpy.save needs an array of one shape".into()),
        Some(other) => {
            let known = "rows are u8, f16 or f32, little-endian: array.astype('<f4') makes them so";
            return Err(format!("numbers of type {:?}; {known}", other.escape_debug().to_string()));
        }
        None => return Err("a structure, not numbers of one type".into()),
    };
    match value("fortran_order")? {
        order if order.starts_with("False") => {}
        order if order.starts_with("True") => {
            return Err("Fortran order, columns first: numpy.ascontiguousarray(array) turns it".into());
        }
        _ => return Err(bad()),
    }
    let shape = value("shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')')).ok_or_else(bad)?.0;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let sizes = sizes.map(|size| size.parse().map_err(|_| bad())).collect::<Result<Vec<u64>, String>>()?;
    let Some((rows, row)) = sizes.split_first() else { return Err("one number, not rows".into()) };
    let width = row.iter().try_fold(1_u64, |product, size| product.checked_mul(*size));
    let width = width.ok_or_else(|| "a shape of more numbers than there can be".to_owned())?;
    if *rows == 0 || width == 0 {
        return Err(format!("no numbers: its shape is ({shape})"));
    }
    Ok(Header { number, rows: *rows, width, length })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;

    fn npy(literal: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = [MAGIC, &[1, 0][..], &(literal.len() as u16).to_le_bytes()].concat();
        bytes.extend_from_slice(literal.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn literal(descr: &str, shape: &str) -> String {
        format!("{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}          \n")
    }

    /// What is stored of a file, or why it is left out.
    fn stored(bytes: &[u8], content: Content, width: u32) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows.npy");
        fs::write(&path, bytes).unwrap();
        let mut out = Vec::new();
        let spec = FrameSpec::rows(content, width);
        let found = read(&path, &spec, 100, false, &mut |rows| {
            assert!(rows.len().is_multiple_of(spec.frame_bytes()));
            out.extend_from_slice(rows);
            Ok(())
        });
        found.unwrap().map(|_| out)
    }

    #[test]
    fn rows_are_stored_as_bytes_or_f32() {
        // By numpy 2.3: numpy.save(file, numpy.arange(6, dtype='u1').reshape(3, 2)).
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2), }                                                           \n";
        assert_eq!(stored(&npy(header, &[0, 1, 2, 3, 4, 5]), Content::Bytes, 2).unwrap(), [0, 1, 2, 3, 4, 5]);
        let f32s: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(stored(&npy(&literal("'<f4'", "(1, 2)"), &f32s), Content::Floats, 2).unwrap(), f32s);
        let f16s: Vec<u8> = [1.5_f32, -2.0].iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
        assert_eq!(stored(&npy(&literal("'<f2'", "(1, 1, 2)"), &f16s), Content::Floats, 2).unwrap(), f32s);
        assert_eq!(stored(&npy(&literal("'|u1'", "(2,)"), &[7, 9]), Content::Bytes, 1).unwrap(), [7, 9]);
    }

    #[test]
    fn what_is_no_rows_is_left_out_with_its_reason() {
        let f32s = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let ok = literal("'<f4'", "(2, 2)");
        let fortran = ok.replace("False", "True");
        let nested = format!("{{'descr': {}, 'shape': (1,), }}", "[(".repeat(1000));
        let huge = literal("'<f4'", "(9223372036854775807, 2)");
        let long = npy(&literal("'<f4'", "(101, 1)"), &f32s(&[0.0; 101]));
        let mut promise = npy("", &[]);
        promise.splice(6..10, [2, 0, 0xff, 0xff, 0xff, 0xff]);
        for (bytes, expected) in [
            (npy(&fortran, &[0; 16]), "Fortran order"),
            (npy(&literal("'<f8'", "(2, 2)"), &[0; 32]), "numbers of type \"<f8\"; rows are u8, f16 or f32"),
            (npy(&literal("'>f4'", "(2, 2)"), &[0; 16]), "numbers of type \">f4\""),
            (npy(&literal("'|O'", "(2,)"), &[0; 16]), "objects, not numbers"),
            (npy(&literal("[('a', '<f4')]", "(2,)"), &[0; 8]), "a structure"),
            (npy(&ok, &[0; 15]), "truncated: "),
            (npy(&ok, &[0; 17]), "where its header promises"),
            (npy(&ok, &f32s(&[0.0, 1.0, 2.0, f32::NAN])), "row 1 holds NaN"),
            (npy(&ok, &f32s(&[0.0, f32::INFINITY, 2.0, 0.0])), "row 0 holds inf"),
            (
                npy(&literal("'<f4'", "(2, 3)"), &[0; 24]),
                "rows of 3 numbers, where those of this dataset have 2",
            ),
            (npy(&literal("'|u1'", "(2, 2)"), &[0; 4]), "rows of u8, where those of this dataset are floats"),
            (npy(&literal("'<f4'", "()"), &[0; 4]), "one number, not rows"),
            (npy(&literal("'<f4'", "(0, 2)"), &[]), "no numbers: its shape is (0, 2)"),
            (npy(&literal("'<f4'", "(-1, 2)"), &[]), "a header that is not"),
            (npy(&huge, &[0; 16]), "more numbers than there can be"),
            (npy(&nested, &[]), "a structure"),
            (promise, "a header of 4294967295 bytes"),
            (npy(&ok, &[])[..30].to_vec(), "truncated within its header"),
            (npy(&ok, &[])[..8].to_vec(), "truncated within its header"),
            (b"RIFF".to_vec(), "not a .npy file"),
            (Vec::new(), "not a .npy file"),
        ] {
            let reason = stored(&bytes, Content::Floats, 2).unwrap_err();
            assert!(reason.contains(expected), "{expected}: {reason}");
        }
        assert!(stored(&long, Content::Floats, 1).unwrap_err().contains("limit of 100 rows"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text in "[{}()\\[\\]',: a-zA-Z0-9<|]{0,80}", data in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = stored(&npy(&text, &data), Content::Bytes, 2);
            let _ = stored(&data, Content::Bytes, 2);
        }
    }
}
