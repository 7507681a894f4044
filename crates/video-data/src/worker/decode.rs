//! The `decode` verb: one clip per request, frames out as they come.

use std::ffi::OsString;
use std::io::{self, BufReader, Write};
use std::path::Path;

use ffmpeg_next::codec::decoder;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::Disposition;
use ffmpeg_next::software::scaling;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, codec, frame, media};
use video_data::decode::wire::{self, Job, Outcome};
use video_data::rate::{FpsSampler, Fraction, rescale};

use crate::open::{self, Look};
use crate::{log, os};

const MICROSECOND: Fraction = Fraction::new(1, 1_000_000);
/// Bytes of frames gathered before a message is sent.
const CHUNK: usize = 1 << 20;
/// Frames gathered before a message is sent: small frames are signs of life, too.
const CHUNK_FRAMES: usize = 64;
/// Errors in a row after which a draining decoder is given up.
const MAX_DRAIN_ERRORS: u32 = 1000;

/// Serves requests until stdin closes.
pub(crate) fn serve(arguments: &[OsString]) -> Result<(), String> {
    os::die_with_parent();
    os::no_core_dumps();
    os::widen_stdout(CHUNK);
    if let Some(bytes) = arguments.first() {
        let bytes =
            bytes.to_str().and_then(|text| text.parse().ok()).ok_or("MEMORY_BYTES must be a number")?;
        os::limit_memory(bytes).map_err(|error| format!("failed to limit memory: {error}"))?;
    }
    ffmpeg_next::init().map_err(|error| error.to_string())?;
    log::capture();
    let mut out = io::stdout().lock();
    let hello = wire::Hello { protocol: wire::VERSION, libav: open::libav() };
    let mut input = BufReader::new(io::stdin().lock());
    let mut talk = || -> io::Result<()> {
        wire::write_message(&mut out, wire::HELLO, &[&serde_json::to_vec(&hello)?])?;
        while let Some((wire::REQUEST, body)) = wire::read_message(&mut input)? {
            let (job, path) = wire::parse_request(&body)?;
            log::take();
            let outcome = clip(&job, &path, &mut out)?;
            wire::write_message(&mut out, wire::OUTCOME, &[&serde_json::to_vec(&outcome)?])?;
        }
        Ok(())
    };
    talk().map_err(|error| error.to_string())
}

/// Why a clip stops: the pipe broke (end the worker) or the clip is bad (say so).
enum Stop {
    Pipe(io::Error),
    Clip(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Pipe(error)
    }
}

fn clip(job: &Job, path: &Path, out: &mut impl Write) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut health = Health::default();
    let stopped = run(job, path, out, &mut outcome, &mut health);
    let lines = log::take();
    if !job.probe {
        health.report(&lines, &mut outcome);
    }
    match stopped {
        Ok(()) => {}
        Err(Stop::Pipe(error)) => return Err(error),
        Err(Stop::Clip(reason)) => {
            outcome.reason = Some(match lines.texts.first() {
                Some(text) => format!("{reason} ({text})"),
                None => reason,
            });
        }
    }
    Ok(outcome)
}

fn run(
    job: &Job,
    path: &Path,
    out: &mut impl Write,
    outcome: &mut Outcome,
    health: &mut Health,
) -> Result<(), Stop> {
    let mut input =
        open::input(path).map_err(|error| Stop::Clip(format!("not a readable video: {error}")))?;
    let (index, decoder) = open_video(&input, job)?;
    let stream = input.stream(index).ok_or_else(|| Stop::Clip("no video stream".into()))?;
    let native =
        [stream.avg_frame_rate(), stream.rate()].into_iter().map(fraction).find(|f| f.num > 0 && f.den > 0);
    let target = job.spec.rate.target(native);
    outcome.fps = target.map_or_else(|| native.map_or(0.0, Fraction::value), f64::from);
    health.expected = u64::try_from(stream.frames()).unwrap_or(0);
    if job.probe {
        let seconds = input.duration() as f64 / 1e6;
        let native_frames = native.map_or(0.0, |native| seconds * native.value());
        outcome.frames = target.map_or(native_frames, |fps| seconds * f64::from(fps)).max(0.0).round() as u64;
        return Ok(());
    }
    let tick = fraction(stream.time_base());
    let clock = Clock {
        tick,
        offset: rescale(-open::start_time_us(&input), MICROSECOND, tick),
        frame: native.map_or(1, |native| rescale(1, Fraction::new(native.den, native.num), tick)).max(1),
        next: 0,
    };
    let mut sink =
        Sink { job, out, chunk: Vec::with_capacity(CHUNK), scaler: None, scaled: frame::Video::empty() };
    let mut picker =
        Picker { target, sampler: FpsSampler::default(), held: frame::Video::empty(), frames: 0 };
    let result = pump(&mut input, index, decoder, clock, &mut picker, &mut sink, health);
    outcome.frames = picker.frames;
    result?;
    sink.flush()?;
    Ok(())
}

