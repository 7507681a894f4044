//! Damaged clips, made from clips that this project renders, and what the decoder says of them.
//!
//! A mutant is *unharmed* when it decodes to the clean clip's frames, *refused* when it is left out with a reason,
//! *flagged* when it is taken and something was noticed, and *silent* when its frames differ and nothing was. On a
//! first import there is nothing to compare with, so some silent damage is unavoidable; the rate is measured here.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::decode::{Decoder, Limits, find_worker};
use crate::digest;
use crate::error::{Error, Result};
use crate::files::remove_folder;
use crate::kind::FrameSpec;
use crate::rate::Rate;
use crate::sample::{self, Layout, stream};

/// Codec as `video-worker render --codec` names it, and the ending of its container.
pub const CODECS: [(&str, &str); 4] = [("mpeg1", "mpg"), ("mpeg4", "avi"), ("h264", "mp4"), ("wmv2", "wmv")];
/// Frames of the clips that are damaged.
const FRAMES: u32 = 48;
/// Every frame, small: damage shows at any size.
const SPEC: FrameSpec = FrameSpec::rgb(80, 60, Rate::Native);
/// Silent mutants allowed, and out of how many: the rate of the `ffmpeg` command line.
const SILENT_BAR: (u64, u64) = (29, 480);
/// What a mutant may cost.
const LIMITS: Limits = Limits {
    stall: Duration::from_secs(10),
    wall: Duration::from_secs(30),
    memory_bytes: 1 << 30,
    max_frames: 2_000,
    max_pixels: 4096 * 4096,
};
/// An answer this long after the limits counts as a hang.
const GRACE: Duration = Duration::from_secs(10);

/// Ways to damage a clip's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// Cut off at some point.
    Truncated,
    /// 1 to 16 bits flipped.
    BitFlips,
    /// A block of 64 to 4,096 bytes set to zero.
    ZeroBlock,
    /// 1 to 8 bytes of the first 512 replaced.
    Header,
    /// A width or height field set to its largest value.
    HugeSize,
    /// The second half replaced by that of a clip of another size.
    SizeChange,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Truncated, Self::BitFlips, Self::ZeroBlock, Self::Header, Self::HugeSize, Self::SizeChange];

    /// The word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::BitFlips => "bit-flips",
            Self::ZeroBlock => "zero-block",
            Self::Header => "header",
            Self::HugeSize => "huge-size",
            Self::SizeChange => "size-change",
        }
    }

    /// Damages `clip`, which is `size` pixels large; `other` is a clip of the same codec and another size.
    ///
    /// # Panics
    /// For a clip of fewer than 4,200 bytes.
    pub fn apply(self, clip: &[u8], other: &[u8], size: (usize, usize), rng: &mut ChaCha8Rng) -> Vec<u8> {
        let mut bytes = clip.to_vec();
        match self {
            Self::Truncated => bytes.truncate(rng.random_range(1..clip.len())),
            Self::BitFlips => {
                for _ in 0..rng.random_range(1..=16) {
                    bytes[rng.random_range(0..clip.len())] ^= 1 << rng.random_range(0..8);
                }
            }
            Self::ZeroBlock => {
                let length = rng.random_range(64..=4096);
                let at = rng.random_range(0..clip.len() - length);
                bytes[at..at + length].fill(0);
            }
            Self::Header => {
                for _ in 0..rng.random_range(1..=8) {
                    bytes[rng.random_range(0..512)] = rng.random();
                }
            }
            Self::HugeSize => {
                let fields = size_fields(clip, size);
                if fields.is_empty() {
                    bytes[rng.random_range(0..512)] = 0xff;
                } else {
                    let (at, value) = &fields[rng.random_range(0..fields.len())];
                    bytes[*at..at + value.len()].copy_from_slice(value);
                }
            }
            Self::SizeChange => {
                bytes.truncate(clip.len() / 2);
                bytes.extend_from_slice(&other[other.len() / 2..]);
            }
        }
        bytes
    }
}

