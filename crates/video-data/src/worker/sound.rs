//! The sound of a clip as rows of log-mel energies.

use std::io::Write;
use std::path::Path;

use ffmpeg_next::codec::decoder;
use ffmpeg_next::format::Sample;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::sample::Type;
use ffmpeg_next::format::stream::Stream;
use ffmpeg_next::software::resampling;
use ffmpeg_next::{ChannelLayout, Error, Packet, codec, frame, media};
use video_data::decode::wire::{self, Job, Outcome};

use crate::health::{self, Health};
use crate::logmel::{LogMel, RATE};
use crate::open;
use crate::stop::Stop;

/// Rows gathered before a message is sent: a sign of life.
const CHUNK_ROWS: usize = 1000;
/// Rates that a sound is refused outside of, in samples a second.
const RATES: std::ops::RangeInclusive<u32> = 1000..=768_000;
/// Samples that a resampler may hold back, beyond what it makes of a frame's.
const HELD: usize = 1024;
const MONO: ChannelLayout = ChannelLayout::MONO;
const FLOATS: Sample = Sample::F32(Type::Packed);

/// Sends the rows of the sound of an opened clip.
pub(crate) fn run(
    job: &Job,
    path: &Path,
    mut input: Input,
    out: &mut impl Write,
    outcome: &mut Outcome,
    health: &mut Health,
) -> Result<(), Stop> {
    let none = || Stop::Clip("no audio stream".into());
    let stream = input.streams().best(media::Type::Audio).ok_or_else(none)?;
    let index = stream.index();
    let promised = open::promised_seconds(&input, &stream);
    let per_second = job.spec.rate.target(None).unwrap_or(1);
    outcome.fps = f64::from(per_second);
    if job.probe {
        outcome.frames = (input.duration() as f64 / 1e6 * outcome.fps).max(0.0).round() as u64;
        return Ok(());
    }
    let mut sound = Sound {
        job,
        out,
        decoder: open_decoder(&stream)?,
        resampler: None,
        mel: LogMel::new(job.spec.width as usize, per_second as usize),
        rows: Vec::new(),
        health,
    };
    open::skip_others(&mut input, index);
    let result = sound.pump(&mut input, index);
    outcome.frames = sound.mel.rows();
    sound.health.beyond_end = open::beyond_end(&input, index);
    let there = outcome.frames as f64 / outcome.fps;
    // FFmpeg makes the length of a RIFF file that was cut that of what is left.
    let promised = match health::shorter_than_riff(path) {
        Some((length, named)) => Some(there * named as f64 / length as f64),
        None => promised,
    };
    // A header that was written before the sound was promises the largest number that it can hold.
    let promised = promised.filter(|seconds| seconds * outcome.fps <= job.max_frames as f64);
    sound.health.promised_seconds = promised.map(|seconds| (there, seconds));
    result
}

fn open_decoder(stream: &Stream<'_>) -> Result<decoder::Audio, Stop> {
    let refuse = |error: Error| Stop::Clip(format!("no decoder for its audio stream: {error}"));
    let mut context = codec::Context::from_parameters(stream.parameters()).map_err(refuse)?;
    context.set_threading(codec::threading::Config::count(1));
    let codec = decoder::find(context.id()).ok_or_else(|| refuse(Error::DecoderNotFound))?;
    let mut context = context.decoder();
    context.set_packet_time_base(stream.time_base());
    context.open_as(codec).and_then(decoder::Opened::audio).map_err(refuse)
}

/// A sound on its way from packets to rows.
struct Sound<'a, W> {
    job: &'a Job,
    out: &'a mut W,
    decoder: decoder::Audio,
    resampler: Option<resampling::Context>,
    mel: LogMel,
    rows: Vec<f32>,
    health: &'a mut Health,
}

impl<W: Write> Sound<'_, W> {
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
            // An empty one would be taken for the end.
            if packet.size() > 0 && self.decoder.send_packet(&packet).is_err() {
                self.health.decode_errors += 1;
            }
            self.receive()?;
        }
        if self.decoder.send_eof().is_err() {
            self.health.decode_errors += 1;
        }
        self.receive()?;
        self.flush_resampler()?;
        self.mel.finish(&mut self.rows);
        self.check_length()?;
        self.send()
    }

    /// Takes all frames that are ready.
    fn receive(&mut self) -> Result<(), Stop> {
        let mut frame = frame::Audio::empty();
        loop {
            match self.decoder.receive_frame(&mut frame) {
                Ok(()) => self.take(&mut frame)?,
                Err(Error::Eof | Error::Other { errno: libc::EAGAIN }) => return Ok(()),
                Err(_) => {
                    self.health.decode_errors += 1;
                    return Ok(());
                }
            }
        }
    }

    fn take(&mut self, frame: &mut frame::Audio) -> Result<(), Stop> {
        self.health.sound(frame);
        let rate = frame.rate();
        if !RATES.contains(&rate) {
            return Err(Stop::Clip(format!("a sound of {rate} samples a second")));
        }
        if frame.channel_layout().is_empty() {
            frame.set_channel_layout(ChannelLayout::default(i32::from(frame.channels())));
        }
        let of = resampling::context::Definition {
            format: frame.format(),
            channel_layout: frame.channel_layout(),
            rate,
        };
        if self.resampler.as_ref().is_none_or(|resampler| *resampler.input() != of) {
            self.flush_resampler()?;
            let made =
                resampling::Context::get(of.format, of.channel_layout, rate, FLOATS, MONO, RATE as u32);
            self.resampler = Some(made.map_err(fail)?);
        }
        let Some(resampler) = &mut self.resampler else { return Ok(()) };
        let room = (frame.samples() * RATE).div_ceil(rate as usize) + HELD;
        let mut samples = frame::Audio::new(FLOATS, room, MONO);
        resampler.run(frame, &mut samples).map_err(fail)?;
        self.push(&samples)
    }

    /// What the resampler holds back.
    fn flush_resampler(&mut self) -> Result<(), Stop> {
        let Some(mut resampler) = self.resampler.take() else { return Ok(()) };
        loop {
            let mut samples = frame::Audio::new(FLOATS, HELD, MONO);
            resampler.flush(&mut samples).map_err(fail)?;
            if samples.samples() == 0 {
                return Ok(());
            }
            self.push(&samples)?;
        }
    }

    fn push(&mut self, samples: &frame::Audio) -> Result<(), Stop> {
        if samples.samples() > 0 {
            self.mel.push(samples.plane::<f32>(0), &mut self.rows);
        }
        self.check_length()?;
        if self.rows.len() >= CHUNK_ROWS * self.job.spec.width as usize { self.send() } else { Ok(()) }
    }

    fn check_length(&self) -> Result<(), Stop> {
        let limit = self.job.max_frames;
        if self.mel.rows() > limit {
            return Err(Stop::Clip(format!("more than the limit of {limit} rows")));
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Stop> {
        if !self.rows.is_empty() {
            let bytes: Vec<u8> = self.rows.iter().flat_map(|value| value.to_le_bytes()).collect();
            wire::write_message(self.out, wire::FRAMES, &[&bytes])?;
            self.rows.clear();
        }
        Ok(())
    }
}

fn fail(error: Error) -> Stop {
    Stop::Clip(format!("its sound cannot be resampled: {error}"))
}
