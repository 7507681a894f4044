//! Opening a clip: what ffmpeg-next's safe functions cannot do.
#![expect(unsafe_code, reason = "ffmpeg-next takes only UTF-8 paths and hides start_time and colour details")]

use std::cmp::Reverse;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use ffmpeg_next::codec::{decoder, packet};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::{Disposition, Stream};
use ffmpeg_next::frame::side_data;
use ffmpeg_next::software::scaling;
use ffmpeg_next::{Dictionary, Error, Rational, ffi, frame, media};
use video_data::rate::{Fraction, rescale};

use crate::clock::{MICROSECOND, Times};

/// A display matrix: 16.16 fixed point, row by row.
pub(crate) type Matrix = [i32; 9];

/// Demuxers that a clip may use. Playlists, scripts and anything that opens other files are not among them.
const DEMUXERS: &str = "mpeg,mpegvideo,mpegts,mpegtsraw,m4v,h264,hevc,avi,mov,mp4,matroska,webm,asf,flv,ogg,mjpeg,dv,\
                        nut,ivf,rm,gif,apng,mxf,yuv4mpegpipe,jpeg_pipe,mp3,wav,aac,flac";

/// Versions of the libav libraries in use.
pub(crate) fn libav() -> String {
    let part = |version: u32| format!("{}.{}.{}", version >> 16, (version >> 8) & 0xff, version & 0xff);
    // SAFETY: these functions take nothing and return constants.
    let (codec, format, scale, util) = unsafe {
        (ffi::avcodec_version(), ffi::avformat_version(), ffi::swscale_version(), ffi::avutil_version())
    };
    format!(
        "libavcodec {} libavformat {} libswscale {} libavutil {}",
        part(codec),
        part(format),
        part(scale),
        part(util)
    )
}

/// Opens the file at `path`, whatever bytes its name holds, as a video of a known container.
pub(crate) fn input(path: &Path) -> Result<Input, Error> {
    // The `file:` prefix keeps names such as `concat:a` or `http://…` from being taken for protocols.
    let mut url = b"file:".to_vec();
    url.extend_from_slice(path.as_os_str().as_bytes());
    let url = CString::new(url).map_err(|_| Error::InvalidData)?;
    let mut options = Dictionary::new();
    options.set("format_whitelist", DEMUXERS);
    options.set("protocol_whitelist", "file");
    // SAFETY: `context` is null as avformat_open_input asks; on failure it frees what it allocated and leaves
    // null behind. The dictionary is handed over and taken back. A context that opened is owned by `Input`,
    // whose drop closes it, also when no stream information is found.
    unsafe {
        let mut context = ptr::null_mut();
        let mut dictionary = options.disown();
        let code =
            ffi::avformat_open_input(&raw mut context, url.as_ptr(), ptr::null_mut(), &raw mut dictionary);
        drop(Dictionary::own(dictionary));
        if code < 0 {
            return Err(Error::from(code));
        }
        let input = Input::wrap(context);
        match ffi::avformat_find_stream_info(context, ptr::null_mut()) {
            code if code < 0 => Err(Error::from(code)),
            _ => Ok(input),
        }
    }
}

/// The video stream that the command line takes, and how many there are; cover pictures are none.
///
/// It takes the one with the most pixels. Streams with packets come before those without, and the default
/// stream counts five million pixels more.
pub(crate) fn video_stream(input: &Input) -> Option<(usize, u64)> {
    let is_film = |stream: &Stream<'_>| {
        stream.parameters().medium() == media::Type::Video
            && !stream.disposition().contains(Disposition::ATTACHED_PIC)
    };
    let score = |stream: &Stream<'_>| {
        let (width, height) = picture_size(input, stream.index());
        // SAFETY: `input` owns the stream and is borrowed here, so the pointer is valid; one integer is read.
        let has_packets =
            unsafe { (*stream.as_ptr()).event_flags } & ffi::AVSTREAM_EVENT_FLAG_NEW_PACKETS != 0;
        let is_default = stream.disposition().contains(Disposition::DEFAULT);
        width * height + 100_000_000 * i64::from(has_packets) + 5_000_000 * i64::from(is_default)
    };
    let films = || input.streams().filter(is_film);
    // The first of equals; `max_by_key` returns the last.
    let best = films().min_by_key(|stream| Reverse(score(stream)))?;
    Some((best.index(), films().count() as u64))
}

