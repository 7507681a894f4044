//! The `decode` verb: one clip per request, frames out as they come.

use std::ffi::OsString;
use std::io::{self, BufReader, Write};
use std::path::Path;

use ffmpeg_next::codec::decoder;
use ffmpeg_next::format::Pixel;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::Stream;
use ffmpeg_next::software::scaling;
use ffmpeg_next::{Dictionary, Error, Packet, codec, frame};
use video_data::Content;
use video_data::decode::wire::{self, Job, Outcome};
use video_data::rate::{FpsSampler, Fraction, rescale};

use crate::clock::{Clock, MICROSECOND};
use crate::health::{self, Health};
use crate::open::{self, Look, Matrix};
use crate::stop::Stop;
use crate::turn::{Turn, Turner};
use crate::{log, os, sound};

/// Bytes of frames gathered before a message is sent.
const CHUNK: usize = 1 << 20;
/// Frames gathered before a message is sent: small frames are signs of life, too.
const CHUNK_FRAMES: usize = 64;
/// Draining stops after this many consecutive errors.
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

fn clip(job: &Job, path: &Path, out: &mut impl Write) -> io::Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut health = Health::default();
    let stopped = run(job, path, out, &mut outcome, &mut health);
    let lines = log::take();
    if !job.probe {
        health.report(job.spec.strict, &lines, &mut outcome);
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
    if job.spec.content == Content::LogMel {
        return sound::run(job, path, input, out, outcome, health);
    }
    let (index, streams) = open::video_stream(&input).ok_or_else(|| Stop::Clip("no video stream".into()))?;
    let stream = input.stream(index).ok_or_else(|| Stop::Clip("no video stream".into()))?;
    let decoder = open_decoder(&input, &stream, job)?;
    let native =
        [stream.avg_frame_rate(), stream.rate()].into_iter().map(open::fraction).find(|f| is_positive(*f));
    let target = job.spec.rate.target(native);
    outcome.fps = target.map_or_else(|| native.map_or(0.0, Fraction::value), f64::from);
    if job.probe {
        let seconds = input.duration() as f64 / 1e6;
        let native_frames = native.map_or(0.0, |native| seconds * native.value());
        outcome.frames = target.map_or(native_frames, |fps| seconds * f64::from(fps)).max(0.0).round() as u64;
        return Ok(());
    }
    health.expected = u64::try_from(stream.frames()).unwrap_or(0);
    health.streams = streams;
    health.short = health::shorter_than_riff(path);
    let mut clip = Clip {
        clock: Clock::new(open::times(&input, &stream, native, open::delay(&decoder))),
        picker: Picker { target, sampler: FpsSampler::default(), held: frame::Video::empty(), frames: 0 },
        sink: Sink::new(job, out, open::stream_matrix(&stream)),
        decoder,
        health,
    };
    open::skip_others(&mut input, index);
    let result = clip.pump(&mut input, index);
    outcome.frames = clip.picker.frames;
    clip.health.time_jumps = clip.clock.jumps();
    clip.health.odd_angle = clip.sink.odd_angle;
    clip.health.beyond_end = open::beyond_end(&input, index);
    result?;
    clip.sink.flush()?;
    Ok(())
}

fn is_positive(fraction: Fraction) -> bool {
    fraction.num > 0 && fraction.den > 0
}

fn open_decoder(input: &Input, stream: &Stream<'_>, job: &Job) -> Result<decoder::Video, Stop> {
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
    context.open_as_with(codec, options).and_then(decoder::Opened::video).map_err(refuse)
}

/// A clip on its way from packets to frames.
struct Clip<'a, W> {
    decoder: decoder::Video,
    clock: Clock,
    picker: Picker,
    sink: Sink<'a, W>,
    health: &'a mut Health,
}

