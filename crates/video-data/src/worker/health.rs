//! Signs of damage and of oddness, gathered while decoding, and the verdict on a clip.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ffmpeg_next::frame;
use video_data::decode::wire::Outcome;

use crate::log;

/// What was noticed about one clip.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Frames according to the container's header, 0 if it does not say: a hint, since it counts cut and null
    /// frames, too.
    pub(crate) expected: u64,
    /// Frames decoded.
    pub(crate) found: u64,
    pub(crate) decode_errors: u64,
    pub(crate) corrupt_packets: u64,
    pub(crate) read_errors: u64,
    pub(crate) without_time: u64,
    pub(crate) time_jumps: u64,
    /// Pictures shown for more than a second.
    pub(crate) pauses: u64,
    /// Video streams to choose from, cover pictures not counted.
    pub(crate) streams: u64,
    /// The rotation of a picture in degrees, if it is not a quarter turn.
    pub(crate) odd_angle: Option<i64>,
    /// Pictures of the container's index that lie beyond the end of the file, and all in the index.
    pub(crate) beyond_end: (u64, u64),
    /// Bytes of the file, and those that its header promises, if they are more.
    pub(crate) short: Option<(u64, u64)>,
    /// Seconds of the sound, and those that the file's header promises.
    pub(crate) promised_seconds: Option<(f64, f64)>,
    corrupt_frames: u64,
    interlaced: u64,
    size_changes: u64,
    size: Option<(u32, u32)>,
}

impl Health {
    /// Looks at a decoded frame.
    pub(crate) fn frame(&mut self, frame: &frame::Video) {
        self.found += 1;
        self.corrupt_frames += u64::from(frame.is_corrupt() || frame.has_decode_errors());
        self.interlaced += u64::from(frame.is_interlaced());
        let size = (frame.width(), frame.height());
        self.size_changes += u64::from(self.size.is_some_and(|last| last != size));
        self.size = Some(size);
    }

    /// Looks at some samples of a decoded sound.
    pub(crate) fn sound(&mut self, frame: &frame::Audio) {
        self.found += 1;
        self.corrupt_frames += u64::from(frame.is_corrupt());
    }

    /// Writes flags, and a reason where the clip must be left out.
    pub(crate) fn report(&self, strict: bool, lines: &log::Lines, outcome: &mut Outcome) {
        let numbers = [
            ("decode-errors", self.decode_errors),
            ("corrupt-frames", self.corrupt_frames),
            ("corrupt-packets", self.corrupt_packets),
            ("read-errors", self.read_errors),
            ("beyond-end", self.beyond_end.0),
            ("size-changes", self.size_changes),
            // The frame that draining puts out last often has no time of its own.
            ("without-time", self.without_time.saturating_sub(1)),
            ("time-jumps", self.time_jumps),
            ("pauses", self.pauses),
            ("interlaced", self.interlaced),
            ("video-streams", if self.streams > 1 { self.streams } else { 0 }),
            ("log-errors", lines.errors),
            ("log-warnings", lines.warnings),
        ];
        outcome.flags =
            numbers.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name}={n}")).collect();
        outcome.flags.extend(self.odd_angle.map(|angle| format!("not-turned={angle}")));
        if self.expected > 0 && self.expected != self.found {
            outcome.flags.push(format!("frames={}-of-{}", self.found, self.expected));
        }
        let because = lines.texts.first().map(|text| format!(" ({text})")).unwrap_or_default();
        outcome.reason = if self.found == 0 || outcome.frames == 0 {
            Some(format!("no frame could be decoded{because}"))
        } else {
            self.truncated(strict).or_else(|| self.damaged(strict, &because))
        };
    }

    /// Why the clip is truncated: a tenth of the pictures, or with `strict` any, lies beyond the end of the
    /// file, or a tenth of what the header promises is missing.
    fn truncated(&self, strict: bool) -> Option<String> {
        let (missing, all) = self.beyond_end;
        if missing * 10 > all || strict && missing > 0 {
            return Some(format!("truncated: {missing} of {all} frames lie beyond the end of the file"));
        }
        if let Some((there, promised)) = self.promised_seconds
            && there < 0.9 * promised
        {
            return Some(format!("truncated: {there:.2} of {promised:.2} seconds in the header"));
        }
        let (length, named) = self.short?;
        let (found, expected) = (self.found, self.expected);
        (found * 10 < expected * 9).then(|| {
            format!(
                "truncated: {found} of {expected} frames, as {length} bytes are there of {named} in the header"
            )
        })
    }

    /// Why the clip is damaged: half of the frames, or with `strict` any, had errors.
    fn damaged(&self, strict: bool, because: &str) -> Option<String> {
        let errors = self.decode_errors + self.read_errors;
        let (found, corrupt, cut) = (self.found, self.corrupt_frames, self.corrupt_packets);
        let reason = if errors > 0 {
            format!("damaged: {errors} errors while decoding {found} frames{because}")
        } else if corrupt > 0 {
            format!("damaged: {corrupt} of {found} frames are corrupt{because}")
        } else if cut > 0 {
            format!("damaged: {cut} packets are not whole{because}")
        } else {
            return None;
        };
        // An incomplete packet usually causes an error or a corrupt frame: count it once.
        (strict || (errors + corrupt).max(cut) * 2 > found).then_some(reason)
    }
}

/// Bytes of the file and those that its RIFF (AVI, WAV) header promises, if those are more: the end is missing.
pub(crate) fn shorter_than_riff(path: &Path) -> Option<(u64, u64)> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut head = [0; 12];
    file.read_exact(&mut head).ok()?;
    let (size, form) = head.strip_prefix(b"RIFF")?.split_first_chunk()?;
    if !matches!(form, b"AVI " | b"WAVE") {
        return None;
    }
    let named = u64::from(u32::from_le_bytes(*size)) + 8;
    (named > length).then_some((length, named))
}