/// Offsets of the picture's size in the file, and what to write there: a million where it fits.
fn size_fields(clip: &[u8], (width, height): (usize, usize)) -> Vec<(usize, Vec<u8>)> {
    const MILLION: u32 = 1_000_000;
    let mut fields = Vec::new();
    let mut all = |pattern: &[u8], value: &[u8]| {
        let found = clip.windows(pattern.len()).enumerate().filter(|(_, window)| *window == pattern);
        fields.extend(found.map(|(at, _)| (at, value.to_vec())));
    };
    for side in [width as u32, height as u32] {
        all(&side.to_le_bytes(), &MILLION.to_le_bytes());
        all(&[0, 0, (side >> 8) as u8, side as u8], &MILLION.to_be_bytes());
        all(&[(side >> 8) as u8, side as u8, 0, 0], &MILLION.to_be_bytes());
    }
    // MPEG: twelve bits each after the sequence header's start code.
    let [a, b, c] = [(width >> 4) as u8, (((width & 15) << 4) | (height >> 8)) as u8, height as u8];
    all(&[0, 0, 1, 0xb3, a, b, c], &[0, 0, 1, 0xb3, 0xff, 0xff, 0xff]);
    fields
}

/// What became of some mutants.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Mutants.
    pub clips: u64,
    /// Decoded to the clean frames, nothing noticed.
    pub unharmed: u64,
    /// Left out with a reason.
    pub refused: u64,
    /// Taken with a flag.
    pub flagged: u64,
    /// Taken without a flag though the frames differ.
    pub silent: u64,
    /// Answers that came after the limits.
    pub hangs: u64,
    /// Panics in this process.
    pub crashes: u64,
    /// Workers that crashed or were stopped, each costing its clip alone; counted under `refused` too.
    pub workers_lost: u64,
}

impl Tally {
    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.clips += other.clips;
        self.unharmed += other.unharmed;
        self.refused += other.refused;
        self.flagged += other.flagged;
        self.silent += other.silent;
        self.hangs += other.hangs;
        self.crashes += other.crashes;
        self.workers_lost += other.workers_lost;
    }

    /// The numbers, separated by commas, in the order of the fields.
    pub fn fields(&self) -> String {
        let Self { clips, unharmed, refused, flagged, silent, hangs, crashes, workers_lost } = self;
        format!("{clips},{unharmed},{refused},{flagged},{silent},{hangs},{crashes},{workers_lost}")
    }

    /// The last line of `cargo xtask stress clips`.
    pub fn verdict(&self) -> String {
        let Self { clips, crashes, hangs, refused, flagged, silent, .. } = self;
        format!(
            "clips={clips} crashes={crashes} hangs={hangs} refused={refused} flagged={flagged} silent={silent}"
        )
    }

    /// No crash, no hang, and less silent damage than the `ffmpeg` command line lets pass.
    pub fn is_within_bars(&self) -> bool {
        self.crashes == 0 && self.hangs == 0 && self.silent * SILENT_BAR.1 < SILENT_BAR.0 * self.clips.max(1)
    }
}

/// Tallies by codec and mutation.
pub type Tallies = BTreeMap<(&'static str, &'static str), Tally>;

/// Decodes `count` mutants of a rendered clip of every codec, and what is no clip at all; `dir` is made and
/// removed. `skipped` gets the codecs that this FFmpeg cannot encode.
///
/// # Errors
/// [`Error::Worker`], [`Error::Io`]. What the mutants do is no error.
pub fn torture(
    dir: &Path,
    count: usize,
    seed: u64,
    jobs: usize,
    worker: Option<&Path>,
    skipped: &mut dyn FnMut(&str, &str),
) -> Result<Tallies> {
    let program = worker.map_or_else(find_worker, |path| Ok(path.to_path_buf()))?;
    clear(dir)?;
    let mut tallies = Tallies::new();
    for (codec, ending) in CODECS {
        let home = dir.join(codec);
        let render = |layout, name: &str| render(&program, layout, codec, &home.join(name), seed);
        match (render(Layout::Ucf11, "clean")?, render(Layout::Hollywood2, "other")?) {
            (Ok(clean), Ok(other)) => {
                let bench = Bench { program: &program, home: &home, codec, ending, clean, other, seed };
                bench.run(count, jobs, &mut tallies)?;
            }
            (Err(reason), _) | (_, Err(reason)) => skipped(codec, &reason),
        }
    }
    clear(dir)?;
    Ok(tallies)
}