impl<W: Write> Clip<'_, W> {
    /// Reads packets, decodes, and hands every frame to the picker.
    fn pump(&mut self, input: &mut Input, index: usize) -> Result<(), Stop> {
        let mut packet = Packet::empty();
        loop {
            match packet.read(input) {
                Ok(()) if packet.stream() != index => continue,
                Ok(()) => {}
                Err(Error::Eof) => break,
                Err(_) => {
                    self.health.read_errors += 1;
                    break;
                }
            }
            self.health.corrupt_packets += u64::from(packet.is_corrupt());
            self.clock.packet(&mut packet);
            if packet.size() == 0 {
                // Repeats the picture before; a decoder would take it for the end.
                self.asked(Some(&packet));
                continue;
            }
            if self.decoder.send_packet(&packet).is_err() {
                self.health.decode_errors += 1;
            }
            self.receive(&packet)?;
        }
        if self.decoder.send_eof().is_err() {
            self.health.decode_errors += 1;
        }
        self.drain()?;
        let pauses = self.picker.finish(&mut self.clock, &mut self.sink)?;
        self.health.pauses += pauses;
        Ok(())
    }

    /// Takes all frames that are ready after a packet.
    fn receive(&mut self, packet: &Packet) -> Result<(), Stop> {
        let mut frame = frame::Video::empty();
        for asked in 0.. {
            if asked > 0 {
                self.clock.expect();
            }
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => self.asked(Some(packet)),
                Err(error) => {
                    if asked == 0 {
                        self.asked(Some(packet));
                    }
                    let waits = matches!(error, Error::Eof | Error::Other { errno: libc::EAGAIN });
                    self.health.decode_errors += u64::from(!waits);
                    break;
                }
            }
            self.take(&mut frame, Some(packet))?;
        }
        Ok(())
    }

    /// Takes the frames that the decoder still holds after the last packet.
    fn drain(&mut self) -> Result<(), Stop> {
        let mut frame = frame::Video::empty();
        let mut errors = 0;
        while errors < MAX_DRAIN_ERRORS {
            self.clock.drain();
            let result = self.decoder.receive_frame(&mut frame);
            self.asked(None);
            match result {
                Ok(()) => self.take(&mut frame, None)?,
                Err(Error::Eof | Error::Other { errno: libc::EAGAIN }) => break,
                Err(_) => {
                    self.health.decode_errors += 1;
                    errors += 1;
                }
            }
        }
        Ok(())
    }

    fn asked(&mut self, packet: Option<&Packet>) {
        let rate = self.decoder.frame_rate().map(open::fraction).filter(|rate| is_positive(*rate));
        let frame_us = rate.map(|rate| rescale(1, Fraction::new(rate.den, rate.num), MICROSECOND));
        self.clock.asked(packet, frame_us);
    }

    fn take(&mut self, frame: &mut frame::Video, packet: Option<&Packet>) -> Result<(), Stop> {
        self.health.frame(frame);
        let (time, is_own) = self.clock.stamp(frame, packet);
        self.health.without_time += u64::from(!is_own);
        self.health.pauses += self.picker.push(frame, time, &self.clock, &mut self.sink)?;
        Ok(())
    }
}

/// Chooses which decoded frames are output.
struct Picker {
    target: Option<u32>,
    sampler: FpsSampler,
    held: frame::Video,
    frames: u64,
}

impl Picker {
    /// Takes a frame; returns how many pictures before it were shown for more than a second: 0 or 1.
    fn push(
        &mut self,
        frame: &mut frame::Video,
        time: i64,
        clock: &Clock,
        sink: &mut Sink<'_, impl Write>,
    ) -> Result<u64, Stop> {
        let Some(fps) = self.target else {
            std::mem::swap(frame, &mut self.held);
            return self.put(1, sink);
        };
        let copies = self.sampler.push(clock.output(time, fps));
        let pauses = self.put(copies, sink)?;
        std::mem::swap(frame, &mut self.held);
        Ok(pauses)
    }

    fn finish(&mut self, clock: &mut Clock, sink: &mut Sink<'_, impl Write>) -> Result<u64, Stop> {
        let Some(fps) = self.target else { return Ok(0) };
        let end = clock.end();
        let mut copies = self.sampler.finish(clock.output(end, fps));
        if self.frames == 0 && self.sampler.holds() {
            // The clip is shorter than half an output frame: the filter would drop it all.
            copies = copies.max(1);
        }
        self.put(copies, sink)
    }

    fn put(&mut self, copies: usize, sink: &mut Sink<'_, impl Write>) -> Result<u64, Stop> {
        if copies == 0 {
            return Ok(0);
        }
        let limit = sink.job.max_frames;
        if self.frames.saturating_add(copies as u64) > limit {
            return Err(Stop::Clip(format!("more than the limit of {limit} frames")));
        }
        self.frames += copies as u64;
        sink.put(&self.held, copies)?;
        Ok(u64::from(self.target.is_some_and(|fps| copies > fps as usize)))
    }
}

/// Turns and scales frames, and sends them in chunks.
struct Sink<'a, W> {
    job: &'a Job,
    out: &'a mut W,
    chunk: Vec<u8>,
    /// The container's display matrix.
    matrix: Option<Matrix>,
    turner: Turner,
    odd_angle: Option<i64>,
    scaler: Option<(Look, scaling::Context)>,
    scaled: frame::Video,
}

impl<'a, W: Write> Sink<'a, W> {
    fn new(job: &'a Job, out: &'a mut W, matrix: Option<Matrix>) -> Self {
        Self {
            job,
            out,
            chunk: Vec::with_capacity(CHUNK),
            matrix,
            turner: Turner::new(),
            odd_angle: None,
            scaler: None,
            scaled: frame::Video::empty(),
        }
    }

    fn put(&mut self, frame: &frame::Video, copies: usize) -> Result<(), Stop> {
        let spec = self.job.spec;
        let fail = |error: Error| Stop::Clip(format!("cannot be scaled: {error}"));
        let turn = match open::matrix(frame).or(self.matrix).as_ref().map(Turn::of) {
            None => Turn::default(),
            Some(Ok(turn)) => turn,
            Some(Err(angle)) => {
                self.odd_angle = Some(angle);
                Turn::default()
            }
        };
        let frame = if turn.is_none() { frame } else { self.turner.turn(frame, turn).map_err(fail)? };
        let look = Look::of(frame);
        let mut scaler = match self.scaler.take() {
            Some((last, scaler)) if last == look => scaler,
            _ => open::scaler(look, Pixel::RGB24, spec.width, spec.height, scaling::Flags::BICUBIC)
                .map_err(fail)?,
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
