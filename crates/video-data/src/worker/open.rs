//! Opening a clip: what ffmpeg-next's safe functions cannot do.
#![expect(unsafe_code, reason = "ffmpeg-next takes only UTF-8 paths and hides start_time and colour details")]

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use ffmpeg_next::format::Pixel;
use ffmpeg_next::format::context::Input;
use ffmpeg_next::software::scaling;
use ffmpeg_next::{Dictionary, Error, ffi, frame};

/// Demuxers that a clip may use. Playlists, scripts and anything that opens other files are not among them.
const DEMUXERS: &str = "mpeg,mpegvideo,mpegts,mpegtsraw,m4v,h264,hevc,avi,mov,mp4,matroska,webm,asf,flv,ogg,mjpeg,dv,\
                        nut,ivf,rm,gif,apng,mxf,yuv4mpegpipe,mp3,wav,aac,flac";

/// Versions of the libav libraries in use.
pub(crate) fn libav() -> String {
    let part = |version: u32| format!("{}.{}.{}", version >> 16, (version >> 8) & 0xff, version & 0xff);
    // SAFETY: these functions read constants.
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

/// Start of the clip in microseconds, 0 where it is not known.
pub(crate) fn start_time_us(input: &Input) -> i64 {
    // SAFETY: the context is alive as long as `input`.
    let start = unsafe { (*input.as_ptr()).start_time };
    if start == ffi::AV_NOPTS_VALUE { 0 } else { start }
}

/// Width and height that the container gives for stream `index`.
pub(crate) fn picture_size(input: &Input, index: usize) -> (i64, i64) {
    let Some(stream) = input.stream(index) else { return (0, 0) };
    // SAFETY: a stream always has codec parameters.
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
        // SAFETY: the frame is alive; both fields are plain C enums, read as the integers they are.
        let (space, range) = unsafe {
            let frame = frame.as_ptr();
            ((*frame).colorspace as i32, (*frame).color_range as i32)
        };
        Self { format: frame.format(), width: frame.width(), height: frame.height(), space, range }
    }
}

/// A scaler from pictures of this look to RGB24 of `width` × `height`, set up as FFmpeg's `scale` filter does.
pub(crate) fn scaler(
    look: Look,
    width: u32,
    height: u32,
    flags: scaling::Flags,
) -> Result<scaling::Context, Error> {
    let mut context =
        scaling::Context::get(look.format, look.width, look.height, Pixel::RGB24, width, height, flags)?;
    let (jpeg, mpeg) =
        (ffi::AVColorRange::AVCOL_RANGE_JPEG as i32, ffi::AVColorRange::AVCOL_RANGE_MPEG as i32);
    // Matrices 1 to 10 are known to swscale, but for YCgCo (8); the rest is read as BT.601, as the filter does.
    let space = if (1..=10).contains(&look.space) && look.space != 8 { look.space } else { 5 };
    // SAFETY: the context is valid and all out-pointers are alive during the calls. A conversion without a
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
