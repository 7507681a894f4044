//! The `render` verb: draws the clips of a sample and encodes them with libav's own encoders.
//!
//! Prints `libav<TAB>versions`, then `clip<TAB>name<TAB>digest` for every finished clip of its part; the digest
//! is that of the raw RGB frames before encoding.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, codec, encoder, format, frame};
use sha2::{Digest, Sha256};
use video_data::sample::{self, Layout, SampleClip, Scene};
use video_data::{digest, files};

use crate::{log, open, os};

/// Quantiser of every picture: small enough that coding artefacts stay invisible.
const QUANTISER: &str = "3";

struct Arguments {
    layout: Layout,
    out: PathBuf,
    seed: u64,
    part: usize,
    parts: usize,
    /// Instead of the layout's own codec.
    codec: Option<Coding>,
    /// Most frames of a clip.
    frames: u32,
}

/// A container and the codec in it.
type Coding = (&'static str, codec::Id);

/// What `--codec` can name, for clips that are to be damaged.
const CODINGS: [(&str, Coding); 4] = [
    ("mpeg1", ("mpeg", codec::Id::MPEG1VIDEO)),
    ("mpeg4", ("avi", codec::Id::MPEG4)),
    ("h264", ("mp4", codec::Id::H264)),
    ("wmv2", ("asf", codec::Id::WMV2)),
];

/// Renders the clips of one part that are not there yet.
pub(crate) fn render(arguments: &[OsString]) -> Result<(), String> {
    let Arguments { layout, out, seed, part, parts, codec, frames } = parse(arguments)?;
    let coding = codec.unwrap_or(match layout {
        Layout::Ucf11 | Layout::Ucf11Rehearsal => CODINGS[0].1,
        Layout::Hollywood2 | Layout::YoutubeCelebrities | Layout::Folder => CODINGS[1].1,
    });
    os::die_with_parent();
    ffmpeg_next::init().map_err(|error| error.to_string())?;
    log::capture();
    // Names are now relative and ASCII, whatever bytes the folder's name holds.
    std::env::set_current_dir(&out).map_err(|error| format!("failed to enter {}: {error}", out.display()))?;
    let mut stdout = io::stdout().lock();
    let mut say =
        |line: String| writeln!(stdout, "{line}").and_then(|()| stdout.flush()).map_err(|e| e.to_string());
    say(format!("libav\t{}", open::libav()))?;
    for mut clip in sample::plan(layout, seed).into_iter().skip(part).step_by(parts) {
        clip.frames = clip.frames.min(frames);
        let clip = &clip;
        let scene = clip.scene(layout, seed);
        let digest = if Path::new(&clip.name).is_file() {
            raw_digest(layout, clip, &scene)
        } else {
            encode(layout, coding, clip, &scene)
                .map_err(|error| format!("failed to render {}: {error}", clip.name))?
        };
        say(format!("clip\t{}\t{digest}", clip.name))?;
    }
    Ok(())
}

fn parse(arguments: &[OsString]) -> Result<Arguments, String> {
    let (mut layout, mut out, mut seed, mut part) = (None, None, None, (0, 1));
    let (mut codec, mut frames) = (None, u32::MAX);
    for pair in arguments.chunks(2) {
        let [key, value] = pair else { return Err(format!("{} needs a value", pair[0].display())) };
        let text = value.to_str().unwrap_or_default();
        let bad = || format!("{} cannot be {}", key.display(), value.display());
        match key.to_str() {
            Some("--layout") => layout = Some(Layout::from_name(text).ok_or_else(bad)?),
            Some("--out") => out = Some(PathBuf::from(value)),
            Some("--seed") => seed = Some(text.parse().map_err(|_| bad())?),
            Some("--part") => {
                let (i, n) = text.split_once('/').ok_or_else(bad)?;
                part = (i.parse().map_err(|_| bad())?, n.parse().map_err(|_| bad())?);
                if part.0 >= part.1 {
                    return Err(bad());
                }
            }
            Some("--codec") => {
                let known = CODINGS.iter().find(|(name, _)| *name == text);
                codec = Some(known.ok_or_else(bad)?.1);
            }
            Some("--frames") => frames = text.parse().map_err(|_| bad())?,
            _ => return Err(format!("unknown argument {}", key.display())),
        }
    }
    match (layout, out, seed) {
        (Some(layout), Some(out), Some(seed)) => {
            Ok(Arguments { layout, out, seed, part: part.0, parts: part.1, codec, frames })
        }
        _ => Err("render needs --layout, --out and --seed".into()),
    }
}

/// The digest of a clip that is there already.
fn raw_digest(layout: Layout, clip: &SampleClip, scene: &Scene) -> String {
    let (mut hash, mut raw) = (Sha256::new(), Vec::new());
    for index in 0..clip.frames {
        scene.draw(SampleClip::time_s(layout, index), &mut raw);
        hash.update(&raw);
    }
    digest::hex(hash)
}

/// Draws and encodes one clip; it gets its name only when it is complete.
fn encode(
    layout: Layout,
    (container, id): Coding,
    clip: &SampleClip,
    scene: &Scene,
) -> Result<String, Box<dyn std::error::Error>> {
    let temporary = files::temporary(Path::new(&clip.name));
    let (width, height) = (layout.size().0 as u32, layout.size().1 as u32);
    let rate = Rational(layout.fps().0, layout.fps().1);
    let codec = encoder::find(id).ok_or(Error::EncoderNotFound)?;
    let mut output = format::output_as(&temporary, container)?;
    let mut video = codec::Context::new_with_codec(codec).encoder().video()?;
    video.set_width(width);
    video.set_height(height);
    video.set_format(Pixel::YUV420P);
    video.set_time_base(rate.invert());
    video.set_frame_rate(Some(rate));
    video.set_gop(15);
    video.set_max_b_frames(0);
    video.set_bit_rate(3_000_000);
    let mut flags = codec::Flags::BITEXACT;
    if output.format().flags().contains(format::Flags::GLOBAL_HEADER) {
        flags |= codec::Flags::GLOBAL_HEADER;
    }
    video.set_flags(flags);
    let mut options = Dictionary::new();
    options.set("qmin", QUANTISER);
    options.set("qmax", QUANTISER);
    options.set("threads", "1");
    let mut video = video.open_as_with(codec, options)?;
    let index = {
        let mut stream = output.add_stream(codec)?;
        stream.set_parameters(&video);
        stream.set_time_base(rate.invert());
        stream.set_rate(rate);
        stream.set_avg_frame_rate(rate);
        stream.index()
    };
    let mut options = Dictionary::new();
    options.set("fflags", "+bitexact");
    output.write_header_with(options)?;
    let mut muxer =
        Muxer { base: output.stream(index).map_or(rate.invert(), |s| s.time_base()), output, index, rate };
    let mut scaler = scaling::Context::get(
        Pixel::RGB24,
        width,
        height,
        Pixel::YUV420P,
        width,
        height,
        scaling::Flags::BICUBIC | scaling::Flags::ACCURATE_RND,
    )?;
    let (mut rgb, mut yuv) = (frame::Video::new(Pixel::RGB24, width, height), frame::Video::empty());
    let (mut raw, mut hash) = (Vec::new(), Sha256::new());
    for number in 0..clip.frames {
        scene.draw(SampleClip::time_s(layout, number), &mut raw);
        hash.update(&raw);
        let stride = rgb.stride(0);
        for (to, from) in rgb.data_mut(0).chunks_mut(stride).zip(raw.chunks(width as usize * 3)) {
            to[..from.len()].copy_from_slice(from);
        }
        // The encoder may still hold the last frame's buffer: give it a new one each time.
        yuv = {
            drop(yuv);
            frame::Video::empty()
        };
        scaler.run(&rgb, &mut yuv)?;
        yuv.set_pts(Some(i64::from(number)));
        video.send_frame(&yuv)?;
        muxer.drain(&mut video)?;
    }
    video.send_eof()?;
    muxer.drain(&mut video)?;
    muxer.output.write_trailer()?;
    drop(muxer);
    files::settle(&temporary, Path::new(&clip.name))?;
    Ok(digest::hex(hash))
}

struct Muxer {
    output: format::context::Output,
    index: usize,
    rate: Rational,
    base: Rational,
}

impl Muxer {
    /// Writes the packets that the encoder has ready.
    fn drain(&mut self, video: &mut encoder::Video) -> Result<(), Error> {
        let mut packet = Packet::empty();
        loop {
            match video.receive_packet(&mut packet) {
                Ok(()) => {}
                Err(Error::Eof | Error::Other { errno: libc::EAGAIN }) => return Ok(()),
                Err(error) => return Err(error),
            }
            packet.set_stream(self.index);
            packet.set_duration(1);
            packet.rescale_ts(self.rate.invert(), self.base);
            packet.write_interleaved(&mut self.output)?;
        }
    }
}