/// Opens the decoder of the best video stream that is no cover picture.
fn open_video(input: &Input, job: &Job) -> Result<(usize, decoder::Video), Stop> {
    let stream = input
        .streams()
        .best(media::Type::Video)
        .filter(|stream| !stream.disposition().contains(Disposition::ATTACHED_PIC))
        .ok_or_else(|| Stop::Clip("no video stream".into()))?;
    let (width, height) = open::picture_size(input, stream.index());
    if width.max(0) as u64 * height.max(0) as u64 > job.max_pixels {
        let limit = job.max_pixels;
        return Err(Stop::Clip(format!("picture of {width}x{height} is over the limit of {limit} pixels")));
    }
    let refuse = |error: Error| Stop::Clip(format!("no decoder for its video stream: {error}"));
    let mut context = codec::Context::from_parameters(stream.parameters()).map_err(refuse)?;
    // Clips are short and workers are many: threads inside a decoder would only wait for each other.
    context.set_threading(codec::threading::Config::count(1));
    let codec = decoder::find(context.id()).ok_or_else(|| refuse(Error::DecoderNotFound))?;
    let mut options = Dictionary::new();
    options.set("max_pixels", &job.max_pixels.to_string());
    let mut context = context.decoder();
    context.set_packet_time_base(stream.time_base());
    let decoder = context.open_as_with(codec, options).and_then(decoder::Opened::video).map_err(refuse)?;
    Ok((stream.index(), decoder))
}

/// Reads packets, decodes, and hands every frame to the picker.
fn pump(
    input: &mut Input,
    index: usize,
    mut decoder: decoder::Video,
    mut clock: Clock,
    picker: &mut Picker,
    sink: &mut Sink<'_, impl Write>,
    health: &mut Health,
) -> Result<(), Stop> {
    let mut packet = Packet::empty();
    loop {
        match packet.read(input) {
            Ok(()) if packet.stream() != index => continue,
            Ok(()) => {
                health.corrupt_packets += u64::from(packet.is_corrupt());
                if decoder.send_packet(&packet).is_err() {
                    health.decode_errors += 1;
                }
            }
            Err(Error::Eof) => break,
            Err(_) => {
                health.read_errors += 1;
                break;
            }
        }
        receive(&mut decoder, &mut clock, picker, sink, health)?;
    }
    if decoder.send_eof().is_err() {
        health.decode_errors += 1;
    }
    let mut errors = 0;
    while errors < MAX_DRAIN_ERRORS && !receive(&mut decoder, &mut clock, picker, sink, health)? {
        errors += 1;
    }
    picker.finish(&clock, sink)
}

/// Takes all frames that are ready; `true` when the decoder waits for packets or is done.
fn receive(
    decoder: &mut decoder::Video,
    clock: &mut Clock,
    picker: &mut Picker,
    sink: &mut Sink<'_, impl Write>,
    health: &mut Health,
) -> Result<bool, Stop> {
    let mut frame = frame::Video::empty();
    loop {
        match decoder.receive_frame(&mut frame) {
            Ok(()) => {}
            Err(Error::Eof | Error::Other { errno: libc::EAGAIN }) => return Ok(true),
            Err(_) => {
                health.decode_errors += 1;
                return Ok(false);
            }
        }
        health.found += 1;
        health.corrupt_frames += u64::from(frame.is_corrupt() || frame.has_decode_errors());
        let look = Look::of(&frame);
        let size = (look.width, look.height);
        health.size_changes += u64::from(health.size.is_some_and(|last| last != size));
        health.size = Some(size);
        let time = clock.stamp(&frame, health);
        picker.push(&mut frame, time, clock, sink)?;
    }
}

fn fraction(rational: Rational) -> Fraction {
    Fraction::new(i64::from(rational.numerator()), i64::from(rational.denominator()))
}

/// Times of frames in ticks of the stream, from the start of the clip.
struct Clock {
    tick: Fraction,
    offset: i64,
    /// Length of a frame where the clip does not say it.
    frame: i64,
    /// End of the last frame.
    next: i64,
}

impl Clock {
    fn stamp(&mut self, frame: &frame::Video, health: &mut Health) -> i64 {
        let time = if let Some(time) = frame.timestamp() {
            time.saturating_add(self.offset)
        } else {
            health.without_time += 1;
            self.next
        };
        let duration = Some(frame.packet().duration).filter(|d| *d > 0).unwrap_or(self.frame);
        self.next = time.saturating_add(duration);
        time
    }

    /// `time` in frames of the output.
    fn output(&self, time: i64, fps: u32) -> i64 {
        rescale(time, self.tick, Fraction::new(1, i64::from(fps)))
    }

    /// End of the last frame as the command line computes it, by way of microseconds.
    fn end(&self) -> i64 {
        rescale(rescale(self.next, self.tick, MICROSECOND), MICROSECOND, self.tick)
    }
}