/// Lets the demuxer skip all streams but `index`, as the command line does.
pub(crate) fn skip_others(input: &mut Input, index: usize) {
    for other in (0..input.streams().count()).filter(|other| *other != index) {
        // SAFETY: `other` is below the number of streams, whose pointers are valid while `input` is; the borrow is
        // exclusive, so nobody reads the field meanwhile.
        unsafe { (**(*input.as_mut_ptr()).streams.add(other)).discard = ffi::AVDiscard::AVDISCARD_ALL };
    }
}

/// What the container says about the times of `stream`; `delay` is the number of frames its decoder holds
/// back.
pub(crate) fn times(input: &Input, stream: &Stream<'_>, native: Option<Fraction>, delay: i64) -> Times {
    let known = |time: i64| if time == ffi::AV_NOPTS_VALUE { 0 } else { time };
    let tick = fraction(stream.time_base());
    // SAFETY: an opened context has a format, and it and the stream live as long as `input`, which is borrowed; plain
    // numbers are read.
    let (start, flags, wrap_bits) = unsafe {
        let context = input.as_ptr();
        ((*context).start_time, (*(*context).iformat).flags, (*stream.as_ptr()).pts_wrap_bits)
    };
    let may_jump = flags & ffi::AVFMT_TS_DISCONT != 0;
    let mut start_us = known(start);
    if may_jump && stream.start_time() != ffi::AV_NOPTS_VALUE {
        // Where clocks may jump, the clip starts with the stream that is used, not with one before it.
        start_us = start_us.max(rescale(stream.start_time(), tick, MICROSECOND));
    }
    let wrap_bits = if start == ffi::AV_NOPTS_VALUE { u64::BITS } else { wrap_bits.clamp(1, 64) as u32 };
    Times { tick, native, start_us, wrap_bits, may_jump, delay }
}

/// Frames that a decoder holds back to put them in order.
pub(crate) fn delay(decoder: &decoder::Video) -> i64 {
    // SAFETY: `decoder` owns its context and is borrowed; one integer is read.
    i64::from(unsafe { (*decoder.as_ptr()).has_b_frames })
}

/// Pictures of the index of stream `index` that lie beyond the end of the file, and all in the index.
pub(crate) fn beyond_end(input: &Input, index: usize) -> (u64, u64) {
    let (Some(length), Some(stream)) = (input.io_size(), input.stream(index)) else { return (0, 0) };
    // SAFETY: `input` owns the stream and is borrowed. Both functions only read it, although they take it as mutable;
    // the index changes only when packets are read, and no entry outlives this block.
    unsafe {
        let stream = stream.as_ptr().cast_mut();
        let all = ffi::avformat_index_get_entries_count(stream);
        let entry = |at| ffi::avformat_index_get_entry(stream, at).as_ref();
        let is_beyond = |entry: &&ffi::AVIndexEntry| entry.pos + i64::from(entry.size()) > length;
        ((0..all).filter_map(entry).filter(is_beyond).count() as u64, all.max(0) as u64)
    }
}

/// Seconds that the header of a file of sound alone promises; none where they are a guess from the bit rate, or may be those
/// of another stream.
pub(crate) fn promised_seconds(input: &Input, stream: &Stream<'_>) -> Option<f64> {
    // SAFETY: `input` owns the context and is borrowed; one number is read.
    let from = unsafe { (*input.as_ptr()).duration_estimation_method };
    let is_promise = from == ffi::AVDurationEstimationMethod::AVFMT_DURATION_FROM_STREAM;
    let known = is_promise && input.streams().count() == 1 && stream.duration() > 0;
    known.then(|| stream.duration() as f64 * f64::from(stream.time_base()))
}