fn clear(dir: &Path) -> Result<()> {
    remove_folder(dir).map_err(Error::io("remove", dir))
}

/// The bytes of the first clip of a sample in another codec, or what the encoder said.
fn render(
    program: &Path,
    layout: Layout,
    codec: &str,
    out: &Path,
    seed: u64,
) -> Result<std::result::Result<Vec<u8>, String>> {
    let plan = sample::plan(layout, seed);
    let path = out.join(&plan[0].name);
    let parent = path.parent().unwrap_or(out);
    fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
    let output = Command::new(program)
        .args(["render", "--layout", layout.name(), "--seed", &seed.to_string(), "--codec", codec])
        .args(["--part", &format!("0/{}", plan.len()), "--frames", &FRAMES.to_string(), "--out"])
        .arg(out)
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io("start", program))?;
    if !output.status.success() {
        return Ok(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(Ok(fs::read(&path).map_err(Error::io("read", &path))?))
}

struct Bench<'a> {
    program: &'a Path,
    home: &'a Path,
    codec: &'static str,
    ending: &'a str,
    clean: Vec<u8>,
    other: Vec<u8>,
    seed: u64,
}

impl Bench<'_> {
    fn run(&self, count: usize, jobs: usize, tallies: &mut Tallies) -> Result<()> {
        let path = self.home.join(format!("clean.{}", self.ending));
        fs::write(&path, &self.clean).map_err(Error::io("write", &path))?;
        let (outcome, frames) = decode(&mut Decoder::new(self.program, LIMITS), &path)?;
        if let Some(reason) = outcome.reason.or_else(|| outcome.flags.first().cloned()) {
            return Err(Error::Invalid(format!(
                "the undamaged {} clip is not taken as clean: {reason}",
                self.codec
            )));
        }
        let done = Mutex::new(tallies);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| -> Result<()> {
            let work = |thread: usize| -> Result<()> {
                let mut decoder = Decoder::new(self.program, LIMITS);
                let path = self.home.join(format!("mutant-{thread}.{}", self.ending));
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return Ok(());
                    }
                    let mutation = Mutation::ALL[number % Mutation::ALL.len()];
                    let mut rng = stream(self.seed, &format!("damage/{}/{number}", self.codec));
                    let bytes = mutation.apply(&self.clean, &self.other, Layout::Ucf11.size(), &mut rng);
                    fs::write(&path, &bytes).map_err(Error::io("write", &path))?;
                    let tally = judge(&mut decoder, &path, &frames)?;
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.entry((self.codec, mutation.name())).or_default().add(&tally);
                }
            };
            let threads: Vec<_> = (0..jobs.max(1)).map(|thread| scope.spawn(move || work(thread))).collect();
            for thread in threads {
                thread.join().map_err(|_| Error::Invalid("a decoding thread panicked".into()))??;
            }
            Ok(())
        })?;
        let tallies = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut decoder = Decoder::new(self.program, LIMITS);
        for path in self.no_clips()? {
            let tally = judge(&mut decoder, &path, &frames)?;
            tallies.entry((self.codec, "no-clip")).or_default().add(&tally);
        }
        Ok(())
    }

    /// Files named like clips that are none: empty, a folder, a FIFO, audio only, raw bytes.
    fn no_clips(&self) -> Result<Vec<PathBuf>> {
        let at = |name: &str| self.home.join(format!("{name}.{}", self.ending));
        let [empty, folder, fifo, sound] = ["empty", "folder", "fifo", "sound"].map(at);
        fs::write(&empty, b"").map_err(Error::io("write", &empty))?;
        fs::create_dir(&folder).map_err(Error::io("create", &folder))?;
        make_fifo(&fifo)?;
        let mut wave =
            b"RIFF\x24\x10\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\0\x10\0\0"
                .to_vec();
        wave.resize(44 + 4096, 7);
        fs::write(&sound, wave).map_err(Error::io("write", &sound))?;
        Ok(vec![empty, folder, fifo, sound])
    }
}