/// Chooses which decoded frames are put out.
struct Picker {
    target: Option<u32>,
    sampler: FpsSampler,
    held: frame::Video,
    frames: u64,
}

impl Picker {
    fn push(
        &mut self,
        frame: &mut frame::Video,
        time: i64,
        clock: &Clock,
        sink: &mut Sink<'_, impl Write>,
    ) -> Result<(), Stop> {
        let Some(fps) = self.target else {
            std::mem::swap(frame, &mut self.held);
            return self.put(1, sink);
        };
        let copies = self.sampler.push(clock.output(time, fps));
        self.put(copies, sink)?;
        std::mem::swap(frame, &mut self.held);
        Ok(())
    }

    fn finish(&mut self, clock: &Clock, sink: &mut Sink<'_, impl Write>) -> Result<(), Stop> {
        let Some(fps) = self.target else { return Ok(()) };
        let copies = self.sampler.finish(clock.output(clock.end(), fps));
        self.put(copies, sink)
    }

    fn put(&mut self, copies: usize, sink: &mut Sink<'_, impl Write>) -> Result<(), Stop> {
        if copies == 0 {
            return Ok(());
        }
        let limit = sink.job.max_frames;
        if self.frames.saturating_add(copies as u64) > limit {
            return Err(Stop::Clip(format!("more than the limit of {limit} frames")));
        }
        self.frames += copies as u64;
        sink.put(&self.held, copies)
    }
}

/// Scales frames and sends them in chunks.
struct Sink<'a, W> {
    job: &'a Job,
    out: &'a mut W,
    chunk: Vec<u8>,
    scaler: Option<(Look, scaling::Context)>,
    scaled: frame::Video,
}

impl<W: Write> Sink<'_, W> {
    fn put(&mut self, frame: &frame::Video, copies: usize) -> Result<(), Stop> {
        let look = Look::of(frame);
        let spec = self.job.spec;
        let fail = |error: Error| Stop::Clip(format!("cannot be scaled: {error}"));
        let mut scaler = match self.scaler.take() {
            Some((last, scaler)) if last == look => scaler,
            _ => open::scaler(look, spec.width, spec.height, scaling::Flags::BICUBIC).map_err(fail)?,
        };
        scaler.run(frame, &mut self.scaled).map_err(fail)?;
        self.scaler = Some((look, scaler));
        let row = spec.width as usize * 3;
        let stride = self.scaled.stride(0);
        for _ in 0..copies {
            for line in self.scaled.data(0).chunks(stride).take(spec.height as usize) {
                self.chunk.extend_from_slice(&line[..row]);
            }
            if self.chunk.len() >= CHUNK.min(CHUNK_FRAMES * spec.frame_bytes()) {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Stop> {
        if !self.chunk.is_empty() {
            wire::write_message(self.out, wire::FRAMES, &[&self.chunk])?;
            self.chunk.clear();
        }
        Ok(())
    }
}

/// Signs of damage, gathered while decoding.
#[derive(Debug, Default)]
struct Health {
    /// Frames that the container promises, 0 where it does not say.
    expected: u64,
    /// Frames decoded.
    found: u64,
    decode_errors: u64,
    corrupt_frames: u64,
    corrupt_packets: u64,
    read_errors: u64,
    size_changes: u64,
    without_time: u64,
    size: Option<(u32, u32)>,
}

impl Health {
    /// Writes flags, and a reason where the clip must be left out.
    fn report(&self, lines: &log::Lines, outcome: &mut Outcome) {
        let numbers = [
            ("decode-errors", self.decode_errors),
            ("corrupt-frames", self.corrupt_frames),
            ("corrupt-packets", self.corrupt_packets),
            ("read-errors", self.read_errors),
            ("size-changes", self.size_changes),
            // The frame that draining puts out last often has no time of its own.
            ("without-time", self.without_time.saturating_sub(1)),
            ("log-errors", lines.errors),
            ("log-warnings", lines.warnings),
        ];
        outcome.flags =
            numbers.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name}={n}")).collect();
        if self.expected > 0 && self.expected != self.found {
            outcome.flags.push(format!("frames={}-of-{}", self.found, self.expected));
        }
        let because = lines.texts.first().map(|text| format!(" ({text})")).unwrap_or_default();
        let (found, expected) = (self.found, self.expected);
        outcome.reason = if outcome.frames == 0 {
            Some(format!("no frame could be decoded{because}"))
        } else if found * 10 < expected * 9 {
            Some(format!("truncated: {found} of {expected} frames"))
        } else if self.decode_errors + self.read_errors > 0 {
            let errors = self.decode_errors + self.read_errors;
            Some(format!("damaged: {errors} errors while decoding {found} frames{because}"))
        } else if self.corrupt_frames > 0 {
            Some(format!("damaged: {} of {found} frames are corrupt{because}", self.corrupt_frames))
        } else if self.corrupt_packets > 0 {
            Some(format!("truncated: {} packets end early{because}", self.corrupt_packets))
        } else {
            None
        };
    }
}