/// The display matrix of a picture: its own, or that of its stream.
pub(crate) fn matrix(frame: &frame::Video) -> Option<Matrix> {
    frame.side_data(side_data::Type::DisplayMatrix).and_then(|data| parse_matrix(data.data()))
}

/// The display matrix that the container gives for `stream`.
pub(crate) fn stream_matrix(stream: &Stream<'_>) -> Option<Matrix> {
    let mut all = stream.side_data();
    all.find(|data| data.kind() == packet::side_data::Type::DisplayMatrix)
        .and_then(|data| parse_matrix(data.data()))
}

fn parse_matrix(bytes: &[u8]) -> Option<Matrix> {
    let (numbers, _) = bytes.as_chunks::<4>();
    let numbers: Vec<i32> = numbers.iter().map(|number| i32::from_ne_bytes(*number)).collect();
    numbers.try_into().ok()
}

/// Width and height that the container gives for stream `index`.
pub(crate) fn picture_size(input: &Input, index: usize) -> (i64, i64) {
    let Some(stream) = input.stream(index) else { return (0, 0) };
    // SAFETY: a stream has codec parameters from its creation on, and lives as long as `input`, which is borrowed.
    unsafe {
        let parameters = (*stream.as_ptr()).codecpar;
        (i64::from((*parameters).width), i64::from((*parameters).height))
    }
}

/// What a frame's pixels mean: a change of any of these needs a new scaler.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Look {
    pub(crate) format: Pixel,
    pub(crate) width: u32,
    pub(crate) height: u32,
    space: i32,
    range: i32,
}

impl Look {
    /// The look of a decoded frame.
    pub(crate) fn of(frame: &frame::Video) -> Self {
        // SAFETY: the frame is borrowed, so its pointer is valid; both fields are C enums, read as integers.
        let (space, range) = unsafe {
            let frame = frame.as_ptr();
            ((*frame).colorspace as i32, (*frame).color_range as i32)
        };
        Self { format: frame.format(), width: frame.width(), height: frame.height(), space, range }
    }
}

/// A fraction as libav has it.
pub(crate) fn fraction(rational: Rational) -> Fraction {
    Fraction::new(i64::from(rational.numerator()), i64::from(rational.denominator()))
}

/// A scaler from pictures of this look to `format` of `width` × `height`, set up as FFmpeg's `scale` filter does.
pub(crate) fn scaler(
    look: Look,
    format: Pixel,
    width: u32,
    height: u32,
    flags: scaling::Flags,
) -> Result<scaling::Context, Error> {
    let mut context =
        scaling::Context::get(look.format, look.width, look.height, format, width, height, flags)?;
    let (jpeg, mpeg) =
        (ffi::AVColorRange::AVCOL_RANGE_JPEG as i32, ffi::AVColorRange::AVCOL_RANGE_MPEG as i32);
    // Matrices 1 to 10 are known to swscale, but for YCgCo (8); the rest is read as BT.601, as the filter does.
    let space = if (1..=10).contains(&look.space) && look.space != 8 { look.space } else { 5 };
    // SAFETY: `context` was just created, and the out-pointers are to variables of this block. The tables come from
    // libswscale itself, which keeps them. A conversion without a
    // matrix (RGB to RGB) makes either call answer -1 and change nothing.
    unsafe {
        let (mut inverse, mut table) = (ptr::null_mut(), ptr::null_mut());
        let (mut from, mut to, mut brightness, mut contrast, mut saturation) = (0, 0, 0, 0, 0);
        let code = ffi::sws_getColorspaceDetails(
            context.as_mut_ptr(),
            &raw mut inverse,
            &raw mut from,
            &raw mut table,
            &raw mut to,
            &raw mut brightness,
            &raw mut contrast,
            &raw mut saturation,
        );
        if code >= 0 {
            from = match look.range {
                range if range == jpeg => 1,
                range if range == mpeg => 0,
                _ => from,
            };
            let matrix = ffi::sws_getCoefficients(space);
            ffi::sws_setColorspaceDetails(
                context.as_mut_ptr(),
                matrix,
                from,
                table,
                to,
                brightness,
                contrast,
                saturation,
            );
        }
    }
    Ok(context)
}