#[expect(unsafe_code, reason = "mkfifo has no safe form in std")]
fn make_fifo(path: &Path) -> Result<()> {
    let name =
        CString::new(path.as_os_str().as_bytes()).map_err(|_| Error::Invalid("a NUL in a path".into()))?;
    // SAFETY: `name` is a C string that outlives the call, and mkfifo only reads it.
    if unsafe { libc::mkfifo(name.as_ptr(), 0o600) } == 0 {
        Ok(())
    } else {
        Err(Error::io("create", path)(std::io::Error::last_os_error()))
    }
}

/// Digest of the frames, and the decoder's verdict.
fn decode(decoder: &mut Decoder, path: &Path) -> Result<(crate::decode::Outcome, String)> {
    let mut hash = Sha256::new();
    let outcome = decoder.decode(path, &SPEC, &mut |frames| {
        hash.update(frames);
        Ok(())
    })?;
    Ok((outcome, digest::hex(hash)))
}

fn judge(decoder: &mut Decoder, path: &Path, clean: &str) -> Result<Tally> {
    let started = Instant::now();
    let answer = catch_unwind(AssertUnwindSafe(|| decode(decoder, path)));
    let late = started.elapsed() > LIMITS.wall + GRACE;
    let mut tally = Tally { clips: 1, hangs: u64::from(late), ..Tally::default() };
    let Ok(answer) = answer else {
        tally.crashes = 1;
        return Ok(tally);
    };
    let (outcome, frames) = answer?;
    match &outcome.reason {
        Some(reason) => {
            tally.refused = 1;
            tally.workers_lost = u64::from(reason.starts_with("the decoder "));
        }
        None if !outcome.flags.is_empty() => tally.flagged = 1,
        None if frames == clean => tally.unharmed = 1,
        None => tally.silent = 1,
    }
    Ok(tally)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_the_same_for_the_same_seed_and_changes_something() {
        let clip: Vec<u8> = (0..20_000_u32).map(|i| (i * 7 % 251) as u8).collect();
        let other = vec![9; 10_000];
        for mutation in Mutation::ALL {
            let make = |seed| mutation.apply(&clip, &other, (320, 240), &mut stream(seed, "test"));
            assert_eq!(make(1), make(1), "{}", mutation.name());
            assert_ne!(make(1), clip, "{}", mutation.name());
        }
    }

    #[test]
    fn size_fields_are_found() {
        let mut clip = vec![7; 5000];
        clip[100..104].copy_from_slice(&320_u32.to_le_bytes());
        clip[200..207].copy_from_slice(&[0, 0, 1, 0xb3, 0x14, 0x00, 0xf0]);
        let fields = size_fields(&clip, (320, 240));
        assert!(fields.contains(&(100, 1_000_000_u32.to_le_bytes().to_vec())), "{fields:?}");
        assert!(fields.iter().any(|(at, _)| *at == 200), "{fields:?}");
    }

    #[test]
    fn bars_are_counted() {
        let good = Tally { clips: 480, silent: 28, ..Tally::default() };
        assert!(good.is_within_bars());
        assert!(!Tally { silent: 29, ..good }.is_within_bars());
        assert!(!Tally { hangs: 1, ..good }.is_within_bars());
    }
}
