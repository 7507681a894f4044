//! What parent and worker say to each other over the worker's stdin and stdout.
//!
//! A message is a tag byte, a little-endian `u32` length and that many bytes. The worker starts with one
//! [`HELLO`]; then for every [`REQUEST`] it sends any number of [`FRAMES`] and one [`OUTCOME`]. Paths travel as
//! raw bytes after the request's JSON, so that any file name survives.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::kind::FrameSpec;

/// Worker to parent, once: a [`Hello`] as JSON.
pub const HELLO: u8 = b'H';
/// Parent to worker: `u32` length of the JSON, a [`Job`] as JSON, the path's bytes.
pub const REQUEST: u8 = b'R';
/// Worker to parent: whole frames, u8 `[n, H, W, C]`.
pub const FRAMES: u8 = b'F';
/// Worker to parent, last: an [`Outcome`] as JSON.
pub const OUTCOME: u8 = b'O';
/// Version of this protocol.
pub const VERSION: u32 = 2;
/// Longest message accepted, in bytes.
const LONGEST: u32 = 1 << 30;

/// The worker's first message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] that the worker speaks.
    pub protocol: u32,
    /// Versions of the libav libraries it links.
    pub libav: String,
}

/// A request for one clip.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Size and rate of the frames.
    pub spec: FrameSpec,
    /// A clip with more frames is refused.
    pub max_frames: u64,
    /// A clip with larger pictures is refused, in pixels.
    pub max_pixels: u64,
    /// Only look at the header: no frames come back, [`Outcome::frames`] is an estimate.
    pub probe: bool,
}

/// The result for one clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Outcome {
    /// Frames per second of the frames sent.
    pub fps: f64,
    /// Frames sent (with [`Job::probe`]: expected).
    pub frames: u64,
    /// What was noticed, as `name=value` words in a fixed order.
    pub flags: Vec<String>,
    /// Why the clip is left out; `None` when it is good.
    pub reason: Option<String>,
}

/// Writes one message.
pub fn write_message(out: &mut impl Write, tag: u8, parts: &[&[u8]]) -> io::Result<()> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let length = u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut head = [tag, 0, 0, 0, 0];
    head[1..].copy_from_slice(&length.to_le_bytes());
    out.write_all(&head)?;
    for part in parts {
        out.write_all(part)?;
    }
    out.flush()
}

/// Reads one message; `None` at the end of the stream.
pub fn read_message(input: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 5];
    match input.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let [tag, length @ ..] = head;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    // Reserve a likely size; a false length gets no more memory than there are bytes.
    let mut body = Vec::with_capacity(length.min(4 << 20) as usize);
    input.by_ref().take(u64::from(length)).read_to_end(&mut body)?;
    if body.len() != length as usize {
        return Ok(None);
    }
    Ok(Some((tag, body)))
}

/// Sends a request for the clip at `path`.
pub fn write_request(out: &mut impl Write, job: &Job, path: &std::path::Path) -> io::Result<()> {
    let json = serde_json::to_vec(job)?;
    let length = (json.len() as u32).to_le_bytes();
    write_message(out, REQUEST, &[&length, &json, path.as_os_str().as_bytes()])
}

/// Parses a request's body.
pub fn parse_request(body: &[u8]) -> io::Result<(Job, PathBuf)> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "a request that is too short");
    let (length, rest) = body.split_first_chunk::<4>().ok_or_else(short)?;
    let (json, path) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
    Ok((serde_json::from_slice(json)?, PathBuf::from(OsString::from_vec(path.to_vec()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Kind;

    #[test]
    fn requests_keep_any_path() {
        let job = Job { spec: Kind::Ucf11.frame_spec(), max_frames: 9, max_pixels: 8, probe: true };
        let path = PathBuf::from(OsString::from_vec(b"-a\n\xff,\"".to_vec()));
        let mut bytes = Vec::new();
        write_request(&mut bytes, &job, &path).unwrap();
        let (tag, body) = read_message(&mut bytes.as_slice()).unwrap().unwrap();
        assert_eq!(tag, REQUEST);
        assert_eq!(parse_request(&body).unwrap(), (job, path));
    }

    #[test]
    fn a_torn_message_is_an_end_and_a_huge_one_an_error() {
        assert!(read_message(&mut [FRAMES, 9, 0, 0, 0, 1, 2].as_slice()).unwrap().is_none());
        assert!(read_message(&mut [FRAMES, 0, 0, 0, 0xff].as_slice()).is_err());
        assert!(parse_request(&[9, 0, 0, 0, b'{']).is_err());
    }
}
